//! Sources and targets, on real files and, where the machine lets us, real devices and full disks.

pub(crate) mod device;
mod diff;
mod source;
mod streams;
mod target;

use std::path::Path;
use std::process::{Command, Stdio};

use cuttlebone::volume::{ErrorKind, VolumeError};

/// Why it failed, which it must have.
fn kind<T>(result: Result<T, VolumeError>) -> ErrorKind {
    match result {
        Ok(_) => unreachable!("that should have failed"),
        Err(error) => error.kind,
    }
}

/// Bytes without a zero block, different for each seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
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

/// What a command prints, if it can be run and succeeds.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
