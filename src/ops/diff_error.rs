//! Turns errors of the diff reader into errors of operations.

use crate::base::Cancelled;
use crate::format::{DiffError, DiffErrorKind};
use crate::ops::error::OpsError;

/// Returns a function that turns an error of the reader of the diff `name` into an error of the
/// operation.
pub(crate) fn reading(name: &str) -> impl Fn(DiffError) -> OpsError + '_ {
    move |source| {
        let name = name.to_owned();
        match source.kind {
            DiffErrorKind::Read if is_cancelled(&source) => Cancelled.into(),
            DiffErrorKind::Read => OpsError::ReadDiff { name, source },
            DiffErrorKind::Empty | DiffErrorKind::NotADiff => OpsError::NotADiff { name, source },
            DiffErrorKind::Misuse(what) => OpsError::Internal(what),
            _ => OpsError::DamagedDiff { name, source },
        }
    }
}

/// Returns whether the read failed because the operation was cancelled: see
/// [`CancellableReader`](crate::ops::cancellable_reader::CancellableReader).
fn is_cancelled(error: &DiffError) -> bool {
    let source = error.source.as_ref().and_then(|error| error.get_ref());
    source
        .and_then(|error| error.downcast_ref::<Cancelled>())
        .is_some()
}
