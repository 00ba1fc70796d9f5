//! Parity, the shards from which a damaged object can be restored: section 24 (Parity) of
//! `docs/format.md`.

use super::error::FormatError;
use super::header::{Header, Magic};
use super::pack::PACK_SIZE_MAX;
use super::wire::Reader;
use crate::base::{ObjectHash, to_usize};

/// The hash of a shard: XXH3 with 64 bits.
pub type ShardSum = [u8; ParityHeader::SUM_LEN];

/// Which object a parity object protects, and how both are divided into shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParityHeader {
    /// The kind of the protected object. Section 24 (Parity) has the numbers of the kinds.
    pub kind: u8,
    /// The length of a shard, in bytes.
    pub shard_len: u32,
    /// The length of the protected object, in bytes.
    pub len: u64,
    /// The hash of the protected object.
    pub of: ObjectHash,
    /// The number of groups. Data shard `i` is in group `i` modulo this number.
    pub groups: u32,
    /// The number of parity shards of each group.
    pub per_group: u32,
}

/// The number of bytes at the beginning of a header that its checksum covers.
const CHECKED_LEN: usize = 72;
const CHECKSUM_LEN: usize = 24;

impl ParityHeader {
    /// The length of a header, in bytes. A parity object has the same header at its beginning and
    /// at its end.
    pub const LEN: usize = CHECKED_LEN + CHECKSUM_LEN;
    /// The length of the hash of a shard, in bytes.
    pub const SUM_LEN: usize = 8;
    /// A group has at most this number of data shards, and at most as many parity shards.
    pub const GROUP_MAX: usize = 4096;
    const SHARD_LEN_MIN: u32 = 64;
    const SHARD_LEN_MAX: u32 = 65_536;

    /// Returns the number of data shards. The last one is padded with zeros.
    #[must_use]
    pub fn data_shards(&self) -> usize {
        to_usize(self.len.div_ceil(u64::from(self.shard_len)))
    }

    /// Returns the number of parity shards. Parity shard `i` is in group `i` modulo the number of
    /// groups. In this group, its number is `i` divided by the number of groups, rounded down.
    #[must_use]
    pub fn parity_shards(&self) -> usize {
        self.groups as usize * self.per_group as usize
    }

    /// Returns the number of data shards of the largest group.
    #[must_use]
    pub fn group_len(&self) -> usize {
        self.data_shards().div_ceil(self.groups as usize)
    }

    fn sums_len(&self) -> usize {
        Self::SUM_LEN * (self.data_shards() + self.parity_shards())
    }

    /// Returns the length of the whole parity object, in bytes.
    #[must_use]
    pub fn object_len(&self) -> usize {
        let shards = self.parity_shards() * self.shard_len as usize;
        2 * (Self::LEN + self.sums_len()) + shards
    }

    /// Encodes the header. `hash` is BLAKE3.
    #[must_use]
    pub fn encode(&self, hash: impl Fn(&[u8]) -> [u8; 32]) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..16].copy_from_slice(&Magic::Parity.header());
        out[16] = self.kind;
        out[20..24].copy_from_slice(&self.shard_len.to_le_bytes());
        out[24..32].copy_from_slice(&self.len.to_le_bytes());
        out[32..64].copy_from_slice(self.of.as_bytes());
        out[64..68].copy_from_slice(&self.groups.to_le_bytes());
        out[68..72].copy_from_slice(&self.per_group.to_le_bytes());
        let sum = hash(&out[..CHECKED_LEN]);
        out[CHECKED_LEN..].copy_from_slice(&sum[..CHECKSUM_LEN]);
        out
    }

    /// Decodes a header.
    fn decode(bytes: &[u8], hash: impl Fn(&[u8]) -> [u8; 32]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let header = Magic::Parity.read_unverified(&mut reader)?;
        let kind = reader.u8()?;
        let zeros = reader.array::<3>()?;
        let found = Self {
            kind,
            shard_len: reader.u32()?,
            len: reader.u64()?,
            of: ObjectHash::from_bytes(reader.array()?),
            groups: reader.u32()?,
            per_group: reader.u32()?,
        };
        let sum: [u8; CHECKSUM_LEN] = reader.array()?;
        reader.end()?;
        if hash(&bytes[..CHECKED_LEN])[..CHECKSUM_LEN] != sum {
            return Err(FormatError::BadChecksum);
        }
        Header::check(&header)?;
        if zeros != [0; 3] {
            return Err(FormatError::ReservedNotZero);
        }
        found.check()?;
        Ok(found)
    }

    /// Fails if the numbers do not fit together, or exceed the limits of the format.
    fn check(&self) -> Result<(), FormatError> {
        let lens = Self::SHARD_LEN_MIN..=Self::SHARD_LEN_MAX;
        if !self.shard_len.is_power_of_two() || !lens.contains(&self.shard_len) {
            return Err(FormatError::BadValue("length of a shard"));
        }
        if self.len == 0 || self.len > PACK_SIZE_MAX {
            return Err(FormatError::BadValue("length of the object"));
        }
        if self.groups == 0 || self.groups as usize > self.data_shards() {
            return Err(FormatError::BadValue("number of groups"));
        }
        let most = Self::GROUP_MAX;
        if self.per_group == 0 || self.per_group as usize > most || self.group_len() > most {
            return Err(FormatError::BadValue("shards of a group"));
        }
        let shards = u64::from(self.groups)
            .checked_mul(u64::from(self.per_group) * u64::from(self.shard_len));
        if shards.is_none_or(|len| len > PACK_SIZE_MAX) {
            return Err(FormatError::LimitExceeded("parity"));
        }
        Ok(())
    }
}

/// A parity object, which may be damaged itself.
#[derive(Debug, Clone)]
pub struct ParityObject<'a> {
    /// The header.
    pub header: ParityHeader,
    bytes: &'a [u8],
}

impl<'a> ParityObject<'a> {
    /// Reads the header at the beginning of the object or, if this header is damaged, the one at
    /// the end. `hash` is BLAKE3.
    pub fn read(bytes: &'a [u8], hash: impl Fn(&[u8]) -> [u8; 32]) -> Result<Self, FormatError> {
        let first = bytes.get(..ParityHeader::LEN);
        let first = first.ok_or(FormatError::Truncated);
        let header = match first.and_then(|first| ParityHeader::decode(first, &hash)) {
            Ok(header) => header,
            Err(error) => {
                let last = bytes.last_chunk::<{ ParityHeader::LEN }>();
                let last = last.ok_or(FormatError::Truncated)?;
                let header = ParityHeader::decode(last, &hash).map_err(|_| error.clone())?;
                // An object with another length lacks a part, or has its parts in other places.
                if header.object_len() != bytes.len() {
                    return Err(error);
                }
                header
            }
        };
        // Without this test, a small file could make a reader allocate much memory.
        if bytes.len() < ParityHeader::LEN + header.sums_len() {
            return Err(FormatError::Truncated);
        }
        Ok(Self { header, bytes })
    }

    /// Reads a whole object. Fails unless its length is right, its two headers are equal, and its
    /// two lists of hashes are equal. Does not compare the parity shards with their hashes.
    pub fn decode(bytes: &'a [u8], hash: impl Fn(&[u8]) -> [u8; 32]) -> Result<Self, FormatError> {
        let object = Self::read(bytes, hash)?;
        let (found, expected) = (bytes.len(), object.header.object_len());
        if found < expected {
            return Err(FormatError::Truncated);
        }
        if found > expected {
            return Err(FormatError::TrailingBytes(found - expected));
        }
        let last = expected - ParityHeader::LEN;
        if bytes[..ParityHeader::LEN] != bytes[last..] {
            return Err(FormatError::BadValue("second header"));
        }
        let sums = object.header.sums_len();
        let first_sums = &bytes[ParityHeader::LEN..][..sums];
        if *first_sums != bytes[last - sums..last] {
            return Err(FormatError::BadValue("second list of hashes"));
        }
        Ok(object)
    }

    /// Returns the hashes that the two lists state for a shard. If the object was cut, a hash may
    /// be missing. Shards are numbered from 0; the parity shards follow the data shards.
    pub fn sums(&self, shard: usize) -> impl Iterator<Item = ShardSum> + use<'a> {
        let header = &self.header;
        let second = header.object_len() - ParityHeader::LEN - header.sums_len();
        let bytes = self.bytes;
        [ParityHeader::LEN, second]
            .into_iter()
            .filter_map(move |list| {
                let sum = bytes.get(list + shard * ParityHeader::SUM_LEN..)?;
                sum.first_chunk().copied()
            })
    }

    /// Returns parity shard `number`; the parity shards alone are numbered from 0. Returns `None`
    /// if the object ends before the end of this shard.
    #[must_use]
    pub fn parity_shard(&self, number: usize) -> Option<&'a [u8]> {
        let len = self.header.shard_len as usize;
        let first = ParityHeader::LEN + self.header.sums_len();
        self.bytes.get(first + number * len..)?.get(..len)
    }

    /// Makes a parity object. `fill` gets zeroed space for the hashes of all shards and for the
    /// parity shards, and writes them. `hash` is BLAKE3.
    #[must_use]
    pub fn make(
        header: &ParityHeader,
        hash: impl Fn(&[u8]) -> [u8; 32],
        fill: impl FnOnce(&mut [ShardSum], &mut [u8]),
    ) -> Vec<u8> {
        let ends = header.encode(hash);
        let mut out = vec![0; header.object_len()];
        let (first, rest) = out.split_at_mut(ParityHeader::LEN);
        let (sums, rest) = rest.split_at_mut(header.sums_len());
        let (shards, rest) = rest.split_at_mut(rest.len() - header.sums_len() - ParityHeader::LEN);
        let (second_sums, last) = rest.split_at_mut(header.sums_len());
        fill(sums.as_chunks_mut().0, shards);
        second_sums.copy_from_slice(sums);
        first.copy_from_slice(&ends);
        last.copy_from_slice(&ends);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bytes: &[u8]) -> [u8; 32] {
        let mut sum = [7_u8; 32];
        for (at, byte) in bytes.iter().enumerate() {
            sum[at % 32] = sum[at % 32].wrapping_mul(3).wrapping_add(*byte);
        }
        sum
    }

    fn header() -> ParityHeader {
        ParityHeader {
            kind: 3,
            shard_len: 64,
            len: 200,
            of: ObjectHash::from_bytes([9; 32]),
            groups: 2,
            per_group: 1,
        }
    }

    #[test]
    fn a_parity_object_is_readable_as_long_as_one_of_its_two_headers_is_undamaged() {
        let header = header();
        let whole = ParityObject::make(&header, hash, |sums, shards| {
            assert_eq!((sums.len(), shards.len()), (6, 128));
            (0..).zip(sums).for_each(|(shard, sum)| *sum = [shard; 8]);
            shards.fill(5);
        });
        assert_eq!(whole.len(), header.object_len());
        assert_eq!(ParityObject::decode(&whole, hash).unwrap().header, header);
        let mut first = whole.clone();
        first[20] ^= 1;
        let read = ParityObject::read(&first, hash).unwrap();
        assert_eq!(read.header, header);
        assert_eq!(read.sums(5).collect::<Vec<_>>(), [[5; 8]; 2]);
        assert_eq!(read.parity_shard(1), Some(&[5; 64][..]));
        assert_eq!(read.parity_shard(9), None);
        assert!(ParityObject::decode(&first, hash).is_err());
        let end = first.len() - 20;
        first[end] ^= 1;
        assert!(ParityObject::read(&first, hash).is_err());
        assert!(ParityObject::decode(&whole[..whole.len() - 1], hash).is_err());
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let wrong: [fn(&mut ParityHeader); 9] = [
            |h| h.shard_len = 32,
            |h| h.shard_len = 96,
            |h| h.len = 0,
            |h| h.len = PACK_SIZE_MAX + 1,
            |h| h.groups = 0,
            |h| h.groups = 5,
            |h| h.per_group = 0,
            |h| h.per_group = 5000,
            |h| (h.groups, h.len) = (1, 1 << 20),
        ];
        for (number, change) in wrong.into_iter().enumerate() {
            let mut header = header();
            change(&mut header);
            let bytes = header.encode(hash);
            assert!(ParityHeader::decode(&bytes, hash).is_err(), "{number}");
        }
    }
}
