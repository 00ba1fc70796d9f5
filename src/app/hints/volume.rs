//! Converts the errors of sources and targets into failures.

use super::storage::{denied, disk_errors};
use crate::app::failure::{Code, Failure};
use crate::volume::{Unsuitable, VolumeError, VolumeErrorKind};

impl From<VolumeError> for Failure {
    fn from(error: VolumeError) -> Self {
        let code = match error.kind {
            VolumeErrorKind::Busy => Code::Busy,
            _ => Code::Failed,
        };
        let hint = match error.kind {
            VolumeErrorKind::NotFound => Some("check the path"),
            VolumeErrorKind::Exists => Some(
                "choose another name, write only differences with --in-place, or replace \
                     it with --force",
            ),
            VolumeErrorKind::Denied => Some(denied()),
            VolumeErrorKind::Closed => Some("check whether the program that reads the pipe failed"),
            VolumeErrorKind::ReadOnly => Some("choose a writable target"),
            VolumeErrorKind::Unsuitable(Unsuitable::Fifo) => {
                Some("back it up as a stream: cuttlebone backup - --volume NAME < PIPE")
            }
            VolumeErrorKind::Unsuitable(Unsuitable::Unsized) => {
                Some("back it up as a stream: cuttlebone backup - --volume NAME < FILE")
            }
            VolumeErrorKind::Unsuitable(_) => Some("give a regular file or a block device"),
            VolumeErrorKind::Busy => Some("unmount it, or stop the program that uses it"),
            VolumeErrorKind::OtherWriter => Some(
                "the target may hold data of both programs; stop the other program, and run this \
                     again with --in-place",
            ),
            VolumeErrorKind::NotBlank(_) => Some(
                "if it is the right device, overwrite it with --force, or write only differences \
                     with --in-place",
            ),
            VolumeErrorKind::NoDevice { is_file: false } => {
                Some("check the name, and that the device is connected or activated (lsblk)")
            }
            VolumeErrorKind::NoDevice { is_file: true } => {
                Some("remove the file, and activate the device that should be there")
            }
            VolumeErrorKind::TooSmall { .. } => Some(
                "use a device that is at least as large as the \
                 backup",
            ),
            VolumeErrorKind::Full { .. } => {
                Some("free some space or choose another target, then run this again")
            }
            VolumeErrorKind::Shrunk { .. } => Some(
                "no backup was created; back up a snapshot, or stop the program that writes \
                     to it",
            ),
            VolumeErrorKind::Misnamed => {
                Some("give a name of 1 to 4096 bytes with --from-snapshot or --to-snapshot")
            }
            VolumeErrorKind::Io => error.source.as_ref().and_then(disk_errors),
            _ => None,
        };
        Self::from_error(code, &error).hint_if(hint)
    }
}
