//! Names of objects: section 1 (Containment) of `docs/format.md`.

use std::fmt;

use super::object_kind::ObjectKind;
use crate::base::{LeaseId, ObjectHash, ProjectId};
use crate::format::{BlobKind, LogItem, LogKind};
use crate::storage::Name;

/// Identifies an object of a repository, and so determines its name in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ObjectRef {
    Repository,
    /// A key slot of the repository, or of a project.
    Key(Option<ProjectId>, ObjectHash),
    Project(ProjectId),
    Settings(ProjectId, ObjectHash),
    Certificate(ProjectId, ObjectHash),
    /// A pack of chunks.
    Pack(ProjectId, ObjectHash),
    /// A pack of tree nodes.
    Tree(ProjectId, ObjectHash),
    Index(ProjectId, ObjectHash),
    Backup(ProjectId, ObjectHash),
    Void(ProjectId, ObjectHash),
    Log(ProjectId, ObjectHash),
    Lease(ProjectId, LeaseId),
    Mark(ProjectId, ObjectHash),
    Audit(ProjectId, ObjectHash),
    Ledger(ProjectId, ObjectHash),
    /// A file with records, voids and log entries.
    Batch(ProjectId, ObjectHash),
    /// The parity of an object of a project, or of one that belongs to no project. The first hash
    /// is that of the protected object. The second is that of the parity object itself.
    Parity(Option<ProjectId>, ObjectHash, ObjectHash),
}

const COPY: &str = ".copy";

impl ObjectRef {
    /// Returns the pack of blobs of this kind that has this hash.
    #[must_use]
    pub const fn of_pack(project: ProjectId, kind: BlobKind, hash: ObjectHash) -> Self {
        match kind {
            BlobKind::Chunk => Self::Pack(project, hash),
            BlobKind::Node => Self::Tree(project, hash),
        }
    }

    /// Returns the object that an item of the log names. `None` for parity: the name of a parity
    /// object has two hashes, and the item has only one.
    #[must_use]
    pub const fn of_log(project: ProjectId, item: LogItem) -> Option<Self> {
        let LogItem { kind, hash } = item;
        Some(match kind {
            LogKind::Record => Self::Backup(project, hash),
            LogKind::Segment => Self::Index(project, hash),
            LogKind::ChunkPack => Self::Pack(project, hash),
            LogKind::TreePack => Self::Tree(project, hash),
            LogKind::Certificate => Self::Certificate(project, hash),
            LogKind::Settings => Self::Settings(project, hash),
            LogKind::Void => Self::Void(project, hash),
            LogKind::Audit => Self::Audit(project, hash),
            LogKind::Parity => return None,
        })
    }

    /// Returns how the log names this object; `None` for parity, and for kinds that the log does
    /// not name.
    #[must_use]
    pub const fn log_item(&self) -> Option<LogItem> {
        let (kind, hash) = match self {
            Self::Backup(_, hash) => (LogKind::Record, hash),
            Self::Index(_, hash) => (LogKind::Segment, hash),
            Self::Pack(_, hash) => (LogKind::ChunkPack, hash),
            Self::Tree(_, hash) => (LogKind::TreePack, hash),
            Self::Certificate(_, hash) => (LogKind::Certificate, hash),
            Self::Settings(_, hash) => (LogKind::Settings, hash),
            Self::Void(_, hash) => (LogKind::Void, hash),
            Self::Audit(_, hash) => (LogKind::Audit, hash),
            _ => return None,
        };
        Some(LogItem { kind, hash: *hash })
    }

    /// Returns the kind of the blobs in a pack. `None` if the object is not a pack.
    #[must_use]
    pub const fn blob_kind(&self) -> Option<BlobKind> {
        match self {
            Self::Pack(..) => Some(BlobKind::Chunk),
            Self::Tree(..) => Some(BlobKind::Node),
            _ => None,
        }
    }

    /// Returns its name in the store.
    #[must_use]
    pub fn name(&self) -> Name {
        name(self.path())
    }

    /// Returns the name of its second copy, which exists only for objects that are kept twice.
    #[must_use]
    pub fn copy_name(&self) -> Name {
        name(self.path() + COPY)
    }

    /// Returns its kind.
    #[must_use]
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Repository => ObjectKind::Repository,
            Self::Key(..) => ObjectKind::Key,
            Self::Project(_) => ObjectKind::Project,
            Self::Settings(..) => ObjectKind::Settings,
            Self::Certificate(..) => ObjectKind::Certificate,
            Self::Pack(..) => ObjectKind::Pack,
            Self::Tree(..) => ObjectKind::Tree,
            Self::Index(..) => ObjectKind::Index,
            Self::Backup(..) => ObjectKind::Backup,
            Self::Void(..) => ObjectKind::Void,
            Self::Log(..) => ObjectKind::Log,
            Self::Lease(..) => ObjectKind::Lease,
            Self::Mark(..) => ObjectKind::Mark,
            Self::Audit(..) => ObjectKind::Audit,
            Self::Ledger(..) => ObjectKind::Ledger,
            Self::Batch(..) => ObjectKind::Batch,
            Self::Parity(..) => ObjectKind::Parity,
        }
    }

    fn path(&self) -> String {
        let in_project = |project: &ProjectId, name: String| {
            let directory = self.kind().directory(*project);
            format!("{directory}/{name}")
        };
        match self {
            Self::Repository => "cuttlebone".into(),
            Self::Key(None, hash) => format!("keys/{hash}"),
            Self::Project(project) => in_project(project, "project".into()),
            Self::Pack(project, hash) | Self::Tree(project, hash) => {
                let hash = hash.to_string();
                in_project(project, format!("{}/{hash}", &hash[..2]))
            }
            Self::Key(Some(project), hash)
            | Self::Settings(project, hash)
            | Self::Certificate(project, hash)
            | Self::Index(project, hash)
            | Self::Backup(project, hash)
            | Self::Void(project, hash)
            | Self::Log(project, hash)
            | Self::Mark(project, hash)
            | Self::Audit(project, hash)
            | Self::Ledger(project, hash)
            | Self::Batch(project, hash) => in_project(project, hash.to_string()),
            Self::Lease(project, id) => in_project(project, id.to_string()),
            Self::Parity(project, of, hash) => {
                let of = of.to_string();
                let name = format!("{}/{of}.{hash}", &of[..2]);
                match project {
                    Some(project) => in_project(project, name),
                    None => format!("parity/{name}"),
                }
            }
        }
    }

    /// Returns the project that it belongs to. `None` for objects of the whole repository.
    #[must_use]
    pub const fn project(&self) -> Option<ProjectId> {
        match self {
            Self::Repository => None,
            Self::Key(project, _) | Self::Parity(project, ..) => *project,
            Self::Project(project)
            | Self::Settings(project, _)
            | Self::Certificate(project, _)
            | Self::Pack(project, _)
            | Self::Tree(project, _)
            | Self::Index(project, _)
            | Self::Backup(project, _)
            | Self::Void(project, _)
            | Self::Log(project, _)
            | Self::Lease(project, _)
            | Self::Mark(project, _)
            | Self::Audit(project, _)
            | Self::Ledger(project, _)
            | Self::Batch(project, _) => Some(*project),
        }
    }

    /// Returns the hash of its bytes from its name. `None` if the name has no hash.
    #[must_use]
    pub fn hash(&self) -> Option<ObjectHash> {
        match self {
            Self::Repository | Self::Project(_) | Self::Lease(..) => None,
            Self::Key(_, hash)
            | Self::Settings(_, hash)
            | Self::Certificate(_, hash)
            | Self::Pack(_, hash)
            | Self::Tree(_, hash)
            | Self::Index(_, hash)
            | Self::Backup(_, hash)
            | Self::Void(_, hash)
            | Self::Log(_, hash)
            | Self::Mark(_, hash)
            | Self::Audit(_, hash)
            | Self::Ledger(_, hash)
            | Self::Batch(_, hash)
            | Self::Parity(_, _, hash) => Some(*hash),
        }
    }

    /// Returns the directory that holds it. For a pack, returns the directory of all packs of this
    /// kind, which has subdirectories.
    #[must_use]
    pub fn directory(&self) -> String {
        match self {
            Self::Pack(project, _) | Self::Tree(project, _) => self.kind().directory(*project),
            _ => self.name().directory().to_owned(),
        }
    }

    /// Returns the object with this name, and whether this is the name of its second copy; `None`
    /// for a file that is not part of the format.
    #[must_use]
    pub fn parse(name: &Name) -> Option<(Self, bool)> {
        let path = name.as_str();
        let (path, copy) = path
            .strip_suffix(COPY)
            .map_or((path, false), |path| (path, true));
        let parts: Vec<&str> = path.split('/').collect();
        let object = match parts[..] {
            ["cuttlebone"] => Self::Repository,
            ["keys", hash] => Self::Key(None, hash.parse().ok()?),
            ["parity", _, name] => Self::parse_parity(None, name)?,
            ["projects", project, "project"] => Self::Project(project.parse().ok()?),
            ["projects", project, directory, name]
            | [
                "projects",
                project,
                directory @ ("packs" | "trees" | "parity"),
                _,
                name,
            ] => {
                let kind = ObjectKind::of_directory(directory)?;
                Self::in_project(kind, project.parse().ok()?, name)?
            }
            _ => return None,
        };
        // The name must be the one that `path` gives. This excludes a pack in a wrong directory.
        let twice = object.kind().info().kept_twice;
        (object.path() == path && (twice || !copy)).then_some((object, copy))
    }

    /// Returns the object of this kind with this name in the directory of a project. `None` if no
    /// object of this kind can have this name.
    fn in_project(kind: ObjectKind, project: ProjectId, name: &str) -> Option<Self> {
        let hash = || name.parse().ok();
        Some(match kind {
            ObjectKind::Repository | ObjectKind::Project => return None,
            ObjectKind::Key => Self::Key(Some(project), hash()?),
            ObjectKind::Settings => Self::Settings(project, hash()?),
            ObjectKind::Certificate => Self::Certificate(project, hash()?),
            ObjectKind::Pack => Self::Pack(project, hash()?),
            ObjectKind::Tree => Self::Tree(project, hash()?),
            ObjectKind::Index => Self::Index(project, hash()?),
            ObjectKind::Backup => Self::Backup(project, hash()?),
            ObjectKind::Void => Self::Void(project, hash()?),
            ObjectKind::Log => Self::Log(project, hash()?),
            ObjectKind::Mark => Self::Mark(project, hash()?),
            ObjectKind::Audit => Self::Audit(project, hash()?),
            ObjectKind::Ledger => Self::Ledger(project, hash()?),
            ObjectKind::Batch => Self::Batch(project, hash()?),
            ObjectKind::Lease => Self::Lease(project, name.parse().ok()?),
            ObjectKind::Parity => return Self::parse_parity(Some(project), name),
        })
    }

    /// Returns each object that may have this hash as its name and that parity protects. These
    /// objects need not exist. Without a project, returns only the key slot of the repository.
    #[must_use]
    pub fn all_named(project: Option<ProjectId>, hash: ObjectHash) -> Vec<Self> {
        let Some(project) = project else {
            return vec![Self::Key(None, hash)];
        };
        vec![
            Self::Pack(project, hash),
            Self::Tree(project, hash),
            Self::Index(project, hash),
            Self::Backup(project, hash),
            Self::Void(project, hash),
            Self::Log(project, hash),
            Self::Audit(project, hash),
            Self::Settings(project, hash),
            Self::Certificate(project, hash),
            Self::Key(Some(project), hash),
        ]
    }

    fn parse_parity(project: Option<ProjectId>, name: &str) -> Option<Self> {
        let (of, hash) = name.split_once('.')?;
        Some(Self::Parity(project, of.parse().ok()?, hash.parse().ok()?))
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = self.kind().info().noun;
        match self {
            Self::Repository => write!(f, "the {noun} “cuttlebone”"),
            Self::Project(id) => write!(f, "{noun} {id}"),
            Self::Lease(_, id) => write!(f, "{noun} {id}"),
            Self::Parity(_, of, _) => write!(f, "{noun} of {of}"),
            Self::Key(_, hash)
            | Self::Settings(_, hash)
            | Self::Certificate(_, hash)
            | Self::Pack(_, hash)
            | Self::Tree(_, hash)
            | Self::Index(_, hash)
            | Self::Backup(_, hash)
            | Self::Void(_, hash)
            | Self::Log(_, hash)
            | Self::Mark(_, hash)
            | Self::Audit(_, hash)
            | Self::Ledger(_, hash)
            | Self::Batch(_, hash) => write!(f, "{noun} {hash}"),
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "made of fixed words and hexadecimal digits"
)]
fn name(path: String) -> Name {
    Name::new(path).expect("a valid name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects_round_trip_and_other_names_are_refused() {
        let project = ProjectId::from_bytes([0xab; 16]);
        let hash = ObjectHash::from_bytes([0xcd; 32]);
        for object in [
            ObjectRef::Repository,
            ObjectRef::Key(None, hash),
            ObjectRef::Key(Some(project), hash),
            ObjectRef::Project(project),
            ObjectRef::Settings(project, hash),
            ObjectRef::Certificate(project, hash),
            ObjectRef::Pack(project, hash),
            ObjectRef::Tree(project, hash),
            ObjectRef::Index(project, hash),
            ObjectRef::Backup(project, hash),
            ObjectRef::Void(project, hash),
            ObjectRef::Log(project, hash),
            ObjectRef::Audit(project, hash),
            ObjectRef::Ledger(project, hash),
            ObjectRef::Batch(project, hash),
            ObjectRef::Lease(project, LeaseId::from_bytes([0xef; 16])),
            ObjectRef::Mark(project, hash),
            ObjectRef::Parity(Some(project), hash, ObjectHash::from_bytes([0xba; 32])),
            ObjectRef::Parity(None, hash, ObjectHash::from_bytes([0xba; 32])),
        ] {
            assert_eq!(ObjectRef::parse(&object.name()), Some((object, false)));
            let twice = matches!(
                object,
                ObjectRef::Repository
                    | ObjectRef::Key(..)
                    | ObjectRef::Project(_)
                    | ObjectRef::Settings(..)
                    | ObjectRef::Certificate(..)
            );
            assert_eq!(object.kind().info().kept_twice, twice);
            assert_eq!(
                ObjectRef::parse(&object.copy_name()),
                twice.then_some((object, true)),
                "{object}"
            );
        }
        for other in [
            "readme",
            "keys/abc",
            "projects/x/project",
            "projects/abc",
            "a/b/c/d/e",
        ] {
            assert_eq!(
                ObjectRef::parse(&Name::new(other).unwrap()),
                None,
                "{other}"
            );
        }
        for wrong in ["packs/c", "trees/ce", "index/cd"] {
            let wrong = format!("projects/{project}/{wrong}/{hash}");
            assert_eq!(ObjectRef::parse(&Name::new(wrong).unwrap()), None);
        }
    }
}
