//! Sources and targets: on real files and, where the tests run as root, on real devices and full
//! disks.

mod device;
mod diff;
mod source;
mod streams;
mod target;

use std::path::Path;

use cuttlebone::volume::{VolumeError, VolumeErrorKind};

use crate::support::noise;

/// Returns the kind of the error that `result` must be.
fn kind<T>(result: Result<T, VolumeError>) -> VolumeErrorKind {
    match result {
        Ok(_) => unreachable!("that should have failed"),
        Err(error) => error.kind,
    }
}

/// Returns the names in a directory, hidden ones included, sorted.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = directory
        .read_dir()
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("plain")
        })
        .collect();
    names.sort();
    names
}
