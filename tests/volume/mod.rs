//! Sources and targets, on real files and, where the machine lets us, real devices and full disks.

mod device;
mod diff;
mod source;
mod streams;
mod target;

use std::path::Path;

use cuttlebone::volume::{ErrorKind, VolumeError};

use crate::support::noise;

/// Why it failed, which it must have.
fn kind<T>(result: Result<T, VolumeError>) -> ErrorKind {
    match result {
        Ok(_) => unreachable!("that should have failed"),
        Err(error) => error.kind,
    }
}

/// Names in a directory, hidden ones too.
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
