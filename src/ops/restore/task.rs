//! The state that all threads of one restore share.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::holes::{Holes, OnDamage};

use crate::base::Phase;
use crate::ops::context::{Context, READER};
use crate::ops::error::OpsError;
use crate::repo::{
    Backup, BlobReader, ImageReader, Project, ReadSession, RepoError, RepoErrorKind,
};

/// The result of a restore.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Bytes written to the target, or made zero there.
    pub written: u64,
    /// Bytes read from the repository.
    pub fetched: u64,
    /// The parts of the content that could not be read, in bytes, ascending.
    pub holes: Vec<Range<u64>>,
    /// The reason why one of these parts could not be read; `None` if all could be read.
    pub damage: Option<RepoError>,
}

/// A backup that is being written to a target.
pub(crate) struct RestoreTask<'a> {
    pub(super) project: &'a Project,
    pub(super) backup: &'a Backup,
    pub(super) context: &'a Context<'a>,
    pub(super) image: &'a ImageReader,
    pub(super) phase: Phase,
    pub(super) on_damage: OnDamage,
    pub(super) holes: Holes,
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
        on_damage: OnDamage,
        write: impl FnOnce(&RestoreTask<'_>) -> Result<(), OpsError>,
    ) -> Result<RestoreReport, OpsError> {
        let tops = Vec::from_iter(backup.top);
        let cache = context.cache;
        let session = ReadSession::open(project, &tops, READER, cache, &context.observer)?;
        let blobs = BlobReader::under(&session).stopped_by(context.cancel);
        let image = ImageReader::new(&blobs, backup);
        let task = RestoreTask {
            project,
            backup,
            context,
            image: &image,
            phase,
            on_damage,
            holes: Holes::default(),
            written: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
        };
        write(&task)?;
        let (holes, damage) = task.holes.take();
        let report = RestoreReport {
            holes,
            damage,
            written: task.written.into_inner(),
            fetched: task.fetched.into_inner(),
        };
        Arc::clone(session.index()).close();
        Ok(report)
    }

    /// Notes a part of the content that cannot be read. Fails if the restore stops at damage, or if
    /// `error` is not damage.
    pub(super) fn lose(&self, range: Range<u64>, error: RepoError) -> Result<(), OpsError> {
        if error.kind() != RepoErrorKind::Damaged {
            return Err(error.into());
        }
        if self.on_damage == OnDamage::Stop {
            return Err(OpsError::Hole {
                volume: self.backup.record.volume.name.clone(),
                range,
                written: self.written.load(Ordering::Relaxed),
                source: Box::new(error),
            });
        }
        self.holes.add(range, error);
        Ok(())
    }
}
