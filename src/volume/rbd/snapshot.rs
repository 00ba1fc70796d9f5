//! Snapshots of an image.

use super::error::{RbdError, RbdErrorKind};

/// A snapshot, identified by both its number and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedSnapshot {
    /// Its number.
    pub id: u64,
    /// Its name when the export begins.
    pub name: String,
}

/// A snapshot that a user or a program made, and not one that Ceph made for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number. A later snapshot of the image has a larger one.
    pub id: u64,
    /// Its name. After this snapshot is removed, another one can have the same name.
    pub name: String,
    /// The size of the image when the snapshot was made, in bytes.
    pub size: u64,
    /// Whether it is protected from removal.
    pub protected: bool,
}

/// Fails unless all of these snapshots were found, with the same names and numbers.
pub(super) fn check_snapshots(
    found: &[Snapshot],
    expected: &[ExportedSnapshot],
    request: &str,
) -> Result<(), RbdError> {
    let is = |wanted: &ExportedSnapshot, found: &Snapshot| {
        (found.id, &found.name) == (wanted.id, &wanted.name)
    };
    let missing = |wanted: &&ExportedSnapshot| !found.iter().any(|found| is(wanted, found));
    match expected.iter().find(missing) {
        None => Ok(()),
        Some(wanted) => Err(replaced(&format!("the snapshot {}", wanted.name), request)),
    }
}

/// Returns the error for an image or snapshot that is no longer the expected one.
pub(super) fn replaced(what: &str, request: &str) -> RbdError {
    let why = format!("{what} was removed or made again meanwhile");
    RbdError::new(RbdErrorKind::Replaced, request, why)
}
