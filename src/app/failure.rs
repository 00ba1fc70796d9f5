//! A failed command: the failure, its cause, the next step to take, and the exit code.

use std::error::Error;
use std::fmt::Write as _;

use serde::Serialize;

use super::human::printable;

/// Exit codes. Scripts rely on them: a number never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Failed, for a reason that has no code of its own.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// Some of several things failed, and the others are done.
    Partly = 3,
    /// There is no repository at this location.
    NoRepository = 10,
    /// Busy: in use by another process.
    Busy = 11,
    /// No key opens with this password.
    WrongPassword = 12,
    /// The source, diff or list does not fit the backup that it builds on.
    WrongBase = 20,
    /// Damage found, or earlier backups may lack changes that Ceph did not list.
    Damage = 21,
    /// The role of the key does not allow the operation.
    NotAllowed = 22,
    /// History has vanished or was rolled back.
    HistoryLost = 23,
    /// No such backup, volume or project.
    NotFound = 24,
    /// A backup is overdue.
    Overdue = 25,
    /// Interrupted by a signal.
    Interrupted = 130,
}

/// Why a command failed, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// The action that failed, and its object.
    pub(crate) message: String,
    /// The causes, from the nearest to the deepest.
    pub(crate) causes: Vec<String>,
    /// The next step for the user.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// Takes the error as the message and the chain of its sources as the causes.
    pub(crate) fn from_error(code: Code, error: &(dyn Error + 'static)) -> Self {
        Self::new(code, error.to_string()).caused_by(error.source())
    }

    /// Adds this error and the chain of its sources as causes.
    pub(crate) fn caused_by(mut self, cause: Option<&(dyn Error + 'static)>) -> Self {
        let chain = std::iter::successors(cause, |&error| error.source());
        for text in chain.map(ToString::to_string) {
            // A transparent wrapper has the text of the error that it wraps.
            if self.causes.last().unwrap_or(&self.message) != &text {
                self.causes.push(text);
            }
        }
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn hint_if(self, hint: Option<impl Into<String>>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Returns the same failure with the exit code for an interrupted command.
    pub(crate) fn interrupted(self) -> Self {
        Self {
            code: Code::Interrupted,
            ..self
        }
    }

    /// Returns the text for people, each part on its own line. Escapes characters that could
    /// control a terminal: names of snapshots and files may come from an attacker.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("error: {}\n", printable(&self.message));
        for cause in &self.causes {
            // Writing into a string does not fail.
            let _ = writeln!(text, "  because: {}", printable(cause));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "  next: {}", printable(hint));
        }
        text
    }

    /// Returns the message and its causes in one line.
    fn one_line(&self) -> String {
        let parts = std::iter::once(&self.message).chain(&self.causes);
        parts.map(String::as_str).collect::<Vec<_>>().join(": ")
    }

    /// Returns one line of JSON.
    pub(crate) fn to_json(&self) -> String {
        self.json_line("exit_error")
    }

    /// Returns one line of JSON for a failure after which the program goes on.
    pub(crate) fn to_partial_json(&self) -> String {
        self.json_line("error")
    }

    fn json_line(&self, message_type: &'static str) -> String {
        let message = self.one_line();
        let line = ExitError {
            message_type,
            code: self.code as u8,
            message: &message,
            hint: self.hint.as_deref(),
        };
        serde_json::to_string(&line).unwrap_or_default() + "\n"
    }
}

/// Returns an error and the chain of its sources in one line.
pub(crate) fn one_line(error: &(dyn Error + 'static)) -> String {
    Failure::from_error(Code::Failed, error).one_line()
}

#[derive(Serialize)]
struct ExitError<'a> {
    message_type: &'static str,
    code: u8,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not read the repository file")]
    struct Middle(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("could not open the repository /x")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Wrapper(Outer);

    fn failure() -> Failure {
        let error = Wrapper(Outer(Middle(io::Error::other("no medium"))));
        Failure::from_error(Code::NoRepository, &error).hint("insert the disk")
    }

    #[test]
    fn text_shows_the_chain_of_causes_and_the_next_step() {
        assert_eq!(
            failure().to_text(),
            "error: could not open the repository /x\n  \
             because: could not read the repository file\n  \
             because: no medium\n  \
             next: insert the disk\n"
        );
        assert_eq!(Failure::usage("no").to_text(), "error: no\n");
        let steering = Failure::usage("a\u{1b}[2J").hint("b\nc").to_text();
        assert_eq!(steering, "error: a\\x1b[2J\n  next: b\\x0ac\n");
    }

    #[test]
    fn json_is_one_line() {
        assert_eq!(
            failure().to_json(),
            "{\"message_type\":\"exit_error\",\"code\":10,\"message\":\"could not open the \
             repository /x: could not read the repository file: no medium\",\
             \"hint\":\"insert the disk\"}\n"
        );
    }

    #[test]
    fn repeated_causes_are_shown_once() {
        let again = Failure::new(Code::Failed, "no medium");
        assert!(
            again
                .caused_by(Some(&io::Error::other("no medium")))
                .causes
                .is_empty()
        );
    }
}
