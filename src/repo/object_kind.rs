//! The kinds of objects in a repository, and the properties of each kind.

use crate::base::ProjectId;
use crate::format::Magic;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ObjectKind {
    Repository,
    /// A key slot, of the repository or of a project.
    Key,
    Project,
    Pack,
    Index,
    Backup,
    Tombstone,
    Lease,
    Mark,
}

/// How the content of an object is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedWith {
    /// Not at all: a MAC under a key of the repository authenticates it.
    Nothing,
    /// A key that is derived from a password.
    Password,
    /// Keys of the repository, and the project's object key for the settings.
    Wrapping,
    /// A key of its own, which is derived from the project's secret and the pack's nonce.
    PackKey,
    /// The project's object key.
    ObjectKey,
}

/// The properties that all objects of a kind share.
#[derive(Debug, Clone, Copy)]
pub struct KindInfo {
    /// Its name in messages.
    pub noun: &'static str,
    /// The directory of these objects, below the directory of the project. Empty for an object that
    /// is the only one of its kind in its directory.
    pub directory: &'static str,
    /// The first bytes of the object.
    pub magic: Magic,
    /// The key that seals its content.
    pub sealed_with: SealedWith,
    /// Whether the store has a second copy of each, under a name that ends in `.copy`.
    pub kept_twice: bool,
    /// Whether hosts keep copies of objects that they have read or stored. Of packs, those with
    /// tree nodes are kept.
    pub cached: bool,
}

impl ObjectKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Repository,
        Self::Key,
        Self::Project,
        Self::Pack,
        Self::Index,
        Self::Backup,
        Self::Tombstone,
        Self::Lease,
        Self::Mark,
    ];

    /// Returns the properties that all objects of this kind share.
    #[must_use]
    pub const fn info(self) -> KindInfo {
        /// A row of the table: sealed under the project's object key, stored once.
        const fn row(noun: &'static str, directory: &'static str, magic: Magic) -> KindInfo {
            KindInfo {
                noun,
                directory,
                magic,
                sealed_with: SealedWith::ObjectKey,
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
        match self {
            Self::Repository => twice(
                row("repository file", "", Magic::Repository),
                SealedWith::Nothing,
            ),
            Self::Key => twice(row("key slot", "keys", Magic::Slot), SealedWith::Password),
            Self::Project => twice(
                row("project object", "", Magic::Project),
                SealedWith::Wrapping,
            ),
            Self::Pack => KindInfo {
                sealed_with: SealedWith::PackKey,
                ..row("pack", "packs", Magic::Pack)
            },
            Self::Index => row("index segment", "index", Magic::Index),
            Self::Backup => cached(row("backup record", "backups", Magic::Backup)),
            Self::Tombstone => cached(row("tombstone", "tombstones", Magic::Tombstone)),
            Self::Lease => row("lease", "leases", Magic::Lease),
            Self::Mark => row("mark", "marks", Magic::Mark),
        }
    }

    /// The directory of a project's objects of this kind.
    #[must_use]
    pub fn directory(self, project: ProjectId) -> String {
        match self.info().directory {
            "" => format!("projects/{project}"),
            directory => format!("projects/{project}/{directory}"),
        }
    }

    /// The kind whose objects belong in this directory of a project.
    pub(super) fn of_directory(directory: &str) -> Option<Self> {
        let mut kinds = Self::ALL.into_iter();
        kinds.find(|kind| !directory.is_empty() && kind.info().directory == directory)
    }
}
