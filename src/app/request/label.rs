//! Requests to change the labels of backups.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelRequest {
    pub(crate) backups: Vec<String>,
    /// The labels to add or change.
    pub(crate) labels: BTreeMap<String, String>,
    /// The names of the labels to remove.
    pub(crate) remove: Vec<String>,
}
