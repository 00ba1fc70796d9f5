//! The kinds of objects in a repository, and the properties of each kind.

use crate::base::{ProjectId, Role};
use crate::format::Magic;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ObjectKind {
    Repository,
    /// A key slot, of the repository or of a project.
    Key,
    Project,
    /// Settings of a project.
    Settings,
    /// The certificate of a key of a project.
    Certificate,
    /// A pack of chunks.
    Pack,
    /// A pack of tree nodes.
    Tree,
    Index,
    Backup,
    /// A statement with which a writer withdraws one of its own records.
    Void,
    /// An entry of the log.
    Log,
    Lease,
    Mark,
    /// A statement that packs were read and found undamaged.
    Audit,
    /// A statement that packs were read, with the result for each, or that restores were tried.
    /// Checks and drills use it to choose what to read, and reports show it. Nothing else uses it.
    Ledger,
    /// A file with records, voids and log entries that begin to exist at the same moment.
    Batch,
    /// Shards from which a damaged object can be restored.
    Parity,
}

/// The key that seals the content of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedWith {
    /// Not sealed. A MAC under a key of the repository authenticates the repository file. Batches
    /// and parity are not authenticated themselves. A reader verifies each object that it takes
    /// from a batch or restores with parity: the object must have the hash that is its name.
    Nothing,
    /// A key that is derived from a password.
    Password,
    /// The project wrap key, which is derived from the repository's secret. It seals the project's
    /// secret. The public keys in the object are not sealed.
    Wrapping,
    /// Each run has its own key. The project's contents key seals the pack's contents, which list
    /// the runs.
    PackKey,
    /// The project's object key.
    ObjectKey,
    /// The project's object key seals only the details of an entry of the log. The number and the
    /// time of the entry, and the kinds and hashes of objects, are not sealed.
    Partly,
}

/// The properties that all objects of a kind share.
#[derive(Debug, Clone, Copy)]
pub struct KindInfo {
    /// The name of the kind in messages.
    pub noun: &'static str,
    /// The directory of these objects, relative to the directory of the project. Key slots and
    /// parity that belong to no project are in a directory of this name in the repository. Empty if
    /// the object is directly in the directory of the project or repository.
    pub directory: &'static str,
    /// The first bytes of the object.
    pub magic: Magic,
    /// The key that seals the content of the object.
    pub sealed_with: SealedWith,
    /// The lowest role whose keys may sign these objects. `None` for objects without a signature.
    pub signed_by: Option<Role>,
    /// Whether each object has a second copy, under a name that ends in `.copy`.
    pub kept_twice: bool,
    /// Whether hosts cache these objects after they have read or stored them. False for all packs:
    /// `Objects::read_node_pack` caches packs of tree nodes without this flag.
    pub cached: bool,
}

impl ObjectKind {
    /// All kinds.
    pub const ALL: [Self; 17] = [
        Self::Repository,
        Self::Key,
        Self::Project,
        Self::Settings,
        Self::Certificate,
        Self::Pack,
        Self::Tree,
        Self::Index,
        Self::Backup,
        Self::Void,
        Self::Log,
        Self::Lease,
        Self::Mark,
        Self::Audit,
        Self::Ledger,
        Self::Batch,
        Self::Parity,
    ];

    /// Returns the properties that all objects of this kind share.
    #[must_use]
    pub const fn info(self) -> KindInfo {
        /// Returns the default properties: sealed under the project's object key, signed by a full
        /// key, stored once.
        const fn row(noun: &'static str, directory: &'static str, magic: Magic) -> KindInfo {
            KindInfo {
                noun,
                directory,
                magic,
                sealed_with: SealedWith::ObjectKey,
                signed_by: Some(Role::Full),
                kept_twice: false,
                cached: false,
            }
        }
        const fn twice(row: KindInfo, sealed_with: SealedWith) -> KindInfo {
            KindInfo {
                kept_twice: true,
                sealed_with,
                ..row
            }
        }
        const fn cached(row: KindInfo) -> KindInfo {
            KindInfo {
                cached: true,
                ..row
            }
        }
        const fn by_writers(row: KindInfo) -> KindInfo {
            KindInfo {
                signed_by: Some(Role::Write),
                ..row
            }
        }
        const fn unsigned(row: KindInfo) -> KindInfo {
            KindInfo {
                signed_by: None,
                ..row
            }
        }
        match self {
            Self::Repository => unsigned(twice(
                row("repository file", "", Magic::Repository),
                SealedWith::Nothing,
            )),
            Self::Key => unsigned(twice(
                row("key slot", "keys", Magic::Slot),
                SealedWith::Password,
            )),
            Self::Project => twice(
                row("project object", "", Magic::Project),
                SealedWith::Wrapping,
            ),
            Self::Settings => twice(
                row("settings", "settings", Magic::Settings),
                SealedWith::ObjectKey,
            ),
            Self::Certificate => twice(
                row("certificate", "writers", Magic::Certificate),
                SealedWith::ObjectKey,
            ),
            Self::Pack => KindInfo {
                sealed_with: SealedWith::PackKey,
                ..by_writers(row("pack", "packs", Magic::Pack))
            },
            Self::Tree => KindInfo {
                sealed_with: SealedWith::PackKey,
                ..by_writers(row("tree pack", "trees", Magic::Pack))
            },
            Self::Index => by_writers(row("index segment", "index", Magic::Index)),
            Self::Backup => cached(by_writers(row("backup record", "backups", Magic::Backup))),
            Self::Void => cached(by_writers(row("void", "voids", Magic::Void))),
            Self::Log => KindInfo {
                sealed_with: SealedWith::Partly,
                ..cached(row("log entry", "log", Magic::Log))
            },
            Self::Lease => by_writers(row("lease", "leases", Magic::Lease)),
            Self::Mark => row("mark", "marks", Magic::Mark),
            Self::Audit => row("audit", "audits", Magic::Audit),
            Self::Ledger => KindInfo {
                signed_by: Some(Role::Verify),
                ..row("ledger entry", "ledger", Magic::Ledger)
            },
            Self::Batch => unsigned(KindInfo {
                sealed_with: SealedWith::Nothing,
                ..row("batch", "batches", Magic::Batch)
            }),
            Self::Parity => KindInfo {
                sealed_with: SealedWith::Nothing,
                ..unsigned(row("parity object", "parity", Magic::Parity))
            },
        }
    }

    /// Returns the directory of a project's objects of this kind, relative to the repository.
    #[must_use]
    pub fn directory(self, project: ProjectId) -> String {
        match self.info().directory {
            "" => format!("projects/{project}"),
            directory => format!("projects/{project}/{directory}"),
        }
    }

    /// Returns the kind whose objects belong in this directory of a project. `None` if there is
    /// none.
    pub(super) fn of_directory(directory: &str) -> Option<Self> {
        let mut kinds = Self::ALL.into_iter();
        kinds.find(|kind| !directory.is_empty() && kind.info().directory == directory)
    }
}
