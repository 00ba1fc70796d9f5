//! What can be wrong with a diff stream.

use std::fmt::{self, Write as _};
use std::io;

use crate::format::byte_string::ByteString;

/// Where a stream ends that should go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutIn {
    /// In the line that says what follows.
    Banner,
    /// In the header of an image (v2).
    ImageHeader,
    /// In the number of diffs (v2).
    Count,
    /// After fewer diffs than it says it has (v2).
    Diffs {
        /// How many are whole.
        whole: u64,
        /// How many it says.
        stated: u64,
    },
    /// Between two records: its end record is missing.
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

/// A field that a header has at most once.
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

/// Why a stream was refused. Never match on text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffErrorKind {
    /// There is not one byte.
    Empty,
    /// It begins as no diff stream does.
    NotADiff,
    /// It ends too early.
    Cut(CutIn),
    /// Something follows its end.
    Trailing,
    /// The banner in the midst of a v2 stream is another one.
    WrongBanner,
    /// A record that nobody knows.
    UnknownTag(u8),
    /// No record states the image's size.
    SizeMissing,
    /// A field is there twice.
    Repeated(DiffField),
    /// A header's field follows an extent.
    LateMetadata(DiffField),
    /// An extent begins before the end of the one in front of it.
    OutOfOrder {
        /// Where the one in front ends, in bytes of the image.
        end: u64,
    },
    /// An extent reaches beyond the image's end.
    PastEnd {
        /// The image's size in bytes.
        size: u64,
    },
    /// An extent has no bytes.
    EmptyExtent,
    /// An extent ends behind the last byte that can be counted.
    Overflow,
    /// A snapshot's name has more than 4096 bytes, as many as this.
    NameTooLong(u64),
    /// A snapshot's name has no bytes.
    NameEmpty,
    /// A snapshot's name contains a NUL.
    NameNul,
    /// A v2 record states a length that its kind cannot have, or that its content contradicts.
    WrongLength {
        /// The record's tag.
        tag: u8,
        /// What it states, in bytes.
        length: u64,
    },
    /// A name or value within a v2 record has another length than the record leaves for it.
    InnerLength {
        /// The record's tag.
        tag: u8,
        /// What it states, in bytes.
        length: u64,
    },
    /// A field has a value that it cannot have.
    BadValue(DiffField, u64),
    /// The image's metadata is longer than anybody's.
    MetadataTooLong,
    /// A v2 stream says that it has no diff.
    NoDiffs,
    /// A v2 diff does not begin at the snapshot at which the one in front of it ends.
    BrokenChain {
        /// Where the one in front ends; none before the first.
        expected: Option<Vec<u8>>,
        /// Where this one begins.
        found: Option<Vec<u8>>,
    },
    /// A v2 diff that is not the last names no snapshot.
    SnapshotMissing,
    /// The last diff of v2, which is the image's head, names a snapshot.
    HeadNamed,
    /// A v1 stream cannot say whether a snapshot is protected.
    ProtectionInV1,
    /// A mistake of the caller.
    Misuse(&'static str),
    /// The input reported an error, which is the source of this one.
    Read,
    /// The output reported an error, which is the source of this one.
    Write,
}

impl fmt::Display for DiffErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::NotADiff => f.write_str("it is not an RBD diff"),
            Self::Cut(part) => write!(f, "it is cut short {part}"),
            Self::Trailing => f.write_str("it goes on behind its end"),
            Self::WrongBanner => f.write_str("another banner should be there"),
            Self::UnknownTag(tag) => {
                write!(f, "“{}” is no record of a diff", tag.escape_ascii())
            }
            Self::SizeMissing => f.write_str("it does not say how large the image is"),
            Self::Repeated(field) => write!(f, "it has a second {field}"),
            Self::LateMetadata(field) => write!(f, "its {field} follows an extent"),
            Self::OutOfOrder { end } => write!(
                f,
                "an extent begins before byte {end} of the image, where the one in front ends"
            ),
            Self::PastEnd { size } => {
                write!(f, "an extent reaches beyond the image's end at {size}")
            }
            Self::EmptyExtent => f.write_str("an extent has no length"),
            Self::Overflow => f.write_str("an extent ends beyond what can be counted"),
            Self::NameTooLong(length) => write!(
                f,
                "the name of a snapshot has {length} bytes, and 4096 are the most"
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
            Self::BadValue(field, value) => write!(f, "{value} is no {field}"),
            Self::MetadataTooLong => f.write_str("the image's metadata is too long"),
            Self::NoDiffs => f.write_str("it says that it has no diffs"),
            Self::BrokenChain { expected, found } => write!(
                f,
                "a diff begins at {}, but should at {}",
                DiffBase(found.as_deref()),
                DiffBase(expected.as_deref())
            ),
            Self::SnapshotMissing => {
                f.write_str("a diff names no snapshot, and is not the image's head")
            }
            Self::HeadNamed => f.write_str("the image's head is called a snapshot"),
            Self::ProtectionInV1 => {
                f.write_str("version 1 cannot say whether a snapshot is protected")
            }
            Self::Misuse(what) => f.write_str(what),
            Self::Read => f.write_str("it could not be read"),
            Self::Write => f.write_str("it could not be written"),
        }
    }
}

/// Where a diff begins, for messages: a snapshot, or no image at all. The name is a stranger's, so what
/// could steer a terminal is escaped; one that is not UTF-8 is in hexadecimal.
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

/// A diff stream was refused, or could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{kind} (byte {offset})")]
pub struct DiffError {
    /// Why.
    pub kind: DiffErrorKind,
    /// Where the record in question begins, or the input ends, in bytes of the stream.
    pub offset: u64,
    /// What the system said.
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
    /// The error of this kind at this byte of the stream.
    pub(super) fn at(self, offset: u64) -> DiffError {
        DiffError::new(self, offset)
    }
}
