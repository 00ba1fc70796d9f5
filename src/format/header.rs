//! The header of every object: section 3 (Object header) of `docs/format.md`.

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
    Lease,
    Mark,
    Audit,
    Ledger,
    Batch,
    Parity,
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
            Self::Lease => b"CTLBleas",
            Self::Mark => b"CTLBmark",
            Self::Audit => b"CTLBaudt",
            Self::Ledger => b"CTLBledg",
            Self::Batch => b"CTLBbtch",
            Self::Parity => b"CTLBpari",
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::Repository => "a repository file",
            Self::Slot => "a key slot",
            Self::Project => "a project object",
            Self::Settings => "a settings object",
            Self::Certificate => "a certificate",
            Self::Pack => "a pack",
            Self::Index => "an index segment",
            Self::Backup => "a backup record",
            Self::Void => "a void",
            Self::Log => "a log entry",
            Self::Lease => "a lease",
            Self::Mark => "a mark",
            Self::Audit => "an audit",
            Self::Ledger => "a ledger entry",
            Self::Batch => "a batch",
            Self::Parity => "a parity object",
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

    /// Reads a header of this kind and checks all of it.
    pub(super) fn read(self, reader: &mut Reader<'_>) -> Result<Header, FormatError> {
        let header = self.read_unverified(reader)?;
        header.check()?;
        Ok(header)
    }

    /// Reads a header of this kind. Checks only the magic, which is its first 8 bytes.
    pub(super) fn read_unverified(self, reader: &mut Reader<'_>) -> Result<Header, FormatError> {
        let bytes: [u8; HEADER_LEN] = reader.array()?;
        if bytes.starts_with(self.bytes()) {
            Ok(Header(bytes))
        } else {
            Err(FormatError::BadMagic(self.noun()))
        }
    }
}

/// A header whose magic is the expected one.
///
/// Anyone who can write to the store can make a header. So rely on the other fields only after you
/// have verified a seal, a MAC or a signature that covers the header. For a repository file, its
/// hash is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header([u8; HEADER_LEN]);

impl Header {
    /// Returns the header of an object of this kind, without required features.
    #[must_use]
    pub fn of(magic: Magic) -> Self {
        Self(magic.header())
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; HEADER_LEN] {
        &self.0
    }

    /// Fails if this program does not know the version, the key epoch or a required feature.
    pub fn check(&self) -> Result<(), FormatError> {
        let mut fields = Reader::new(&self.0[8..]);
        let (version, epoch, features) = (fields.u16()?, fields.u16()?, fields.u32()?);
        if version != VERSION {
            return Err(FormatError::UnknownVersion(version));
        }
        if epoch != 0 {
            return Err(FormatError::UnknownFeature(format!("key epoch {epoch}")));
        }
        if features != 0 {
            let bits = format!("bits {features:#010x}");
            return Err(FormatError::UnknownFeature(bits));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_checked_in_two_steps_and_the_magic_comes_first() {
        let read = |bytes: &[u8]| Magic::Backup.read_unverified(&mut Reader::new(bytes));
        let known = Magic::Backup.header();
        assert_eq!(read(&known).unwrap().check(), Ok(()));
        let other = Magic::Mark.header();
        assert_eq!(read(&other), Err(FormatError::BadMagic("a backup record")));
        assert_eq!(read(&known[..15]), Err(FormatError::Truncated));
        let mut newer = known;
        newer[8] = 2;
        let refused = read(&newer).unwrap().check();
        assert_eq!(refused, Err(FormatError::UnknownVersion(2)));
        for (at, feature) in [(10, "key epoch 1"), (15, "bits 0x01000000")] {
            let mut newer = known;
            newer[at] = 1;
            let refused = read(&newer).unwrap().check();
            assert_eq!(refused, Err(FormatError::UnknownFeature(feature.into())));
        }
    }
}
