//! Options that every command understands, as they are written.

use std::ffi::OsString;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::base::ByteSize;

const GLOBAL: &str = "Global options (environment: see “cuttlebone --help”)";

/// What every command understands. The environment is read elsewhere, so help can never show it.
#[derive(Debug, Args)]
pub(crate) struct Globals {
    /// The repository: a directory, or sftp:[USER@]HOST:PATH
    #[arg(short, long, global = true, value_name = "REPO", help_heading = GLOBAL)]
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) repo: Option<OsString>,

    /// The project [default: default]
    #[arg(long, global = true, value_name = "NAME", help_heading = GLOBAL)]
    pub(crate) project: Option<String>,

    /// Read the password from it (“-”: stdin)
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    #[arg(value_hint = ValueHint::FilePath, conflicts_with = "password_command")]
    pub(crate) password_file: Option<PathBuf>,

    /// Take the password from what it prints
    #[arg(long, global = true, value_name = "COMMAND", help_heading = GLOBAL)]
    #[arg(value_hint = ValueHint::CommandString)]
    pub(crate) password_command: Option<OsString>,

    /// Where the index is cached
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) cache_dir: Option<PathBuf>,

    /// JSON lines instead of text
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,

    /// No progress and no summary
    #[arg(short, long, global = true, help_heading = GLOBAL, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say more of what was done
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// No progress display
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) no_progress: bool,

    /// Threads at work, up to 16, with some 15 MiB each [default: one per core, up to 4]
    #[arg(long, global = true, value_name = "N", help_heading = GLOBAL)]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Connect to a server with it [default: ssh]
    #[arg(long, global = true, value_name = "COMMAND", help_heading = GLOBAL)]
    #[arg(value_hint = ValueHint::CommandString)]
    pub(crate) ssh_command: Option<String>,

    /// Connections to a server, up to 8 [default: 2]
    #[arg(long, global = true, value_name = "N", help_heading = GLOBAL)]
    pub(crate) connections: Option<NonZeroUsize>,

    /// Give up on a server that is silent for so long [default: 60]
    #[arg(long, global = true, value_name = "SECONDS", help_heading = GLOBAL)]
    pub(crate) timeout: Option<NonZeroU64>,

    /// Bytes a second to the repository, such as 20M
    #[arg(long, global = true, value_name = "RATE", help_heading = GLOBAL)]
    pub(crate) limit_upload: Option<ByteSize>,

    /// Bytes a second from the repository
    #[arg(long, global = true, value_name = "RATE", help_heading = GLOBAL)]
    pub(crate) limit_download: Option<ByteSize>,
}
