//! What an operation tells while it runs. It never prints; a front end listens.

/// What is being done, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The local index is brought up to date with the repository.
    Index,
    /// A source is read and stored.
    Backup,
    /// What a list of extents leaves out is compared with the base, by samples.
    VerifySample,
    /// A backup is written to a target.
    Restore,
    /// Trees, index and names are compared.
    CheckStructure,
    /// Packs are read and every blob is opened.
    CheckData,
    /// Trees are walked to find out what is used; the counts are of trees.
    Mark,
    /// What is used of packs is put into new ones; the bytes are those of the old packs.
    Repack,
    /// A diff is looked into.
    InspectDiff,
    /// Diffs are made one; the bytes are those of the image.
    MergeDiffs,
    /// What a backup changes is written as a diff; the bytes are those of the image.
    ExportDiff,
}

/// How far a phase is. Counts only grow within one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes (of the source, the target or the packs) dealt with.
    pub done: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
}

/// Something worth a line to the user that is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The local index could not be used and is made anew, for this reason.
    CacheRebuilt(String),
    /// Of an object that is kept twice one copy cannot be used, as this says; the other one serves.
    CopyDamaged(String),
    /// An earlier run was interrupted; so many packs that it stored are used.
    Resumed {
        /// Packs found and taken into the index.
        packs: u64,
    },
    /// Anything else, ready to be shown.
    Text(String),
}

/// Listens to an operation. Called from many threads, often: be quick.
pub trait Observer: Send + Sync {
    /// How far the work is.
    fn progress(&self, progress: Progress);
    /// Something the user should know.
    fn notice(&self, notice: Notice);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn progress(&self, _: Progress) {}
    fn notice(&self, _: Notice) {}
}
