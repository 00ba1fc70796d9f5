//! Section 3: the header of every object.

use super::error::FormatError;
use super::wire::Reader;

/// The length of the header in bytes.
pub const HEADER_LEN: usize = 16;
const VERSION: u16 = 1;

/// The kind of an object, as its first 8 bytes state it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Magic {
    Repository,
    Slot,
    Project,
    Settings,
    Certificate,
    Pack,
    Index,
    Backup,
    Void,
    Log,
    Tombstone,
    Lease,
    Mark,
    Audit,
}

impl Magic {
    const fn bytes(self) -> &'static [u8; 8] {
        match self {
            Self::Repository => b"CTLBrepo",
            Self::Slot => b"CTLBslot",
            Self::Project => b"CTLBproj",
            Self::Settings => b"CTLBsett",
            Self::Certificate => b"CTLBcert",
            Self::Pack => b"CTLBpack",
            Self::Index => b"CTLBindx",
            Self::Backup => b"CTLBbkup",
            Self::Void => b"CTLBvoid",
            Self::Log => b"CTLBlogs",
            Self::Tombstone => b"CTLBtomb",
            Self::Lease => b"CTLBleas",
            Self::Mark => b"CTLBmark",
            Self::Audit => b"CTLBaudt",
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::Repository => "repository file",
            Self::Slot => "key slot",
            Self::Project => "project object",
            Self::Settings => "settings",
            Self::Certificate => "certificate",
            Self::Pack => "pack",
            Self::Index => "index segment",
            Self::Backup => "backup record",
            Self::Void => "void",
            Self::Log => "log entry",
            Self::Tombstone => "tombstone",
            Self::Lease => "lease",
            Self::Mark => "mark",
            Self::Audit => "audit",
        }
    }

    /// Returns the header of an object of this kind, without required features.
    #[must_use]
    pub fn header(self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[..8].copy_from_slice(self.bytes());
        header[8..10].copy_from_slice(&VERSION.to_le_bytes());
        header
    }

    /// Fails unless an object begins like one of this kind. The rest of its header may be believed
    /// only once its seal or signature has been verified.
    pub(super) fn recognise(self, bytes: &[u8]) -> Result<(), FormatError> {
        if bytes.starts_with(self.bytes()) {
            Ok(())
        } else {
            Err(FormatError::BadMagic(self.noun()))
        }
    }

    /// Reads a header of this kind and returns its bytes.
    pub(super) fn read<'a>(self, reader: &mut Reader<'a>) -> Result<&'a [u8], FormatError> {
        let bytes = reader.bytes(HEADER_LEN)?;
        let mut fields = Reader::new(bytes);
        if fields.array::<8>()? != *self.bytes() {
            return Err(FormatError::BadMagic(self.noun()));
        }
        let version = fields.u16()?;
        if version != VERSION {
            return Err(FormatError::UnknownVersion(version));
        }
        fields.zeros::<2>()?;
        match fields.u32()? {
            0 => Ok(bytes),
            bits => Err(FormatError::UnknownFeature(format!("bits {bits:#010x}"))),
        }
    }
}
