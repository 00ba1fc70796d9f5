//! Converts a parsed command line and the environment into checked requests.

use std::num::NonZeroUsize;

use crate::app::{
    CacheRequest, Environment, Failure, ReadFrom, RepositorySettings, backup_selector, names_stdin,
    worker_threads,
};
use crate::cli::display::DisplaySettings;

use super::action::{Action, RepositoryAction};
use super::audit_args::AuditAction;
use super::cache_args::CacheCommand;
use super::command_line::{Cli, Command, Top};
use super::diff_args::DiffCommand;
use super::global_args::GlobalArgs;
use super::parity_args::{IndexArgs, ParityCommand, RepairCommand};

/// The request for one run of the program, from the command line and the environment.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) display: DisplaySettings,
    pub(crate) threads: NonZeroUsize,
    pub(crate) action: Action,
}

impl Invocation {
    pub(crate) fn new(cli: Cli, environment: &Environment) -> Result<Self, Failure> {
        let display = cli.globals.display_settings(environment)?;
        let threads = worker_threads(cli.globals.threads);
        let command = match cli.command {
            Top::Direct(command) => command,
            Top::Repo { command } => command.0,
        };
        let action = action(command, cli.globals, environment)?;
        if display.json && action.fills_stdout() {
            return Err(Failure::usage(
                "standard output cannot carry both the data and JSON messages",
            )
            .hint("name a file to write the data to, or leave --json out"));
        }
        Ok(Self {
            display,
            threads,
            action,
        })
    }
}

fn action(
    command: Command,
    globals: GlobalArgs,
    environment: &Environment,
) -> Result<Action, Failure> {
    let action = match command {
        Command::Completions { shell } => return Ok(Action::Completions(shell)),
        Command::Man { dir } => return Ok(Action::Man(dir)),
        Command::Diff { command } => match command {
            DiffCommand::Inspect { file } => {
                return Ok(Action::InspectDiff(ReadFrom::parse("diff", file)?));
            }
            DiffCommand::Merge(args) => return Ok(Action::MergeDiffs(args.into_request()?)),
            DiffCommand::Export(args) => RepositoryAction::ExportDiff(args.into_request()?),
        },
        Command::Init(args) => RepositoryAction::Init {
            chunk_size: args.chunk_size,
            parity: args.parity.0,
            kdf: args.kdf.into_params()?,
        },
        Command::Backup(args) => {
            RepositoryAction::Backup(Box::new(args.into_request(environment)?))
        }
        Command::List(args) => RepositoryAction::List(args.into_request()),
        Command::Show {
            backup,
            attachments,
        } => RepositoryAction::Show {
            backup: backup_selector(backup)?,
            attachments,
        },
        Command::Compare { a, b } => RepositoryAction::Compare {
            a: backup_selector(a)?,
            b: backup_selector(b)?,
        },
        Command::Restore(args) => args.into_action(environment)?,
        Command::Forget(args) => RepositoryAction::Forget(args.into_request()?),
        Command::Prune {
            limits,
            lost,
            dry_run,
        } => RepositoryAction::Prune {
            request: limits.into_request(lost.into_accepted()),
            dry_run,
        },
        Command::Check(args) => args.into_action(),
        Command::Audit { command } => match command.into_action() {
            AuditAction::InRepository(action) => action,
            AuditAction::VerifyReport(report, key) => {
                return Ok(Action::VerifyReport(report, key));
            }
        },
        Command::Drill(args) => RepositoryAction::Drill(args.into_request()),
        Command::Repair {
            command: RepairCommand::Parity(args),
        } => RepositoryAction::Repair(args.into_request(true)),
        Command::Repair {
            command: RepairCommand::Copies(args),
        } => RepositoryAction::Repair(args.into_request(false)),
        Command::Repair {
            command: RepairCommand::Packs { yes },
        } => RepositoryAction::RepairPacks { yes },
        Command::Repair {
            command: RepairCommand::Index(IndexArgs { yes }),
        } => RepositoryAction::RepairIndex { yes },
        Command::Parity {
            command: ParityCommand::Set { rate },
        } => RepositoryAction::SetParity { rate: rate.0 },
        Command::Head { qr } => RepositoryAction::Head { qr },
        Command::Replicate(args) => RepositoryAction::Replicate(args.into_request()),
        Command::Copy(args) => RepositoryAction::Copy(Box::new(args.into_request()?)),
        Command::Label(args) => RepositoryAction::Label(args.into_request()?),
        Command::Stats { volume } => RepositoryAction::Stats { volume },
        Command::Status(args) => {
            RepositoryAction::Status(Box::new(args.into_request(environment)?))
        }
        Command::Snapshots(args) => {
            RepositoryAction::Snapshots(Box::new(args.into_request(environment)?))
        }
        Command::Key { command } => RepositoryAction::Key(command.into_request()?),
        Command::Cache { command } => {
            RepositoryAction::Cache(command.map_or(CacheRequest::Show, CacheCommand::into_request))
        }
    };
    let settings = RepositorySettings::new(globals.into_options(), environment)?;
    check_stdin(&settings, &action, environment)?;
    Ok(Action::Repository(Box::new(settings), action))
}

/// Refuses to read both the password of the repository and other input from standard input.
fn check_stdin(
    settings: &RepositorySettings,
    action: &RepositoryAction,
    environment: &Environment,
) -> Result<(), Failure> {
    let password = settings.password.file_in(environment);
    if action.reads_stdin(environment) && password.is_some_and(|file| names_stdin(&file)) {
        return Err(Failure::usage(
            "cannot read both the password and other input from standard input",
        )
        .hint("put the password into a file and name it with --password-file"));
    }
    Ok(())
}
