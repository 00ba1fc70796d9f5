//! Writes messages to standard output and standard error. Apart from this module, only the progress
//! bar, the prompt for a password, and the guard of a freeze (`volume/freeze/`) print text. The
//! content of backups and diffs does not pass through this module.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::{LazyLock, Mutex};

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::app::{
    self, AuditEntries, BackupEntry, Code, DiffEntry, DrillEntry, Extent, Failure, ForgetVolume,
    KeyEntry, ListEntry, Message, SnapshotEntry, VolumeStatusEntry,
};
use crate::base::lock;

use super::display::Verbosity;

type Stream = Mutex<Box<dyn Write + Send>>;

const STDOUT: &str = "standard output";
const STDERR: &str = "standard error";

/// Shows messages as text or as JSON lines.
///
/// A closed pipe is not an error: `list | head` succeeds, and a backup continues if the reader of
/// its progress has exited.
pub(crate) struct Output {
    style: Style,
    stdout: Stream,
    stderr: Stream,
    /// The local time zone. To find it, all names of time zones are read, so this waits until a
    /// time is shown.
    zone: LazyLock<TimeZone>,
    /// The width of the terminal on standard output, if there is one.
    columns: Option<usize>,
    /// The width of the terminal on standard error, if there is one.
    error_columns: Option<usize>,
}

/// How to show messages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    pub(crate) json: bool,
    pub(crate) verbosity: Verbosity,
    /// Whether standard output carries data. In this case, text goes to standard error.
    pub(crate) data_on_stdout: bool,
}

impl Output {
    pub(crate) fn of_process(style: Style) -> Self {
        let columns = terminal_columns(&io::stdout());
        let output = Self::with(
            style,
            Box::new(io::stdout()),
            Box::new(io::stderr()),
            TimeZone::system,
            columns,
        );
        Self {
            error_columns: terminal_columns(&io::stderr()),
            ..output
        }
    }

    fn with(
        style: Style,
        stdout: Box<dyn Write + Send>,
        stderr: Box<dyn Write + Send>,
        zone: fn() -> TimeZone,
        columns: Option<usize>,
    ) -> Self {
        Self {
            style,
            stdout: Mutex::new(stdout),
            stderr: Mutex::new(stderr),
            zone: LazyLock::new(zone),
            columns,
            error_columns: None,
        }
    }

    /// Returns whether messages are JSON lines.
    pub(crate) fn is_json(&self) -> bool {
        self.style.json
    }

    /// Shows a message. With `--quiet`, the text of most messages that only report success is left
    /// out.
    ///
    /// If the message cannot be written, the failure says what was completed, for example that the
    /// backup was made.
    pub(crate) fn show(&self, message: &Message) -> Result<(), Failure> {
        self.show_message(message)
            .map_err(|failure| failure.hint_if(app::done(message)))
    }

    fn show_message(&self, message: &Message) -> Result<(), Failure> {
        if self.style.json {
            return self.json(message);
        }
        let reports_success = match message {
            Message::Init(_)
            | Message::Backup(_)
            | Message::Restore(_)
            | Message::KeyChange(_)
            | Message::Merge(_)
            | Message::Export(_)
            | Message::Forget(_)
            | Message::Prune(_)
            | Message::Label(_)
            | Message::Copied(_)
            | Message::Copy(_) => true,
            Message::Check(check) => check.errors == 0,
            Message::Keyless(check) => check.errors == 0,
            Message::Replicate(copy) => copy.errors == 0,
            _ => false,
        };
        if self.style.verbosity == Verbosity::Quiet && reports_success {
            return Ok(());
        }
        let columns = if self.style.data_on_stdout {
            self.error_columns
        } else {
            self.columns
        };
        let text = app::printable_lines(&app::message(message, &self.zone));
        self.text(&fitted(text, columns))
    }

    /// Shows the result of `list`.
    pub(crate) fn backups(&self, entries: &[BackupEntry]) -> Result<(), Failure> {
        self.listing(entries, ListEntry::Backup, || {
            app::backups(entries, &self.zone, self.columns)
        })
    }

    /// Shows the plan of `forget`, with times in `zone`; `None` for the local time zone. With
    /// `--quiet`, shows it only in a dry run or as JSON.
    pub(crate) fn forget(
        &self,
        volumes: &[ForgetVolume],
        zone: Option<&TimeZone>,
    ) -> Result<(), Failure> {
        let dry_run = volumes.iter().any(|volume| volume.dry_run);
        if self.style.verbosity == Verbosity::Quiet && !self.style.json && !dry_run {
            return Ok(());
        }
        self.listing(volumes, ListEntry::Forget, || {
            app::forget_plan(volumes, zone.unwrap_or(&self.zone), self.columns)
        })
    }

    /// Shows the result of `key list`.
    pub(crate) fn keys(&self, entries: &[KeyEntry]) -> Result<(), Failure> {
        self.listing(entries, ListEntry::Key, || {
            app::keys(entries, &self.zone, self.columns)
        })
    }

    /// Shows the result of `audit list`.
    pub(crate) fn audits(&self, list: &AuditEntries) -> Result<(), Failure> {
        if self.style.json {
            self.listing(&list.coverage, ListEntry::Coverage, String::new)?;
            self.listing(&list.runs, ListEntry::Run, String::new)?;
            return self.listing(&list.drills, ListEntry::Drill, String::new);
        }
        self.text(&app::audits(list, &self.zone, self.columns))
    }

    /// Shows the outcome of one restore of a drill. With `--quiet`, shows a success only as JSON.
    pub(crate) fn drill(&self, drill: &DrillEntry) -> Result<(), Failure> {
        if self.style.verbosity == Verbosity::Quiet && !self.style.json && drill.success {
            return Ok(());
        }
        let one = std::slice::from_ref(drill);
        self.listing(one, ListEntry::Drill, || app::drill(drill))
    }

    /// Shows the volumes of `status`.
    pub(crate) fn volume_statuses(&self, entries: &[VolumeStatusEntry]) -> Result<(), Failure> {
        self.listing(entries, ListEntry::Volume, || {
            app::volume_statuses(entries, &self.zone, self.columns)
        })
    }

    /// Shows the result of `snapshots`.
    pub(crate) fn snapshots(&self, entries: &[SnapshotEntry]) -> Result<(), Failure> {
        self.listing(entries, ListEntry::Snapshot, || {
            app::snapshots(entries, self.columns)
        })
    }

    /// Shows extents that differ.
    pub(crate) fn extents(&self, extents: &[Extent]) -> Result<(), Failure> {
        self.listing(extents, ListEntry::Extent, || app::extents(extents))
    }

    /// Shows the parts of a backup that could not be restored.
    pub(crate) fn holes(&self, holes: &[Extent]) -> Result<(), Failure> {
        self.listing(holes, ListEntry::Hole, || app::extents(holes))
    }

    /// Shows a stream's only diff.
    pub(crate) fn diff(&self, diff: &DiffEntry) -> Result<(), Failure> {
        let one = std::slice::from_ref(diff);
        self.listing(one, ListEntry::Diff, || app::diff(diff))
    }

    /// Shows some of a stream's diffs.
    pub(crate) fn diffs(&self, diffs: &[DiffEntry]) -> Result<(), Failure> {
        self.listing(diffs, ListEntry::Diff, || app::diffs(diffs, self.columns))
    }

    /// With `--verbose` and without `--json`, shows the fields that have a value.
    pub(crate) fn detail(&self, facts: &[(&str, Option<String>)]) -> Result<(), Failure> {
        if self.style.json || self.style.verbosity != Verbosity::Verbose {
            return Ok(());
        }
        self.text(&app::fields(facts))
    }

    /// Writes data to standard output.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        write(&self.stdout, STDOUT, bytes)
    }

    /// Prints a notice on standard error. Ignores errors of writing.
    pub(crate) fn notice(&self, text: &str) {
        if self.style.json {
            self.print(text);
        } else {
            self.print(&format!("note: {text}"));
        }
    }

    /// Prints a line on standard error. Ignores errors of writing.
    pub(crate) fn print(&self, text: &str) {
        let line = if self.style.json {
            let notice = Notice {
                message_type: "notice",
                message: text,
            };
            serde_json::to_string(&notice).unwrap_or_default()
        } else {
            fitted(app::printable_lines(text), self.error_columns)
        };
        let _ = write(&self.stderr, STDERR, format!("{line}\n").as_bytes());
    }

    /// Shows on standard error a failure after which the program goes on. Ignores errors of
    /// writing.
    pub(crate) fn partial_failure(&self, failure: &Failure) {
        let text = if self.style.json {
            failure.to_partial_json()
        } else {
            failure.to_text()
        };
        let _ = write(&self.stderr, STDERR, text.as_bytes());
    }

    fn listing<'a, T>(
        &self,
        items: &'a [T],
        entry: impl Fn(&'a T) -> ListEntry<'a>,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.style.json {
            return items.iter().try_for_each(|item| self.json(&entry(item)));
        }
        self.text(&text())
    }

    fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value).map_err(|error| unwritten(STDOUT, &error))?;
        line.push(b'\n');
        write(&self.stdout, STDOUT, &line)
    }

    /// Writes lines. Escapes everything that could control a terminal, since any text may contain
    /// data from outside.
    fn text(&self, text: &str) -> Result<(), Failure> {
        let (stream, name) = if self.style.data_on_stdout {
            (&self.stderr, STDERR)
        } else {
            (&self.stdout, STDOUT)
        };
        write(stream, name, app::printable_lines(text).as_bytes())
    }
}

#[derive(Serialize)]
struct Notice<'a> {
    message_type: &'static str,
    message: &'a str,
}

/// Writes to a stream. `name` is the name of the stream in messages. A closed pipe is not an error.
fn write(stream: &Stream, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let mut stream = lock(stream);
    match stream.write_all(bytes).and_then(|()| stream.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritten(name, &error)),
        _ => Ok(()),
    }
}

fn unwritten(stream: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(Code::Failed, format!("could not write to {stream}")).caused_by(Some(error))
}

/// Breaks lines that are wider than the terminal, if there is one.
fn fitted(text: String, columns: Option<usize>) -> String {
    match columns {
        Some(columns) => app::wrapped(&text, columns),
        None => text,
    }
}

/// Returns the width of the terminal on this stream, if there is one.
fn terminal_columns(stream: &(impl IsTerminal + AsFd)) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    Some(usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// Shows a failure on standard error, and returns its exit code.
pub(crate) fn failure(failure: &Failure, json: bool) -> ExitCode {
    let text = if json {
        failure.to_json()
    } else {
        fitted(failure.to_text(), terminal_columns(&io::stderr()))
    };
    // If standard error is closed, the exit code still reports the failure.
    let _ = io::stderr().write_all(text.as_bytes());
    exit_code(failure.code)
}

/// Shows why a command line could not be parsed, or the help that it asks for, and returns the exit
/// code. Any `--json` among the arguments selects JSON for errors; help is always text.
pub(crate) fn usage_error(error: &clap::Error, args: &[OsString]) -> ExitCode {
    let json = args.iter().any(|arg| arg == "--json");
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let message = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        return failure(&Failure::usage(message), json);
    }
    let plain = error.render().to_string();
    let safe = app::printable_lines(&plain);
    // Arguments may come from outside, so characters that control a terminal are escaped. If there
    // are no such characters, clap prints the text, possibly with colours.
    let printed = if plain == safe {
        error.print().and_then(|()| io::stdout().flush())
    } else {
        io::stderr().write_all(safe.as_bytes())
    };
    match printed {
        _ if error.use_stderr() => exit_code(Code::Usage),
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            failure(&unwritten(STDOUT, &error), json)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn exit_code(code: Code) -> ExitCode {
    ExitCode::from(code as u8)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::app::{CheckSummary, KeyChange};

    /// The bytes written to both streams.
    #[derive(Clone, Default)]
    pub(crate) struct Captured {
        stdout: Sink,
        stderr: Sink,
    }

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Captured {
        pub(crate) fn stdout(&self) -> String {
            String::from_utf8(self.stdout.0.lock().unwrap().clone()).unwrap()
        }

        pub(crate) fn stderr(&self) -> String {
            String::from_utf8(self.stderr.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Output {
        /// Returns an output for tests and the bytes that it writes.
        pub(crate) fn captured(json: bool) -> (Self, Captured) {
            captured(Style {
                json,
                ..Style::default()
            })
        }
    }

    fn captured(style: Style) -> (Output, Captured) {
        let captured = Captured::default();
        let (out, err) = (
            Box::new(captured.stdout.clone()),
            Box::new(captured.stderr.clone()),
        );
        (
            Output::with(style, out, err, || TimeZone::UTC, None),
            captured,
        )
    }

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn check(errors: u64) -> Message {
        Message::Check(CheckSummary {
            errors,
            foreign: 0,
            packs_damaged: errors,
            backups_affected: Vec::new(),
            backups: 1,
            packs: 2,
            bytes_read: 0,
            data: None,
            damage: None,
            duration: 0.5,
        })
    }

    fn change() -> Message {
        Message::KeyChange(KeyChange {
            action: "added",
            key_id: "3f9a01bc55".to_owned(),
            volumes: Vec::new(),
        })
    }

    #[test]
    fn message_type_is_the_first_field_of_a_json_line() {
        let (output, captured) = Output::captured(true);
        output.show(&check(0)).unwrap();
        output
            .extents(&[Extent {
                offset: 0,
                length: 65536,
            }])
            .unwrap();
        let mut lines = captured.stdout();
        let extent = lines.split_off(lines.find('\n').unwrap() + 1);
        assert!(lines.starts_with("{\"message_type\":\"check\",\"errors\":0,\"packs_damaged\":0,"));
        assert_eq!(
            extent,
            "{\"message_type\":\"extent\",\"offset\":0,\"length\":65536}\n"
        );
    }

    #[test]
    fn quiet_output_shows_damage_but_not_success() {
        let (output, captured) = captured(Style {
            verbosity: Verbosity::Quiet,
            ..Style::default()
        });
        output.show(&check(0)).unwrap();
        output.show(&change()).unwrap();
        assert_eq!(captured.stdout(), "");
        output.show(&check(1)).unwrap();
        assert!(
            captured.stdout().starts_with("1 error, 1 pack damaged"),
            "{}",
            captured.stdout()
        );
    }

    /// The name of a method that shows text, and a function that calls this method.
    type Method<'a> = (&'static str, &'a dyn Fn(&Output));

    #[test]
    fn no_method_shows_text_that_controls_the_terminal() {
        let evil = "web\u{1b}[2J\u{202e}\u{200b}\r";
        let safe = "web\\x1b[2J\\u{202e}\\u{200b}\\x0d";
        let key = || {
            Message::KeyChange(KeyChange {
                action: "added",
                key_id: evil.to_owned(),
                volumes: Vec::new(),
            })
        };
        let methods: [Method<'_>; 4] = [
            ("notice", &|output| output.notice(evil)),
            ("print", &|output| output.print(evil)),
            ("show", &|output| output.show(&key()).unwrap()),
            ("detail", &|output| {
                output.detail(&[("Name", Some(evil.to_owned()))]).unwrap();
            }),
        ];
        for (method, show) in methods {
            let (output, captured) = captured(Style {
                verbosity: Verbosity::Verbose,
                ..Style::default()
            });
            show(&output);
            let all = captured.stdout() + &captured.stderr();
            let controls =
                |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{200b}".contains(c));
            assert!(all.contains(safe), "{method}: {all}");
            assert!(!all.contains(controls), "{method}: {all}");
        }
        let failure = Failure::usage(evil)
            .caused_by(Some(&io::Error::other(format!("cause {evil}"))))
            .hint(evil);
        assert_eq!(failure.to_text().matches(safe).count(), 3);
        assert!(!failure.to_text().contains('\u{202e}'));
    }

    #[test]
    fn text_goes_to_stderr_when_stdout_carries_data() {
        let (output, captured) = captured(Style {
            data_on_stdout: true,
            ..Style::default()
        });
        output.show(&change()).unwrap();
        assert_eq!(captured.stdout(), "");
        assert_eq!(captured.stderr(), "added key 3f9a01bc\n");
    }

    #[test]
    fn details_are_shown_with_verbose() {
        let (output, captured) = captured(Style {
            verbosity: Verbosity::Verbose,
            ..Style::default()
        });
        let facts = [
            ("One", Some("1".to_owned())),
            ("Three", None),
            ("Two", Some("2".to_owned())),
        ];
        output.detail(&facts).unwrap();
        assert_eq!(captured.stdout(), "One  1\nTwo  2\n");
    }

    #[test]
    fn a_closed_pipe_is_not_a_failure_but_a_full_disk_is() {
        let with = |kind| {
            let (out, err) = (Box::new(Broken(kind)), Box::new(io::sink()));
            Output::with(Style::default(), out, err, || TimeZone::UTC, None).show(&change())
        };
        assert!(with(io::ErrorKind::BrokenPipe).is_ok());
        assert!(with(io::ErrorKind::StorageFull).is_err());
    }
}
