//! Section 13: leases. Who is at work in a project, and what he relies on.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::json::{from_json, nullable, nullable_object, refuse_unknown_features, to_json};
use crate::base::{BlobId, ObjectHash};

/// What a process says of itself while it is at work. Put again and again, so that its age tells whether it
/// lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseBody {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// `backup`, `prune`, or what a later version calls its work.
    pub work: String,
    /// Since the work began, in seconds; the store's clock tells when that was.
    pub running_seconds: u64,
    /// Packs that it relies on and that neither a segment nor a record names yet, in hexadecimal.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<String>,
    /// Top nodes of the trees that it is about to commit, in hexadecimal.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tops: Vec<String>,
    /// Where.
    #[serde(default)]
    pub host: Option<String>,
    /// Which process, so that on the same machine it can be known to be gone.
    #[serde(default, deserialize_with = "nullable_object")]
    pub process: Option<ProcessId>,
    /// Program and version.
    #[serde(default)]
    pub tool: Option<String>,
}

/// A process, told apart from all others that ever ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Linux's `/proc/sys/kernel/random/boot_id`: which machine, since when.
    pub boot: String,
    /// What `/proc/self/ns/pid` links to: numbers of processes mean nothing elsewhere.
    pub namespace: String,
    /// Its number.
    pub pid: u32,
    /// When it began, in clock ticks since the machine started (`/proc/PID/stat`, field 22).
    pub started: u64,
}

impl LeaseBody {
    /// No body is longer, in bytes.
    pub const BODY_MAX: usize = 16 << 20;
    /// So many packs and tops fit into a body.
    pub const IDS_MAX: usize = 100_000;

    /// The body to compress and seal.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// From the opened body. Unknown required features are refused before the rest is looked at.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        refuse_unknown_features(bytes)?;
        let lease: Self = from_json(bytes)?;
        let are_packs = lease.packs.iter().all(|p| p.parse::<ObjectHash>().is_ok());
        let are_nodes = lease.tops.iter().all(|t| t.parse::<BlobId>().is_ok());
        match (are_packs, are_nodes) {
            (true, true) => Ok(lease),
            (false, _) => Err(FormatError::BadValue("packs")),
            (_, false) => Err(FormatError::BadValue("tops")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_fits() {
        let largest = LeaseBody {
            requires: Vec::new(),
            work: "backup".into(),
            running_seconds: u64::MAX,
            packs: vec!["ab".repeat(32); LeaseBody::IDS_MAX],
            tops: vec!["ab".repeat(32); LeaseBody::IDS_MAX],
            host: Some("h".repeat(1 << 10)),
            process: None,
            tool: Some("t".repeat(1 << 10)),
        };
        assert!(largest.encode().len() <= LeaseBody::BODY_MAX);
        assert_eq!(LeaseBody::decode(&largest.encode()).unwrap(), largest);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for (body, field) in [
            (
                r#"{"work":"backup","running_seconds":1,"packs":["ab"]}"#,
                "packs",
            ),
            (
                r#"{"work":"backup","running_seconds":1,"tops":["x"]}"#,
                "tops",
            ),
        ] {
            let refused = LeaseBody::decode(body.as_bytes());
            assert!(matches!(refused, Err(FormatError::BadValue(f)) if f == field));
        }
    }
}
