//! Section 14: marks. Packs and index segments that are to be deleted once nobody can be using them any more.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::json::{check_time, from_json, nullable, refuse_unknown_features, to_json};
use crate::base::ObjectHash;

/// What a prune wants to delete. Ids are in hexadecimal, times in RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkBody {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Packs that nothing used.
    #[serde(default, deserialize_with = "nullable")]
    pub packs: Vec<String>,
    /// Index segments that others stand for.
    #[serde(default, deserialize_with = "nullable")]
    pub segments: Vec<String>,
    /// Records that use none of these packs: all that there were before this was decided.
    #[serde(default, deserialize_with = "nullable")]
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

impl MarkBody {
    /// No body is longer, in bytes.
    pub const BODY_MAX: usize = 16 << 20;
    /// So many packs, segments and records in one fit its body.
    pub const IDS_MAX: usize = 80_000;

    /// The body to compress and seal.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// From the opened body. Unknown required features are refused before the rest is looked at.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        refuse_unknown_features(bytes)?;
        let mark: Self = from_json(bytes)?;
        check_time("time", &mark.time)?;
        let are_hashes = |ids: &[String]| ids.iter().all(|id| id.parse::<ObjectHash>().is_ok());
        for (field, ids) in [
            ("packs", &mark.packs),
            ("segments", &mark.segments),
            ("records", &mark.records),
        ] {
            if !are_hashes(ids) {
                return Err(FormatError::BadValue(field));
            }
        }
        Ok(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_fits() {
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
