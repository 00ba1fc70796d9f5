//! Certificates: section 16 (Certificate) of `docs/format.md`. Each belongs to a key slot of a
//! project, and states what the key may do.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::json::{from_json_with_features, nullable, to_json};
use super::time::check_time;
use crate::base::{ObjectHash, Role, SignerId};

/// States the role of a key of a project, and what the key may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// The role of the key: the name of a [`Role`].
    pub role: String,
    /// The hash of the key's slot.
    pub slot: ObjectHash,
    /// The public key that verifies the signatures of the key. `None` for a full key, since it
    /// signs with the key of the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<SignerId>,
    /// [Patterns](matches_pattern) of the names of volumes that the key may back up. If there are
    /// none, it may back up all volumes.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Features that objects signed by the key may require. If a program does not know a feature in
    /// this list, an object that requires it counts as newer, not as foreign.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// The time at which the key was made, in RFC 3339.
    pub created: String,
    /// The label of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl Certificate {
    /// The maximum length of a body, in bytes.
    pub const BODY_MAX: usize = 1 << 20;

    /// Returns the body, to be sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Decodes an opened body.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let certificate: Self = from_json_with_features(bytes)?;
        let role: Role = (certificate.role.parse()).map_err(|_| FormatError::BadValue("role"))?;
        if certificate.signer.is_some() == (role == Role::Full) {
            return Err(FormatError::BadValue("signer"));
        }
        check_time("created", &certificate.created)?;
        Ok(certificate)
    }
}

/// Returns whether a whole name matches a pattern: `*` stands for zero or more characters, `?` for
/// exactly one, and every other character for itself.
#[must_use]
pub fn matches_pattern(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // If the characters after the last star do not match, try again from here: the star then stands
    // for one more character.
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n + 1));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((after_star, next)) => {
                    (p, n) = (after_star, next);
                    retry = Some((after_star, next + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_and_a_question_mark_for_one() {
        for (pattern, name) in [
            ("web-*", "web-1"),
            ("web-*", "web-"),
            ("*", ""),
            ("*", "rbd/a"),
            ("w?b", "wäb"),
            ("w?b", "w\nb"),
            ("web-*", "web-\n1\u{0}"),
            ("caf??", "cafe\u{301}"),
            ("\u{1f980}*", "\u{1f980}"),
            ("a?b", "a\u{1f980}b"),
            ("*", "*"),
            ("?", "?"),
            ("a**b", "ab"),
            ("\\*", "\\a"),
            ("*-root-*", "db-root-old-root-1"),
            ("a**b", "ab"),
            ("*a*b", "aab"),
            ("db", "db"),
        ] {
            assert!(matches_pattern(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("web-*", "web"),
            ("web-*", "a-web-1"),
            ("?", ""),
            ("db", "db2"),
            ("db", "d"),
            ("*-root", "root-1"),
            ("DB", "db"),
            ("", "a"),
            ("[ab]", "a"),
            // Texts that only look the same are different names.
            ("caf\u{e9}", "cafe\u{301}"),
            ("cafe\u{301}", "caf\u{e9}"),
            ("caf?", "cafe\u{301}"),
            ("web-1", "web-1\n"),
            ("web-?", "web-1\n"),
            ("web-1", "\nweb-1"),
            ("web-1", "db\nweb-1"),
            ("\\*", "*"),
            ("\\?", "a"),
        ] {
            assert!(!matches_pattern(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn matching_a_pattern_with_many_stars_is_fast() {
        let pattern = "*a".repeat(1000) + "*b";
        assert!(!matches_pattern(&pattern, &"a".repeat(10_000)));
    }

    fn certificate() -> Certificate {
        Certificate {
            requires: Vec::new(),
            role: "write".into(),
            slot: ObjectHash::from_bytes([1; 32]),
            signer: Some(SignerId::from_bytes([2; 32])),
            volumes: vec!["web-*".into()],
            features: Vec::new(),
            created: "2026-11-21T10:00:00Z".into(),
            label: Some("web".into()),
        }
    }

    #[test]
    fn a_certificate_has_no_signer_if_and_only_if_it_is_of_a_full_key() {
        let write = certificate();
        assert_eq!(Certificate::decode(&write.encode()), Ok(write));
        let full = Certificate {
            role: "full".into(),
            signer: None,
            ..certificate()
        };
        assert_eq!(Certificate::decode(&full.encode()), Ok(full));
        for wrong in [
            Certificate {
                signer: None,
                ..certificate()
            },
            Certificate {
                role: "full".into(),
                ..certificate()
            },
            Certificate {
                role: "read".into(),
                ..certificate()
            },
            Certificate {
                created: "yesterday".into(),
                ..certificate()
            },
        ] {
            assert!(Certificate::decode(&wrong.encode()).is_err(), "{wrong:?}");
        }
    }
}
