//! What can go wrong with a source or a target.

use std::fmt;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::base::ByteSize;

/// What was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operation {
    Open,
    Create,
    Resize,
    Read,
    FindData,
    Write,
    Zero,
    Sync,
    Finish,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Resize => "resize",
            Self::Read => "read",
            Self::FindData => "find the data of",
            Self::Write => "write",
            Self::Zero => "zero",
            Self::Sync => "make durable",
            Self::Finish => "finish",
        })
    }
}

/// What a path turned out to be that will not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Unsuitable {
    File,
    Directory,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
    /// A file that has content and tells no size.
    Unsized,
    /// Neither of the above, nor a file or block device.
    Other,
}

impl fmt::Display for Unsuitable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a regular file",
            Self::Directory => "a directory",
            Self::Fifo => "a named pipe",
            Self::Socket => "a socket",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Unsized => "a file that does not tell its size",
            Self::Other => "neither a file nor a block device",
        })
    }
}

/// Why it failed: what a caller decides by. Never match on text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such file or directory.
    NotFound,
    /// The name is taken.
    Exists,
    /// Not permitted.
    Denied,
    /// The file system or device cannot be written.
    ReadOnly,
    /// What is there can be no image, or not of this sort.
    Unsuitable(Unsuitable),
    /// The device is mounted or otherwise in use.
    Busy,
    /// The device is smaller than what shall be written.
    TooSmall {
        /// Its size in bytes.
        size: u64,
        /// The bytes needed.
        needed: u64,
    },
    /// The file system cannot hold a file of this size.
    TooLarge,
    /// No space, or over a quota.
    Full {
        /// Bytes that are free on the file system, where that can be told.
        free: Option<u64>,
    },
    /// The source ends before the size it had when it was opened.
    Shrunk {
        /// Where it ends now, in bytes.
        size: u64,
    },
    /// What was asked for reaches beyond the end: a mistake of the caller.
    OutOfRange,
    /// A stream can only be written forwards: a mistake of the caller.
    OutOfOrder {
        /// How many bytes are written.
        position: u64,
    },
    /// Something failed before, so that what was written is not whole.
    Incomplete,
    /// A snapshot has a name that a diff cannot have.
    Misnamed,
    /// Whoever read the stream has gone.
    Closed,
    /// The system or the medium reported an error.
    Io,
}

impl ErrorKind {
    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::NOENT | Errno::NOTDIR) => Self::NotFound,
            Some(Errno::EXIST) => Self::Exists,
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied,
            Some(Errno::ROFS) => Self::ReadOnly,
            Some(Errno::ISDIR) => Self::Unsuitable(Unsuitable::Directory),
            // A file in use as swap, or a program that runs, is “text” that is busy.
            Some(Errno::BUSY | Errno::TXTBSY) => Self::Busy,
            Some(Errno::FBIG) => Self::TooLarge,
            Some(Errno::NOSPC | Errno::DQUOT) => Self::Full { free: None },
            Some(Errno::PIPE) => Self::Closed,
            _ if error.kind() == io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io,
        }
    }

    /// What the kind knows and the system's own error would not say.
    fn write_detail(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsuitable(what) => write!(f, ": it is {what}"),
            Self::TooSmall { size, needed } => write!(
                f,
                ": it has {} ({size} bytes), and {} ({needed} bytes) are needed",
                ByteSize(*size),
                ByteSize(*needed)
            ),
            Self::Full { free: Some(free) } => {
                write!(f, ": its file system has {} free", ByteSize(*free))
            }
            Self::Full { free: None } => f.write_str(": no space is left"),
            Self::Shrunk { size } => {
                write!(f, ": it shrank meanwhile and ends at byte {size}")
            }
            Self::Busy => f.write_str(": it is in use"),
            Self::OutOfRange => f.write_str(": that is beyond its end"),
            Self::OutOfOrder { position } => {
                write!(
                    f,
                    ": it is written as a stream, and byte {position} is next"
                )
            }
            Self::Incomplete => f.write_str(": a write to it failed before"),
            Self::Exists => f.write_str(": it exists"),
            Self::NotFound
            | Self::Denied
            | Self::ReadOnly
            | Self::TooLarge
            | Self::Closed
            | Self::Misnamed
            | Self::Io => Ok(()),
        }
    }
}

/// An operation on a source or target failed.
#[derive(Debug, thiserror::Error)]
pub struct VolumeError {
    /// Why.
    pub kind: ErrorKind,
    /// What was attempted.
    pub operation: Operation,
    /// On which file, device or stream.
    pub object: String,
    /// At which byte, where that means anything.
    pub offset: Option<u64>,
    /// What the system said.
    #[source]
    pub source: Option<io::Error>,
}

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {} {}", self.operation, self.object)?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        self.kind.write_detail(f)
    }
}

impl VolumeError {
    /// Something that no system call said.
    pub(super) fn new(kind: ErrorKind, operation: Operation, object: impl fmt::Display) -> Self {
        Self {
            kind,
            operation,
            object: object.to_string(),
            offset: None,
            source: None,
        }
    }

    /// What the system said of `object`.
    pub(super) fn io(
        operation: Operation,
        object: impl fmt::Display,
        source: impl Into<io::Error>,
    ) -> Self {
        let source = source.into();
        let kind = ErrorKind::of(&source);
        Self {
            source: Some(source),
            ..Self::new(kind, operation, object)
        }
    }

    /// What the system said when something was written to `object`, which is no image.
    pub fn writing(object: impl fmt::Display, source: io::Error) -> Self {
        Self::io(Operation::Write, object, source)
    }

    /// What the system said of the file at `path`, for use in `map_err`.
    pub(super) fn on<E: Into<io::Error>>(
        operation: Operation,
        path: &Path,
    ) -> impl Fn(E) -> Self + '_ {
        move |source| Self::io(operation, path.display(), source)
    }

    /// The same, at this byte.
    pub(super) fn at(self, offset: u64) -> Self {
        Self {
            offset: Some(offset),
            ..self
        }
    }
}
