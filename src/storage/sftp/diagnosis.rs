//! Finds out why the server failed when its answer gives no reason.

use russh_sftp::protocol::StatusCode;

use super::connection::Connection;
use super::error::SftpError;
use crate::base::ByteSize;
use crate::storage::error::StorageErrorKind;

/// Returns a better error for the status “Failure”, which servers use for a full disk, a read-only
/// file system and more. Returns `error` itself if it has another status, or no better error is
/// found. `path` is a directory, and `wanted` the number of bytes that should be written there.
pub(super) async fn diagnose(
    connection: &Connection,
    path: &str,
    error: SftpError,
    wanted: u64,
) -> SftpError {
    const READ_ONLY: u64 = 1;
    if !error.is(StatusCode::Failure) || !connection.extensions.statvfs {
        return error;
    }
    let Ok(space) = connection.space(path).await else {
        return error;
    };
    let bytes = |blocks: u64| ByteSize(blocks.saturating_mul(space.fragment_size));
    let free = bytes(space.blocks_avail);
    if space.flags & READ_ONLY != 0 {
        SftpError::known(
            StorageErrorKind::ReadOnly,
            "the file system there is mounted read-only",
        )
    } else if free.0 <= wanted || (space.inodes > 0 && space.inodes_avail == 0) {
        let total = bytes(space.blocks);
        SftpError::known(
            StorageErrorKind::Full,
            format!("{free} free of {total} there"),
        )
    } else {
        error
    }
}
