//! The message about the consequences of damage.

use jiff::Timestamp;
use serde::Serialize;

use super::json_time::optional_rfc3339;

/// The consequences of the damage that a check found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Consequences {
    /// The ids of the backups in which the check found no damage.
    pub(crate) backups_whole: Vec<String>,
    /// The volumes of which a backup cannot be restored completely.
    pub(crate) volumes: Vec<VolumeDamage>,
    /// What to do, in this order, until a check finds no damage.
    pub(crate) next: Vec<NextStep>,
}

/// A volume of which a backup cannot be restored completely.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct VolumeDamage {
    pub(crate) volume: String,
    /// The number of its backups that cannot be restored completely.
    pub(crate) affected: u64,
    /// The number of its other backups.
    pub(crate) whole: u64,
    /// The id of the newest of these other backups. `None` if there are none.
    pub(crate) newest_whole: Option<String>,
    /// When the backup `newest_whole` began. `None` if there is no such backup.
    #[serde(serialize_with = "optional_rfc3339")]
    pub(crate) newest_whole_time: Option<Timestamp>,
}

/// A command, and what it does about the damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NextStep {
    pub(crate) command: String,
    pub(crate) purpose: &'static str,
}
