//! The only module that writes to standard output and standard error.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::base::lock;

use super::failure::{Code, Failure};
use super::message::{BackupEntry, DiffEntry, Extent, ForgetVolume, KeyEntry, Line, Message};
use super::render;

type Stream = Mutex<Box<dyn Write + Send>>;

/// Tells what a command found or did: text for people, or JSON lines.
///
/// Where a reader has closed the pipe, the rest is dropped without a word: `list | head` is done
/// when `head` is, and a backup goes on although nobody reads its progress.
pub(crate) struct Output {
    style: Style,
    stdout: Stream,
    stderr: Stream,
    zone: TimeZone,
    /// Of the terminal that standard output is, if it is one.
    columns: Option<usize>,
}

/// How much to tell people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Amount {
    /// `-q`: what went wrong, and what was asked for.
    Little,
    #[default]
    Usual,
    /// `-v`
    More,
}

/// How to tell it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    pub(crate) json: bool,
    pub(crate) amount: Amount,
    /// Standard output carries data: text goes to standard error.
    pub(crate) data_on_stdout: bool,
}

impl Output {
    pub(crate) fn of_process(style: Style) -> Self {
        let columns = terminal_columns();
        Self::with(
            style,
            Box::new(io::stdout()),
            Box::new(io::stderr()),
            TimeZone::system(),
            columns,
        )
    }

    fn with(
        style: Style,
        stdout: Box<dyn Write + Send>,
        stderr: Box<dyn Write + Send>,
        zone: TimeZone,
        columns: Option<usize>,
    ) -> Self {
        Self {
            style,
            stdout: Mutex::new(stdout),
            stderr: Mutex::new(stderr),
            zone,
            columns,
        }
    }

    /// A message; what only says that all went well is not shown to people who want quiet.
    pub(crate) fn show(&self, message: &Message) -> Result<(), Failure> {
        if self.style.json {
            return self.json(message);
        }
        let only_good_news = match message {
            Message::Init(_)
            | Message::Backup(_)
            | Message::Restore(_)
            | Message::KeyChange(_)
            | Message::Merge(_)
            | Message::Export(_)
            | Message::Forget(_)
            | Message::Prune(_) => true,
            Message::Check(check) => check.errors == 0,
            _ => false,
        };
        if self.style.amount == Amount::Little && only_good_news {
            return Ok(());
        }
        self.text(&render::message(message, &self.zone))
    }

    /// `list`.
    pub(crate) fn backups(&self, entries: &[BackupEntry]) -> Result<(), Failure> {
        self.listing(entries, Line::Backup, || {
            render::backups(entries, &self.zone, self.columns)
        })
    }

    /// `forget`, with times in this zone; to people who want quiet only if they asked what would be done.
    pub(crate) fn forget(
        &self,
        volumes: &[ForgetVolume],
        zone: Option<&TimeZone>,
    ) -> Result<(), Failure> {
        let asked_for = volumes.iter().any(|volume| volume.dry_run);
        if self.style.amount == Amount::Little && !self.style.json && !asked_for {
            return Ok(());
        }
        self.listing(volumes, Line::Forget, || {
            render::forget(volumes, zone.unwrap_or(&self.zone), self.columns)
        })
    }

    /// `key list`.
    pub(crate) fn keys(&self, entries: &[KeyEntry]) -> Result<(), Failure> {
        self.listing(entries, Line::Key, || {
            render::keys(entries, &self.zone, self.columns)
        })
    }

    /// `compare`.
    pub(crate) fn extents(&self, extents: &[Extent]) -> Result<(), Failure> {
        self.listing(extents, Line::Extent, || render::extents(extents))
    }

    /// The one diff of a stream.
    pub(crate) fn diff(&self, diff: &DiffEntry) -> Result<(), Failure> {
        let one = std::slice::from_ref(diff);
        self.listing(one, Line::Diff, || render::diff(diff))
    }

    /// Some of many diffs.
    pub(crate) fn diffs(&self, diffs: &[DiffEntry]) -> Result<(), Failure> {
        self.listing(diffs, Line::Diff, || render::diffs(diffs, self.columns))
    }

    /// What people hear who asked for more: names and values, where there are any.
    pub(crate) fn detail(&self, facts: &[(&str, Option<String>)]) -> Result<(), Failure> {
        if self.style.json || self.style.amount != Amount::More {
            return Ok(());
        }
        self.text(&render::fields(facts))
    }

    /// Bytes as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        write(&self.stdout, bytes)
    }

    /// A line on standard error. That it cannot be written is no reason to stop anything.
    pub(crate) fn note(&self, text: &str) {
        if self.style.json {
            self.say(text);
        } else {
            self.say(&format!("note: {text}"));
        }
    }

    /// The same without “note: ” before it.
    pub(crate) fn say(&self, text: &str) {
        let line = if self.style.json {
            let note = Note {
                message_type: "notice",
                message: text,
            };
            serde_json::to_string(&note).unwrap_or_default()
        } else {
            text.to_owned()
        };
        let _ = write(&self.stderr, format!("{line}\n").as_bytes());
    }

    fn listing<'a, T>(
        &self,
        items: &'a [T],
        line: impl Fn(&'a T) -> Line<'a>,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.style.json {
            return items.iter().try_for_each(|item| self.json(&line(item)));
        }
        self.text(&text())
    }

    fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value).map_err(|error| unwritten(&error))?;
        line.push(b'\n');
        write(&self.stdout, &line)
    }

    fn text(&self, text: &str) -> Result<(), Failure> {
        let stream = if self.style.data_on_stdout {
            &self.stderr
        } else {
            &self.stdout
        };
        write(stream, text.as_bytes())
    }
}

#[derive(Serialize)]
struct Note<'a> {
    message_type: &'static str,
    message: &'a str,
}

fn write(stream: &Stream, bytes: &[u8]) -> Result<(), Failure> {
    let mut stream = lock(stream);
    match stream.write_all(bytes).and_then(|()| stream.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritten(&error)),
        _ => Ok(()),
    }
}

fn unwritten(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(Code::Failed, "could not write to standard output").caused_by(Some(error))
}

/// The columns of the terminal on standard output, if there is one.
fn terminal_columns() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    Some(usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// Tells a failure; gives the exit code.
pub(crate) fn fail(failure: &Failure, json: bool) -> ExitCode {
    let text = if json {
        failure.to_json()
    } else {
        failure.to_text()
    };
    // If standard error is gone the exit code still tells.
    let _ = io::stderr().write_all(text.as_bytes());
    failure.code.into()
}

/// Tells why a command line was not understood, or gives the help that it asked for. Whether JSON
/// is wanted has to be guessed from words that could not be parsed.
pub(crate) fn not_parsed(error: &clap::Error, words: &[OsString]) -> ExitCode {
    let json = words.iter().any(|word| word == "--json");
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let message = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        return fail(&Failure::usage(message), json);
    }
    let _ = error.print();
    if error.use_stderr() {
        Code::Usage.into()
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
