//! The actions that a command line can request.

use std::path::PathBuf;

use crate::app::{
    BackupRequest, CacheRequest, CheckRequest, CopyRequest, DrillRequest, Environment,
    ExportRequest, ForgetRequest, KeyRequest, LabelRequest, ListRequest, MergeRequest,
    PruneRequest, ReadFrom, RepairRequest, ReplicateRequest, RepositorySettings,
    RestoreImageRequest, RestoreRequest, SnapshotsRequest, StatusRequest, WriteTo, names_stdin,
};
use crate::base::{ChunkSize, ParityRate};
use crate::repo::KdfParams;

#[derive(Debug)]
pub(crate) enum Action {
    Completions(clap_complete::Shell),
    /// Write the manual pages into this directory.
    Man(PathBuf),
    InspectDiff(ReadFrom),
    MergeDiffs(MergeRequest),
    /// Verify the signature of this report with this public key.
    VerifyReport(PathBuf, String),
    Repository(Box<RepositorySettings>, RepositoryAction),
}

/// A command on a repository.
#[derive(Debug)]
pub(crate) enum RepositoryAction {
    Init {
        chunk_size: ChunkSize,
        parity: Option<ParityRate>,
        kdf: KdfParams,
    },
    Backup(Box<BackupRequest>),
    List(ListRequest),
    Show {
        backup: String,
        /// Whether to show only the files that are attached.
        attachments: bool,
    },
    Compare {
        a: String,
        b: String,
    },
    Restore(RestoreRequest),
    RestoreImage(Box<RestoreImageRequest>),
    /// Write the attachments of a backup into a directory.
    RestoreAttachments {
        backup: String,
        directory: PathBuf,
    },
    ExportDiff(ExportRequest),
    Forget(ForgetRequest),
    Prune {
        request: PruneRequest,
        dry_run: bool,
    },
    Check(CheckRequest),
    CheckKeyless {
        /// A statement, or the name of a file that holds one.
        statement: Option<String>,
    },
    /// Show the ledger.
    ListAudits,
    /// Print the public key that verifies reports.
    ReportKey,
    Drill(DrillRequest),
    Repair(RepairRequest),
    RepairPacks {
        yes: bool,
    },
    RepairIndex {
        /// Whether to repair the index. Otherwise, only the plan is shown.
        yes: bool,
    },
    SetParity {
        rate: Option<ParityRate>,
    },
    Head {
        /// Whether to draw the QR code even if standard output is not a terminal.
        qr: bool,
    },
    Replicate(ReplicateRequest),
    Copy(Box<CopyRequest>),
    Label(LabelRequest),
    Stats {
        volume: Option<String>,
    },
    Status(Box<StatusRequest>),
    Snapshots(Box<SnapshotsRequest>),
    Key(KeyRequest),
    Cache(CacheRequest),
}

impl Action {
    /// Returns whether the command writes data to standard output. Then standard output must not be
    /// a terminal, and messages must not go there.
    pub(crate) fn fills_stdout(&self) -> bool {
        match self {
            Self::Repository(_, action) => action.fills_stdout(),
            Self::MergeDiffs(request) => request.target == WriteTo::Stdout,
            Self::InspectDiff(_) | Self::VerifyReport(..) | Self::Completions(_) | Self::Man(_) => {
                false
            }
        }
    }

    /// Returns whether the command reads one of these from standard input: data, the password of a
    /// new key, or the password of the target of a copy.
    pub(crate) fn reads_stdin(&self, environment: &Environment) -> bool {
        match self {
            Self::Repository(_, action) => action.reads_stdin(environment),
            Self::InspectDiff(source) => *source == ReadFrom::Stdin,
            Self::MergeDiffs(request) => request.sources.contains(&ReadFrom::Stdin),
            Self::VerifyReport(..) | Self::Completions(_) | Self::Man(_) => false,
        }
    }
}

impl RepositoryAction {
    fn fills_stdout(&self) -> bool {
        match self {
            Self::Restore(RestoreRequest { target, .. })
            | Self::ExportDiff(ExportRequest { target, .. }) => *target == WriteTo::Stdout,
            Self::Key(KeyRequest::Export { file }) => file.is_none(),
            _ => false,
        }
    }

    /// Returns whether the command reads standard input, apart from the password of the repository.
    pub(super) fn reads_stdin(&self, environment: &Environment) -> bool {
        match self {
            Self::Backup(request) => request.sources.iter().any(|s| s.source.reads_stdin()),
            Self::Copy(request) => {
                let file = request.target.password.file_in(environment);
                file.is_some_and(|file| names_stdin(&file))
            }
            Self::Key(KeyRequest::Add { new, .. } | KeyRequest::Passwd(new)) => {
                let file = new.password_file.as_ref();
                file.is_some_and(|file| names_stdin(file))
            }
            _ => false,
        }
    }
}
