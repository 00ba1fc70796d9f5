//! Audits: section 18 (Audit) of `docs/format.md`. An audit lists packs that a full key has read
//! completely.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::json::{from_json_with_features, nullable, to_json};
use super::time::check_time;
use super::wire::{Reader, len_u32};
use crate::base::ObjectHash;

/// States that packs were read completely: every run could be decrypted, and every blob had its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditBody {
    /// When and how the packs were read.
    pub about: AuditInfo,
    /// The packs, ascending, without duplicates.
    pub packs: Vec<ObjectHash>,
}

/// When and how packs were read. Times are in RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditInfo {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// When the packs were read.
    pub time: String,
    /// The name of the host that read them.
    #[serde(default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Program and version.
    #[serde(default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The result, in words.
    pub result: String,
}

impl AuditBody {
    /// The maximum length of a body, in bytes.
    pub const BODY_MAX: usize = 16 << 20;
    /// A number of packs that fits into a body.
    pub const PACKS_MAX: usize = 500_000;

    /// Returns the body, to be compressed and sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let about = to_json(&self.about);
        let mut out = len_u32(about.len()).to_le_bytes().to_vec();
        out.extend_from_slice(&about);
        out.extend_from_slice(&len_u32(self.packs.len()).to_le_bytes());
        out.extend(self.packs.iter().flat_map(ObjectHash::as_bytes));
        out
    }

    /// Decodes an opened body.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let len = reader.u32()? as usize;
        let about: AuditInfo = from_json_with_features(reader.bytes(len)?)?;
        check_time("time", &about.time)?;
        let count = reader.count(32)?;
        let packs = (0..count)
            .map(|_| reader.array().map(ObjectHash::from_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        reader.end()?;
        if packs.is_sorted_by(|a, b| a < b) {
            Ok(Self { about, packs })
        } else {
            Err(FormatError::BadValue("order of the packs"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(packs: Vec<ObjectHash>) -> AuditBody {
        AuditBody {
            about: AuditInfo {
                requires: Vec::new(),
                time: "2026-11-21T10:00:00Z".into(),
                host: Some("host".into()),
                tool: None,
                result: "whole".into(),
            },
            packs,
        }
    }

    #[test]
    fn an_audit_round_trips_and_names_packs_in_order_and_once() {
        let [a, b] = [1, 2].map(|byte| ObjectHash::from_bytes([byte; 32]));
        for packs in [vec![], vec![a], vec![a, b]] {
            let body = audit(packs);
            assert_eq!(AuditBody::decode(&body.encode()).unwrap(), body);
        }
        for packs in [vec![b, a], vec![a, a]] {
            assert!(AuditBody::decode(&audit(packs).encode()).is_err());
        }
        let mut long = audit(vec![a]).encode();
        long.push(0);
        assert!(AuditBody::decode(&long).is_err());
        assert!(AuditBody::decode(&long[..long.len() - 2]).is_err());
    }

    #[test]
    fn an_audit_with_the_most_packs_fits_its_limit() {
        let pack = ObjectHash::from_bytes([1; 32]);
        let largest = audit(vec![pack; AuditBody::PACKS_MAX]);
        assert!(largest.encode().len() <= AuditBody::BODY_MAX);
    }
}
