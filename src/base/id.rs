//! Ids. Each kind has its own type, so that a pack's name cannot be used as a chunk's id.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A string is not the hexadecimal form of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("“{text}” is not {expected} lowercase hexadecimal digits")]
pub struct ParseIdError {
    text: String,
    expected: usize,
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let mut bytes = [0; N];
    // Each id has only one text form; the crate `hex` would accept uppercase digits, too.
    let lowercase = !text.bytes().any(|digit| digit.is_ascii_uppercase());
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) if lowercase => Ok(bytes),
        _ => Err(ParseIdError {
            text: text.chars().take(80).collect(),
            expected: N * 2,
        }),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// The length of the id in bytes.
            pub const LEN: usize = $len;

            /// Returns the id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Returns the bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({}…)", stringify!($name), hex::encode(&self.0[..4]))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(D::Error::custom)
            }
        }
    };
}

id!(
    /// The BLAKE3 hash of a stored object's bytes. It is the last part of the name of most objects.
    ObjectHash, 32
);
id!(
    /// The keyed BLAKE3 hash of the plain bytes of a chunk or tree node.
    BlobId, 32
);
id!(
    /// A MAC of a content's kind, size, chunk size and top node: equal roots mean equal content.
    Root, 32
);
id!(
    /// Names a project's directory; random.
    ProjectId, 16
);
id!(
    /// Identifies a repository and all of its copies; random.
    RepositoryId, 16
);
id!(
    /// Identifies a volume in all its backups, even if its name or host changes; random.
    VolumeId, 16
);
id!(
    /// The public Ed25519 key that verifies an object's signature.
    SignerId, 32
);
id!(
    /// Names the lease of a running process; random.
    LeaseId, 16
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_parsed_from_lowercase_hex_digits_only() {
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
        // This text has 32 bytes, as a valid one has, but only 16 characters.
        assert!("é".repeat(16).parse::<ProjectId>().is_err());
    }
}
