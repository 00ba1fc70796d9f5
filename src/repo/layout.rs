//! Names of objects: section 1 of `docs/format.md`.

use std::fmt;

use crate::base::{LeaseId, ObjectHash, ProjectId};
use crate::storage::Name;

/// Which object: what its name in the store is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ObjectRef {
    Repository,
    /// A key slot of the repository, or of a project.
    Key(Option<ProjectId>, ObjectHash),
    Project(ProjectId),
    Pack(ProjectId, ObjectHash),
    Index(ProjectId, ObjectHash),
    Backup(ProjectId, ObjectHash),
    Tombstone(ProjectId, ObjectHash),
    Lease(ProjectId, LeaseId),
    Mark(ProjectId, ObjectHash),
}

const COPY: &str = ".copy";

impl ObjectRef {
    /// Its name in the store.
    #[must_use]
    pub fn name(&self) -> Name {
        name(self.path())
    }

    /// The name of its second copy.
    #[must_use]
    pub fn copy_name(&self) -> Name {
        name(self.path() + COPY)
    }

    fn path(&self) -> String {
        match self {
            Self::Repository => "cuttlebone".into(),
            Self::Key(None, hash) => format!("keys/{hash}"),
            Self::Key(Some(project), hash) => format!("projects/{project}/keys/{hash}"),
            Self::Project(project) => format!("projects/{project}/project"),
            Self::Pack(project, hash) => {
                let hash = hash.to_string();
                format!("projects/{project}/packs/{}/{hash}", &hash[..2])
            }
            Self::Index(project, hash) => format!("projects/{project}/index/{hash}"),
            Self::Backup(project, hash) => format!("projects/{project}/backups/{hash}"),
            Self::Tombstone(project, hash) => format!("projects/{project}/tombstones/{hash}"),
            Self::Lease(project, id) => format!("projects/{project}/leases/{id}"),
            Self::Mark(project, hash) => format!("projects/{project}/marks/{hash}"),
        }
    }

    /// The hash that it is named by, if it is.
    #[must_use]
    pub fn hash(&self) -> Option<ObjectHash> {
        match self {
            Self::Repository | Self::Project(_) | Self::Lease(..) => None,
            Self::Key(_, hash)
            | Self::Pack(_, hash)
            | Self::Index(_, hash)
            | Self::Backup(_, hash)
            | Self::Tombstone(_, hash)
            | Self::Mark(_, hash) => Some(*hash),
        }
    }

    /// The directory of a project's objects of this kind, or of key slots.
    #[must_use]
    pub fn directory(&self) -> String {
        match self {
            Self::Pack(project, _) => format!("projects/{project}/packs"),
            _ => self.name().directory().to_owned(),
        }
    }

    /// The object with this name, and whether it is the second copy; `None` for a stranger's file.
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
            ["projects", project, ref rest @ ..] => {
                let project = project.parse().ok()?;
                match *rest {
                    ["project"] => Self::Project(project),
                    ["keys", hash] => Self::Key(Some(project), hash.parse().ok()?),
                    ["packs", two, hash] if hash.starts_with(two) => {
                        Self::Pack(project, hash.parse().ok()?)
                    }
                    ["index", hash] => Self::Index(project, hash.parse().ok()?),
                    ["backups", hash] => Self::Backup(project, hash.parse().ok()?),
                    ["tombstones", hash] => Self::Tombstone(project, hash.parse().ok()?),
                    ["leases", id] => Self::Lease(project, id.parse().ok()?),
                    ["marks", hash] => Self::Mark(project, hash.parse().ok()?),
                    _ => return None,
                }
            }
            _ => return None,
        };
        let twice = matches!(object, Self::Repository | Self::Key(..) | Self::Project(_));
        // A wrong directory for a pack's first digits would parse; it has to be the name we would give.
        (object.path() == path && (twice || !copy)).then_some((object, copy))
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (noun, hash) = match self {
            Self::Repository => return f.write_str("the repository file “cuttlebone”"),
            Self::Project(id) => return write!(f, "project object {id}"),
            Self::Key(_, hash) => ("key slot", hash),
            Self::Pack(_, hash) => ("pack", hash),
            Self::Index(_, hash) => ("index segment", hash),
            Self::Backup(_, hash) => ("backup record", hash),
            Self::Tombstone(_, hash) => ("tombstone", hash),
            Self::Mark(_, hash) => ("mark", hash),
            Self::Lease(_, id) => return write!(f, "lease {id}"),
        };
        write!(f, "{noun} {hash}")
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
    fn names_round_trip_and_strangers_are_told() {
        let project = ProjectId::from_bytes([0xab; 16]);
        let hash = ObjectHash::from_bytes([0xcd; 32]);
        for object in [
            ObjectRef::Repository,
            ObjectRef::Key(None, hash),
            ObjectRef::Key(Some(project), hash),
            ObjectRef::Project(project),
            ObjectRef::Pack(project, hash),
            ObjectRef::Index(project, hash),
            ObjectRef::Backup(project, hash),
            ObjectRef::Tombstone(project, hash),
            ObjectRef::Lease(project, LeaseId::from_bytes([0xef; 16])),
            ObjectRef::Mark(project, hash),
        ] {
            assert_eq!(ObjectRef::parse(&object.name()), Some((object, false)));
            let twice = matches!(
                object,
                ObjectRef::Repository | ObjectRef::Key(..) | ObjectRef::Project(_)
            );
            assert_eq!(
                ObjectRef::parse(&object.copy_name()),
                twice.then_some((object, true)),
                "{object}"
            );
        }
        for stranger in [
            "readme",
            "keys/abc",
            "projects/x/project",
            "projects/abc",
            "a/b/c/d/e",
        ] {
            assert_eq!(
                ObjectRef::parse(&Name::new(stranger).unwrap()),
                None,
                "{stranger}"
            );
        }
        let wrong = format!("projects/{project}/packs/c/{hash}");
        assert_eq!(ObjectRef::parse(&Name::new(wrong).unwrap()), None);
    }
}
