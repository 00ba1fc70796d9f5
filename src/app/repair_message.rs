//! The messages of repairs and of `parity set`.

use serde::Serialize;

/// An object with a problem, and what a repair does with it. The object is damaged or missing, or
/// it is a pack that no index segment names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RepairStepEntry {
    pub(crate) item: String,
    /// `restore`, `rebuild`, `remove`, `repack`, `name` or `none`.
    pub(crate) action: &'static str,
    /// What is known about the damage, in words.
    pub(crate) message: String,
    /// Whether the repair solved the problem: the object is whole now, was removed, replaced or
    /// moved to `quarantine/`, or an index segment names it.
    pub(crate) done: bool,
    pub(crate) dry_run: bool,
}

impl RepairStepEntry {
    /// Describes a step for this item: the action, and what is known about the damage. `done` is
    /// whether the repair was done; `None` in a dry run.
    pub(crate) fn new(
        item: &impl ToString,
        (action, message): (&'static str, String),
        done: Option<bool>,
    ) -> Self {
        Self {
            item: item.to_string(),
            action,
            message,
            done: done.unwrap_or_default(),
            dry_run: done.is_none(),
        }
    }
}

/// The result of a repair.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RepairSummary {
    /// The subcommand of `repair`: `parity`, `copies`, `packs` or `index`.
    pub(crate) what: &'static str,
    /// Whether only the plan was made.
    pub(crate) dry_run: bool,
    /// Objects that were repaired; in a dry run, objects that would be repaired.
    pub(crate) repaired: u64,
    /// Damaged objects that this repair does not make whole.
    pub(crate) unrepaired: u64,
    /// The ids of the backups that have lost data. `None` if the command does not find them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backups_affected: Option<Vec<String>>,
    pub(crate) bytes_read: u64,
    pub(crate) duration: f64,
}

/// The result of `parity set`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ParitySummary {
    /// In percent; 0 for none.
    pub(crate) rate: u8,
    /// Objects that parity was added to.
    pub(crate) objects_added: u64,
    pub(crate) bytes_stored: u64,
    /// Objects that had enough parity before.
    pub(crate) objects_kept: u64,
    /// Damaged objects. They get no parity.
    pub(crate) objects_damaged: u64,
    pub(crate) duration: f64,
}
