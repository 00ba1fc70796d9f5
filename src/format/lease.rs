//! Leases: section 13 (Lease) of `docs/format.md`. A lease names a process that works on a project,
//! and the objects that the process relies on.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::json::{check_ids, from_json_with_features, nullable, nullable_object, to_json};
use crate::base::{BlobId, ObjectHash};

/// Describes a process that works on a project. While the process runs, it stores its lease again
/// at intervals. So the age of the lease shows whether the process still runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseBody {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// `backup`, `forget`, `prune` or `read`; a later version may add others.
    pub work: String,
    /// The seconds from the beginning of the work until this object was stored.
    pub running_seconds: u64,
    /// The time that the process last read from the store's clock, in seconds since 1970-01-01 UTC.
    #[serde(default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_time: Option<u64>,
    /// Hashes of packs that the process relies on and that no segment names yet, in hexadecimal.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<String>,
    /// Ids of the top nodes of trees that the process builds on, will commit, or reads, in
    /// hexadecimal.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tops: Vec<String>,
    /// Hashes of records that the process will remove.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removes: Vec<ObjectHash>,
    /// Hashes of records that must stay if the records in `removes` are removed.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keeps: Vec<ObjectHash>,
    /// The name of the host.
    #[serde(default)]
    pub host: Option<String>,
    /// The process, so that other processes on the same machine can see that it has ended.
    #[serde(default, deserialize_with = "nullable_object")]
    pub process: Option<ProcessId>,
    /// Program and version.
    #[serde(default)]
    pub tool: Option<String>,
}

/// Identifies a process uniquely, even if its number is used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Linux's `/proc/sys/kernel/random/boot_id`, which identifies the machine and its last start.
    pub boot: String,
    /// The target of the link `/proc/self/ns/pid`: the namespace in which `pid` is valid.
    pub namespace: String,
    /// The process number.
    pub pid: u32,
    /// The time at which the process started, in clock ticks since the machine started
    /// (`/proc/PID/stat`, field 22).
    pub started: u64,
}

impl LeaseBody {
    /// The maximum length of a body, in bytes.
    pub const BODY_MAX: usize = 16 << 20;
    /// A body can hold this number of packs and as many top nodes. A body without packs and without
    /// top nodes can hold this number of records in `removes` and as many in `keeps`.
    pub const IDS_MAX: usize = 100_000;

    /// Returns the body, to be compressed and sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Decodes an opened body.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let lease: Self = from_json_with_features(bytes)?;
        check_ids::<ObjectHash>("packs", &lease.packs)?;
        check_ids::<BlobId>("tops", &lease.tops)?;
        Ok(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_with_the_most_ids_fits_its_limit() {
        let largest = LeaseBody {
            requires: Vec::new(),
            work: "backup".into(),
            running_seconds: u64::MAX,
            store_time: Some(u64::MAX),
            packs: vec!["ab".repeat(32); LeaseBody::IDS_MAX],
            tops: vec!["ab".repeat(32); LeaseBody::IDS_MAX],
            removes: Vec::new(),
            keeps: Vec::new(),
            host: Some("h".repeat(1 << 10)),
            process: None,
            tool: Some("t".repeat(1 << 10)),
        };
        let records = vec![ObjectHash::from_bytes([0xab; 32]); LeaseBody::IDS_MAX];
        let forgets = LeaseBody {
            work: "forget".into(),
            packs: Vec::new(),
            tops: Vec::new(),
            removes: records.clone(),
            keeps: records,
            ..largest.clone()
        };
        for lease in [largest, forgets] {
            assert!(lease.encode().len() <= LeaseBody::BODY_MAX);
            assert_eq!(LeaseBody::decode(&lease.encode()).unwrap(), lease);
        }
    }

    #[test]
    fn a_lease_with_a_malformed_id_is_refused() {
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
