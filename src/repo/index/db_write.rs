//! Adds segments and packs to the database, and removes them.

use std::collections::{HashMap, HashSet};

use redb::{ReadableMultimapTable, ReadableTable, WriteTransaction};

use super::db::{Db, load_block, named_row, open_tables, session_parts};
use super::panics::DbError;
use super::tables::{
    BLOBS, FILTER, LAYERS, META, MORE, NAMED, NO_SESSION, NUMBERS, NamedRow, PACKS, PackRow,
    SEGMENTS, SESSION_NUMBERS, SESSIONS, SIGNERS, SegmentRow, UNNAMED, blob_key, place,
};
use crate::base::{ObjectHash, SignerId, lock, write_lock};
use crate::crypto::{Encapsulation, hash};
use crate::format::{Contents, IndexSegment, PackKey, PackListing};

/// A segment to add.
pub(super) struct NewSegment {
    pub(super) name: ObjectHash,
    pub(super) signer: SignerId,
    pub(super) segment: IndexSegment,
}

/// The source of a listing of a pack.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// A segment of this signer.
    Segment(&'a SignerId),
    /// The pack itself. Its listing overrides those of segments.
    Pack,
}

/// Packs for which segments list different contents, while neither the pack itself nor a segment
/// of a full key decides between them.
type Disputed = Vec<ObjectHash>;

/// A transaction that adds packs.
struct Adding<'t> {
    transaction: &'t WriteTransaction,
    /// The public key of the project's full keys. A listing in a segment that it signed overrides
    /// the listings in other segments.
    authority: &'t SignerId,
    /// The number for the next new pack.
    next: u32,
    /// The blobs of the added packs, and their places.
    places: Vec<(crate::base::BlobId, u64)>,
    signers: HashSet<SignerId>,
    disputed: Disputed,
}

impl Db {
    /// Adds segments and the packs that they name, in one transaction. If segments state different
    /// contents for a pack, the contents that were read from the pack itself count. If the pack was
    /// not read, the segment of a full key decides. Returns the packs for which nothing decides.
    pub(super) fn insert(
        &self,
        segments: &[NewSegment],
        authority: &SignerId,
    ) -> Result<Disputed, DbError> {
        self.put(segments, &[], authority)
    }

    /// Adds packs whose contents were read from the packs themselves, in one transaction. These
    /// contents replace those that the database has for the same packs.
    pub(super) fn insert_read(
        &self,
        packs: &[PackListing],
        authority: &SignerId,
    ) -> Result<(), DbError> {
        self.put(&[], packs, authority).map(drop)
    }

    fn put(
        &self,
        segments: &[NewSegment],
        read: &[PackListing],
        authority: &SignerId,
    ) -> Result<Disputed, DbError> {
        let mut filter = lock(&self.filter);
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        let last = {
            let rows = transaction.open_table(PACKS)?;
            rows.last()?.map(|(number, _)| number.value())
        };
        let mut adding = Adding {
            transaction: &transaction,
            authority,
            next: last.map_or(0, |last| last + 1),
            places: Vec::new(),
            signers: HashSet::new(),
            disputed: Vec::new(),
        };
        for pack in read {
            adding.pack(pack, Source::Pack)?;
        }
        for NewSegment {
            name,
            signer,
            segment,
        } in segments
        {
            let mut packs = Vec::with_capacity(segment.packs.len());
            for pack in &segment.packs {
                packs.extend(adding.pack(pack, Source::Segment(signer))?);
            }
            adding.signers.insert(*signer);
            let row = SegmentRow {
                name: *name,
                signer: *signer,
                retired: false,
                packs,
                superseded: segment.superseded.clone(),
            };
            let mut table = transaction.open_table(SEGMENTS)?;
            table.insert(name.as_bytes(), &row.encode()[..])?;
        }
        let Adding {
            mut places,
            signers,
            disputed,
            ..
        } = adding;
        {
            let mut table = transaction.open_table(SIGNERS)?;
            for signer in signers {
                table.insert(signer.as_bytes(), ())?;
            }
            // Insert the keys in order, so that neighbours share pages. Random keys are the worst
            // case of a B-tree.
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
                // Two ids with the same first half have one key here, but are two ids in the
                // filter.
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
        // filter is locked. Until the tables are replaced, the filter accepts ids that the tables
        // do not have yet. For such an id, the look-up makes a query that finds nothing.
        drop(filter);
        transaction.commit()?;
        *write_lock(&self.tables) = open_tables(&self.database)?;
        Ok(disputed)
    }

    /// Notes that all bytes of a pack were read, and are those that its signer signed.
    pub(super) fn set_whole(
        &self,
        pack: &PackListing,
        authority: &SignerId,
    ) -> Result<(), DbError> {
        // The database may have other contents for this pack.
        self.insert_read(std::slice::from_ref(pack), authority)?;
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let numbers = transaction.open_table(NUMBERS)?;
            let number = numbers.get(pack.pack.as_bytes())?.map(|n| n.value().0);
            let number = number.ok_or("a pack is missing")?;
            let mut table = transaction.open_table(NAMED)?;
            let named = NamedRow {
                whole: true,
                ..named_row(&table, number)?
            };
            table.insert(number, &named.encode()[..])?;
        }
        transaction.commit()?;
        *write_lock(&self.tables) = open_tables(&self.database)?;
        Ok(())
    }

    /// Removes the segments in `gone`, which no longer count, and those of their packs that no
    /// remaining segment names. Those segments of `gone` that are also in `keep` stay with their
    /// packs, for reading only.
    pub(super) fn forget(&self, gone: &[ObjectHash], keep: &[ObjectHash]) -> Result<(), DbError> {
        let gone: HashSet<_> = gone.iter().collect();
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        // The packs of the segments that no longer count. For each pack, the signers of the
        // segments that still name it: first of those that count, then of superseded ones.
        let mut affected: HashMap<u32, [Vec<SignerId>; 2]> = HashMap::new();
        {
            let mut table = transaction.open_table(SEGMENTS)?;
            for row in self.segments()? {
                if !gone.contains(&row.name) {
                    continue;
                }
                let is_kept = keep.contains(&row.name);
                for number in &row.packs {
                    let [_, retired] = affected.entry(*number).or_default();
                    if is_kept {
                        retired.push(row.signer);
                    }
                }
                if is_kept {
                    let row = SegmentRow {
                        retired: true,
                        ..row
                    };
                    table.insert(row.name.as_bytes(), &row.encode()[..])?;
                } else {
                    table.remove(row.name.as_bytes())?;
                }
            }
        }
        for row in self.segments()? {
            if gone.contains(&row.name) {
                continue;
            }
            for number in &row.packs {
                if let Some(signers) = affected.get_mut(number) {
                    let signers = &mut signers[usize::from(row.retired)];
                    if !signers.contains(&row.signer) {
                        signers.push(row.signer);
                    }
                }
            }
        }
        let mut affected: Vec<_> = affected.into_iter().collect();
        affected.sort_unstable_by_key(|(number, _)| *number);
        for (number, [counting, superseded]) in affected {
            let retired = counting.is_empty();
            let signers = if retired { superseded } else { counting };
            if signers.is_empty() {
                remove_pack(&transaction, number)?;
                continue;
            }
            let mut table = transaction.open_table(NAMED)?;
            let named = NamedRow {
                retired,
                signers,
                ..named_row(&table, number)?
            };
            table.insert(number, &named.encode()[..])?;
        }
        transaction.commit()?;
        *write_lock(&self.tables) = open_tables(&self.database)?;
        Ok(())
    }
}

impl Adding<'_> {
    /// Adds a pack, or compares it with the contents in the database. Returns its number if the
    /// database now has the contents that the source states, and otherwise `None`.
    fn pack(&mut self, pack: &PackListing, source: Source<'_>) -> Result<Option<u32>, DbError> {
        let number = {
            let numbers = self.transaction.open_table(NUMBERS)?;
            numbers.get(pack.pack.as_bytes())?.map(|n| n.value().0)
        };
        let Some(number) = number else {
            let number = self.next;
            self.next += 1;
            self.write(number, pack)?;
            let mut named = NamedRow::default();
            match source {
                Source::Segment(signer) => named.signers.push(*signer),
                Source::Pack => {
                    named.by_itself = true;
                    let mut unnamed = self.transaction.open_table(UNNAMED)?;
                    unnamed.insert(pack.pack.as_bytes(), ())?;
                }
            }
            self.set_named(number, &named)?;
            return Ok(Some(number));
        };
        let mut named = named_row(&self.transaction.open_table(NAMED)?, number)?;
        if !self.is_known(number, pack)? {
            match source {
                Source::Segment(signer) => {
                    let decided = named.by_itself || named.signers.contains(self.authority);
                    if decided || signer != self.authority {
                        if !decided {
                            self.disputed.push(pack.pack);
                        }
                        return Ok(None);
                    }
                }
                Source::Pack => {}
            }
            // The segments that named the pack before stated other contents.
            self.disown(number)?;
            remove_pack(self.transaction, number)?;
            self.write(number, pack)?;
            named = NamedRow::default();
        }
        match source {
            Source::Segment(signer) => {
                self.transaction
                    .open_table(UNNAMED)?
                    .remove(pack.pack.as_bytes())?;
                if named.retired {
                    named.retired = false;
                    named.signers.clear();
                }
                if !named.signers.contains(signer) {
                    named.signers.push(*signer);
                }
            }
            Source::Pack => {
                named.by_itself = true;
                if named.signers.is_empty() && named.counts() {
                    let mut unnamed = self.transaction.open_table(UNNAMED)?;
                    unnamed.insert(pack.pack.as_bytes(), ())?;
                }
            }
        }
        self.set_named(number, &named)?;
        Ok(Some(number))
    }

    /// Whether the database has the same contents for the pack.
    fn is_known(&self, number: u32, pack: &PackListing) -> Result<bool, DbError> {
        let rows = self.transaction.open_table(PACKS)?;
        let row = rows.get(number)?.ok_or("a pack is missing")?;
        let session = match &pack.contents.key {
            PackKey::Project => Some(NO_SESSION),
            PackKey::Session(encapsulation) => {
                let numbers = self.transaction.open_table(SESSION_NUMBERS)?;
                let number = numbers.get(&hash(&[&encapsulation[..]]))?;
                number.map(|number| number.value())
            }
        };
        Ok(session.is_some_and(|session| row.value() == PackRow::encode(pack, session)))
    }

    /// Stores a new row for a pack, and notes its blobs.
    fn write(&mut self, number: u32, pack: &PackListing) -> Result<(), DbError> {
        let session = match &pack.contents.key {
            PackKey::Project => NO_SESSION,
            PackKey::Session(encapsulation) => use_session(self.transaction, encapsulation)?,
        };
        let row = PackRow::encode(pack, session);
        let mut numbers = self.transaction.open_table(NUMBERS)?;
        numbers.insert(pack.pack.as_bytes(), (number, pack.contents.pack_size()))?;
        let mut rows = self.transaction.open_table(PACKS)?;
        rows.insert(number, &row[..])?;
        let blobs = (0..).zip(pack.contents.blobs());
        let mut places: Vec<_> = blobs.map(|(i, blob)| (blob.id, place(number, i))).collect();
        // Keep only one place for each id: a pack may list an id a million times, and look-ups try
        // all places.
        places.sort_unstable();
        places.dedup_by_key(|(id, _)| *id);
        self.places.append(&mut places);
        self.signers.insert(pack.signer);
        Ok(())
    }

    fn set_named(&self, number: u32, named: &NamedRow) -> Result<(), DbError> {
        let mut table = self.transaction.open_table(NAMED)?;
        table.insert(number, &named.encode()[..])?;
        Ok(())
    }

    /// Removes a pack from all segments that name it, since they state other contents than those
    /// that the database will have.
    fn disown(&mut self, number: u32) -> Result<(), DbError> {
        self.places.retain(|(_, at)| at >> 32 != u64::from(number));
        let mut table = self.transaction.open_table(SEGMENTS)?;
        let mut changed = Vec::new();
        for row in table.iter()? {
            let (name, row) = row?;
            let mut row = SegmentRow::decode(name.value(), row.value())?;
            if row.packs.contains(&number) {
                row.packs.retain(|pack| *pack != number);
                changed.push(row);
            }
        }
        for row in changed {
            table.insert(row.name.as_bytes(), &row.encode()[..])?;
        }
        Ok(())
    }
}

/// Returns the number of a session (one backup with a write key, whose packs share a key). Counts
/// one more pack that uses the session.
fn use_session(
    transaction: &WriteTransaction,
    encapsulation: &Encapsulation,
) -> Result<u32, DbError> {
    let mut numbers = transaction.open_table(SESSION_NUMBERS)?;
    let mut sessions = transaction.open_table(SESSIONS)?;
    let name = hash(&[encapsulation]);
    let known = numbers.get(&name)?.map(|number| number.value());
    let (number, packs) = if let Some(number) = known {
        let row = sessions.get(number)?.ok_or("a session is missing")?;
        (number, session_parts(row.value())?.0)
    } else {
        let last = sessions.last()?.map(|(number, _)| number.value());
        let number = last.map_or(0, |last| last + 1);
        numbers.insert(&name, number)?;
        (number, 0)
    };
    let row = [&(packs + 1).to_le_bytes()[..], encapsulation].concat();
    sessions.insert(number, &row[..])?;
    Ok(number)
}

/// Notes that one pack fewer uses this session. Removes the session if no other pack uses it.
fn drop_session(transaction: &WriteTransaction, number: u32) -> Result<(), DbError> {
    if number == NO_SESSION {
        return Ok(());
    }
    let mut numbers = transaction.open_table(SESSION_NUMBERS)?;
    let mut sessions = transaction.open_table(SESSIONS)?;
    let (packs, encapsulation) = {
        let row = sessions.get(number)?.ok_or("a session is missing")?;
        let (packs, encapsulation) = session_parts(row.value())?;
        (packs, *encapsulation)
    };
    if packs <= 1 {
        sessions.remove(number)?;
        numbers.remove(&hash(&[&encapsulation]))?;
    } else {
        let row = [&(packs - 1).to_le_bytes()[..], &encapsulation].concat();
        sessions.insert(number, &row[..])?;
    }
    Ok(())
}

/// Removes a pack and the places of its blobs.
fn remove_pack(transaction: &WriteTransaction, number: u32) -> Result<(), DbError> {
    let row = {
        let mut rows = transaction.open_table(PACKS)?;
        let row = rows.remove(number)?;
        row.map(|row| row.value().to_vec())
    };
    let Some(row) = row else {
        return Ok(());
    };
    let row = PackRow::decode(&row)?;
    drop_session(transaction, row.session)?;
    transaction.open_table(NAMED)?.remove(number)?;
    let mut numbers = transaction.open_table(NUMBERS)?;
    numbers.remove(row.pack.as_bytes())?;
    let mut unnamed = transaction.open_table(UNNAMED)?;
    unnamed.remove(row.pack.as_bytes())?;
    let mut blobs = transaction.open_table(BLOBS)?;
    let mut more = transaction.open_multimap_table(MORE)?;
    let contents = Contents::decode_ids(row.contents)?;
    let mut places: Vec<_> = (0..)
        .zip(contents)
        .map(|(i, id)| (blob_key(&id), place(number, i)))
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
    Ok(())
}
