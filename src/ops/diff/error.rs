//! Turns errors of the diff reader into errors of operations.

use crate::format::{DiffError, DiffErrorKind};
use crate::ops::error::OpsError;

/// How a failure to read the stream of this name is told.
pub(crate) fn reading(name: &str) -> impl Fn(DiffError) -> OpsError + '_ {
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
