//! Section 12: tombstones. What says of backup records that they were removed on purpose.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::json::{check_time, from_json, nullable, refuse_unknown_features, to_json};
use crate::base::ObjectHash;

/// Backup records that somebody who holds the key has removed, or was about to. Ids are in hexadecimal, times in
/// RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// The records.
    pub records: Vec<String>,
    /// When this was decided.
    pub time: String,
    /// Where.
    #[serde(default)]
    pub host: Option<String>,
    /// Program and version.
    #[serde(default)]
    pub tool: Option<String>,
}

impl Tombstone {
    /// No body is longer, in bytes.
    pub const BODY_MAX: usize = 16 << 20;
    /// So many records in one fit its body.
    pub const RECORDS_MAX: usize = 100_000;

    /// The body to compress and seal.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// From the opened body. Unknown required features are refused before the rest is looked at.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        refuse_unknown_features(bytes)?;
        let tombstone: Self = from_json(bytes)?;
        check_time("time", &tombstone.time)?;
        let is_hash = |text: &String| text.parse::<ObjectHash>().is_ok();
        if tombstone.records.iter().all(is_hash) {
            Ok(tombstone)
        } else {
            Err(FormatError::BadValue("records"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_fits() {
        let largest = Tombstone {
            requires: Vec::new(),
            records: vec!["ab".repeat(32); Tombstone::RECORDS_MAX],
            time: "2026-11-21T10:00:00.123456789+01:00".into(),
            host: Some("h".repeat(1 << 10)),
            tool: Some("t".repeat(1 << 10)),
        };
        assert!(largest.encode().len() <= Tombstone::BODY_MAX);
    }
}
