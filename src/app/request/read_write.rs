//! Where data is read from and written to.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::app::failure::Failure;
use crate::app::location::scheme;

/// An existing file or device, or standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadFrom {
    Stdin,
    Path(PathBuf),
}

/// A file or device to write, or standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteTo {
    Stdout,
    Path(PathBuf),
}

impl ReadFrom {
    /// Parses a path or `-`; `what` names the argument in messages.
    pub(crate) fn parse(what: &str, text: OsString) -> Result<Self, Failure> {
        Ok(match text {
            text if text == "-" => Self::Stdin,
            text => Self::Path(local_path(what, text)?),
        })
    }
}

impl ReadFrom {
    /// Returns whether this is standard input. A path can name it, too, for example `/dev/stdin`.
    pub(crate) fn is_stdin(&self) -> bool {
        match self {
            Self::Stdin => true,
            Self::Path(path) => is_stdin(path),
        }
    }
}

/// Returns whether this path of a password file is `-`, or names the same file as standard input.
pub(crate) fn names_stdin(path: &Path) -> bool {
    path == Path::new("-") || is_stdin(path)
}

/// Returns whether the file at `path` is the same file as standard input.
fn is_stdin(path: &Path) -> bool {
    let file = |stat: &rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    match (rustix::fs::stat(path), rustix::fs::fstat(std::io::stdin())) {
        (Ok(named), Ok(stdin)) => file(&named) == file(&stdin),
        _ => false,
    }
}

impl WriteTo {
    /// Parses a path or `-`.
    pub(crate) fn parse(text: OsString) -> Result<Self, Failure> {
        Ok(match text {
            text if text == "-" => Self::Stdout,
            text => Self::Path(local_path("target", text)?),
        })
    }
}

impl fmt::Display for ReadFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for WriteTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

fn local_path(what: &str, text: OsString) -> Result<PathBuf, Failure> {
    if text.is_empty() {
        return Err(Failure::usage(format!("the {what} is an empty string")));
    }
    if scheme(&text) == Some("rbd") {
        return Err(Failure::usage(format!(
            "this version cannot use the {what} “{}”",
            text.display()
        ))
        .hint("give a file, a block device or “-” (./rbd:x for a file of that name)"));
    }
    Ok(text.into())
}
