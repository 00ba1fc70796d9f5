//! Generates shell completions and manual pages from the definition of the command line.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;

/// Returns the completion script of a shell.
pub(crate) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cuttlebone", &mut script);
    script
}

/// Writes a manual page for the program and one for each command.
pub(crate) fn manual(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    // `repo` repeats all commands: their pages would be copies.
    let command = Cli::command().mut_subcommand("repo", |repo| {
        let about = repo.get_about().cloned().unwrap_or_default();
        clap::Command::new("repo").about(about)
    });
    clap_mangen::generate_to(command, directory)
}
