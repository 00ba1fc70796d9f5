//! Batches: records, voids and log entries in one file, so that they begin to exist at the same
//! moment. Section 23 (Batch) of `docs/format.md`.

use super::error::FormatError;
use super::header::{HEADER_LEN, Magic};
use super::wire::{Reader, len_u32};
use crate::base::{ObjectHash, ProjectId};

/// The kind of an object in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BatchedKind {
    /// An entry of the log.
    Entry = 0,
    /// A backup record.
    Record = 1,
    /// A void, which withdraws a backup record.
    Void = 7,
}

impl BatchedKind {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Entry),
            1 => Some(Self::Record),
            7 => Some(Self::Void),
            _ => None,
        }
    }
}

/// An object to be stored in a batch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewBatchedObject {
    /// The kind of the object.
    pub kind: BatchedKind,
    /// The hash that names the object.
    pub hash: ObjectHash,
    /// The bytes of the object.
    pub bytes: Vec<u8>,
}

/// An object in a batch. The batch does not prove that the bytes of the object have this hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchedObject {
    /// The kind of the object.
    pub kind: BatchedKind,
    /// The hash that names the object.
    pub hash: ObjectHash,
    /// The position of the object's first byte in the batch.
    pub offset: u64,
    /// The length of the object in bytes.
    pub len: u32,
}

/// The table of a batch. The objects in the batch count as if each of them were stored under its
/// own name. A batch is neither sealed nor signed: each object is verified as if it had been read
/// from its own file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The project.
    pub project: ProjectId,
    /// The objects, ascending by kind and hash, without duplicates.
    pub objects: Vec<BatchedObject>,
}

/// The length of an item of the table in bytes.
const ITEM_LEN: usize = 1 + 32 + 4;

impl Batch {
    /// The maximum length of a batch in bytes.
    pub const LEN_MAX: usize = 128 << 20;
    /// The maximum number of objects. It limits the memory that the table of a forged batch takes.
    pub const OBJECTS_MAX: usize = 1 << 18;
    /// The number of bytes before the table.
    pub const START_LEN: usize = HEADER_LEN + 16 + 4;

    /// Returns the bytes of a batch of these objects. They must be in ascending order of kind and
    /// hash, without duplicates.
    #[must_use]
    pub fn encode(project: ProjectId, objects: &[NewBatchedObject]) -> Vec<u8> {
        let mut out = Magic::Batch.header().to_vec();
        out.extend_from_slice(project.as_bytes());
        out.extend_from_slice(&len_u32(objects.len()).to_le_bytes());
        for object in objects {
            out.push(object.kind as u8);
            out.extend_from_slice(object.hash.as_bytes());
            out.extend_from_slice(&len_u32(object.bytes.len()).to_le_bytes());
        }
        for object in objects {
            out.extend_from_slice(&object.bytes);
        }
        out
    }

    /// Returns the number of bytes by which an object of `len` bytes makes a batch longer.
    #[must_use]
    pub const fn len_of(len: u64) -> u64 {
        len + ITEM_LEN as u64
    }

    /// Reads the first [`START_LEN`](Self::START_LEN) bytes of a batch of `len` bytes. Returns the
    /// number of bytes that [`decode`](Self::decode) needs.
    pub fn table_end(start: &[u8], len: u64) -> Result<usize, FormatError> {
        let (_, count) = Self::start(&mut Reader::new(start))?;
        let end = Self::START_LEN as u64 + u64::from(count) * ITEM_LEN as u64;
        if end > len {
            return Err(FormatError::Truncated);
        }
        usize::try_from(end).map_err(|_| FormatError::Truncated)
    }

    /// Decodes the table of a batch of `len` bytes. `table` has the bytes of the batch up to the
    /// end of the table.
    pub fn decode(table: &[u8], len: u64) -> Result<Self, FormatError> {
        let mut reader = Reader::new(table);
        let (project, count) = Self::start(&mut reader)?;
        let mut objects = Vec::new();
        let mut offset = table.len() as u64;
        for _ in 0..count {
            let kind = BatchedKind::from_byte(reader.u8()?);
            let object = BatchedObject {
                kind: kind.ok_or(FormatError::BadValue("kind"))?,
                hash: ObjectHash::from_bytes(reader.array()?),
                offset,
                len: reader.u32()?,
            };
            offset += u64::from(object.len);
            objects.push(object);
        }
        reader.end()?;
        if !objects.is_sorted_by(|a, b| (a.kind, a.hash) < (b.kind, b.hash)) {
            return Err(FormatError::BadValue("order of the objects"));
        }
        if offset > len {
            return Err(FormatError::Truncated);
        }
        match usize::try_from(len - offset) {
            Ok(0) => Ok(Self { project, objects }),
            more => Err(FormatError::TrailingBytes(more.unwrap_or(usize::MAX))),
        }
    }

    fn start(reader: &mut Reader<'_>) -> Result<(ProjectId, u32), FormatError> {
        Magic::Batch.read(reader)?;
        let (project, count) = (ProjectId::from_bytes(reader.array()?), reader.u32()?);
        if count as usize > Self::OBJECTS_MAX {
            return Err(FormatError::LimitExceeded("number of objects"));
        }
        Ok((project, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: ProjectId = ProjectId::from_bytes([3; 16]);

    fn object(kind: BatchedKind, number: u8, bytes: &[u8]) -> NewBatchedObject {
        NewBatchedObject {
            kind,
            hash: ObjectHash::from_bytes([number; 32]),
            bytes: bytes.to_vec(),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Batch, FormatError> {
        let len = bytes.len() as u64;
        let end = Batch::table_end(&bytes[..bytes.len().min(Batch::START_LEN)], len)?;
        Batch::decode(&bytes[..end], len)
    }

    #[test]
    fn a_batch_round_trips_and_has_its_objects_in_order_and_once() {
        let a = object(BatchedKind::Entry, 9, b"entry");
        let b = object(BatchedKind::Record, 1, b"a record");
        let c = object(BatchedKind::Void, 0, b"");
        for objects in [vec![], vec![a.clone()], vec![a.clone(), b.clone(), c]] {
            let bytes = Batch::encode(PROJECT, &objects);
            let found = decode(&bytes).unwrap();
            assert_eq!(found.project, PROJECT);
            let found = found.objects.iter().map(|object| {
                let at = usize::try_from(object.offset).unwrap();
                let bytes = bytes[at..][..object.len as usize].to_vec();
                let (kind, hash) = (object.kind, object.hash);
                NewBatchedObject { kind, hash, bytes }
            });
            assert_eq!(found.collect::<Vec<_>>(), objects);
            let len: u64 = objects
                .iter()
                .map(|o| Batch::len_of(o.bytes.len() as u64))
                .sum();
            assert_eq!(bytes.len() as u64, Batch::START_LEN as u64 + len);
        }
        for objects in [[b.clone(), a.clone()], [a.clone(), a.clone()]] {
            assert!(decode(&Batch::encode(PROJECT, &objects)).is_err());
        }
        let bytes = Batch::encode(PROJECT, &[a.clone(), b]);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len}");
        }
        assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
        for kind in (0..=255).filter(|kind| ![0, 1, 7].contains(kind)) {
            let mut other = Batch::encode(PROJECT, std::slice::from_ref(&a));
            other[Batch::START_LEN] = kind;
            assert!(decode(&other).is_err(), "{kind}");
        }
    }
}
