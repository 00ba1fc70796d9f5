//! Errors of sources and targets.

use std::fmt;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::base::ByteSize;

use super::contents::Contents;

/// The operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum VolumeOperation {
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

impl fmt::Display for VolumeOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Resize => "resize",
            Self::Read => "read",
            Self::FindData => "find the data of",
            Self::Write => "write",
            Self::Zero => "zero",
            Self::Sync => "sync",
            Self::Finish => "finish",
        })
    }
}

/// The kind of a file that was found where another kind is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Unsuitable {
    File,
    Directory,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
    /// A file that has content although its size is 0, as in `/proc`.
    Unsized,
    /// Anything else.
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
            Self::Unsized => "a file without a size",
            Self::Other => "neither a file nor a block device",
        })
    }
}

/// The reason why an operation failed. Callers match on the kind, never on the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeErrorKind {
    /// The file or directory does not exist.
    NotFound,
    /// The file exists already.
    Exists,
    /// The system does not permit the operation.
    Denied,
    /// The file system or device is read-only.
    ReadOnly,
    /// The file is of a kind that cannot be used here.
    Unsuitable(Unsuitable),
    /// The device or file is mounted or otherwise in use.
    Busy,
    /// The device is not blank, but the caller required a blank device.
    NotBlank(Contents),
    /// There is no such device, and no file may be created in its place.
    NoDevice {
        /// Whether a regular file has this name already.
        is_file: bool,
    },
    /// The device is smaller than the image.
    TooSmall {
        /// The size of the device in bytes.
        size: u64,
        /// The size of the image in bytes.
        needed: u64,
    },
    /// The file system cannot hold a file of this size.
    TooLarge,
    /// No space is left, or a quota is exceeded.
    Full {
        /// Bytes that are free on the file system, if known.
        free: Option<u64>,
    },
    /// The source is shorter than when it was opened.
    Shrunk {
        /// The size of the source now, in bytes.
        size: u64,
    },
    /// Another program had the target open for writing while it was written.
    OtherWriter,
    /// The range reaches beyond the end of the image: a mistake of the caller.
    OutOfRange,
    /// A write to a stream went backwards: a mistake of the caller.
    OutOfOrder {
        /// The first byte of the image that can still be written.
        position: u64,
    },
    /// An earlier write failed, so the target is not complete.
    Incomplete,
    /// A diff cannot hold the name of a snapshot: the name is empty, too long, or contains NUL.
    Misnamed,
    /// The reader of the stream has closed it.
    Closed,
    /// Any other error of the system or the medium.
    Io,
}

impl VolumeErrorKind {
    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::NOENT | Errno::NOTDIR) => Self::NotFound,
            Some(Errno::EXIST) => Self::Exists,
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied,
            Some(Errno::ROFS) => Self::ReadOnly,
            Some(Errno::ISDIR) => Self::Unsuitable(Unsuitable::Directory),
            // TXTBSY (“text file busy”) means a swap file or a running program.
            Some(Errno::BUSY | Errno::TXTBSY) => Self::Busy,
            Some(Errno::FBIG) => Self::TooLarge,
            Some(Errno::NOSPC | Errno::DQUOT) => Self::Full { free: None },
            Some(Errno::PIPE) => Self::Closed,
            _ if error.kind() == io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io,
        }
    }

    /// Writes the details that the message of the system does not contain.
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
                write!(f, ": it was truncated to {size} bytes while it was read")
            }
            Self::Busy => f.write_str(": it is in use"),
            Self::OtherWriter => {
                f.write_str(": another program had it open for writing at the same time")
            }
            Self::NotBlank(contents) => write!(f, ": it is not blank. It holds {contents}"),
            Self::NoDevice { is_file: false } => f.write_str(": there is no such device"),
            Self::NoDevice { is_file: true } => {
                f.write_str(": it is a regular file where only devices should be")
            }
            Self::OutOfRange => f.write_str(": the range reaches beyond its end"),
            Self::OutOfOrder { position } => {
                write!(
                    f,
                    ": it is a stream that is already written up to byte {position}"
                )
            }
            Self::Incomplete => f.write_str(": an earlier write to it failed"),
            Self::Exists => f.write_str(": it exists already"),
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

/// An operation on a source or target failed. The text names the operation and the object.
#[derive(Debug, thiserror::Error)]
pub struct VolumeError {
    /// The kind of the error.
    pub kind: VolumeErrorKind,
    /// The operation that failed.
    pub operation: VolumeOperation,
    /// The file, device or stream.
    pub object: String,
    /// The byte at which the operation failed. `None` if it is not known.
    pub offset: Option<u64>,
    /// The cause, usually an error of the system. `None` if there is none.
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
    /// Makes an error that did not come from the system.
    pub(super) fn new(
        kind: VolumeErrorKind,
        operation: VolumeOperation,
        object: impl fmt::Display,
    ) -> Self {
        Self {
            kind,
            operation,
            object: object.to_string(),
            offset: None,
            source: None,
        }
    }

    /// Makes an error that the system reported for `object`.
    pub(super) fn io(
        operation: VolumeOperation,
        object: impl fmt::Display,
        source: impl Into<io::Error>,
    ) -> Self {
        let source = source.into();
        let kind = VolumeErrorKind::of(&source);
        Self {
            source: Some(source),
            ..Self::new(kind, operation, object)
        }
    }

    /// Makes an error that the system reported for a write to `object`.
    pub fn writing(object: impl fmt::Display, source: io::Error) -> Self {
        Self::io(VolumeOperation::Write, object, source)
    }

    /// Returns a function for `map_err`: it makes an error that the system reported for `path`.
    pub(super) fn on<E: Into<io::Error>>(
        operation: VolumeOperation,
        path: &Path,
    ) -> impl Fn(E) -> Self + '_ {
        move |source| Self::io(operation, path.display(), source)
    }

    /// Adds the byte at which the operation failed.
    pub(super) fn at(self, offset: u64) -> Self {
        Self {
            offset: Some(offset),
            ..self
        }
    }
}
