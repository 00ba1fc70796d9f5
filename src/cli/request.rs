//! What is asked for, as plain checked values: the command line and the environment, decided once.

mod backup;
mod diff;

pub(crate) use backup::{Backup, BackupSource, VolumeName};
pub(crate) use diff::{Diff, ExportDiff};

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::base::{ByteSize, ChunkSize};
use crate::ops::Policy;
use crate::repo::KdfParams;

use super::access::{Access, Settings};
use super::args::{
    CacheCommand, Cli, Command, DiffCommand, Format, KdfArgs, KeyCommand, NewPasswordArgs,
    RestoreArgs, Top,
};
use super::environment::Environment;
use super::failure::Failure;
use super::keep::ForgetArgs;
use super::location::scheme;
use super::prune::PruneLimits;

/// Everything one run of the program has to know.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) settings: Settings,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    Completions(clap_complete::Shell),
    Man(PathBuf),
    Diff(Diff),
    Repository(Box<Access>, Operation),
}

#[derive(Debug)]
pub(crate) enum Operation {
    Init { chunk_size: ChunkSize, kdf: Kdf },
    Backup(Backup),
    List { volume: Option<String> },
    Show { backup: String },
    Compare { a: String, b: String },
    Restore(Restore),
    ExportDiff(ExportDiff),
    Forget(Forget),
    Prune { limits: PruneLimits, dry_run: bool },
    Check { read_data: bool },
    Stats,
    Key(Key),
    Cache(CacheCommand),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Stdin,
    /// An image file or a block device.
    Path(PathBuf),
}

#[derive(Debug)]
pub(crate) struct Restore {
    pub(crate) backup: String,
    pub(crate) target: Target,
    pub(crate) existing: Existing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    /// A file or a block device.
    Path(PathBuf),
}

#[derive(Debug)]
pub(crate) struct Forget {
    pub(crate) which: Which,
    pub(crate) dry_run: bool,
    /// How to prune then, if that is wanted.
    pub(crate) prune: Option<PruneLimits>,
}

/// Which backups to forget.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// What this does not keep.
    Others {
        policy: Policy,
        /// Of all if none is named.
        volumes: Vec<String>,
        /// Days begin there, and not where this host is.
        utc: bool,
    },
    These {
        backups: Vec<String>,
        /// Even if protected.
        force: bool,
    },
}

/// What to do about a target that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Refuse,
    /// Write only what differs.
    Update,
    Overwrite,
}

#[derive(Debug)]
pub(crate) enum Key {
    Add {
        password_file: Option<PathBuf>,
        kdf: Kdf,
        label: Option<String>,
        scope: KeyScope,
    },
    List,
    Remove {
        id: String,
    },
    Passwd {
        password_file: Option<PathBuf>,
        kdf: Kdf,
        label: Option<String>,
    },
    Test,
    /// To standard output without a file.
    Export {
        file: Option<PathBuf>,
    },
}

/// What a key opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyScope {
    Repository,
    Project,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Off,
    /// Zstandard, 1 to 19.
    Level(i32),
}

/// Parameters of Argon2id, within the bounds of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kdf {
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
    pub(crate) lanes: u32,
}

impl Request {
    pub(crate) fn new(cli: Cli, environment: &Environment) -> Result<Self, Failure> {
        let settings = Settings::new(&cli.globals, environment)?;
        let (Top::Direct(command) | Top::Repo { command }) = cli.command;
        let operation = match command {
            Command::Completions { shell } => {
                return Ok(Self {
                    settings,
                    action: Action::Completions(shell),
                });
            }
            Command::Man { dir } => {
                return Ok(Self {
                    settings,
                    action: Action::Man(dir),
                });
            }
            Command::Diff { command } => match command {
                DiffCommand::Inspect { file } => return Self::diff(settings, Diff::inspect(file)?),
                DiffCommand::Merge(args) => return Self::diff(settings, Diff::merge(args)?),
                DiffCommand::Export(args) => Operation::ExportDiff(ExportDiff::new(args)?),
            },
            Command::Init(args) => Operation::Init {
                chunk_size: args.chunk_size,
                kdf: Kdf::new(&args.kdf)?,
            },
            Command::Backup(args) => Operation::Backup(Backup::new(args)?),
            Command::List { volume } => Operation::List { volume },
            Command::Show { backup } => Operation::Show {
                backup: a_backup(backup)?,
            },
            Command::Compare { a, b } => Operation::Compare {
                a: a_backup(a)?,
                b: a_backup(b)?,
            },
            Command::Restore(args) => match args.format {
                Format::Raw => Operation::Restore(Restore::new(args)?),
                Format::RbdDiff => Operation::ExportDiff(ExportDiff::full(args)?),
            },
            Command::Forget(args) => Operation::Forget(Forget::new(*args)?),
            Command::Prune { limits, dry_run } => Operation::Prune { limits, dry_run },
            Command::Check { read_data } => Operation::Check { read_data },
            Command::Stats => Operation::Stats,
            Command::Key { command } => Operation::Key(Key::new(command)?),
            Command::Cache { command } => Operation::Cache(command.unwrap_or(CacheCommand::Show)),
        };
        let access = Access::new(cli.globals, environment)?;
        one_reader_of_stdin(&access, &operation, environment)?;
        data_or_json(&settings, operation.fills_stdout())?;
        Ok(Self {
            settings,
            action: Action::Repository(Box::new(access), operation),
        })
    }

    fn diff(settings: Settings, diff: Diff) -> Result<Self, Failure> {
        data_or_json(&settings, diff.fills_stdout())?;
        Ok(Self {
            settings,
            action: Action::Diff(diff),
        })
    }

    /// Standard output carries data, so that nothing else may be written there.
    pub(crate) fn fills_stdout(&self) -> bool {
        match &self.action {
            Action::Repository(_, operation) => operation.fills_stdout(),
            Action::Diff(diff) => diff.fills_stdout(),
            Action::Completions(_) | Action::Man(_) => false,
        }
    }
}

impl Operation {
    fn fills_stdout(&self) -> bool {
        match self {
            Self::Restore(Restore { target, .. }) | Self::ExportDiff(ExportDiff { target, .. }) => {
                *target == Target::Stdout
            }
            Self::Key(Key::Export { file }) => file.is_none(),
            _ => false,
        }
    }
}

fn data_or_json(settings: &Settings, fills_stdout: bool) -> Result<(), Failure> {
    if settings.json && fills_stdout {
        return Err(
            Failure::usage("--json and the data both want standard output")
                .hint("name a file to write to, or leave --json out"),
        );
    }
    Ok(())
}

fn local_path(what: &str, text: OsString) -> Result<PathBuf, Failure> {
    if text.is_empty() {
        return Err(Failure::usage(format!("the {what} is empty")));
    }
    if scheme(&text) == Some("rbd") {
        return Err(Failure::usage(format!(
            "this version cannot use the {what} “{}”",
            text.display()
        ))
        .hint("supported are files, block devices and “-” (and ./rbd:x for a file of that name)"));
    }
    Ok(text.into())
}

impl Source {
    fn new(what: &str, text: OsString) -> Result<Self, Failure> {
        Ok(match text {
            text if text == "-" => Self::Stdin,
            text => Self::Path(local_path(what, text)?),
        })
    }
}

impl Target {
    fn new(text: OsString) -> Result<Self, Failure> {
        Ok(match text {
            text if text == "-" => Self::Stdout,
            text => Self::Path(local_path("target", text)?),
        })
    }
}

impl Restore {
    fn new(args: RestoreArgs) -> Result<Self, Failure> {
        let target = Target::new(args.target)?;
        let existing = match (args.in_place, args.force) {
            (false, false) => Existing::Refuse,
            (true, _) => Existing::Update,
            (false, true) => Existing::Overwrite,
        };
        if target == Target::Stdout && existing != Existing::Refuse {
            return Err(
                Failure::usage("standard output can be neither updated nor overwritten")
                    .hint("leave --in-place and --force out"),
            );
        }
        Ok(Self {
            backup: a_backup(args.backup)?,
            target,
            existing,
        })
    }
}

impl Forget {
    fn new(args: ForgetArgs) -> Result<Self, Failure> {
        if args.limits.any() && !args.prune {
            return Err(
                Failure::usage("--max-unused, --max-repack and --grace say how to prune")
                    .hint("add --prune, or leave them out"),
            );
        }
        let policy = args.keep.policy();
        let which = if !args.backups.is_empty() {
            let backups = args.backups.into_iter().map(a_backup);
            Which::These {
                backups: backups.collect::<Result<_, _>>()?,
                force: args.force,
            }
        } else if policy.is_empty() {
            return Err(Failure::usage("nothing says what to keep")
                .hint("give a policy such as --keep-daily 7 --keep-weekly 4, or name the backups to remove"));
        } else {
            Which::Others {
                policy,
                volumes: args.volumes,
                utc: args.utc,
            }
        };
        Ok(Self {
            which,
            dry_run: args.dry_run,
            prune: args.prune.then_some(args.limits),
        })
    }
}

impl Key {
    fn new(command: KeyCommand) -> Result<Self, Failure> {
        let scope = |project| {
            if project {
                KeyScope::Project
            } else {
                KeyScope::Repository
            }
        };
        Ok(match command {
            KeyCommand::Add {
                new:
                    NewPasswordArgs {
                        new_password_file,
                        kdf,
                    },
                label,
                this_project,
            } => Self::Add {
                password_file: new_password_file,
                kdf: Kdf::new(&kdf)?,
                label,
                scope: scope(this_project),
            },
            KeyCommand::List => Self::List,
            KeyCommand::Remove { id } if id.is_empty() => {
                return Err(Failure::usage("the key's id is empty")
                    .hint("see the ids with “cuttlebone key list”"));
            }
            KeyCommand::Remove { id } => Self::Remove { id },
            KeyCommand::Passwd {
                new:
                    NewPasswordArgs {
                        new_password_file,
                        kdf,
                    },
                label,
            } => Self::Passwd {
                password_file: new_password_file,
                kdf: Kdf::new(&kdf)?,
                label,
            },
            KeyCommand::Test => Self::Test,
            KeyCommand::Export { file } => Self::Export {
                file: file.filter(|file| file.as_os_str() != "-"),
            },
        })
    }
}

impl Kdf {
    fn new(args: &KdfArgs) -> Result<Self, Failure> {
        let least = KdfParams::memory_kib_min(args.kdf_lanes);
        let most = KdfParams::MEMORY_KIB_MAX;
        match u32::try_from(args.kdf_memory.0 / 1024) {
            Ok(memory_kib) if (least..=most).contains(&memory_kib) => Ok(Self {
                memory_kib,
                passes: args.kdf_passes,
                lanes: args.kdf_lanes,
            }),
            _ => Err(
                Failure::usage(format!("--kdf-memory cannot be {}", args.kdf_memory)).hint(
                    format!(
                        "with {} lanes it can be from {} to {}",
                        args.kdf_lanes,
                        ByteSize(u64::from(least) * 1024),
                        ByteSize(u64::from(most) * 1024)
                    ),
                ),
            ),
        }
    }
}

fn a_backup(text: String) -> Result<String, Failure> {
    if text.is_empty() {
        return Err(Failure::usage("the name of the backup is empty")
            .hint("see what there is with “cuttlebone list”"));
    }
    Ok(text)
}

pub(super) fn plain_name(what: &str, name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.len() > 255 || name.contains(char::is_control) {
        return Err(
            Failure::usage(format!("the {what}'s name {name:?} cannot be used"))
                .hint("a name has 1 to 255 bytes and no control characters"),
        );
    }
    Ok(())
}

/// Two things cannot both be read from standard input.
fn one_reader_of_stdin(
    access: &Access,
    operation: &Operation,
    environment: &Environment,
) -> Result<(), Failure> {
    let is_stdin = |file: &Option<PathBuf>| file.as_deref() == Some(Path::new("-"));
    let data = match operation {
        Operation::Backup(backup) => backup.source.is_stdin(),
        Operation::Key(Key::Add { password_file, .. } | Key::Passwd { password_file, .. }) => {
            is_stdin(password_file)
        }
        _ => false,
    };
    let variable = environment
        .get("CUTTLEBONE_PASSWORD_FILE")
        .map(PathBuf::from);
    if data && (is_stdin(&access.password.file) || is_stdin(&variable)) {
        return Err(
            Failure::usage("two things are to be read from standard input")
                .hint("put the password into a file and name it with --password-file"),
        );
    }
    Ok(())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
