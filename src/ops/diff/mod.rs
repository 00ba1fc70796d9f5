//! RBD diff streams without a repository: look into one, make one of many.

mod inspect;
mod merge;
mod source;

pub use inspect::{DiffReport, DiffSight, DiffSummary, inspect_diff};
pub use merge::{MergeReport, Merged, merge_diffs};
pub use source::DiffSource;

use crate::format::{DiffError, DiffErrorKind};

use super::OpsError;

/// How a failure to read the stream of this name is told.
pub(super) fn reading(name: &str) -> impl Fn(DiffError) -> OpsError + '_ {
    move |source| {
        let name = name.to_owned();
        match source.kind {
            DiffErrorKind::Read => OpsError::ReadDiff { name, source },
            DiffErrorKind::Empty | DiffErrorKind::NotADiff => OpsError::NotADiff { name, source },
            DiffErrorKind::Misuse(what) => OpsError::Worker(what),
            _ => OpsError::DamagedDiff { name, source },
        }
    }
}
