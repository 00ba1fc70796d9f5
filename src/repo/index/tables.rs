//! The tables of the database, and how their rows are encoded.

use redb::{MultimapTableDefinition, TableDefinition};

use super::panics::DbError;
use crate::base::{BlobId, ObjectHash};
use crate::format::{Contents, PackListing};

/// The version of these tables. A database with another version is deleted and filled again.
pub(super) const FORMAT: u8 = 3;

/// The identity of the index (format of the tables, repository, project), and the filter's layers.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// The key of the identity in [`META`].
pub(super) const IDENTITY: &str = "identity";
/// The key of the filter's layers in [`META`].
pub(super) const LAYERS: &str = "filter layers";
/// The segments that were read into the database, by name: a [`SegmentRow`].
pub(super) const SEGMENTS: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("segments");
/// The packs, by their number in this database: hash, random bytes, contents.
pub(super) const PACKS: TableDefinition<u32, &[u8]> = TableDefinition::new("packs");
/// The numbers of the packs, by hash.
pub(super) const NUMBERS: TableDefinition<[u8; 32], u32> = TableDefinition::new("numbers");
/// The packs that no segment names. Their contents were read from the packs themselves.
pub(super) const UNNAMED: TableDefinition<[u8; 32], ()> = TableDefinition::new("unnamed");
/// One place of each blob, by the first half of its id: pack number and blob number. The full id is
/// compared with the pack's contents.
pub(super) const BLOBS: TableDefinition<[u8; 16], u64> = TableDefinition::new("blobs");
/// The further places of blobs.
pub(super) const MORE: MultimapTableDefinition<[u8; 16], u64> =
    MultimapTableDefinition::new("more");
/// The blocks of the filter.
pub(super) const FILTER: TableDefinition<(u32, u32), &[u8]> = TableDefinition::new("filter");

/// The row of a segment in the database.
pub(super) struct SegmentRow {
    /// The segment's name.
    pub(super) name: ObjectHash,
    /// The numbers of the packs that it names. Empty once another segment supersedes it.
    pub(super) packs: Vec<u32>,
    /// The segments that it supersedes.
    pub(super) superseded: Vec<ObjectHash>,
}

/// The key of a blob in [`BLOBS`] and [`MORE`].
pub(super) fn blob_key(id: &BlobId) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&id.as_bytes()[..16]);
    key
}

/// A blob's place: the number of its pack, and its number in the pack.
pub(super) fn place(pack: u32, blob: u32) -> u64 {
    u64::from(pack) << 32 | u64::from(blob)
}

/// The numbers of pack and blob in a [`place`].
#[expect(clippy::cast_possible_truncation, reason = "two halves")]
pub(super) fn place_numbers(place: u64) -> (u32, u32) {
    ((place >> 32) as u32, place as u32)
}

impl SegmentRow {
    /// Encodes it as the number of packs, their numbers, and the names of the superseded segments.
    pub(super) fn encode(&self) -> Vec<u8> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "packs have numbers of 32 bits"
        )]
        let count = self.packs.len() as u32;
        let numbers = std::iter::once(&count).chain(&self.packs);
        let mut out: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
        out.extend(self.superseded.iter().flat_map(ObjectHash::as_bytes));
        out
    }

    /// Decodes the row of the segment with this name.
    pub(super) fn decode(name: [u8; 32], row: &[u8]) -> Result<Self, DbError> {
        let (count, rest) = row.split_first_chunk::<4>().ok_or("a row is short")?;
        let len = u32::from_le_bytes(*count) as usize * 4;
        let (numbers, names) = rest.split_at_checked(len).ok_or("a row is short")?;
        let numbers = numbers.as_chunks::<4>().0.iter();
        let names = names.as_chunks::<32>().0.iter();
        Ok(Self {
            name: ObjectHash::from_bytes(name),
            packs: numbers.map(|number| u32::from_le_bytes(*number)).collect(),
            superseded: names.map(|name| ObjectHash::from_bytes(*name)).collect(),
        })
    }
}

/// Encodes the row of a pack.
pub(super) fn pack_row(pack: &PackListing) -> Vec<u8> {
    [
        &pack.pack.as_bytes()[..],
        &pack.random,
        &pack.contents.encode(),
    ]
    .concat()
}

/// Decodes the row of a pack.
pub(super) fn listing_of_row(row: &[u8]) -> Result<PackListing, DbError> {
    let (pack, random, contents) = pack_parts(row)?;
    Ok(PackListing {
        pack,
        random,
        contents: Contents::decode(contents)?,
    })
}

/// Splits the row of a pack into hash, random bytes and encoded contents.
pub(super) fn pack_parts(row: &[u8]) -> Result<(ObjectHash, [u8; 16], &[u8]), DbError> {
    let (hash, rest) = row.split_first_chunk::<32>().ok_or("a row is short")?;
    let (random, contents) = rest.split_first_chunk::<16>().ok_or("a row is short")?;
    Ok((ObjectHash::from_bytes(*hash), *random, contents))
}
