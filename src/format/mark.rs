//! Marks: section 14 (Mark) of `docs/format.md`. A mark names packs and index segments that will be
//! deleted after a grace period, unless a backup uses them by then.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::json::{check_ids, from_json_with_features, nullable, to_json};
use super::time::check_time;
use crate::base::ObjectHash;

/// Names the objects that a prune will delete if nothing uses them at the end of the grace period.
/// Hashes are in hexadecimal, times in RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkBody {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Unused packs.
    #[serde(default, deserialize_with = "nullable")]
    pub packs: Vec<String>,
    /// Index segments that newer ones replace.
    #[serde(default, deserialize_with = "nullable")]
    pub segments: Vec<String>,
    /// Records that existed before the prune chose the packs, at most [`IDS_MAX`](Self::IDS_MAX).
    /// None of these records uses the packs.
    #[serde(default, deserialize_with = "nullable")]
    pub records: Vec<String>,
    /// When the prune chose the packs and segments.
    pub time: String,
    /// The name of the host.
    #[serde(default)]
    pub host: Option<String>,
    /// Program and version.
    #[serde(default)]
    pub tool: Option<String>,
}

impl MarkBody {
    /// The maximum length of a body, in bytes.
    pub const BODY_MAX: usize = 16 << 20;
    /// A body can hold this number of packs, as many segments and as many records.
    pub const IDS_MAX: usize = 80_000;

    /// Returns the body, to be compressed and sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Decodes an opened body.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mark: Self = from_json_with_features(bytes)?;
        check_time("time", &mark.time)?;
        check_ids::<ObjectHash>("packs", &mark.packs)?;
        check_ids::<ObjectHash>("segments", &mark.segments)?;
        check_ids::<ObjectHash>("records", &mark.records)?;
        Ok(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_with_the_most_ids_fits_its_limit() {
        let largest = MarkBody {
            requires: Vec::new(),
            packs: vec!["ab".repeat(32); MarkBody::IDS_MAX],
            segments: vec!["ab".repeat(32); MarkBody::IDS_MAX],
            records: vec!["ab".repeat(32); MarkBody::IDS_MAX],
            time: "2026-11-21T10:00:00.123456789+01:00".into(),
            host: Some("h".repeat(1 << 10)),
            tool: Some("t".repeat(1 << 10)),
        };
        assert!(largest.encode().len() <= MarkBody::BODY_MAX);
        assert_eq!(MarkBody::decode(&largest.encode()).unwrap(), largest);
    }
}
