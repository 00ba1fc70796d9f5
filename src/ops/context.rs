//! The surroundings in which every operation runs, and helpers that several operations share.

use std::path::Path;

use super::error::OpsError;
use crate::base::{Cancel, ObjectHash, Observer};
use crate::repo::{Index, Project, RepoError, UnindexedPacks};

/// The name and version of this program, as records, tombstones and marks state it.
pub(super) const TOOL: &str = concat!("cuttlebone ", env!("CARGO_PKG_VERSION"));

/// The surroundings of an operation.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Receives progress and notices.
    pub observer: &'a dyn Observer,
    /// Asks the operation to stop.
    pub cancel: &'a Cancel,
    /// Number of threads that compress and encrypt.
    pub threads: usize,
    /// The directory of all caches; without one the index is kept in memory.
    pub cache: Option<&'a Path>,
}

impl<'a> Context<'a> {
    /// Opens the index of a project, from the cache if there is one.
    pub(super) fn index(&self, project: &'a Project) -> Result<Index<'a>, RepoError> {
        match self.cache {
            Some(cache) => Index::open(project, cache, self.observer),
            None => Index::in_memory(project, self.observer),
        }
    }
}

/// Opens the list of unindexed packs that belongs to an index. Returns with it the packs that an
/// interrupted run left there.
pub(super) fn unindexed_packs(index: &Index<'_>) -> (UnindexedPacks, Vec<ObjectHash>) {
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
        .map_err(|_| OpsError::Worker("could not start threads"))
}
