//! The error of bytes that do not follow the format.

/// Bytes do not follow the format. The caller adds the name of the object that they came from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The object ends too early.
    #[error("it is cut short")]
    Truncated,
    /// Bytes follow the end of the object.
    #[error("{0} bytes follow where it should end")]
    TrailingBytes(usize),
    /// The object is not of the expected kind. The text names this kind, for example “a pack”.
    #[error("it is not {0}")]
    BadMagic(&'static str),
    /// A later version of the program made the object.
    #[error("it has format version {0}, but this program only knows version 1")]
    UnknownVersion(u16),
    /// The object requires features that this program does not have.
    #[error("it needs features that this program does not know ({0})")]
    UnknownFeature(String),
    /// A field that must be zero is not.
    #[error("a reserved field is not zero")]
    ReservedNotZero,
    /// The checksum in the object is not the checksum of its bytes.
    #[error("its checksum is wrong: the bytes were damaged")]
    BadChecksum,
    /// A field has a value that is not allowed.
    #[error("its field “{0}” has an impossible value")]
    BadValue(&'static str),
    /// A field exceeds a limit of the format.
    #[error("its field “{0}” is beyond what the format allows")]
    LimitExceeded(&'static str),
    /// The JSON is malformed, or a member is missing or of another type.
    #[error("its description cannot be read: {0}")]
    BadJson(String),
}

impl FormatError {
    /// Returns the version or feature that this program does not know. Returns `None` if the error
    /// reports none.
    #[must_use]
    pub fn missing_feature(&self) -> Option<String> {
        match self {
            Self::UnknownVersion(version) => Some(format!("version {version}")),
            Self::UnknownFeature(feature) => Some(feature.clone()),
            _ => None,
        }
    }
}
