//! Restores damaged objects from their parity.

use std::collections::HashMap;

use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{HighRateDecoder, RateDecoder};

use super::sum::sum;
use crate::base::{ObjectHash, to_usize};
use crate::crypto::{hash, object_hash};
use crate::format::ParityObject;
use crate::repo::error::RepoError;

/// A restored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Its bytes, which have the hash that the parity object states.
    pub bytes: Vec<u8>,
    /// The number of data shards that no copy has undamaged in the right place.
    pub lost: usize,
    /// The number of all data shards of the object.
    pub shards: usize,
}

/// Restores the object with the hash `of` from the rest of its bytes and from its parity, which may
/// be damaged, too. `copies` are the bytes that the store has for the object: no copy, one copy or
/// two. Bytes that could not be read may have any value. Returns `None` if too much is damaged, or
/// if `parity` belongs to another object. Restored bytes always have the hash `of`.
pub fn restore(
    copies: &[&[u8]],
    parity: &[u8],
    of: ObjectHash,
) -> Result<Option<Restored>, RepoError> {
    let parity = ParityObject::read(parity, |b| hash(&[b])).ok();
    let Some(parity) = parity.filter(|parity| parity.header.of == of) else {
        return Ok(None);
    };
    let header = parity.header;
    let (count, shard_len) = (header.data_shards(), header.shard_len as usize);
    let is_shard = |shard: usize, bytes: &[u8]| {
        let found = sum(bytes);
        parity.sums(shard).any(|expected| expected == found)
    };
    let mut data: Vec<Option<Vec<u8>>> = vec![None; count];
    let last_len = to_usize(header.len - (count as u64 - 1) * u64::from(header.shard_len));
    for copy in copies {
        for (number, place) in data.iter_mut().enumerate().filter(|(_, d)| d.is_none()) {
            let len = if number + 1 == count {
                last_len
            } else {
                shard_len
            };
            let found = copy.get(number * shard_len..);
            if let Some(found) = found.and_then(|found| found.get(..len)) {
                let mut shard = found.to_vec();
                shard.resize(shard_len, 0);
                *place = is_shard(number, &shard).then_some(shard);
            }
        }
    }
    let lost = data.iter().filter(|shard| shard.is_none()).count();
    if lost > 0 {
        find_moved(copies, &parity, &mut data);
    }
    for group in 0..header.groups as usize {
        if !restore_group(&parity, group, &mut data, is_shard)? {
            return Ok(None);
        }
    }
    let mut bytes: Vec<u8> = Vec::with_capacity(count * shard_len);
    for shard in data.iter().flatten() {
        bytes.extend_from_slice(shard);
    }
    bytes.truncate(to_usize(header.len));
    let is_right = bytes.len() as u64 == header.len && object_hash(&[&bytes]) == header.of;
    Ok(is_right.then_some(Restored {
        bytes,
        lost,
        shards: count,
    }))
}

/// Finds lost shards in other places of the object, in case blocks of a file were exchanged.
fn find_moved(copies: &[&[u8]], parity: &ParityObject<'_>, data: &mut [Option<Vec<u8>>]) {
    let shard_len = parity.header.shard_len as usize;
    let mut blocks = HashMap::new();
    for copy in copies {
        for block in copy.chunks_exact(shard_len) {
            blocks.entry(sum(block)).or_insert(block);
        }
    }
    for (number, place) in data.iter_mut().enumerate().filter(|(_, d)| d.is_none()) {
        let found = parity.sums(number).find_map(|sum| blocks.get(&sum));
        *place = found.map(|block| block.to_vec());
    }
}

/// Restores the lost shards of a group. Returns false if too many are lost.
fn restore_group(
    parity: &ParityObject<'_>,
    group: usize,
    data: &mut [Option<Vec<u8>>],
    is_shard: impl Fn(usize, &[u8]) -> bool,
) -> Result<bool, RepoError> {
    let header = parity.header;
    let (groups, per_group) = (header.groups as usize, header.per_group as usize);
    let (count, shard_len) = (data.len(), header.shard_len as usize);
    let members: Vec<_> = (group..count).step_by(groups).collect();
    let lost = members
        .iter()
        .filter(|shard| data[**shard].is_none())
        .count();
    if lost == 0 {
        return Ok(true);
    }
    let found = (0..per_group).filter_map(|place| {
        let number = place * groups + group;
        let shard = parity.parity_shard(number)?;
        is_shard(count + number, shard).then_some((place, shard))
    });
    let found: Vec<_> = found.take(lost).collect();
    if found.len() < lost {
        return Ok(false);
    }
    let engine = DefaultEngine::new();
    let mut decoder = HighRateDecoder::new(members.len(), per_group, shard_len, engine, None)?;
    for (place, shard) in members.iter().enumerate() {
        if let Some(shard) = &data[*shard] {
            decoder.add_original_shard(place, shard)?;
        }
    }
    for (place, shard) in found {
        decoder.add_recovery_shard(place, shard)?;
    }
    let result = decoder.decode()?;
    for (place, shard) in result.restored_original_iter() {
        data[members[place]] = Some(shard.to_vec());
    }
    Ok(true)
}
