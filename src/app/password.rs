//! Finds the password: in the options, then in the environment, then on the terminal. It is never
//! logged, shown, or passed where `ps` can see it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::base::{Cancel, Notice, Observer, child_command};

use super::environment::Environment;
use super::failure::{Code, Failure};
use super::prompt::Prompt;
use super::session::Session;

/// The bytes of a password; wiped when dropped.
pub(crate) type Password = Zeroizing<Vec<u8>>;

/// The maximum length of a password, in bytes. Longer input is probably the wrong file.
const LENGTH_MAX: usize = 64 << 10;
/// The interval at which the program tests whether the user interrupted it, while the password
/// command prints nothing. After the end of the output, a tenth of this interval applies.
const STEP: Duration = Duration::from_millis(50);
/// Editors of some systems write these bytes at the start of a text file, and do not show them.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A password that should open a repository, and where it came from.
pub(crate) struct GivenPassword {
    pub(crate) bytes: Password,
    pub(crate) origin: Origin,
}

/// The repository that a password opens. Each repository has its own password options and
/// variables.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PasswordFor {
    /// The repository that `--repo` names.
    #[default]
    Repository,
    /// The repository that gets the copies of `copy`.
    Target,
}

impl PasswordFor {
    /// Returns the name of the variable with the password. The names of the variables with the
    /// other sources begin with this name.
    const fn variable(self) -> &'static str {
        match self {
            Self::Repository => "CUTTLEBONE_PASSWORD",
            Self::Target => "CUTTLEBONE_TO_PASSWORD",
        }
    }

    /// Returns the beginning of the names of the password options.
    const fn option(self) -> &'static str {
        match self {
            Self::Repository => "--password",
            Self::Target => "--to-password",
        }
    }
}

/// The sources of the password that the user chose.
#[derive(Debug, Default, Clone)]
pub(crate) struct PasswordOptions {
    /// The repository that the password opens.
    pub(crate) of: PasswordFor,
    pub(crate) file: Option<PathBuf>,
    /// A command that prints the password. It is run with `sh -c`.
    pub(crate) command: Option<OsString>,
}

/// A source of a password, other than the terminal.
enum Source {
    /// `-` is standard input.
    File(PathBuf),
    Command(OsString),
    /// The password, from the environment.
    Variable(Password),
    /// The number of an open file.
    Descriptor(OsString),
}

impl PasswordOptions {
    /// Returns the first source that is given: the file or the command of the options, then the
    /// variables `…_PASSWORD`, `…_FD`, `…_FILE` and `…_COMMAND`. `None` if no source is given.
    fn source(&self, environment: &Environment) -> Option<Source> {
        if let Some(file) = &self.file {
            return Some(Source::File(file.clone()));
        }
        if let Some(command) = &self.command {
            return Some(Source::Command(command.clone()));
        }
        let variable = |suffix| environment.get(&format!("{}{suffix}", self.of.variable()));
        let password = variable("").map(|text| Source::Variable(Zeroizing::new(text.into_vec())));
        password
            .or_else(|| variable("_FD").map(Source::Descriptor))
            .or_else(|| variable("_FILE").map(|file| Source::File(file.into())))
            .or_else(|| variable("_COMMAND").map(Source::Command))
    }

    /// Returns the path of the file that the password is read from. `-` is standard input. `None`
    /// if the password is in no file.
    pub(crate) fn file_in(&self, environment: &Environment) -> Option<PathBuf> {
        match self.source(environment)? {
            Source::File(file) => Some(file),
            Source::Descriptor(number) => Some(Path::new("/proc/self/fd").join(number)),
            Source::Command(_) | Source::Variable(_) => None,
        }
    }
}

/// The source of a password, for error messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    File(PathBuf),
    Stdin,
    /// The variable of this name.
    Variable(&'static str),
    Descriptor(u32),
    Command,
    Terminal,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the password file {}", path.display()),
            Self::Stdin => f.write_str("standard input"),
            Self::Variable(name) => f.write_str(name),
            Self::Descriptor(number) => write!(f, "file descriptor {number}"),
            Self::Command => f.write_str("the password command"),
            Self::Terminal => f.write_str("the terminal"),
        }
    }
}

impl Origin {
    /// Names the password by its source, as the end of the message “no key in REPO opens with …”.
    pub(crate) fn password(&self) -> String {
        match self {
            Self::File(path) => format!("the password in {}", path.display()),
            Self::Variable(name) => format!("the password in {name}"),
            Self::Stdin | Self::Descriptor(_) => format!("the password from {self}"),
            Self::Command => "the output of the password command".to_owned(),
            Self::Terminal => "the password that was typed".to_owned(),
        }
    }
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("{}", empty(.0))]
    Empty(Origin),
    #[error("{0} is too long for a password")]
    TooLong(Origin),
    #[error("{0} begins with a byte order mark")]
    ByteOrderMark(Origin),
    #[error("could not read the password from {origin}")]
    Read { origin: Origin, source: io::Error },
    #[error("{0}_FD is not a file descriptor number")]
    NotADescriptor(&'static str),
    #[error("the password command failed ({0})")]
    CommandFailed(ExitStatus),
    #[error("the two passwords differ")]
    Mismatch,
    #[error("interrupted")]
    Interrupted,
    #[error("no password given, and no terminal to ask on")]
    NoTerminal { new: bool, of: PasswordFor },
}

fn empty(origin: &Origin) -> String {
    match origin {
        Origin::Command => "the password command printed nothing".to_owned(),
        Origin::Terminal => "the password is empty".to_owned(),
        origin => format!("{origin} is empty"),
    }
}

impl From<PasswordError> for Failure {
    fn from(error: PasswordError) -> Self {
        let code = match error {
            PasswordError::Interrupted => Code::Interrupted,
            _ => Code::Failed,
        };
        let failure = Self::from_error(code, &error);
        match error {
            PasswordError::NoTerminal { new: false, of } => {
                let (option, variable) = (of.option(), of.variable());
                failure.hint(format!(
                    "give it with {option}-file or {option}-command, or in {variable}, \
                     {variable}_FD, {variable}_FILE or {variable}_COMMAND"
                ))
            }
            PasswordError::NoTerminal { new: true, .. } => {
                failure.hint("give the new password with --new-password-file")
            }
            PasswordError::Empty(Origin::Command) => failure
                .hint("run the command by itself: it must print the password, and nothing else"),
            PasswordError::Empty(_) => {
                failure.hint("set a password: an empty one protects nothing")
            }
            PasswordError::ByteOrderMark(_) => failure.hint(
                "an editor added it, and it is not part of the password: save the file as UTF-8 \
                 without BOM",
            ),
            PasswordError::Mismatch => failure.hint("run the command again"),
            PasswordError::Read { .. } => {
                failure.hint("check the path or number, and that this user may read it")
            }
            PasswordError::CommandFailed(_) => failure.hint("run the command by itself to see why"),
            PasswordError::TooLong(_) => {
                failure.hint("a password has at most 64 KiB; check that this is the right file")
            }
            _ => failure,
        }
    }
}

/// Finds passwords. Without any other source, asks for them on the terminal.
pub(crate) struct Passwords<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) observer: &'a dyn Observer,
    pub(crate) prompt: &'a dyn Prompt,
    pub(crate) cancel: &'a Cancel,
}

impl<'a> Passwords<'a> {
    pub(crate) fn new(session: &'a Session) -> Self {
        Self {
            environment: &session.environment,
            observer: session.observer(),
            prompt: &*session.prompt,
            cancel: &session.cancel,
        }
    }
}

impl Passwords<'_> {
    /// Returns the password of the existing repository at `location`.
    pub(crate) fn existing(
        &self,
        options: &PasswordOptions,
        location: &dyn fmt::Display,
    ) -> Result<GivenPassword, PasswordError> {
        match self.unattended(options)? {
            Some(password) => Ok(password),
            None => self.ask(&format!("password for {location}: "), false, options.of),
        }
    }

    /// Asks again, after the password that was typed did not open the repository.
    pub(crate) fn again(&self) -> Result<GivenPassword, PasswordError> {
        let prompt = "no key opens with this password; try again: ";
        self.ask(prompt, false, PasswordFor::default())
    }

    /// Returns the password for a new repository at `location`, in its composed form (see
    /// [`composed_form`]). A user who types it must type it twice.
    pub(crate) fn initial(
        &self,
        options: &PasswordOptions,
        location: &dyn fmt::Display,
    ) -> Result<Password, PasswordError> {
        match self.unattended(options)? {
            Some(password) => Ok(composed(password.bytes)),
            None => self.ask_twice(&format!("new password for {location}: "), false),
        }
    }

    /// Returns a password for a new key, in its composed form. Ignores the environment, which may
    /// hold the password of the existing key.
    pub(crate) fn additional(&self, file: Option<&Path>) -> Result<Password, PasswordError> {
        match file {
            Some(file) => Ok(composed(self.file(file)?.bytes)),
            None => self.ask_twice("new password: ", true),
        }
    }

    /// Returns whether the password is in a regular file or in a variable. Then it can be read
    /// without waiting for a user or a program.
    pub(crate) fn is_at_hand(&self, options: &PasswordOptions) -> bool {
        let is_regular = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.is_file());
        if let Some(file) = &options.file {
            return is_regular(file);
        }
        let name = options.of.variable();
        let variable = |suffix: &str| self.environment.get(&format!("{name}{suffix}"));
        let is_file = || variable("_FILE").is_some_and(|file| is_regular(file.as_ref()));
        options.command.is_none()
            && (variable("").is_some() || (variable("_FD").is_none() && is_file()))
    }

    fn unattended(
        &self,
        options: &PasswordOptions,
    ) -> Result<Option<GivenPassword>, PasswordError> {
        let name = options.of.variable();
        let source = options.source(self.environment);
        let read = |source| match source {
            Source::File(file) => self.file(&file),
            Source::Command(command) => self.command(&command),
            Source::Variable(password) => checked(password, Origin::Variable(name)),
            Source::Descriptor(number) => from_descriptor(&number, name),
        };
        source.map(read).transpose()
    }

    fn file(&self, path: &Path) -> Result<GivenPassword, PasswordError> {
        if path == Path::new("-") {
            return read(io::stdin().lock(), Origin::Stdin);
        }
        let origin = Origin::File(path.to_owned());
        let fail = |source| PasswordError::Read {
            origin: origin.clone(),
            source,
        };
        let file = File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
            let file = origin.to_string();
            self.observer.notice(Notice::PasswordFileReadable { file });
        }
        read(file, origin)
    }

    /// Returns the output of a command. Kills the command if the user interrupts the program.
    fn command(&self, command: &OsStr) -> Result<GivenPassword, PasswordError> {
        let fail = |source| PasswordError::Read {
            origin: Origin::Command,
            source,
        };
        // Standard input may carry the data to back up: the command must not consume it.
        let mut child = child_command("sh")
            .arg("-c")
            .arg(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fail)?;
        let cancel = self.cancel;
        let printed = child.stdout.take().map(|output| {
            let output = UntilCancelled { output, cancel };
            read(output, Origin::Command)
        });
        let status = loop {
            if cancel.check().is_err() {
                // Ignore errors: the signal that interrupted this program may have ended the
                // command, too.
                let _ = child.kill();
                let _ = child.wait();
                return Err(PasswordError::Interrupted);
            }
            match child.try_wait().map_err(fail)? {
                Some(status) => break status,
                None => thread::sleep(STEP / 10),
            }
        };
        // Report a failed command first, since it explains empty output.
        if !status.success() {
            return Err(PasswordError::CommandFailed(status));
        }
        printed.unwrap_or(Err(PasswordError::Empty(Origin::Command)))
    }

    fn ask(
        &self,
        prompt: &str,
        new: bool,
        of: PasswordFor,
    ) -> Result<GivenPassword, PasswordError> {
        let typed = self
            .prompt
            .password(prompt)
            .map_err(|source| match source.kind() {
                io::ErrorKind::Interrupted => PasswordError::Interrupted,
                _ => PasswordError::Read {
                    origin: Origin::Terminal,
                    source,
                },
            })?;
        let mut typed = typed.ok_or(PasswordError::NoTerminal { new, of })?;
        let password = Zeroizing::new(std::mem::take(&mut *typed).into_bytes());
        checked(password, Origin::Terminal)
    }

    fn ask_twice(&self, prompt: &str, new: bool) -> Result<Password, PasswordError> {
        let of = PasswordFor::default();
        let first = self.ask(prompt, new, of)?.bytes;
        if self.ask("repeat the password: ", new, of)?.bytes != first {
            return Err(PasswordError::Mismatch);
        }
        Ok(composed(first))
    }
}

/// Reads a password from the file descriptor with this number, which is the value of the variable
/// `{name}_FD`.
fn from_descriptor(number: &OsStr, name: &'static str) -> Result<GivenPassword, PasswordError> {
    let number: u32 = number
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or(PasswordError::NotADescriptor(name))?;
    let origin = Origin::Descriptor(number);
    match File::open(format!("/proc/self/fd/{number}")) {
        Ok(file) => read(file, origin),
        Err(source) => Err(PasswordError::Read { origin, source }),
    }
}

/// The output of a program. Reading fails after the user has interrupted the program.
struct UntilCancelled<'a> {
    output: ChildStdout,
    cancel: &'a Cancel,
}

impl Read for UntilCancelled<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let step = Timespec::try_from(STEP).ok();
        loop {
            self.cancel.check().map_err(io::Error::other)?;
            match poll(
                &mut [PollFd::new(&self.output, PollFlags::IN)],
                step.as_ref(),
            ) {
                Ok(0) | Err(Errno::INTR) => {}
                // There are bytes to read, the output has ended, or there was an error: in each
                // case, the read returns at once.
                _ => return self.output.read(into),
            }
        }
    }
}

/// Reads to the end and removes one final line break. Fails if the result is empty or too long, or
/// begins with a byte order mark.
fn read(reader: impl Read, origin: Origin) -> Result<GivenPassword, PasswordError> {
    // Reserve the maximum: a vector that grows leaves copies of the password in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH_MAX + 64));
    if let Err(source) = reader.take(LENGTH_MAX as u64 + 1).read_to_end(&mut bytes) {
        return Err(PasswordError::Read { origin, source });
    }
    if bytes.len() > LENGTH_MAX {
        return Err(PasswordError::TooLong(origin));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        return Err(PasswordError::ByteOrderMark(origin));
    }
    if bytes.pop_if(|last| *last == b'\n').is_some() {
        bytes.pop_if(|last| *last == b'\r');
    }
    checked(bytes, origin)
}

fn checked(bytes: Password, origin: Origin) -> Result<GivenPassword, PasswordError> {
    if bytes.is_empty() {
        return Err(PasswordError::Empty(origin));
    }
    Ok(GivenPassword { bytes, origin })
}

/// Returns the composed form (Unicode NFC) of a password; `None` if the password is not text, or
/// has this form already. Keyboards and systems differ in how they encode letters like ü.
pub(crate) fn composed_form(password: &[u8]) -> Option<Password> {
    let text = std::str::from_utf8(password).ok()?;
    if unicode_normalization::is_nfc(text) {
        return None;
    }
    // Reserve the maximum: a string that grows leaves copies of the password in memory.
    let mut composed = String::with_capacity(3 * text.len());
    composed.extend(text.nfc());
    Some(Zeroizing::new(composed.into_bytes()))
}

/// Returns the form of a password for new keys: the composed form of text, and other bytes as they
/// are. A password for an existing key is tried as given, and then in the composed form. So the
/// user may type either form.
fn composed(password: Password) -> Password {
    composed_form(&password).unwrap_or(password)
}

#[cfg(test)]
mod tests;
