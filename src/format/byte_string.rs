//! Text from other programs, which need not be UTF-8.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes that are usually UTF-8 but need not be, such as a path. In JSON: a string, or an object
/// `{"hex": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ByteString {
    /// UTF-8.
    Text(String),
    /// Any other bytes.
    Hex {
        /// Lowercase hexadecimal digits, two for each byte.
        hex: String,
    },
}

impl From<&[u8]> for ByteString {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex {
                hex: hex::encode(bytes),
            },
        }
    }
}

impl fmt::Display for ByteString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.pad(text),
            Self::Hex { hex } => write!(f, "0x{hex}"),
        }
    }
}

impl ByteString {
    /// Returns the bytes, or `None` if the text of [`Hex`](Self::Hex) is not two lowercase
    /// hexadecimal digits for each byte.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Hex { hex } if hex.bytes().any(|digit| digit.is_ascii_uppercase()) => None,
            Self::Hex { hex } => hex::decode(hex).ok(),
        }
    }

    /// Returns false if this is [`Hex`](Self::Hex) with invalid digits.
    pub(super) fn is_valid(&self) -> bool {
        matches!(self, Self::Text(_)) || self.bytes().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_as_text_or_as_hexadecimal() {
        for bytes in [&b""[..], b"disk.raw", "Käse".as_bytes(), b"\xff\0\x0a"] {
            assert_eq!(ByteString::from(bytes).bytes().as_deref(), Some(bytes));
        }
    }

    #[test]
    fn hexadecimal_is_lowercase_and_has_two_digits_a_byte() {
        for (digits, bytes) in [
            ("", Some(vec![])),
            ("00ff", Some(vec![0, 255])),
            ("00F0", None),
            ("00f", None),
            ("0g", None),
            ("+1", None),
        ] {
            let hex = ByteString::Hex { hex: digits.into() };
            assert_eq!(
                (hex.is_valid(), hex.bytes()),
                (bytes.is_some(), bytes),
                "{digits}"
            );
        }
    }
}
