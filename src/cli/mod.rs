//! The command line: words become a checked request (`request.rs`), a request becomes calls of
//! operations (`commands.rs`), and what they find is told in one place (`output.rs`).

mod access;
mod args;
mod backup;
mod commands;
mod diff;
mod environment;
mod explain;
mod export;
mod failure;
mod forget;
mod generate;
mod globals;
mod human;
mod keep;
mod keys;
mod location;
mod message;
mod output;
mod password;
mod progress;
mod prune;
mod render;
mod request;
mod signals;
mod store;
mod table;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use crate::base::{Cancel, Observer};

use access::{Access, Settings};
use args::Cli;
use environment::Environment;
use failure::{Code, Failure};
use output::{Amount, Output, Style};
use password::{Password, Passwords};
use progress::{Form, Meter};
use request::{Action, Existing, Operation, Request};
use signals::Signals;

/// Does what the command line of this process asks for.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => return output::not_parsed(&error, &words),
    };
    let json = cli.globals.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output::fail(&failure, json),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let environment = Environment::of_process();
    let request = Request::new(cli, &environment)?;
    let output = Arc::new(Output::of_process(Style {
        json: request.settings.json,
        amount: request.settings.amount,
        data_on_stdout: request.fills_stdout(),
    }));
    match request.action {
        Action::Completions(shell) => output.raw(&generate::completions(shell)),
        Action::Man(directory) => generate::manual(&directory).map_err(|error| {
            let attempt = format!("could not write manual pages to {}", directory.display());
            Failure::new(Code::Failed, attempt).caused_by(Some(&error))
        }),
        Action::Repository(access, operation) => {
            let session = Session::start(environment, output, request.settings)?;
            let again = match &operation {
                Operation::Backup(_) => "run the command again; what was stored is used",
                Operation::Restore(restore) if restore.existing == Existing::Update => {
                    "run the command again; until then the target is not whole"
                }
                _ => "run the command again",
            };
            session.run(
                |session| commands::perform(session, &access, operation),
                again,
            )
        }
        Action::Diff(diff) => {
            let session = Session::start(environment, output, request.settings)?;
            session.run(
                |session| diff::perform(session, diff),
                "run the command again",
            )
        }
    }
}

/// Whatever failed once somebody had asked to stop, failed because of that.
fn interrupted(failure: Failure, hint: &str) -> Failure {
    Failure {
        code: Code::Interrupted,
        ..failure
    }
    .hint(hint)
}

/// What every command needs while it runs.
struct Session {
    environment: Environment,
    settings: Settings,
    output: Arc<Output>,
    meter: Arc<Meter>,
    cancel: Cancel,
    signals: Signals,
}

impl Session {
    fn start(
        environment: Environment,
        output: Arc<Output>,
        settings: Settings,
    ) -> Result<Self, Failure> {
        let form = Form::choose(settings.progress, settings.json);
        let meter = Meter::start(
            Arc::clone(&output),
            form,
            settings.progress_interval,
            settings.amount == Amount::Little,
        )
        .map(Arc::new)
        .map_err(|error| {
            Failure::new(Code::Failed, "could not start a thread").caused_by(Some(&error))
        })?;
        let cancel = Cancel::default();
        let voice = Arc::clone(&meter);
        let signals = Signals::install(cancel.clone(), move |line| voice.say(line))?;
        Ok(Self {
            environment,
            settings,
            output,
            meter,
            cancel,
            signals,
        })
    }

    /// Runs a command to its end.
    fn run(
        &self,
        command: impl FnOnce(&Self) -> Result<(), Failure>,
        hint: &str,
    ) -> Result<(), Failure> {
        let result = command(self);
        self.meter.finish();
        match result {
            Err(failure) if self.cancel.check().is_err() => Err(interrupted(failure, hint)),
            result => result,
        }
    }

    /// The password that opens the repository.
    fn password(&self, access: &Access) -> Result<Password, Failure> {
        self.passwords(|passwords| passwords.existing(&access.password, &access.location))
    }

    /// The password for a repository that is about to be made.
    fn initial_password(&self, access: &Access) -> Result<Password, Failure> {
        self.passwords(|passwords| passwords.initial(&access.password, &access.location))
    }

    /// The new password for `key add` and `key passwd`.
    fn additional_password(&self, file: Option<&std::path::Path>) -> Result<Password, Failure> {
        self.passwords(|passwords| passwords.additional(file))
    }

    fn passwords(
        &self,
        get: impl FnOnce(&Passwords<'_>) -> Result<Password, password::PasswordError>,
    ) -> Result<Password, Failure> {
        let ask = |prompt: &str| {
            self.signals
                .while_prompting(|| password::ask_on_terminal(prompt))
        };
        let observer: &dyn Observer = &*self.meter;
        let passwords = Passwords {
            environment: &self.environment,
            observer,
            prompt: &ask,
        };
        Ok(get(&passwords)?)
    }
}
