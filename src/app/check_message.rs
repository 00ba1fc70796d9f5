//! The messages of checks: what is damaged, and what was read.

use jiff::Timestamp;
use serde::Serialize;

use super::damage_message::Consequences;
use super::json_time::rfc3339;
use crate::ops::ReadReport;

/// A range of bytes of the content of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct FindingText {
    pub(crate) kind: FindingKind,
    /// The damaged object or backup.
    pub(crate) item: String,
    /// The problem.
    pub(crate) message: String,
    /// The backup, if the item is a backup that cannot be restored completely.
    #[serde(flatten)]
    pub(crate) backup: Option<AffectedEntry>,
    /// If the item is a pack: the backups that cannot be restored completely because of this pack,
    /// and the lost parts of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) affects: Option<Vec<AffectedEntry>>,
}

/// A backup that cannot be restored completely.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AffectedEntry {
    pub(crate) backup_id: String,
    pub(crate) volume: String,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
    /// The size of its content in bytes.
    pub(crate) size: u64,
    /// The parts of its content that cannot be restored.
    pub(crate) extents: Vec<Extent>,
    /// The names of the attachments that cannot be read completely.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) attachments: Vec<String>,
}

/// The kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FindingKind {
    /// Something is damaged or missing.
    Damaged,
    /// An object that is ignored, because it is not a valid object of a key that may make it.
    Foreign,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct CheckSummary {
    /// The number of findings, including foreign objects and lost history.
    pub(crate) errors: u64,
    pub(crate) packs_damaged: u64,
    /// The number of findings of the kind [`Foreign`](FindingKind::Foreign).
    pub(crate) foreign: u64,
    /// The ids of the backups that cannot be restored completely, or whose records are lost.
    pub(crate) backups_affected: Vec<String>,
    /// The number of backups that were checked.
    pub(crate) backups: u64,
    /// The number of packs that the index names.
    pub(crate) packs: u64,
    /// The number of bytes of packs that were read.
    pub(crate) bytes_read: u64,
    /// `None` if the user did not ask to read data.
    #[serde(flatten)]
    pub(crate) data: Option<DataRead>,
    /// The consequences of the damage, if there is any.
    #[serde(flatten)]
    pub(crate) damage: Option<Consequences>,
    pub(crate) duration: f64,
}

/// The part of the data that a check read.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DataRead {
    /// `opened`: decrypted. `hashed`: compared with hashes, since the key cannot decrypt.
    pub(crate) level: &'static str,
    /// The seed of the random order in which the check read packs.
    pub(crate) seed: String,
    /// The number of packs from which this check chose. A check of a part of the data also chooses
    /// from packs that only superseded segments name. A check of all data reads these only if a
    /// backup uses them.
    pub(crate) packs_total: u64,
    /// The number of packs that this check chose to read.
    pub(crate) packs_chosen: u64,
    /// The number of packs that were undamaged when they were first read.
    pub(crate) packs_verified: u64,
    /// Whether all packs that this check had to read were read. If not, the time limit was reached,
    /// or a check of all data could not find out which packs backups use.
    pub(crate) complete: bool,
}

impl DataRead {
    pub(crate) fn of(read: &ReadReport) -> Self {
        Self {
            level: read.level.name(),
            seed: read.seed.to_string(),
            packs_total: read.packs,
            packs_chosen: read.packs_chosen,
            packs_verified: read.packs_verified,
            complete: read.complete,
        }
    }
}

/// The result of a check without a key.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct KeylessSummary {
    pub(crate) errors: u64,
    /// The number of files that were read: objects, and their second copies.
    pub(crate) files: u64,
    pub(crate) bytes_read: u64,
    pub(crate) projects: u64,
    /// The number of objects that the logs of all projects name, and that must exist.
    pub(crate) objects_required: u64,
    /// Whether the log has the entry of the given statement, and each object that the statement
    /// covers is undamaged or was removed by the log. `None` if the user gave no statement.
    pub(crate) statement_holds: Option<bool>,
    pub(crate) duration: f64,
}
