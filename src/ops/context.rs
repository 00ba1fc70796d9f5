//! The context of every operation, and helpers that several operations share.

use std::path::Path;
use std::sync::Arc;

use super::error::OpsError;
use crate::base::{Cancel, ObjectHash, Observer};
use crate::repo::{Index, Project, RepoError, UnindexedPacks, Worker};

/// The name and version of this program, as they are written to records, marks and the log.
pub(super) const TOOL: &str = Worker::TOOL;

/// The description of this program in the lease of a reader.
pub(super) const READER: Worker<'static> = Worker {
    host: None,
    tool: TOOL,
};

/// The parameters that all operations share.
#[derive(Clone)]
pub struct Context<'a> {
    /// Receives progress and notices.
    pub observer: Arc<dyn Observer>,
    /// Set to ask the operation to stop.
    pub cancel: &'a Cancel,
    /// Number of threads that compute, for example that compress and encrypt.
    pub threads: usize,
    /// The directory of all caches; `None` keeps the index in memory.
    pub cache: Option<&'a Path>,
}

impl Context<'_> {
    /// Opens the index of a project, from the cache if there is one.
    pub(super) fn index(&self, project: &Project) -> Result<Arc<Index>, RepoError> {
        let observer = Arc::clone(&self.observer);
        match self.cache {
            Some(cache) => Index::open(project, cache, observer),
            None => Index::in_memory(project, observer),
        }
    }
}

/// Opens the list of unindexed packs that belongs to an index: stored packs that no segment names
/// yet. Also returns the packs that an interrupted run left in this list.
pub(super) fn unindexed_packs(index: &Index) -> (UnindexedPacks, Vec<ObjectHash>) {
    match index.state().ok().and_then(|state| state.path) {
        Some(path) => UnindexedPacks::open(&path.with_extension("pending")),
        None => UnindexedPacks::none(),
    }
}

/// Starts a pool of `threads` threads.
pub(super) fn thread_pool(threads: usize) -> Result<rayon::ThreadPool, OpsError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(OpsError::Threads)
}
