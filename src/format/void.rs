//! Voids: section 17 (Void) of `docs/format.md`. With a void, the signer of a record withdraws the
//! record. The record is then neither the newest of its volume nor the base of a backup.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::json::{from_json_with_features, nullable, to_json};
use super::time::RecordTime;
use crate::base::ObjectHash;

/// Withdraws a record. The void counts only if its signer is also the signer of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoidBody {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// The hash of the record.
    pub record: ObjectHash,
    /// The reason, in words; `None` if the void states none.
    #[serde(default)]
    pub reason: Option<String>,
    /// When the signer withdrew the record.
    pub time: RecordTime,
}

impl VoidBody {
    /// The maximum length of a body, in bytes.
    pub const BODY_MAX: usize = 64 << 10;

    /// Returns the body, to be compressed and sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Decodes an opened body.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        from_json_with_features(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_void_round_trips_and_may_lack_its_reason() {
        let mut void = VoidBody {
            requires: Vec::new(),
            record: ObjectHash::from_bytes([0xab; 32]),
            reason: Some("paused".into()),
            time: "2026-11-21T10:00:00Z".parse().unwrap(),
        };
        assert_eq!(VoidBody::decode(&void.encode()).unwrap(), void);
        void.reason = None;
        let record = "ab".repeat(32);
        let json = format!(r#"{{"record":"{record}","time":"2026-11-21T10:00:00Z"}}"#);
        assert_eq!(VoidBody::decode(json.as_bytes()).unwrap(), void);
    }

    #[test]
    fn a_void_without_a_record_or_with_a_malformed_member_is_refused() {
        let record = "ab".repeat(32);
        for json in [
            r#"{"time":"2026-11-21T10:00:00Z"}"#.to_owned(),
            r#"{"record":"ab","time":"2026-11-21T10:00:00Z"}"#.to_owned(),
            format!(r#"{{"record":"{record}","time":"yesterday"}}"#),
            format!(r#"{{"record":"{record}"}}"#),
            "[]".to_owned(),
        ] {
            let refused = VoidBody::decode(json.as_bytes());
            assert!(matches!(refused, Err(FormatError::BadJson(_))), "{json}");
        }
        let later = format!(r#"{{"requires":["x"],"record":"{record}"}}"#);
        let refused = VoidBody::decode(later.as_bytes());
        assert_eq!(refused, Err(FormatError::UnknownFeature("x".into())));
    }
}
