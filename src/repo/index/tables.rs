//! The tables of the database, and the encoding of their rows.

use std::sync::Arc;

use redb::{MultimapTableDefinition, TableDefinition};

use super::panics::DbError;
use crate::base::{BlobId, ObjectHash, SignerId};
use crate::crypto::Encapsulation;
use crate::format::{Contents, PackListing};

/// The version of these tables. A database with another version is deleted and filled again.
pub(super) const FORMAT: u8 = 6;

/// The identity of the index (format of the tables, repository, project), and the filter's layers.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// The key of the identity in [`META`].
pub(super) const IDENTITY: &str = "identity";
/// The key of the filter's layers in [`META`].
pub(super) const LAYERS: &str = "filter layers";
/// The segments that were read into the database, by name: a [`SegmentRow`].
pub(super) const SEGMENTS: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("segments");
/// The packs, by their number in this database: a [`PackRow`].
pub(super) const PACKS: TableDefinition<u32, &[u8]> = TableDefinition::new("packs");
/// The numbers of the packs, by hash, and the sizes that they should have in bytes.
pub(super) const NUMBERS: TableDefinition<[u8; 32], (u32, u64)> = TableDefinition::new("numbers");
/// The signers whose segments name a pack, by its number: a [`NamedRow`].
pub(super) const NAMED: TableDefinition<u32, &[u8]> = TableDefinition::new("named");
/// The packs that no segment names. Their contents were read from the packs themselves.
pub(super) const UNNAMED: TableDefinition<[u8; 32], ()> = TableDefinition::new("unnamed");
/// One place of each blob, by the first half of its id: pack number and blob number. A look-up
/// compares the full id with the pack's contents. If a pack has a blob several times, only the
/// first place is in the database.
pub(super) const BLOBS: TableDefinition<[u8; 16], u64> = TableDefinition::new("blobs");
/// The further places of blobs, in other packs.
pub(super) const MORE: MultimapTableDefinition<[u8; 16], u64> =
    MultimapTableDefinition::new("more");
/// The blocks of the filter (a Bloom filter of the ids of blobs), by layer and number.
pub(super) const FILTER: TableDefinition<(u32, u32), &[u8]> = TableDefinition::new("filter");
/// The sessions, by their number in this database: the number of packs with this session, and its
/// encapsulation. Each backup with a write key makes a session, with a key for its chunks.
pub(super) const SESSIONS: TableDefinition<u32, &[u8]> = TableDefinition::new("sessions");
/// The numbers of the sessions, by the hash of the encapsulation.
pub(super) const SESSION_NUMBERS: TableDefinition<[u8; 32], u32> =
    TableDefinition::new("session numbers");
/// All signers of packs and segments that were ever in this database.
pub(super) const SIGNERS: TableDefinition<[u8; 32], ()> = TableDefinition::new("signers");

/// Stands for the number of the session in the row of a pack without a session.
pub(super) const NO_SESSION: u32 = u32::MAX;

/// The row of a segment in the database.
pub(super) struct SegmentRow {
    /// The segment's name.
    pub(super) name: ObjectHash,
    /// Its signer.
    pub(super) signer: SignerId,
    /// Whether another segment supersedes it, or the log removes it. If so, its packs count for
    /// reading only.
    pub(super) retired: bool,
    /// The numbers of the packs that it names.
    pub(super) packs: Vec<u32>,
    /// The segments that it supersedes.
    pub(super) superseded: Vec<ObjectHash>,
}

/// Returns the key of a blob in [`BLOBS`] and [`MORE`].
pub(super) fn blob_key(id: &BlobId) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&id.as_bytes()[..16]);
    key
}

/// Returns a blob's place: the number of its pack, and its number in the pack.
pub(super) fn place(pack: u32, blob: u32) -> u64 {
    u64::from(pack) << 32 | u64::from(blob)
}

/// Returns the numbers of pack and blob in a [`place`].
#[expect(clippy::cast_possible_truncation, reason = "each half has 32 bits")]
pub(super) fn place_numbers(place: u64) -> (u32, u32) {
    ((place >> 32) as u32, place as u32)
}

impl SegmentRow {
    /// Encodes the row: the signer, whether the segment is retired, the number of packs, their
    /// numbers, and the names of the superseded segments.
    pub(super) fn encode(&self) -> Vec<u8> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "packs have numbers of 32 bits"
        )]
        let count = self.packs.len() as u32;
        let mut out = self.signer.as_bytes().to_vec();
        out.push(u8::from(self.retired));
        let numbers = std::iter::once(&count).chain(&self.packs);
        out.extend(numbers.flat_map(|number| number.to_le_bytes()));
        out.extend(self.superseded.iter().flat_map(ObjectHash::as_bytes));
        out
    }

    /// Decodes the row of the segment with this name.
    pub(super) fn decode(name: [u8; 32], row: &[u8]) -> Result<Self, DbError> {
        let (signer, rest) = row.split_first_chunk::<32>().ok_or("a row is short")?;
        let ([retired], rest) = rest.split_first_chunk::<1>().ok_or("a row is short")?;
        let (count, rest) = rest.split_first_chunk::<4>().ok_or("a row is short")?;
        let len = u32::from_le_bytes(*count) as usize * 4;
        let (numbers, names) = rest.split_at_checked(len).ok_or("a row is short")?;
        let numbers = numbers.as_chunks::<4>().0.iter();
        let names = names.as_chunks::<32>().0.iter();
        Ok(Self {
            name: ObjectHash::from_bytes(name),
            signer: SignerId::from_bytes(*signer),
            retired: *retired != 0,
            packs: numbers.map(|number| u32::from_le_bytes(*number)).collect(),
            superseded: names.map(|name| ObjectHash::from_bytes(*name)).collect(),
        })
    }

    /// Returns the packs that count because of this segment.
    pub(super) fn counted(&self) -> &[u32] {
        if self.retired { &[] } else { &self.packs }
    }
}

/// The row of a pack in the database: hash, random bytes, signer, number of the session, encoded
/// contents.
pub(super) struct PackRow<'a> {
    pub(super) pack: ObjectHash,
    pub(super) random: [u8; 16],
    pub(super) signer: SignerId,
    /// The number of its session, or [`NO_SESSION`].
    pub(super) session: u32,
    pub(super) contents: &'a [u8],
}

impl<'a> PackRow<'a> {
    /// Encodes the row of a pack whose session has this number.
    pub(super) fn encode(pack: &PackListing, session: u32) -> Vec<u8> {
        [
            &pack.pack.as_bytes()[..],
            &pack.random,
            pack.signer.as_bytes(),
            &session.to_le_bytes(),
            &pack.contents.encode(),
        ]
        .concat()
    }

    /// Splits a row into its fields.
    pub(super) fn decode(row: &'a [u8]) -> Result<Self, DbError> {
        let (hash, rest) = row.split_first_chunk::<32>().ok_or("a row is short")?;
        let (random, rest) = rest.split_first_chunk::<16>().ok_or("a row is short")?;
        let (signer, rest) = rest.split_first_chunk::<32>().ok_or("a row is short")?;
        let (session, contents) = rest.split_first_chunk::<4>().ok_or("a row is short")?;
        Ok(Self {
            pack: ObjectHash::from_bytes(*hash),
            random: *random,
            signer: SignerId::from_bytes(*signer),
            session: u32::from_le_bytes(*session),
            contents,
        })
    }

    /// Returns the listing of the pack. `session` is the encapsulation of its session.
    pub(super) fn listing(
        &self,
        session: Option<Arc<Encapsulation>>,
    ) -> Result<PackListing, DbError> {
        Ok(PackListing {
            pack: self.pack,
            random: self.random,
            signer: self.signer,
            contents: Contents::decode(self.contents, session)?,
        })
    }
}

/// The sources of the contents of a pack in the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NamedRow {
    /// Whether the contents were read from the pack itself.
    pub(super) by_itself: bool,
    /// Whether all bytes of the pack were read, and are those that its signer signed.
    pub(super) whole: bool,
    /// Whether only retired segments name the pack, so that it counts for reading only.
    pub(super) retired: bool,
    /// The signers of the segments that name the pack with these contents. If some of these
    /// segments count, the list has only the signers of those that count.
    pub(super) signers: Vec<SignerId>,
}

impl NamedRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let flags = [self.by_itself, self.whole, self.retired];
        let mut out = flags.map(u8::from).to_vec();
        out.extend(self.signers.iter().flat_map(SignerId::as_bytes));
        out
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, DbError> {
        let ([by_itself, whole, retired], rest) =
            row.split_first_chunk::<3>().ok_or("a row is short")?;
        let signers = rest.as_chunks::<32>().0.iter();
        Ok(Self {
            by_itself: *by_itself != 0,
            whole: *whole != 0,
            retired: *retired != 0,
            signers: signers
                .map(|signer| SignerId::from_bytes(*signer))
                .collect(),
        })
    }

    /// Whether the pack counts: a segment that is not retired names it, or no segment names it and
    /// its contents were read from the pack itself.
    pub(super) fn counts(&self) -> bool {
        !self.retired
    }
}
