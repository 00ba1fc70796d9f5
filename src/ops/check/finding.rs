//! The results of a check.

use std::sync::Arc;

use crate::base::{BlobId, ObjectHash, ProjectId};
use crate::ops::affected::AffectedBackup;
use crate::repo::{ObjectKind, ObjectRef, RepoError};

/// One result of a check.
#[derive(Debug, Clone)]
pub enum Finding {
    /// An object cannot be read, or its content is not valid.
    ObjectDamaged {
        /// The object.
        object: ObjectRef,
        /// The error of reading it.
        problem: Arc<RepoError>,
    },
    /// No key that may make such an object has signed this one, or the key of its signer was
    /// revoked. Readers ignore the object.
    ObjectForeign {
        /// The object.
        object: ObjectRef,
        /// Why it is foreign.
        problem: Arc<RepoError>,
    },
    /// One of the two copies of an object is damaged. If the other one is undamaged, it can replace
    /// this one.
    CopyDamaged {
        /// The object.
        object: ObjectRef,
        /// The name of the damaged copy in the store.
        name: String,
        /// Whether it is the second copy.
        is_second: bool,
        /// The error of reading it.
        problem: Arc<RepoError>,
    },
    /// A pack is missing, although the index or the log names it, or a copy of the repository has
    /// it.
    PackMissing {
        /// The pack.
        pack: ObjectRef,
    },
    /// A pack does not have the size that the index states.
    PackWrongSize {
        /// The pack.
        pack: ObjectRef,
        /// The size that the index states, in bytes.
        expected: u64,
        /// The size of the pack in the store, in bytes.
        found: u64,
    },
    /// Backups need a pack that no index segment names.
    PackUnindexed {
        /// The pack.
        pack: ObjectRef,
    },
    /// A backup needs a blob that is in no pack, or whose length does not fit its place in the
    /// tree.
    BlobUnusable {
        /// The blob.
        id: BlobId,
        /// The damage.
        problem: Arc<RepoError>,
    },
    /// A tree, or another part of the repository as a whole, is not valid.
    RepositoryDamaged {
        /// The damage.
        problem: Arc<RepoError>,
    },
    /// Parts of a backup cannot be restored.
    BackupAffected(AffectedBackup),
    /// A record is missing, although it was not forgotten. The log or a record of a full key names
    /// it, or a copy of the repository has it.
    RecordVanished {
        /// The record.
        record: ObjectHash,
        /// The volume of another record that follows it; `None` if no record does.
        volume: Option<String>,
    },
    /// A certificate that the log names is missing. The objects that its key signed seem foreign.
    CertificateVanished {
        /// The certificate.
        certificate: ObjectHash,
    },
    /// An entry of the log is missing, although a later entry names it, or a copy of the repository
    /// has it. Entries are never deleted.
    EntryVanished {
        /// The entry.
        entry: ObjectHash,
    },
    /// A project is missing, although a copy of the repository has it. Projects are never removed.
    ProjectVanished {
        /// The project. `None` if the repository has no project at all.
        project: Option<ProjectId>,
    },
    /// The repository does not fit a statement, a line of text that a user kept to recognize the
    /// log. The repository was rolled back or replaced, or its project object cannot be read.
    StatementBroken {
        /// The fault.
        fault: StatementFault,
    },
}

/// The reason why a repository does not fit a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementFault {
    /// The project does not exist.
    NoProject,
    /// The project object cannot be read.
    Unreadable,
    /// Another key signs the log.
    OtherKey,
    /// The log does not have the entry that the statement names.
    NoEntry,
}

/// Counts the findings about history that has vanished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct VanishedHistory {
    /// The number of all these findings.
    all: u64,
    /// The number of those about records and certificates, which an entry of the log can remove.
    removable: u64,
    /// Whether an entry of the log is damaged.
    is_log_damaged: bool,
}

impl VanishedHistory {
    /// Counts a finding.
    pub(crate) fn note(&mut self, finding: &Finding) {
        self.all += u64::from(finding.is_of_history());
        match finding {
            Finding::RecordVanished { .. } | Finding::CertificateVanished { .. } => {
                self.removable += 1;
            }
            Finding::ObjectDamaged { object, .. } => {
                self.is_log_damaged |= object.kind() == ObjectKind::Log;
            }
            _ => {}
        }
    }

    /// Returns the number of findings which prove that history has vanished. If an entry of the log
    /// is damaged, missing records and certificates are no proof: that entry may state that they
    /// were removed.
    pub(crate) fn proven(self) -> u64 {
        if self.is_log_damaged {
            self.all - self.removable
        } else {
            self.all
        }
    }
}

impl Finding {
    /// Returns whether the finding is about history that has vanished, and not about damage.
    #[must_use]
    pub const fn is_of_history(&self) -> bool {
        matches!(
            self,
            Self::RecordVanished { .. }
                | Self::CertificateVanished { .. }
                | Self::EntryVanished { .. }
                | Self::ProjectVanished { .. }
                | Self::StatementBroken {
                    fault: StatementFault::NoProject
                        | StatementFault::OtherKey
                        | StatementFault::NoEntry,
                }
        )
    }

    /// Returns the object with a damaged or missing file that the finding is about. Returns `None`
    /// for other findings.
    #[must_use]
    pub const fn damaged_object(&self) -> Option<ObjectRef> {
        match self {
            Self::ObjectDamaged { object, .. } | Self::CopyDamaged { object, .. } => Some(*object),
            Self::PackMissing { pack } | Self::PackWrongSize { pack, .. } => Some(*pack),
            _ => None,
        }
    }

    /// Converts an error into a finding. An error about a damaged or foreign object, or about an
    /// unusable blob, becomes a finding about this object or blob. Any other error becomes a
    /// finding about the repository as a whole.
    pub(crate) fn from_error(problem: RepoError) -> Self {
        match problem {
            RepoError::Damaged { object, .. } => Self::ObjectDamaged {
                object,
                problem: Arc::new(problem),
            },
            RepoError::Foreign { object, .. } => Self::ObjectForeign {
                object,
                problem: Arc::new(problem),
            },
            RepoError::Missing { id, .. } | RepoError::WrongLength { id, .. } => {
                Self::BlobUnusable {
                    id,
                    problem: Arc::new(problem),
                }
            }
            _ => Self::RepositoryDamaged {
                problem: Arc::new(problem),
            },
        }
    }
}
