//! Faults of diff streams.

use std::fmt::{self, Write as _};
use std::io;

use crate::format::byte_string::ByteString;

/// The place at which a stream ends too early. Places marked “v2” are only in streams of version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutIn {
    /// In a banner, which is a line that names the next part.
    Banner,
    /// In the header of an image (v2).
    ImageHeader,
    /// In the number of diffs (v2).
    Count,
    /// After fewer diffs than the stream states (v2).
    Diffs {
        /// The number of complete diffs.
        whole: u64,
        /// The number that the stream states.
        stated: u64,
    },
    /// Between two records: the end record is missing.
    Records,
    /// In the name of a snapshot.
    Name,
    /// In the image's size.
    Size,
    /// In the mark of a protected snapshot (v2).
    Protection,
    /// In the offset or the length of an extent.
    ExtentHeader,
    /// In an extent's data.
    Data,
}

impl fmt::Display for CutIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Banner => "in its banner",
            Self::ImageHeader => "in the image's header",
            Self::Count => "in the number of its diffs",
            Self::Diffs { whole, stated } => {
                return write!(f, "after {whole} of {stated} diffs");
            }
            Self::Records => "before its end record",
            Self::Name => "in the name of a snapshot",
            Self::Size => "in the image's size",
            Self::Protection => "in the mark of a protected snapshot",
            Self::ExtentHeader => "in the header of an extent",
            Self::Data => "in the data of an extent",
        })
    }
}

/// A field that occurs at most once in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DiffField {
    From,
    To,
    Size,
    Protected,
    Order,
    Features,
    StripeUnit,
    StripeCount,
}

impl fmt::Display for DiffField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::From => "from-snapshot",
            Self::To => "to-snapshot",
            Self::Size => "size",
            Self::Protected => "protection",
            Self::Order => "object order",
            Self::Features => "features",
            Self::StripeUnit => "stripe unit",
            Self::StripeCount => "stripe count",
        })
    }
}

/// The reason why a stream was refused. Callers match on this, never on text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffErrorKind {
    /// It is empty.
    Empty,
    /// It does not begin with the banner of a diff stream.
    NotADiff,
    /// It is cut short.
    Cut(CutIn),
    /// Bytes follow its end.
    Trailing,
    /// A banner inside a v2 stream is wrong.
    WrongBanner,
    /// The tag of a record is unknown.
    UnknownTag(u8),
    /// No record states the image's size.
    SizeMissing,
    /// A field occurs twice.
    Repeated(DiffField),
    /// A header's field follows an extent.
    LateMetadata(DiffField),
    /// An extent begins before the end of the previous one.
    OutOfOrder {
        /// The end of the previous extent, in bytes of the image.
        end: u64,
    },
    /// An extent reaches beyond the image's end.
    PastEnd {
        /// The image's size in bytes.
        size: u64,
    },
    /// An extent has a length of 0.
    EmptyExtent,
    /// An extent ends beyond 2^64 bytes.
    Overflow,
    /// The name of a snapshot has this number of bytes, which is more than 4096.
    NameTooLong(u64),
    /// The name of a snapshot is empty.
    NameEmpty,
    /// The name of a snapshot contains a NUL byte.
    NameNul,
    /// The length that a v2 record states is not allowed for its tag, or contradicts its content.
    WrongLength {
        /// The record's tag.
        tag: u8,
        /// The length that the record states, in bytes.
        length: u64,
    },
    /// The length of a name or value in a v2 record does not fit the length of the record.
    InnerLength {
        /// The record's tag.
        tag: u8,
        /// The stated length of the name or value, in bytes.
        length: u64,
    },
    /// A field has a value that is not allowed.
    BadValue(DiffField, u64),
    /// The image's metadata is longer than the reader accepts.
    MetadataTooLong,
    /// A v2 stream states that it has 0 diffs.
    NoDiffs,
    /// A v2 diff does not start from the snapshot to which the previous one leads.
    BrokenChain {
        /// The snapshot of the previous diff; `None` for the first diff, which must start from the
        /// empty image.
        expected: Option<Vec<u8>>,
        /// The snapshot from which this diff starts; `None` for the empty image.
        found: Option<Vec<u8>>,
    },
    /// A v2 diff that is not the last names no snapshot.
    SnapshotMissing,
    /// The last diff of a v2 stream, which is the image's head, names a snapshot.
    HeadNamed,
    /// A v1 stream cannot state whether a snapshot is protected.
    ProtectionInV1,
    /// The caller used a reader or writer wrongly. The text says how.
    Misuse(&'static str),
    /// The input returned an error, which is the source of this one.
    Read,
    /// The output returned an error, which is the source of this one.
    Write,
}

impl fmt::Display for DiffErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::NotADiff => f.write_str("it is not an RBD diff"),
            Self::Cut(part) => write!(f, "it is cut short {part}"),
            Self::Trailing => f.write_str("bytes follow its end"),
            Self::WrongBanner => f.write_str("the banner is wrong"),
            Self::UnknownTag(tag) => {
                write!(f, "“{}” is not the tag of a record", tag.escape_ascii())
            }
            Self::SizeMissing => f.write_str("the size of the image is missing"),
            Self::Repeated(field) => write!(f, "it has a second {field}"),
            Self::LateMetadata(field) => write!(f, "its {field} follows an extent"),
            Self::OutOfOrder { end } => write!(
                f,
                "an extent begins before byte {end} of the image, where the previous one ends"
            ),
            Self::PastEnd { size } => {
                write!(
                    f,
                    "an extent reaches beyond the end of the image, which has {size} bytes"
                )
            }
            Self::EmptyExtent => f.write_str("an extent is empty"),
            Self::Overflow => f.write_str("an extent ends beyond 2^64 bytes"),
            Self::NameTooLong(length) => write!(
                f,
                "the name of a snapshot has {length} bytes, more than 4096"
            ),
            Self::NameEmpty => f.write_str("the name of a snapshot is empty"),
            Self::NameNul => f.write_str("the name of a snapshot contains a NUL byte"),
            Self::WrongLength { tag, length } => write!(
                f,
                "the record “{}” cannot have {length} bytes",
                tag.escape_ascii()
            ),
            Self::InnerLength { tag, length } => write!(
                f,
                "a text of {length} bytes does not fit its record “{}”",
                tag.escape_ascii()
            ),
            Self::BadValue(field, value) => write!(f, "{value} is not a valid {field}"),
            Self::MetadataTooLong => f.write_str("the image's metadata is too long"),
            Self::NoDiffs => f.write_str("it states that it has no diffs"),
            Self::BrokenChain { expected, found } => write!(
                f,
                "a diff starts from {}, but should start from {}",
                DiffBase(found.as_deref()),
                DiffBase(expected.as_deref())
            ),
            Self::SnapshotMissing => {
                f.write_str("a diff that is not the last one names no snapshot")
            }
            Self::HeadNamed => {
                f.write_str("the last diff, the head of the image, names a snapshot")
            }
            Self::ProtectionInV1 => {
                f.write_str("version 1 cannot state whether a snapshot is protected")
            }
            Self::Misuse(what) => f.write_str(what),
            Self::Read => f.write_str("it could not be read"),
            Self::Write => f.write_str("it could not be written"),
        }
    }
}

/// The start of a diff, for messages: a snapshot, or the empty image. Control characters and
/// backslashes in the untrusted name are escaped; a name that is not UTF-8 is in hexadecimal.
#[derive(Debug, Clone, Copy)]
pub struct DiffBase<'a>(pub Option<&'a [u8]>);

impl fmt::Display for DiffBase<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(name) = self.0 else {
            return f.write_str("the empty image");
        };
        f.write_str("snapshot “")?;
        for c in ByteString::from(name).to_string().chars() {
            if c.is_control() || c == '\\' {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        f.write_str("”")
    }
}

/// A diff stream was refused, or could not be read or written. The message states the offset of the
/// fault.
#[derive(Debug, thiserror::Error)]
#[error("{kind} (byte {offset})")]
pub struct DiffError {
    /// The fault.
    pub kind: DiffErrorKind,
    /// The offset in the stream, in bytes, of the faulty part. For a stream that is cut short, the
    /// offset of its end. For an error of the input or output, the offset of the failed access.
    pub offset: u64,
    /// The error of the input or output. `None` unless the kind is `Read` or `Write`.
    #[source]
    pub source: Option<io::Error>,
}

impl DiffError {
    pub(super) fn new(kind: DiffErrorKind, offset: u64) -> Self {
        Self {
            kind,
            offset,
            source: None,
        }
    }

    pub(super) fn read(source: io::Error, offset: u64) -> Self {
        Self {
            source: Some(source),
            ..Self::new(DiffErrorKind::Read, offset)
        }
    }

    pub(super) fn write(source: io::Error, offset: u64) -> Self {
        Self {
            source: Some(source),
            ..Self::new(DiffErrorKind::Write, offset)
        }
    }
}

impl DiffErrorKind {
    /// Returns the error of this kind at byte `offset` of the stream.
    pub(super) fn at(self, offset: u64) -> DiffError {
        DiffError::new(self, offset)
    }
}
