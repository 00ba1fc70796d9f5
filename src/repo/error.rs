//! Errors of repositories.

use super::no_backup::{LostRecord, NewestReadable, NoBackupReason};
use super::object_ref::ObjectRef;
use crate::base::{BlobId, ByteSize, Cancelled, ObjectHash, ProjectId, Role, SignerId};
use crate::crypto::{KdfError, OpenError, RandomError, RoleError, SignatureError};
use crate::format::FormatError;
use crate::storage::{self, StorageError, StorageErrorClass, StorageOperation};

/// An operation on a repository failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant explains it")]
pub enum RepoError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("there is no repository in {location}")]
    NoRepository { location: String },
    #[error("there is a repository in {location} already")]
    RepositoryExists { location: String },
    #[error("{object} cannot be read by this version of cuttlebone")]
    Unsupported {
        object: ObjectRef,
        source: FormatError,
    },
    #[error("{object} is damaged")]
    Damaged { object: ObjectRef, source: Damage },
    #[error("{object} is foreign")]
    Foreign {
        object: ObjectRef,
        #[source]
        reason: ForeignReason,
    },
    #[error("no key in {location} opens with this password")]
    WrongPassword { location: String },
    #[error("there is no readable key slot in {location}: nothing can open this repository")]
    NoKeys { location: String },
    #[error("there are no readable settings of project {project}")]
    NoSettings { project: ProjectId },
    #[error("could not change the settings of project {project}: other settings replaced them")]
    SettingsNotChanged { project: ProjectId },
    #[error("there is no project “{name}”")]
    NoProject { name: String, known: Vec<String> },
    #[error("there is no key {id}")]
    NoKey { id: String },
    #[error("key {id} is the last one: no other key opens {what}")]
    LastKey { id: String, what: &'static str },
    #[error("there is no backup “{selector}”")]
    NoBackup {
        selector: String,
        #[source]
        reason: NoBackupReason,
    },
    #[error("it is not certain which backup “{selector}” is")]
    Uncertain {
        selector: String,
        #[source]
        reason: LostRecord,
        found: Option<NewestReadable>,
    },
    #[error("“{selector}” matches more than one backup")]
    AmbiguousBackup {
        selector: String,
        matches: Vec<String>,
    },
    #[error("no pack in the index has {kind} {id}")]
    Missing { kind: &'static str, id: BlobId },
    #[error(
        "data changed in the memory of this host before it was stored: its memory or processor is \
         faulty"
    )]
    BadMemory,
    #[error("a tree node is in the wrong place: a faulty program wrote the backup")]
    Tree,
    #[error(
        "chunk {id} has {found} bytes instead of {expected}: a faulty program wrote the backup"
    )]
    WrongLength {
        id: BlobId,
        expected: u64,
        found: u64,
    },
    #[error("the content cannot be read at byte {offset}")]
    Unreadable { offset: u64, source: Box<RepoError> },
    #[error("a concurrent prune is deleting data that this backup needs")]
    LostRace,
    #[error("the lease of this run was removed while the run was working")]
    LeaseLost,
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error("could not use the cache in {path}")]
    Cache {
        path: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(transparent)]
    Random(#[from] RandomError),
    #[error(transparent)]
    Kdf(#[from] KdfError),
    #[error("could not start a thread")]
    Thread(#[source] std::io::Error),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error("the certificate of this key is missing, or was revoked: its backups would not count")]
    NotCertified,
    #[error("the project takes no more backups: {successor} replaced it")]
    Retired { successor: String },
    #[error("this key may not back up the volume “{volume}”")]
    OtherVolumes {
        volume: String,
        /// Shell patterns of the names of volumes that the key may back up.
        patterns: Vec<String>,
    },
    #[error("the record of a backup of volume “{volume}” would have {size}, more than {limit}")]
    RecordTooLarge {
        volume: String,
        size: ByteSize,
        limit: ByteSize,
    },
    #[error("could not compress data")]
    Compress(#[source] std::io::Error),
    #[error("there are too many damaged versions of one object in quarantine/")]
    QuarantineFull,
    #[error("could not compute parity")]
    Parity(#[from] reed_solomon_simd::Error),
}

/// The reason why an object is damaged.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant explains it")]
pub enum Damage {
    #[error("the hash of its bytes differs from its name")]
    WrongHash,
    #[error(transparent)]
    DoesNotOpen(#[from] OpenError),
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("it does not decompress")]
    DoesNotDecompress,
    #[error("the content of blob {0} in it does not match the id of the blob")]
    WrongId(Box<BlobId>),
    #[error("its size is {found} bytes, but {expected} were expected")]
    WrongSize { expected: u64, found: u64 },
    #[error("it is missing")]
    Missing,
    #[error("it is larger than an object of its kind may be")]
    TooLarge,
    #[error("it cannot be read")]
    Unreadable(#[source] Box<StorageError>),
    #[error("{0}")]
    Impossible(&'static str),
}

/// The reason why an object is foreign. An object is foreign if it was made without the project's
/// keys. It is also foreign if its signer had no right to make it, or has lost this right, or if
/// its content is not valid and its signer is not a full key. Foreign objects are ignored.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant explains it")]
pub enum ForeignReason {
    #[error("it does not open with the keys of this project")]
    NotSealed,
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("no certificate names this key slot")]
    NotCertified,
    #[error("its signer {0} has no certificate")]
    UnknownSigner(Box<SignerId>),
    #[error("the key of its signer {0} was revoked")]
    Revoked(Box<SignerId>),
    #[error("its signer has the role “{0}”, which may not make it")]
    Role(Role),
    #[error("it names a record of another signer")]
    OtherSigner,
    #[error("its signer may not back up volume “{0}”")]
    Volume(String),
    #[error("it needs the feature “{0}”, which its signer may not use")]
    Feature(String),
    #[error("its signer made it in a form that is not valid")]
    Malformed(#[source] Damage),
}

/// The kinds of errors that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum RepoErrorKind {
    NoRepository,
    WrongPassword,
    Damaged,
    /// An object that is ignored for a [`ForeignReason`].
    Foreign,
    Unsupported,
    Cancelled,
    NotFound,
    LostRace,
    /// The role of the key does not allow the operation.
    Role,
    Storage(storage::StorageErrorKind),
    Other,
}

impl RepoError {
    /// Returns the hash that names the object that is damaged or foreign. `None` for other errors,
    /// and for objects that no hash names.
    #[must_use]
    pub fn object_hash(&self) -> Option<ObjectHash> {
        match self {
            Self::Damaged { object, .. } | Self::Foreign { object, .. } => object.hash(),
            _ => None,
        }
    }

    /// Returns the kind of this error.
    #[must_use]
    pub fn kind(&self) -> RepoErrorKind {
        match self {
            Self::NoRepository { .. } => RepoErrorKind::NoRepository,
            Self::WrongPassword { .. } => RepoErrorKind::WrongPassword,
            Self::Damaged { .. }
            | Self::Missing { .. }
            | Self::Tree
            | Self::WrongLength { .. }
            | Self::NoKeys { .. }
            | Self::NoSettings { .. }
            | Self::Uncertain { .. } => RepoErrorKind::Damaged,
            Self::Unreadable { source, .. } => source.kind(),
            Self::Foreign { .. } => RepoErrorKind::Foreign,
            Self::Unsupported { .. } => RepoErrorKind::Unsupported,
            Self::Cancelled(_) => RepoErrorKind::Cancelled,
            Self::NoProject { .. } | Self::NoBackup { .. } | Self::NoKey { .. } => {
                RepoErrorKind::NotFound
            }
            Self::LostRace => RepoErrorKind::LostRace,
            Self::Role(_) | Self::NotCertified | Self::OtherVolumes { .. } => RepoErrorKind::Role,
            Self::Storage(error) => RepoErrorKind::Storage(error.kind),
            _ => RepoErrorKind::Other,
        }
    }

    /// Converts an `error` of the store into the error of reading `object`. If the store lacks the
    /// object, has it with another length, or cannot deliver it to this process, the object is
    /// damaged. Every other error is a failure of the store, and no sign of damage.
    pub(super) fn reading(object: ObjectRef, error: StorageError) -> Self {
        use storage::StorageErrorKind as Kind;
        let needed_to_open = matches!(
            object,
            ObjectRef::Repository
                | ObjectRef::Key(..)
                | ObjectRef::Project(_)
                | ObjectRef::Settings(..)
        );
        match error.kind {
            Kind::NotFound => Self::damaged(object, Damage::Missing),
            Kind::TooLarge => Self::damaged(object, Damage::TooLarge),
            Kind::Truncated => Self::damaged(object, Damage::Impossible("it is cut short")),
            Kind::Unreadable | Kind::NotAFile => {
                Self::damaged(object, Damage::Unreadable(Box::new(error)))
            }
            // No project can be opened without these objects. Missing permission to read them is
            // not damage.
            Kind::Denied if !needed_to_open => {
                Self::damaged(object, Damage::Unreadable(Box::new(error)))
            }
            _ => error.into(),
        }
    }

    /// Returns whether an object is foreign because the key that signed it was revoked.
    #[must_use]
    pub fn is_of_revoked_key(&self) -> bool {
        let reason = match self {
            Self::Foreign { reason, .. } => Some(reason),
            _ => None,
        };
        matches!(reason, Some(ForeignReason::Revoked(_)))
    }

    /// Whether an object exists, but the store cannot deliver it to this process.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(
            self,
            Self::Damaged {
                source: Damage::Unreadable(_),
                ..
            }
        )
    }

    /// Whether an object exists, but this process has no permission to read it.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Damaged {
                source: Damage::Unreadable(error),
                ..
            } => error.kind.class() == StorageErrorClass::Denied,
            _ => false,
        }
    }

    /// Whether the store lacks an object.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::Damaged {
                source: Damage::Missing,
                ..
            }
        )
    }

    /// Whether a directory of the store cannot be listed, and trying again would not help.
    #[must_use]
    pub fn is_unlistable(&self) -> bool {
        let Self::Storage(error) = self else {
            return false;
        };
        let class = error.kind.class();
        error.operation == StorageOperation::List && class != StorageErrorClass::Transient
    }

    /// Returns the error of an `object` that is damaged, or that has a version or feature that this
    /// program does not know.
    pub(super) fn format(object: ObjectRef, source: FormatError) -> Self {
        match source {
            FormatError::UnknownVersion(_) | FormatError::UnknownFeature(_) => {
                Self::Unsupported { object, source }
            }
            _ => Self::Damaged {
                object,
                source: Damage::Format(source),
            },
        }
    }

    pub(super) fn damaged(object: ObjectRef, why: impl Into<Damage>) -> Self {
        Self::Damaged {
            object,
            source: why.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ObjectHash;
    use crate::storage::{StorageErrorKind, StorageOperation};

    /// The kind of the error of reading `object`.
    fn kind(object: ObjectRef, kind: StorageErrorKind) -> RepoErrorKind {
        let error = StorageError {
            kind,
            operation: StorageOperation::Get,
            object: object.to_string(),
            location: "memory".to_owned(),
            is_remote: false,
            source: None,
        };
        RepoError::reading(object, error).kind()
    }

    #[test]
    fn an_unreadable_object_counts_as_damaged_and_an_unreachable_store_does_not() {
        let project = ProjectId::from_bytes([1; 16]);
        let pack = ObjectRef::Pack(project, ObjectHash::from_bytes([2; 32]));
        for damage in [
            StorageErrorKind::NotFound,
            StorageErrorKind::Unreadable,
            StorageErrorKind::Truncated,
            StorageErrorKind::TooLarge,
            StorageErrorKind::Denied,
        ] {
            assert_eq!(kind(pack, damage), RepoErrorKind::Damaged, "{damage:?}");
        }
        for other in [
            StorageErrorKind::Unavailable,
            StorageErrorKind::LoginRefused,
            StorageErrorKind::Io,
        ] {
            assert_eq!(kind(pack, other), RepoErrorKind::Storage(other));
        }
    }

    #[test]
    fn a_repository_that_the_user_may_not_read_is_not_damaged() {
        let denied = StorageErrorKind::Denied;
        let project = ProjectId::from_bytes([1; 16]);
        let key = ObjectRef::Key(None, ObjectHash::from_bytes([2; 32]));
        let settings = ObjectRef::Settings(project, ObjectHash::from_bytes([3; 32]));
        for object in [
            ObjectRef::Repository,
            ObjectRef::Project(project),
            key,
            settings,
        ] {
            assert_eq!(kind(object, denied), RepoErrorKind::Storage(denied));
            let unreadable = kind(object, StorageErrorKind::Unreadable);
            assert_eq!(unreadable, RepoErrorKind::Damaged);
        }
    }
}
