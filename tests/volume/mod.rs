//! Tests of sources and targets. They use real files and, if they run as root, real devices and
//! full disks.

mod device;
mod diff;
mod source;
mod streams;
mod target;

use std::path::Path;

use cuttlebone::volume::{VolumeError, VolumeErrorKind};

use crate::support::noise;

/// Returns the kind of the error in `result`. Panics if `result` is not an error.
fn kind<T>(result: Result<T, VolumeError>) -> VolumeErrorKind {
    match result {
        Ok(_) => unreachable!("the call should have failed"),
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
