//! Why bytes are not what they should be.

/// Bytes do not follow the format. Which object they came from is the caller's to say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It ends before it should.
    #[error("it is cut short")]
    Truncated,
    /// Something follows its end.
    #[error("{0} bytes follow where it should end")]
    TrailingBytes(usize),
    /// It is something else.
    #[error("it is not a {0}")]
    BadMagic(&'static str),
    /// A later program made it.
    #[error("it has format version {0}, this program knows version 1")]
    UnknownVersion(u16),
    /// It needs features that this program does not have.
    #[error("it needs features that this program does not know ({0})")]
    UnknownFeature(String),
    /// A field that must be zero is not.
    #[error("a reserved field is not zero")]
    ReservedNotZero,
    /// The hash inside does not fit the bytes.
    #[error("its checksum is wrong: the bytes were damaged")]
    BadChecksum,
    /// A field has a value that it cannot have.
    #[error("its field “{0}” has an impossible value")]
    BadValue(&'static str),
    /// A field asks for more than the format allows.
    #[error("its field “{0}” is beyond what the format allows")]
    LimitExceeded(&'static str),
    /// The self-describing part is not what it should be.
    #[error("its description cannot be read: {0}")]
    BadJson(String),
}
