//! Runs the program from its command line to its exit code.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};

use crate::app::{Code, Environment, Failure};
use crate::volume::Existing;

use super::args::{Action, Cli, Invocation, RepositoryAction};
use super::commands;
use super::completions;
use super::console::Console;
use super::freeze;
use super::manual;
use super::output::{self, Output, Style};
use super::streams;

/// Runs the command line of this process and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if let Some(code) = freeze::guard(&words) {
        return code;
    }
    let words = without_help_of_help(words);
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => return output::usage_error(&error, &words),
    };
    let json = cli.wants_json();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output::failure(&failure, json),
    }
}

/// Removes `--help` and `-h` after the command `help`. This command takes no options, and shows
/// help without them.
fn without_help_of_help(mut words: Vec<OsString>) -> Vec<OsString> {
    let Some(help) = words.iter().skip(1).position(|word| word == "help") else {
        return words;
    };
    let mut command = Cli::command();
    command.build();
    for word in &words[1..=help] {
        match command.find_subcommand(word) {
            Some(below) => command = below.clone(),
            None => return words,
        }
    }
    // After a command that has no subcommands, the word `help` is an argument.
    if command.has_subcommands() {
        let mut kept = words.split_off(help + 2);
        kept.retain(|word| word != "--help" && word != "-h");
        words.extend(kept);
    }
    words
}

fn run(cli: Cli) -> Result<(), Failure> {
    let environment = Environment::of_process();
    let invocation = Invocation::new(cli, &environment)?;
    streams::check(&invocation.action, &environment)?;
    let output = Arc::new(Output::of_process(Style {
        json: invocation.display.json,
        verbosity: invocation.display.verbosity,
        data_on_stdout: invocation.action.fills_stdout(),
    }));
    let again = hint_if_interrupted(&invocation.action);
    let console = || {
        let output = Arc::clone(&output);
        Console::start(environment, output, &invocation.display, invocation.threads)
    };
    match invocation.action {
        Action::Completions(shell) => output.raw(&completions::completions(shell)),
        Action::Man(directory) => manual::manual(&directory).map_err(|error| {
            let attempt = format!("could not write manual pages to {}", directory.display());
            Failure::new(Code::Failed, attempt).caused_by(Some(&error))
        }),
        Action::VerifyReport(report, key) => commands::verify_report(&output, &report, &key),
        Action::InspectDiff(source) => {
            console()?.run(again, |console| commands::inspect_diff(console, &source))
        }
        Action::MergeDiffs(request) => {
            console()?.run(again, |console| commands::merge_diffs(console, &request))
        }
        Action::Repository(settings, action) => console()?.run(again, |console| {
            commands::run_in_repository(console, &settings, action)
        }),
    }
}

/// Returns what to do after this action was interrupted.
fn hint_if_interrupted(action: &Action) -> &'static str {
    match action {
        Action::Repository(_, RepositoryAction::Backup(_)) => {
            "run the command again; it uses the data stored so far"
        }
        Action::Repository(_, RepositoryAction::Restore(request))
            if request.existing == Existing::Update =>
        {
            "run the command again; until then the target is incomplete"
        }
        Action::Repository(_, RepositoryAction::Restore(_)) => {
            "run the command again; if the target is a device, it is incomplete: add --in-place"
        }
        _ => "run the command again",
    }
}
