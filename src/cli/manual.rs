//! Generates manual pages from the definition of the command line.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use clap::{Arg, ArgAction, CommandFactory};
use clap_mangen::Man;

use super::args::Cli;

/// Writes a manual page for the program and one for each command into this directory. Creates the
/// directory if needed.
pub(crate) fn manual(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    // `repo` has the same commands as the program itself, so their pages would be copies.
    let command = Cli::command().mut_subcommand("repo", |repo| {
        let about = repo.get_about().cloned().unwrap_or_default();
        clap::Command::new("repo").about(about)
    });
    let mut command = command.disable_help_subcommand(true);
    command.build();
    pages(&command, directory)
}

fn pages(command: &clap::Command, directory: &Path) -> io::Result<()> {
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        pages(below, directory)?;
    }
    let synopsis = synopsis(command);
    let command = command
        .clone()
        .mut_args(short_heading)
        .override_usage(synopsis);
    let page = Man::new(command.clone());
    let mut file = File::create(directory.join(page.get_filename()))?;
    page.render_title(&mut file)?;
    page.render_name_section(&mut file)?;
    page.render_synopsis_section(&mut file)?;
    page.render_description_section(&mut file)?;
    page.render_options_section(&mut file)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        page.render_subcommands_section(&mut file)?;
    }
    let more = command.get_after_long_help().or(command.get_after_help());
    if let Some(more) = more {
        file.write_all(sections(&more.to_string()).as_bytes())?;
    }
    file.flush()
}

/// Returns the synopsis of a command: its options and the names of their values. All global options
/// together are shown as `[GLOBAL OPTIONS]`, since they are the same for every command.
fn synopsis(command: &clap::Command) -> String {
    let mut words = vec![
        command
            .get_bin_name()
            .unwrap_or(command.get_name())
            .to_owned(),
    ];
    let is_help = |arg: &&Arg| ["help", "version"].contains(&arg.get_id().as_str());
    let shown = || {
        let all = command.get_arguments().filter(|arg| !arg.is_hide_set());
        all.filter(|arg| !is_help(arg))
    };
    let (global, own): (Vec<_>, Vec<_>) = shown().partition(|arg| arg.is_global_set());
    let (named, placed): (Vec<_>, Vec<_>) = own.into_iter().partition(|arg| !arg.is_positional());
    words.extend(named.into_iter().map(usage));
    if !global.is_empty() {
        words.push("[GLOBAL OPTIONS]".to_owned());
    }
    words.extend(placed.into_iter().map(usage));
    if command.has_subcommands() {
        words.push("COMMAND".to_owned());
    }
    words.join(" ")
}

/// Returns the form of an argument in a synopsis.
fn usage(arg: &Arg) -> String {
    let value = match arg.get_value_names() {
        Some(names) => names.join(" "),
        None => arg.get_id().as_str().to_uppercase(),
    };
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let text = match (arg.get_long(), arg.get_short()) {
        (Some(long), _) if takes_value => format!("--{long} {value}"),
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => value,
    };
    let repeats = matches!(arg.get_action(), ArgAction::Append | ArgAction::Count);
    let more = if repeats { "..." } else { "" };
    if arg.is_required_set() {
        format!("{text}{more}")
    } else {
        format!("[{text}]{more}")
    }
}

/// The beginnings of all option headings that end with an explanation in parentheses.
const HEADINGS: [&str; 3] = ["Global options", "Backups to keep", "Prune options"];

/// Removes the explanation from the heading of an option: a manual page shows headings in capitals,
/// in which long text is hard to read.
fn short_heading(arg: Arg) -> Arg {
    let heading = arg.get_help_heading().unwrap_or_default();
    match HEADINGS.iter().find(|short| heading.starts_with(**short)) {
        Some(short) => arg.help_heading(*short),
        None => arg,
    }
}

/// Returns the text below the help of a command as sections. A line without indentation that ends
/// with a colon begins a section. Its heading is the part of the line before the first comma. If
/// there is a comma, the section also contains the whole line. All other lines stay as they are.
fn sections(text: &str) -> String {
    let mut page = String::new();
    let mut is_open = false;
    for line in text.lines() {
        let heading = line.strip_suffix(':').filter(|line| !line.starts_with(' '));
        if let Some(heading) = heading {
            let short = heading.split(',').next().unwrap_or(heading);
            page += if is_open { ".fi\n" } else { "" };
            page += ".SH ";
            page += &quoted(&short.to_uppercase());
            page += "\n.nf\n";
            is_open = true;
            if short.len() == heading.len() {
                continue;
            }
        }
        if !is_open {
            page += ".SH NOTES\n.nf\n";
            is_open = true;
        }
        page += &plain(line);
        page += "\n";
    }
    page + if is_open { ".fi\n" } else { "" }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", plain(text).replace('"', "\\(dq"))
}

/// Escapes characters that are special in a manual page.
fn plain(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    if line.starts_with(['.', '\'']) {
        format!("\\&{line}")
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_below_the_help_become_sections_with_the_same_lines() {
        let text = "A note.\nExamples:\n  a --b \\\n    c\n.dot\n";
        assert_eq!(
            sections(text),
            ".SH NOTES\n.nf\nA note.\n.fi\n.SH \"EXAMPLES\"\n.nf\n  a \\-\\-b \\e\n    c\n\
             \\&.dot\n.fi\n"
        );
        assert_eq!(sections(""), "");
    }
}
