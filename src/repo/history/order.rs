//! The order of the backups of a volume. Section 19 (Order of backups) of `docs/format.md`.
//!
//! Each record names the records of its volume that it *follows*: those that no other record
//! followed when its backup began. A record is newer than all records that it follows, directly or
//! through others. The times of two records decide only if neither follows the other.
//!
//! A record is *passed over* if it was forgotten and deleted, or if its writer withdrew it
//! (voided). Such a record is no backup to choose, but it still orders the records before and after
//! it.

use std::collections::{BinaryHeap, HashMap, HashSet};

use jiff::Timestamp;

use crate::base::ObjectHash;

/// The fields of a record that determine its place in the order.
#[derive(Debug, Clone, Copy)]
pub struct OrderedRecord<'a> {
    /// Its id.
    pub id: ObjectHash,
    /// The records that it follows.
    pub follows: &'a [ObjectHash],
    /// The record that it replaces, if its signer has the right to replace records.
    pub replaces: Option<ObjectHash>,
    /// Its time; `None` if the record is passed over, because it is forgotten or voided.
    pub time: Option<Timestamp>,
    /// Whether the records that it follows are checked for [gaps](History::gaps).
    pub shows_gaps: bool,
}

/// The records of one volume in their order, including those that are forgotten or voided.
#[derive(Debug, Clone, Default)]
pub struct History {
    entries: Vec<HistoryEntry>,
    gaps: Vec<ObjectHash>,
}

/// One record of a [`History`].
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    /// Its id.
    pub id: ObjectHash,
    /// Whether it is passed over, because it is forgotten or voided.
    pub passed_over: bool,
    /// The places of older records in this history: the records that it follows, the records that
    /// replaced those, and the record that it replaces. The newest record is at place 0, so each of
    /// these places is larger than its own.
    pub follows: Vec<usize>,
    /// Whether its place is in `follows` of another entry.
    pub followed: bool,
}

/// The order in which records are taken: records that are passed over come first, then those with
/// the latest time, then those with the larger id.
type Priority = (bool, Option<Timestamp>, ObjectHash);

impl History {
    /// Puts the records of one volume in order. Ids must be distinct. `known` is asked about
    /// followed records that are not among `records`. It returns whether the project has such a
    /// record, or permits that it is missing.
    ///
    /// Takes O(n log n) steps for n records and references, if no record replaces another.
    #[must_use]
    pub fn new(records: &[OrderedRecord<'_>], known: impl Fn(&ObjectHash) -> bool) -> Self {
        let successors = Successors::new(records);
        let follows: Vec<Vec<usize>> = (0..records.len())
            .map(|number| successors.followed_by(records, number))
            .collect();
        let sequence = sequence(records, &follows);
        let mut places = vec![0; records.len()];
        for (place, &number) in sequence.iter().enumerate() {
            places[number] = place;
        }
        let mut entries: Vec<HistoryEntry> = Vec::with_capacity(records.len());
        for (place, &number) in sequence.iter().enumerate() {
            let mut after: Vec<usize> = follows[number].iter().map(|&n| places[n]).collect();
            // Drop references that close a circle. Only a faulty program writes such records.
            after.retain(|&older| older > place);
            after.sort_unstable();
            entries.push(HistoryEntry {
                id: records[number].id,
                passed_over: records[number].time.is_none(),
                follows: after,
                followed: false,
            });
        }
        for place in 0..entries.len() {
            for older in entries[place].follows.clone() {
                entries[older].followed = true;
            }
        }
        let named = records.iter().filter(|record| record.shows_gaps);
        let named = named.flat_map(|record| record.follows);
        let mut gaps: Vec<ObjectHash> = named
            .filter(|id| !successors.are_known(id) && !known(id))
            .copied()
            .collect();
        gaps.sort_unstable();
        gaps.dedup();
        Self { entries, gaps }
    }

    /// The records, newest first.
    #[must_use]
    pub fn entries(&self) -> &[HistoryEntry] {
        &self.entries
    }

    /// The ids of the records that are not passed over, newest first.
    #[must_use]
    pub fn counted(&self) -> impl DoubleEndedIterator<Item = ObjectHash> {
        let counted = self.entries.iter().filter(|entry| !entry.passed_over);
        counted.map(|entry| entry.id)
    }

    /// The records that no other one follows, newest first, including records that are passed over.
    /// A new backup follows these.
    pub fn unfollowed(&self) -> impl Iterator<Item = ObjectHash> {
        let unfollowed = self.entries.iter().filter(|entry| !entry.followed);
        unfollowed.map(|entry| entry.id)
    }

    /// The ids of followed records that are missing, and for which `known` of [`new`](Self::new)
    /// returned false. In ascending order. Checks only what records with
    /// [`shows_gaps`](OrderedRecord::shows_gaps) follow.
    #[must_use]
    pub fn gaps(&self) -> &[ObjectHash] {
        &self.gaps
    }

    /// Considers only records that are not passed over and for which `counts` is true. Among these,
    /// returns those that no other one follows, directly or through others. Newest first.
    pub fn tips(&self, counts: impl Fn(ObjectHash) -> bool) -> Vec<ObjectHash> {
        let mut covered = vec![false; self.entries.len()];
        let mut tips = Vec::new();
        for (place, entry) in self.entries.iter().enumerate() {
            let counts = !entry.passed_over && counts(entry.id);
            if counts && !covered[place] {
                tips.push(entry.id);
            }
            for &older in &entry.follows {
                covered[older] |= counts || covered[place];
            }
        }
        tips
    }
}

/// Finds records by id, together with the records that replaced them.
struct Successors {
    by_id: HashMap<ObjectHash, usize>,
    replaced_by: HashMap<ObjectHash, Vec<usize>>,
}

impl Successors {
    fn new(records: &[OrderedRecord<'_>]) -> Self {
        let mut found = Self {
            by_id: HashMap::with_capacity(records.len()),
            replaced_by: HashMap::new(),
        };
        for (number, record) in records.iter().enumerate() {
            found.by_id.insert(record.id, number);
            if let Some(replaced) = record.replaces {
                found.replaced_by.entry(replaced).or_default().push(number);
            }
        }
        found
    }

    /// Whether there is a record with this id, or a record that replaced it.
    fn are_known(&self, id: &ObjectHash) -> bool {
        self.by_id.contains_key(id) || self.replaced_by.contains_key(id)
    }

    /// Returns the numbers of the records that this one shows to be older, in ascending order.
    /// These are the records that it follows, the records that replaced those, and the record that
    /// it replaces.
    fn followed_by(&self, records: &[OrderedRecord<'_>], number: usize) -> Vec<usize> {
        let record = &records[number];
        let mut todo: Vec<ObjectHash> = record.follows.to_vec();
        let mut seen: HashSet<ObjectHash> = HashSet::new();
        let mut found = Vec::new();
        while let Some(id) = todo.pop() {
            if self.replaced_by.is_empty() {
                found.extend(self.by_id.get(&id));
                continue;
            }
            if seen.insert(id) {
                found.extend(self.by_id.get(&id));
                let successors = self.replaced_by.get(&id).into_iter().flatten();
                todo.extend(successors.map(|&successor| records[successor].id));
            }
        }
        found.extend(record.replaces.and_then(|id| self.by_id.get(&id)));
        found.retain(|&other| other != number);
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Returns the numbers of the records, newest first. Repeatedly takes the record with the highest
/// priority among those whose followers are all taken.
fn sequence(records: &[OrderedRecord<'_>], follows: &[Vec<usize>]) -> Vec<usize> {
    let priority = |number: usize| -> Priority {
        let record = &records[number];
        (record.time.is_none(), record.time, record.id)
    };
    let mut followers = vec![0_usize; records.len()];
    for &older in follows.iter().flatten() {
        followers[older] += 1;
    }
    let mut taken = vec![false; records.len()];
    let mut sequence = Vec::with_capacity(records.len());
    let mut waiting: BinaryHeap<(Priority, usize)> = (0..records.len())
        .filter(|&number| followers[number] == 0)
        .map(|number| (priority(number), number))
        .collect();
    while let Some((_, number)) = waiting.pop() {
        taken[number] = true;
        sequence.push(number);
        for &older in &follows[number] {
            followers[older] -= 1;
            if followers[older] == 0 {
                waiting.push((priority(older), older));
            }
        }
    }
    // The remaining records follow each other in a circle, or a record of a circle follows them.
    // Order them by priority alone.
    let mut rest: Vec<usize> = (0..records.len()).filter(|&n| !taken[n]).collect();
    rest.sort_by_key(|&number| std::cmp::Reverse(priority(number)));
    sequence.extend(rest);
    sequence
}

#[cfg(test)]
mod tests;
