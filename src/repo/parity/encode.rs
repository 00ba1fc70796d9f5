//! Makes parity objects. An object is divided into data shards of equal length. Each group of data
//! shards gets parity shards, from which lost data shards can be computed.

use std::borrow::Cow;

use super::group::GroupParity;
use super::kinds;
use super::sum::sum;
use crate::base::{ObjectHash, ParityRate, to_usize};
use crate::crypto::{hash, object_hash};
use crate::format::{ParityHeader, ParityObject, ShardSum};
use crate::repo::object_kind::ObjectKind;

/// The length of a shard of a large object, in bytes: a block of most file systems.
const SHARD_LEN: usize = 4096;
/// The maximum number of data shards of a small object.
const SHARDS_OF_SMALL: u64 = 16;
/// The maximum number of data shards of a group. Larger groups take more time.
const GROUP: usize = 512;
/// The minimum number of parity shards of an object with at least 16 data shards. The minimum for a
/// smaller object is twice its number of data shards.
const PARITY_MIN: usize = 32;

/// Returns the header of the parity object for an object of `len` bytes. The header states the
/// number and the length of the shards.
fn header(kind: u8, of: ObjectHash, len: u64, rate: ParityRate) -> ParityHeader {
    let shard_len = to_usize(len.div_ceil(SHARDS_OF_SMALL)).next_power_of_two();
    let shard_len = shard_len.clamp(64, SHARD_LEN);
    let data = to_usize(len).div_ceil(shard_len);
    let least = (2 * data).min(PARITY_MIN);
    let parity = (data * usize::from(rate.percent()))
        .div_ceil(100)
        .max(least);
    let groups = data.div_ceil(GROUP);
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    ParityHeader {
        kind,
        shard_len: small(shard_len),
        len,
        of,
        groups: small(groups),
        per_group: small(parity.div_ceil(groups)),
    }
}

/// Returns the length in bytes of the parity object that a writer stores for an object of this kind
/// and of `len` bytes. `None` if `len` is 0, or if objects of this kind are not protected.
#[must_use]
pub fn parity_len(kind: ObjectKind, len: u64, rate: ParityRate) -> Option<u64> {
    let kind = kinds::number(kind).filter(|_| len > 0)?;
    let header = header(kind, ObjectHash::from_bytes([0; 32]), len, rate);
    Some(header.object_len() as u64)
}

/// Returns all headers that this program can give to the parity object of an object of this kind
/// and length.
fn headers(kind: u8, of: ObjectHash, len: u64) -> Vec<ParityHeader> {
    let rates = (1..=u64::from(ParityRate::MAX)).filter_map(ParityRate::new);
    let mut headers: Vec<_> = rates.map(|rate| header(kind, of, len, rate)).collect();
    headers.dedup();
    headers
}

/// Returns the parity object for an object of this kind. `parts` are the bytes of the object, and
/// `of` is their hash. `None` if the object is empty, or of a kind that is not protected.
#[must_use]
pub fn parity_of(
    kind: ObjectKind,
    of: ObjectHash,
    parts: &[&[u8]],
    rate: ParityRate,
) -> Option<Vec<u8>> {
    let len = parts.iter().map(|part| part.len() as u64).sum();
    let kind = kinds::number(kind).filter(|_| len > 0)?;
    Some(encode(&header(kind, of, len, rate), parts))
}

/// Makes a damaged parity object again, from the undamaged object that it protects. `damaged` are
/// the bytes that are left of the parity object. Returns `None` if the bytes with the hash `name`
/// cannot be made.
#[must_use]
pub fn rebuild(
    kind: ObjectKind,
    of: ObjectHash,
    object: &[u8],
    damaged: &[u8],
    name: ObjectHash,
) -> Option<Vec<u8>> {
    let number = kinds::number(kind).filter(|_| !object.is_empty())?;
    let len = object.len() as u64;
    let read = ParityObject::read(damaged, |b| hash(&[b])).ok();
    let read = read.map(|parity| parity.header);
    let read = read.filter(|header| header.of == of && header.len == len);
    let mut headers = read.into_iter().chain(headers(number, of, len));
    headers.find_map(|header| {
        let bytes = encode(&header, &[object]);
        (object_hash(&[&bytes]) == name).then_some(bytes)
    })
}

fn encode(header: &ParityHeader, parts: &[&[u8]]) -> Vec<u8> {
    let shard_len = header.shard_len as usize;
    let (groups, per_group) = (header.groups as usize, header.per_group as usize);
    let data = shards(parts, shard_len);
    let mut group_parity = GroupParity::new(per_group, shard_len);
    let make = |sums: &mut [ShardSum], parity: &mut [u8]| {
        let (data_sums, parity_sums) = sums.split_at_mut(data.len());
        for group in 0..groups {
            let members: Vec<_> = (group..data.len()).step_by(groups).collect();
            group_parity.clear();
            for (chunk, numbers) in members.chunks(group_parity.chunk_len()).enumerate() {
                // Hash the shards while the cache of the processor holds them.
                for &number in numbers {
                    data_sums[number] = sum(&data[number]);
                }
                group_parity.add_chunk(chunk, numbers.iter().map(|number| &data[*number][..]));
            }
            for (place, shard) in group_parity.finish().enumerate() {
                let number = place * groups + group;
                parity_sums[number] = sum(shard);
                parity[number * shard_len..][..shard_len].copy_from_slice(shard);
            }
        }
    };
    ParityObject::make(header, |b| hash(&[b]), make)
}

/// Divides the joined parts into shards. Copies only shards that extend over several parts, and a
/// last shard that is padded with zeros.
fn shards<'a>(parts: &[&'a [u8]], shard_len: usize) -> Vec<Cow<'a, [u8]>> {
    let mut shards = Vec::new();
    let mut open: Vec<u8> = Vec::new();
    for part in parts {
        let mut rest = *part;
        if !open.is_empty() {
            let (first, after) = rest.split_at(rest.len().min(shard_len - open.len()));
            open.extend_from_slice(first);
            rest = after;
            if open.len() < shard_len {
                continue;
            }
            shards.push(Cow::Owned(std::mem::take(&mut open)));
        }
        let whole = rest.chunks_exact(shard_len);
        open.extend_from_slice(whole.remainder());
        shards.extend(whole.map(Cow::Borrowed));
    }
    if !open.is_empty() {
        open.resize(shard_len, 0);
        shards.push(Cow::Owned(open));
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FormatError;

    #[test]
    fn a_large_pack_has_groups_of_512_shards_and_a_small_object_has_parity_of_twice_its_size() {
        let rate = ParityRate::new(5).unwrap();
        let of = ObjectHash::from_bytes([1; 32]);
        let pack = header(3, of, 32 << 20, rate);
        assert_eq!(
            (pack.shard_len, pack.groups, pack.per_group),
            (4096, 16, 26)
        );
        let record = header(1, of, 900, rate);
        assert_eq!(
            (record.shard_len, record.groups, record.per_group),
            (64, 1, 30)
        );
        let small = header(3, of, 1 << 20, rate);
        assert_eq!(
            (small.shard_len, small.groups, small.per_group),
            (4096, 1, 32)
        );
        let largest = header(3, of, 256 << 20, ParityRate::new(50).unwrap());
        let bytes = largest.encode(|b| hash(&[b]));
        assert!(largest.object_len() as u64 <= 256 << 20);
        // The header is valid, but the rest of the object is missing.
        let read = ParityObject::read(&bytes, |b| hash(&[b]));
        assert_eq!(read.map(|_| ()), Err(FormatError::Truncated));
    }

    #[test]
    fn the_parity_does_not_depend_on_how_the_object_is_divided_into_parts() {
        let rate = ParityRate::new(5).unwrap();
        let of = ObjectHash::from_bytes([1; 32]);
        let bytes: Vec<u8> = (0..70_001_u32)
            .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
            .collect();
        let whole = parity_of(ObjectKind::Pack, of, &[&bytes], rate);
        for size in [1, 7, 4095, 4096, 4097, 9000, 70_000] {
            let parts: Vec<_> = bytes.chunks(size).collect();
            let divided = parity_of(ObjectKind::Pack, of, &parts, rate);
            assert!(divided == whole, "{size}");
        }
    }
}
