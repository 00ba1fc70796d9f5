//! Ids as newtypes: a pack's name cannot be taken for a chunk's id.

use std::fmt;
use std::str::FromStr;

/// A string is not the hexadecimal form of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("“{text}” is not {expected} lowercase hexadecimal digits")]
pub struct ParseIdError {
    text: String,
    expected: usize,
}

/// Bytes as lowercase hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|b| [digit(b >> 4), digit(b & 15)])
        .collect()
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let refuse = || ParseIdError {
        text: text.chars().take(80).collect(),
        expected: N * 2,
    };
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    if text.len() != N * 2 {
        return Err(refuse());
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let (high, low) = digit(pair[0]).zip(digit(pair[1])).ok_or_else(refuse)?;
        *byte = high << 4 | low;
    }
    Ok(out)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Its length in bytes.
            pub const LEN: usize = $len;

            /// The id of these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "("))?;
                write_hex(&self.0[..4], f)?;
                f.write_str("…)")
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }
    };
}

id!(
    /// The BLAKE3 hash of a stored object's bytes, which is its name in the store.
    ObjectHash, 32
);
id!(
    /// The keyed BLAKE3 of a chunk's or tree node's plain bytes.
    BlobId, 32
);
id!(
    /// Stands for the whole content of a backup: equal roots, equal bytes.
    Root, 32
);
id!(
    /// Names a project's folder; random.
    ProjectId, 16
);
id!(
    /// Tells repositories apart, for the cache; random.
    RepositoryId, 16
);
id!(
    /// Stays with a volume through all its backups, whatever its name or host; random.
    VolumeId, 16
);
id!(
    /// Names the lease of a process at work; random.
    LeaseId, 16
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trip_and_refusals() {
        let id = ProjectId::from_bytes(*b"0123456789\xab\xcd\xef\x00\xff\x10");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in [
            "",
            "00",
            &"0".repeat(31),
            &"0".repeat(33),
            &"G".repeat(32),
            &"A".repeat(32),
        ] {
            assert!(bad.parse::<ProjectId>().is_err(), "{bad}");
        }
        // 16 characters of two bytes each have the right length in bytes.
        assert!("é".repeat(16).parse::<ProjectId>().is_err());
    }
}
