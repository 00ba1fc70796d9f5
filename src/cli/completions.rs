//! Generates shell completions from the definition of the command line.

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;

/// Returns the completion script of a shell.
pub(crate) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cuttlebone", &mut script);
    script
}
