//! The operations, one module each. They know no command line and print nothing.

mod backup;
mod check;
mod compare;
mod diff;
mod error;
mod forget;
mod in_order;
mod patient;
mod pipeline;
mod prune;
mod restore;
mod stats;

pub use crate::format::{
    ByteString, DiffErrorKind, DiffHeader, DiffVersion, ExtentList, ImageDescription,
};
pub use backup::{
    BackupOptions, BackupReport, Input, Listed, backup, backup_diff, examine_diff, read_extents,
};
pub use check::{CheckReport, Finding, check};
pub use compare::{CompareReport, DifferentExtent, compare};
pub use diff::{
    DiffOutput, DiffReport, DiffSight, DiffSource, DiffSummary, ExportReport, MergeReport,
    SnapshotNames, export_diff, inspect_diff, merge_diffs,
};
pub use error::OpsError;
pub use forget::{
    Candidate, Count, Forget, ForgetPlan, LabelMatch, ParsePolicyError, Period, Policy, Reason,
    Removal, Rule, Span, VolumePlan, forget, plan_forget,
};
pub use prune::{Amount, MaxUnused, Prune, PruneOptions, PrunePlan, PruneReport, plan_prune};
pub use restore::{RestoreReport, Restored, restore};
pub use stats::{StatsReport, stats};

use std::path::Path;

use crate::base::{Cancel, Observer};
use crate::repo::{Index, Project, RepoError, UnindexedPacks};

/// What records say of the program that made them.
const TOOL: &str = concat!("cuttlebone ", env!("CARGO_PKG_VERSION"));

/// What every operation is given.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Who watches.
    pub observer: &'a dyn Observer,
    /// Who may ask it to stop.
    pub cancel: &'a Cancel,
    /// Threads that compress and encrypt.
    pub threads: usize,
    /// Where caches are kept; without one the index is kept in memory.
    pub cache: Option<&'a Path>,
}

impl<'a> Context<'a> {
    fn index(&self, project: &'a Project) -> Result<Index<'a>, RepoError> {
        match self.cache {
            Some(cache) => Index::open(project, cache, self.observer),
            None => Index::in_memory(project, self.observer),
        }
    }
}

/// The journal beside an index, and the packs that an interrupted run left in it.
fn journal(index: &Index<'_>) -> (UnindexedPacks, Vec<crate::base::ObjectHash>) {
    match index.state().ok().and_then(|state| state.path) {
        Some(path) => UnindexedPacks::open(&path.with_extension("pending")),
        None => UnindexedPacks::none(),
    }
}

/// A pool of so many threads.
fn thread_pool(threads: usize) -> Result<rayon::ThreadPool, OpsError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|_| OpsError::Worker("could not start threads"))
}
