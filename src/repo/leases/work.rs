//! The work of a process that has a lease, and the program that does it.

/// The work of a process in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It stores a backup.
    Backup,
    /// It removes records.
    Forget,
    /// It deletes data that no backup uses.
    Prune,
    /// It reads backups. Their trees must not be deleted meanwhile.
    Read,
}

impl Work {
    /// Returns whether the work of this name deletes records or packs.
    pub(super) fn deletes(word: &str) -> bool {
        [Self::Forget, Self::Prune]
            .iter()
            .any(|work| work.word() == word)
    }

    /// Returns the name of the work in a lease.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Forget => "forget",
            Self::Prune => "prune",
            Self::Read => "read",
        }
    }
}

/// The host and program that do the work.
#[derive(Debug, Clone, Copy)]
pub struct Worker<'a> {
    /// The name of this host.
    pub host: Option<&'a str>,
    /// The name and version of the program.
    pub tool: &'a str,
}

impl Worker<'_> {
    /// The name and version of this program.
    pub const TOOL: &'static str = concat!("cuttlebone ", env!("CARGO_PKG_VERSION"));
}
