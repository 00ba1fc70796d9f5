//! Where a password comes from. It is never logged, shown, or put where `ps` can see it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use zeroize::Zeroizing;

use crate::base::{Notice, Observer};

use super::environment::Environment;
use super::failure::{Code, Failure};

/// The bytes of a password; wiped when dropped.
pub(crate) type Password = Zeroizing<Vec<u8>>;

/// Asks the person at the terminal; nothing if there is none.
pub(crate) type Prompt<'a> = &'a dyn Fn(&str) -> io::Result<Option<Zeroizing<String>>>;

const PASSWORD: &str = "CUTTLEBONE_PASSWORD";
/// More than this is not a password but the wrong file.
const LENGTH_MAX: usize = 64 << 10;

/// What the command line says about the password.
#[derive(Debug, Default)]
pub(crate) struct PasswordOptions {
    pub(crate) file: Option<PathBuf>,
    /// Run by `sh -c`.
    pub(crate) command: Option<OsString>,
}

/// Which source of a password an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    File(PathBuf),
    Stdin,
    Variable,
    Descriptor(u32),
    Command,
    Terminal,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the password file {}", path.display()),
            Self::Stdin => f.write_str("standard input"),
            Self::Variable => f.write_str(PASSWORD),
            Self::Descriptor(number) => write!(f, "file descriptor {number}"),
            Self::Command => f.write_str("the password command"),
            Self::Terminal => f.write_str("the terminal"),
        }
    }
}

/// No password was had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("{0} gave an empty password")]
    Empty(Origin),
    #[error("{0} gave more than a password")]
    TooLong(Origin),
    #[error("could not read the password from {origin}")]
    Read { origin: Origin, source: io::Error },
    #[error("CUTTLEBONE_PASSWORD_FD is not the number of a file descriptor")]
    NotADescriptor,
    #[error("the password command failed ({0})")]
    CommandFailed(ExitStatus),
    #[error("the two passwords differ")]
    Mismatch,
    #[error("interrupted")]
    Interrupted,
    #[error("no password given, and there is no terminal to ask for one")]
    NoTerminal { new: bool },
}

impl From<PasswordError> for Failure {
    fn from(error: PasswordError) -> Self {
        let code = match error {
            PasswordError::Interrupted => Code::Interrupted,
            _ => Code::Failed,
        };
        let failure = Self::from_error(code, &error);
        match error {
            PasswordError::NoTerminal { new: false } => failure.hint(
                "give it with --password-file or --password-command, or in \
                 CUTTLEBONE_PASSWORD, CUTTLEBONE_PASSWORD_FD, CUTTLEBONE_PASSWORD_FILE or \
                 CUTTLEBONE_PASSWORD_COMMAND",
            ),
            PasswordError::NoTerminal { new: true } => {
                failure.hint("give the new password with --new-password-file")
            }
            PasswordError::Empty(_) => {
                failure.hint("put the password there: an empty one protects nothing")
            }
            PasswordError::Mismatch => failure.hint("run the command again"),
            PasswordError::Read { .. } => failure.hint("check where the password is to come from"),
            PasswordError::CommandFailed(_) => failure.hint("run it by itself to see why"),
            PasswordError::TooLong(_) => {
                failure.hint("a password has 64 KiB at most; is it the wrong file?")
            }
            _ => failure,
        }
    }
}

/// Gets passwords in the promised order.
pub(crate) struct Passwords<'a> {
    pub(crate) environment: &'a Environment,
    /// Hears of a password file that others can read.
    pub(crate) observer: &'a dyn Observer,
    pub(crate) prompt: Prompt<'a>,
}

impl Passwords<'_> {
    /// The password that opens what exists at this location.
    pub(crate) fn existing(
        &self,
        options: &PasswordOptions,
        location: &dyn fmt::Display,
    ) -> Result<Password, PasswordError> {
        match self.unattended(options)? {
            Some(password) => Ok(password),
            None => self.ask(&format!("password for {location}: "), false),
        }
    }

    /// The password of a repository to be made; typed twice if it is typed.
    pub(crate) fn initial(
        &self,
        options: &PasswordOptions,
        location: &dyn fmt::Display,
    ) -> Result<Password, PasswordError> {
        match self.unattended(options)? {
            Some(password) => Ok(password),
            None => self.ask_twice(&format!("new password for {location}: "), false),
        }
    }

    /// A password to be added, or to replace another. The environment has no say: it holds the
    /// one that opens the repository today.
    pub(crate) fn additional(&self, file: Option<&Path>) -> Result<Password, PasswordError> {
        match file {
            Some(file) => self.file(file),
            None => self.ask_twice("new password: ", true),
        }
    }

    fn unattended(&self, options: &PasswordOptions) -> Result<Option<Password>, PasswordError> {
        if let Some(file) = &options.file {
            return self.file(file).map(Some);
        }
        if let Some(command) = &options.command {
            return from_command(command).map(Some);
        }
        if let Some(password) = self.environment.get(PASSWORD) {
            return checked(Zeroizing::new(password.into_vec()), Origin::Variable).map(Some);
        }
        if let Some(number) = self.environment.get("CUTTLEBONE_PASSWORD_FD") {
            return from_descriptor(&number).map(Some);
        }
        if let Some(file) = self.environment.get("CUTTLEBONE_PASSWORD_FILE") {
            return self.file(Path::new(&file)).map(Some);
        }
        if let Some(command) = self.environment.get("CUTTLEBONE_PASSWORD_COMMAND") {
            return from_command(&command).map(Some);
        }
        Ok(None)
    }

    fn file(&self, path: &Path) -> Result<Password, PasswordError> {
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

    fn ask(&self, prompt: &str, new: bool) -> Result<Password, PasswordError> {
        let typed = (self.prompt)(prompt).map_err(|source| match source.kind() {
            io::ErrorKind::Interrupted => PasswordError::Interrupted,
            _ => PasswordError::Read {
                origin: Origin::Terminal,
                source,
            },
        })?;
        let mut typed = typed.ok_or(PasswordError::NoTerminal { new })?;
        let password = Zeroizing::new(std::mem::take(&mut *typed).into_bytes());
        checked(password, Origin::Terminal)
    }

    fn ask_twice(&self, prompt: &str, new: bool) -> Result<Password, PasswordError> {
        let first = self.ask(prompt, new)?;
        if self.ask("the same again: ", new)? != first {
            return Err(PasswordError::Mismatch);
        }
        Ok(first)
    }
}

/// Asks on the terminal that controls this process, even where standard input carries data.
/// Only if standard error is a terminal too: else nobody may be looking.
pub(crate) fn ask_on_terminal(prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
    if !io::stderr().is_terminal() || File::open("/dev/tty").is_err() {
        return Ok(None);
    }
    let typed = rpassword::prompt_password(prompt)?;
    Ok(Some(Zeroizing::new(typed)))
}

/// Keeps the password out of the environment of a program that has no use for it.
pub(crate) fn without_secrets(command: &mut Command) -> &mut Command {
    command.env_remove(PASSWORD)
}

fn from_descriptor(number: &OsStr) -> Result<Password, PasswordError> {
    let number: u32 = number
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or(PasswordError::NotADescriptor)?;
    let origin = Origin::Descriptor(number);
    match File::open(format!("/proc/self/fd/{number}")) {
        Ok(file) => read(file, origin),
        Err(source) => Err(PasswordError::Read { origin, source }),
    }
}

fn from_command(command: &OsStr) -> Result<Password, PasswordError> {
    let fail = |source| PasswordError::Read {
        origin: Origin::Command,
        source,
    };
    // Standard input may carry the data to back up: the command must not eat it.
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = without_secrets(&mut shell).spawn().map_err(fail)?;
    let printed = child
        .stdout
        .take()
        .map(|stdout| read(stdout, Origin::Command));
    let status = child.wait().map_err(fail)?;
    // That it failed says more than that it printed nothing.
    if !status.success() {
        return Err(PasswordError::CommandFailed(status));
    }
    printed.unwrap_or(Err(PasswordError::Empty(Origin::Command)))
}

/// Reads to the end, and drops one final line end.
fn read(reader: impl Read, origin: Origin) -> Result<Password, PasswordError> {
    // Room for all from the start: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH_MAX + 64));
    if let Err(source) = reader.take(LENGTH_MAX as u64 + 1).read_to_end(&mut bytes) {
        return Err(PasswordError::Read { origin, source });
    }
    if bytes.len() > LENGTH_MAX {
        return Err(PasswordError::TooLong(origin));
    }
    if bytes.pop_if(|last| *last == b'\n').is_some() {
        bytes.pop_if(|last| *last == b'\r');
    }
    checked(bytes, origin)
}

fn checked(password: Password, origin: Origin) -> Result<Password, PasswordError> {
    if password.is_empty() {
        return Err(PasswordError::Empty(origin));
    }
    Ok(password)
}

#[cfg(test)]
#[path = "password_tests.rs"]
mod tests;
