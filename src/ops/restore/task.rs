//! The state that all threads of one restore share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::base::Phase;
use crate::ops::context::{Context, READER};
use crate::ops::error::OpsError;
use crate::repo::{Backup, BlobReader, ImageReader, Project, ReadSession};

/// The result of a restore, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreReport {
    /// Written to the target, or made zero there.
    pub written: u64,
    /// Read from the repository.
    pub fetched: u64,
}

/// A backup that is being written to a target.
pub(crate) struct RestoreTask<'a> {
    pub(super) project: &'a Project,
    pub(super) context: &'a Context<'a>,
    pub(super) image: &'a ImageReader,
    pub(super) phase: Phase,
    pub(super) written: AtomicU64,
    pub(super) fetched: AtomicU64,
}

impl RestoreTask<'_> {
    /// Opens the backup for reading, and calls `write` to write it.
    pub(crate) fn with(
        project: &Project,
        backup: &Backup,
        context: &Context<'_>,
        phase: Phase,
        write: impl FnOnce(&RestoreTask<'_>) -> Result<(), OpsError>,
    ) -> Result<RestoreReport, OpsError> {
        let tops = Vec::from_iter(backup.top);
        let cache = context.cache;
        let session = ReadSession::open(project, &tops, READER, cache, &context.observer)?;
        let blobs = BlobReader::under(&session).stopped_by(context.cancel);
        let image = ImageReader::new(&blobs, backup);
        let task = RestoreTask {
            project,
            context,
            image: &image,
            phase,
            written: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
        };
        write(&task)?;
        let report = RestoreReport {
            written: task.written.into_inner(),
            fetched: task.fetched.into_inner(),
        };
        Arc::clone(session.index()).close();
        Ok(report)
    }
}
