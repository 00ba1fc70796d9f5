//! The parts of a pipeline that its callers define, and the reasons for which they end early.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::Cancelled;
use crate::ops::error::OpsError;
use crate::repo::RepoError;
use crate::volume::VolumeError;

/// The parallel stages of a pipeline: the work that its threads do on each item.
pub(crate) trait Stages: Sync {
    /// A permit to begin an item. It may contain a buffer, which later items use again.
    type Spare: Default + Send;
    /// An item as the source sends it.
    type Job: Send;
    /// An item as the sink takes it.
    type Done: Send;
    /// The state of one worker thread.
    type Worker;

    /// Makes the state of a worker, in the worker's thread.
    fn start(&self) -> Result<Self::Worker, OpsError>;

    /// Works on one item.
    fn work(&self, worker: &mut Self::Worker, job: Self::Job) -> Result<Self::Done, OpsError>;

    /// Ends a worker after its last item, even if this item failed.
    fn end(&self, worker: Self::Worker) -> Result<(), OpsError> {
        drop(worker);
        Ok(())
    }

    /// Returns the number of threads for [`finish`](Self::finish); 0 if there is nothing to finish.
    fn finishers(&self) -> usize {
        0
    }

    /// Finishes an item that a worker returned. Runs in a separate thread, which may wait for the
    /// disk while workers compute. Not called for items that the source sends directly to the sink.
    fn finish(&self, done: &Self::Done) -> Result<(), OpsError> {
        let _ = done;
        Ok(())
    }
}

/// Another stage of the pipeline has ended, so this stage cannot pass on its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another stage of the pipeline has stopped")]
pub(crate) struct Stopped;

/// The reason why a source ended before its last item.
#[derive(Debug)]
pub(crate) enum StageError {
    /// Another stage has ended, and reports why.
    Stopped,
    /// The source itself has failed.
    Failed(OpsError),
}

impl From<Stopped> for StageError {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<OpsError> for StageError {
    fn from(error: OpsError) -> Self {
        Self::Failed(error)
    }
}

impl From<RepoError> for StageError {
    fn from(error: RepoError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<VolumeError> for StageError {
    fn from(error: VolumeError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Cancelled> for StageError {
    fn from(error: Cancelled) -> Self {
        Self::Failed(error.into())
    }
}

/// A flag that is set when a pipeline fails. While a source waits for its input, it does not notice
/// a closed channel. So it must test this flag.
#[derive(Debug, Default)]
pub(crate) struct Failed(AtomicBool);

impl Failed {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Fails if the pipeline has failed.
    pub(crate) fn check(&self) -> Result<(), Stopped> {
        if self.0.load(Ordering::Relaxed) {
            Err(Stopped)
        } else {
            Ok(())
        }
    }
}
