//! Changes to the database: segments and packs that are added or removed.

use std::collections::HashSet;

use redb::{ReadableMultimapTable, ReadableTable};

use super::db::{Db, load_block, open_tables};
use super::panics::DbError;
use super::tables::{
    BLOBS, FILTER, LAYERS, META, MORE, NUMBERS, PACKS, SEGMENTS, SegmentRow, UNNAMED, blob_key,
    listing_of_row, pack_row, place,
};
use crate::base::{ObjectHash, lock, write_lock};
use crate::format::{IndexSegment, PackListing};

/// A segment to add.
pub(super) struct NewSegment {
    pub(super) name: ObjectHash,
    pub(super) segment: IndexSegment,
}

impl Db {
    /// Adds segments and the packs that they name, in one transaction.
    pub(super) fn insert(&self, segments: &[NewSegment]) -> Result<(), DbError> {
        self.put(segments, &[])
    }

    /// Adds packs that no segment names, in one transaction.
    pub(super) fn insert_unnamed(&self, packs: &[PackListing]) -> Result<(), DbError> {
        self.put(&[], packs)
    }

    fn put(&self, segments: &[NewSegment], unnamed_packs: &[PackListing]) -> Result<(), DbError> {
        let mut filter = lock(&self.filter);
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut unnamed = transaction.open_table(UNNAMED)?;
            let mut numbers = transaction.open_table(NUMBERS)?;
            let mut rows = transaction.open_table(PACKS)?;
            let mut next = rows.last()?.map_or(0, |(number, _)| number.value() + 1);
            let mut places = Vec::new();
            // Returns the number of a pack, and whether the pack is new and got its number just
            // now.
            let mut number_of = |pack: &PackListing| -> Result<(u32, bool), DbError> {
                if let Some(number) = numbers.get(pack.pack.as_bytes())? {
                    return Ok((number.value(), false));
                }
                let number = next;
                numbers.insert(pack.pack.as_bytes(), number)?;
                rows.insert(number, &pack_row(pack)[..])?;
                let blobs = (0..).zip(pack.contents.blobs());
                places.extend(blobs.map(|(i, b)| (b.id, place(number, i))));
                next += 1;
                Ok((number, true))
            };
            for pack in unnamed_packs {
                if number_of(pack)?.1 {
                    unnamed.insert(pack.pack.as_bytes(), ())?;
                }
            }
            let mut table = transaction.open_table(SEGMENTS)?;
            for NewSegment { name, segment } in segments {
                let mut packs = Vec::with_capacity(segment.packs.len());
                for pack in &segment.packs {
                    unnamed.remove(pack.pack.as_bytes())?;
                    packs.push(number_of(pack)?.0);
                }
                let row = SegmentRow {
                    name: *name,
                    packs,
                    superseded: segment.superseded.clone(),
                };
                table.insert(name.as_bytes(), &row.encode()[..])?;
            }
            // Random keys are the worst case of a B-tree. In order, neighbours share pages.
            places.sort_unstable();
            let mut blobs = transaction.open_table(BLOBS)?;
            let mut more = transaction.open_multimap_table(MORE)?;
            let mut blocks = transaction.open_table(FILTER)?;
            for (id, place) in &places {
                let key = blob_key(id);
                let before = blobs.insert(key, place)?.map(|value| value.value());
                if let Some(before) = before {
                    more.insert(key, before)?;
                }
                // Ids that share their first half are two ids in the filter.
                if before.is_none() || !filter.maybe_has(id, |key| load_block(&blocks, key))? {
                    filter.put(id, |key| load_block(&blocks, key))?;
                }
            }
            for (key, block) in filter.take_dirty() {
                blocks.insert(key, block)?;
            }
            let counts: Vec<u8> = filter
                .counts()
                .iter()
                .flat_map(|c| c.to_le_bytes())
                .collect();
            transaction.open_table(META)?.insert(LAYERS, &counts[..])?;
        }
        // A look-up locks the tables and then the filter, so do not wait for the tables while the
        // filter is locked. Until the tables are replaced, the filter accepts ids that they do not
        // have yet, which costs a query that finds nothing.
        drop(filter);
        transaction.commit()?;
        *write_lock(&self.tables) = open_tables(&self.database)?;
        Ok(())
    }

    /// Removes segments that no longer count, and the packs that no other segment names. The
    /// segments in `keep` stay as segments without packs, so that they are not read again.
    pub(super) fn forget(&self, gone: &[ObjectHash], keep: &[ObjectHash]) -> Result<(), DbError> {
        let gone: HashSet<_> = gone.iter().collect();
        let (mut dropped, mut named) = (HashSet::new(), HashSet::new());
        for row in self.segments()? {
            let packs = if gone.contains(&row.name) {
                &mut dropped
            } else {
                &mut named
            };
            packs.extend(row.packs);
        }
        let mut dropped: Vec<u32> = dropped.difference(&named).copied().collect();
        dropped.sort_unstable();
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut table = transaction.open_table(SEGMENTS)?;
            for name in &gone {
                let row = table.remove(name.as_bytes())?;
                let Some(row) = row.map(|row| SegmentRow::decode(*name.as_bytes(), row.value()))
                else {
                    continue;
                };
                if keep.contains(name) {
                    let row = SegmentRow {
                        packs: Vec::new(),
                        ..row?
                    };
                    table.insert(name.as_bytes(), &row.encode()[..])?;
                }
            }
            let mut rows = transaction.open_table(PACKS)?;
            let mut numbers = transaction.open_table(NUMBERS)?;
            let mut unnamed = transaction.open_table(UNNAMED)?;
            let mut blobs = transaction.open_table(BLOBS)?;
            let mut more = transaction.open_multimap_table(MORE)?;
            for number in dropped {
                let Some(row) = rows.remove(number)?.map(|row| row.value().to_vec()) else {
                    continue;
                };
                let pack = listing_of_row(&row)?;
                numbers.remove(pack.pack.as_bytes())?;
                unnamed.remove(pack.pack.as_bytes())?;
                let ids = (0..).zip(pack.contents.blobs());
                let mut places: Vec<_> = ids
                    .map(|(i, b)| (blob_key(&b.id), place(number, i)))
                    .collect();
                places.sort_unstable();
                for (key, place) in places {
                    if more.remove(key, place)? {
                        continue;
                    }
                    if blobs.get(key)?.map(|at| at.value()) != Some(place) {
                        continue;
                    }
                    let mut others = more.get(&key)?;
                    let other = others.next().transpose()?.map(|at| at.value());
                    drop(others);
                    if let Some(other) = other {
                        more.remove(key, other)?;
                        blobs.insert(key, other)?;
                    } else {
                        blobs.remove(key)?;
                    }
                }
            }
        }
        transaction.commit()?;
        *write_lock(&self.tables) = open_tables(&self.database)?;
        Ok(())
    }
}
