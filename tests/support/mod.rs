//! Helpers for all tests: running the program in a scratch directory, servers and disks, and the
//! function that skips a test.

mod bad_sectors;
mod loop_device;
pub(crate) mod program;
mod random;
mod skip;
mod small_disk;
mod sshd;
mod unprivileged;

pub(crate) use bad_sectors::{bad_range, bad_sectors};
pub(crate) use loop_device::LoopDevice;
pub(crate) use random::{Random, noise};
pub(crate) use skip::{skip, skip_for_kernel};
pub(crate) use small_disk::SmallDisk;
pub(crate) use sshd::Sshd;
pub(crate) use unprivileged::modes_apply;

use std::process::{Command, Stdio};

/// Runs a command. Returns its trimmed standard output, or `None` if the program is missing or
/// fails.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    let output = command
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
