//! Section 12: tombstones. They name backup records that were removed on purpose.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::json::{check_ids, from_json_with_features, nullable, to_json};
use super::time::check_time;
use crate::base::ObjectHash;

/// Names backup records that were removed, or are about to be. Hashes are in hexadecimal, times in
/// RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Hashes of the records.
    pub records: Vec<String>,
    /// The time of the decision.
    pub time: String,
    /// The name of the host.
    #[serde(default)]
    pub host: Option<String>,
    /// Program and version.
    #[serde(default)]
    pub tool: Option<String>,
}

impl Tombstone {
    /// The maximum length of a body, in bytes.
    pub const BODY_MAX: usize = 16 << 20;
    /// The number of records that certainly fit into a body.
    pub const RECORDS_MAX: usize = 100_000;

    /// Returns the body, to be compressed and sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Decodes an opened body.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let tombstone: Self = from_json_with_features(bytes)?;
        check_time("time", &tombstone.time)?;
        check_ids::<ObjectHash>("records", &tombstone.records)?;
        Ok(tombstone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_with_the_most_records_fits_its_limit() {
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
