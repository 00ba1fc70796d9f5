//! The options that every command accepts.

use std::ffi::{OsStr, OsString};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueHint};

use crate::app::{
    CONNECTIONS_MAX, Environment, Failure, PasswordFor, PasswordOptions, RepositoryOptions,
    THREADS_MAX,
};
use crate::base::ByteSize;
use crate::cli::display::{DisplaySettings, Verbosity};

const GLOBAL: &str = "Global options (environment: see “cuttlebone --help”)";

/// The options that every command accepts. This program reads the environment variables itself. If
/// clap read them, the help could show a secret.
#[derive(Debug, Args)]
pub(super) struct GlobalArgs {
    /// Repository: a directory, or sftp:[USER@]HOST:PATH
    #[arg(short, long, global = true, value_name = "REPO", help_heading = GLOBAL)]
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) repo: Option<OsString>,

    /// Project to use [default: default]
    #[arg(long, global = true, value_name = "NAME", help_heading = GLOBAL)]
    project: Option<String>,

    /// File to read the password from; “-” for standard input
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    #[arg(value_hint = ValueHint::FilePath, conflicts_with = "password_command")]
    password_file: Option<PathBuf>,

    /// Shell command that prints the password
    #[arg(long, global = true, value_name = "COMMAND", help_heading = GLOBAL)]
    #[arg(value_hint = ValueHint::CommandString)]
    password_command: Option<OsString>,

    /// Cache directory [default: ~/.cache/cuttlebone]
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    #[arg(value_hint = ValueHint::DirPath)]
    cache_dir: Option<PathBuf>,

    /// Print JSON lines instead of text
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(super) json: bool,

    /// Show neither progress nor summaries
    #[arg(short, long, global = true, help_heading = GLOBAL, conflicts_with = "verbose")]
    quiet: bool,

    /// Show more details
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Do not show progress
    #[arg(long, global = true, help_heading = GLOBAL)]
    no_progress: bool,

    /// Worker threads, at most 16; each takes about 17 MiB [default: one per core, at most 4]
    #[arg(long, global = true, value_name = "N", help_heading = GLOBAL)]
    #[arg(value_parser = at_most::<{ THREADS_MAX.get() }>)]
    pub(super) threads: Option<NonZeroUsize>,

    /// Command that connects to a server [default: ssh]
    #[arg(long, global = true, value_name = "COMMAND", help_heading = GLOBAL)]
    #[arg(value_hint = ValueHint::CommandString)]
    ssh_command: Option<String>,

    /// Connections to a server, at most 8 [default: 2]
    #[arg(long, global = true, value_name = "N", help_heading = GLOBAL)]
    #[arg(value_parser = at_most::<{ CONNECTIONS_MAX.get() }>)]
    connections: Option<NonZeroUsize>,

    /// Give up if a server does not answer for this long [default: 60]
    #[arg(long, global = true, value_name = "SECONDS", help_heading = GLOBAL)]
    #[arg(value_parser = number::<NonZeroU64>)]
    timeout: Option<NonZeroU64>,

    /// Limit uploads to RATE bytes a second, for example 20M
    #[arg(long, global = true, value_name = "RATE", help_heading = GLOBAL)]
    limit_upload: Option<ByteSize>,

    /// Limit downloads to RATE bytes a second
    #[arg(long, global = true, value_name = "RATE", help_heading = GLOBAL)]
    limit_download: Option<ByteSize>,
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| "give a whole number, at least 1".to_owned())
}

fn at_most<const MAX: usize>(text: &str) -> Result<NonZeroUsize, String> {
    let number: Option<NonZeroUsize> = text.parse().ok();
    let number = number.filter(|number| number.get() <= MAX);
    number.ok_or_else(|| format!("give a whole number from 1 to {MAX}"))
}

impl GlobalArgs {
    pub(super) fn into_options(self) -> RepositoryOptions {
        RepositoryOptions {
            repository: self.repo,
            project: self.project,
            password: PasswordOptions {
                of: PasswordFor::Repository,
                file: self.password_file,
                command: self.password_command,
            },
            cache_dir: self.cache_dir,
            ssh_command: self.ssh_command,
            connections: self.connections,
            timeout: self.timeout,
            limit_upload: self.limit_upload,
            limit_download: self.limit_download,
        }
    }

    pub(super) fn display_settings(
        &self,
        environment: &Environment,
    ) -> Result<DisplaySettings, Failure> {
        let progress_interval = match environment.get("CUTTLEBONE_PROGRESS_FPS") {
            Some(value) => Some(interval(&value)?),
            None => None,
        };
        Ok(DisplaySettings {
            json: self.json,
            verbosity: match (self.quiet, self.verbose) {
                (true, _) => Verbosity::Quiet,
                (false, 0) => Verbosity::Normal,
                (false, _) => Verbosity::Verbose,
            },
            progress: !self.quiet && !self.no_progress,
            progress_interval,
        })
    }
}

fn interval(fps: &OsStr) -> Result<Duration, Failure> {
    let refuse = || {
        Failure::usage(format!(
            "invalid value “{}” of CUTTLEBONE_PROGRESS_FPS",
            fps.display()
        ))
        .hint("set it to a number of updates a second, above 0 and at most 60, such as 4 or 0.1")
    };
    let rate: f64 = fps
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(refuse)?;
    if !(rate > 0.0 && rate <= 60.0) {
        return Err(refuse());
    }
    Duration::try_from_secs_f64(1.0 / rate).map_err(|_| refuse())
}
