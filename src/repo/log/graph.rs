//! The order of entries, and the set of objects that they describe together.

use std::collections::{HashMap, HashSet};

use super::entry::Entry;
use crate::base::ObjectHash;
use crate::format::LogItem;

/// Verified entries. Each entry names its previous ones. Several writers at the same time make
/// several lines of entries, which the next entry joins.
#[derive(Debug, Default)]
pub(super) struct Graph {
    entries: Vec<Entry>,
    by_hash: HashMap<ObjectHash, usize>,
}

impl Graph {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let mut graph = Self::default();
        for entry in entries {
            graph.add(entry);
        }
        graph
    }

    pub(super) fn add(&mut self, entry: Entry) {
        if !self.by_hash.contains_key(&entry.hash) {
            self.by_hash.insert(entry.hash, self.entries.len());
            self.entries.push(entry);
        }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn get(&self, hash: &ObjectHash) -> Option<&Entry> {
        self.entries.get(*self.by_hash.get(hash)?)
    }

    fn named(&self) -> HashSet<ObjectHash> {
        let all = self.entries.iter();
        all.flat_map(|entry| entry.plain.previous.iter().copied())
            .collect()
    }

    /// Returns the entries that no other one names, in ascending order of their hashes.
    pub(super) fn tips(&self) -> Vec<ObjectHash> {
        let named = self.named();
        let all = self.entries.iter().map(|entry| entry.hash);
        let mut tips: Vec<_> = all.filter(|hash| !named.contains(hash)).collect();
        tips.sort_unstable();
        tips
    }

    /// Returns the hashes that these entries name as previous, but that none of these entries has.
    /// In ascending order.
    pub(super) fn missing(&self) -> Vec<ObjectHash> {
        let named = self.named().into_iter();
        let mut missing: Vec<_> = named
            .filter(|hash| !self.by_hash.contains_key(hash))
            .collect();
        missing.sort_unstable();
        missing
    }

    /// Returns the number of an entry that follows these.
    pub(super) fn next_number(&self, previous: &[ObjectHash]) -> u64 {
        let numbers = previous.iter().filter_map(|hash| self.get(hash));
        let largest = numbers.map(|entry| entry.plain.number).max();
        largest.unwrap_or_default().saturating_add(1)
    }

    /// Returns the newest entry: of those with the largest number, the one with the largest hash.
    /// Returns `None` if there are no entries.
    pub(super) fn newest(&self) -> Option<&Entry> {
        let key = |entry: &&Entry| (entry.plain.number, entry.hash);
        self.entries.iter().max_by_key(key)
    }

    /// Returns the entries whose number is not one more than the largest number of their previous
    /// entries. Ignores entries whose previous ones are missing.
    pub(super) fn miscounted(&self) -> impl Iterator<Item = ObjectHash> {
        let all = self.entries.iter();
        let wrong = all.filter(|entry| {
            let previous = &entry.plain.previous;
            previous.iter().all(|hash| self.by_hash.contains_key(hash))
                && entry.plain.number != self.next_number(previous)
        });
        wrong.map(|entry| entry.hash)
    }

    /// Returns the positions of these entries and of all entries before them.
    fn with_ancestors(&self, from: impl IntoIterator<Item = ObjectHash>) -> HashSet<usize> {
        let mut todo: Vec<ObjectHash> = from.into_iter().collect();
        let mut seen = HashSet::new();
        while let Some(hash) = todo.pop() {
            if let Some(at) = self.by_hash.get(&hash)
                && seen.insert(*at)
            {
                todo.extend(&self.entries[*at].plain.previous);
            }
        }
        seen
    }

    /// Returns the objects that these entries and all earlier ones add, without those that any of
    /// them removes, in ascending order. Entries before a summary do not count, since the summary
    /// names all of their objects.
    pub(super) fn set(&self, of: &[ObjectHash]) -> Vec<LogItem> {
        let mut counting = self.with_ancestors(of.iter().copied());
        let summaries = counting.iter().map(|at| &self.entries[*at].plain);
        let before: Vec<ObjectHash> = summaries
            .filter(|entry| entry.summary)
            .flat_map(|entry| entry.previous.iter().copied())
            .collect();
        for covered in self.with_ancestors(before) {
            counting.remove(&covered);
        }
        let counting: Vec<&Entry> = counting.iter().map(|at| &self.entries[*at]).collect();
        let lists = counting.iter().map(|entry| &entry.plain.removed[..]);
        let removed = merged(lists);
        let mut added = merged(counting.iter().map(|entry| &entry.plain.added[..]));
        added.retain(|item| removed.binary_search(item).is_err());
        added
    }

    /// Returns the number of entries that are neither summaries nor before one.
    pub(super) fn since_summary(&self) -> usize {
        let summaries = self.entries.iter().filter(|entry| entry.plain.summary);
        let covered = self.with_ancestors(summaries.map(|entry| entry.hash));
        self.entries.len() - covered.len()
    }
}

/// Merges lists into one in ascending order and without duplicates.
pub(super) fn merged<'a>(lists: impl Iterator<Item = &'a [LogItem]>) -> Vec<LogItem> {
    let mut all: Vec<LogItem> = lists.flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{LogDetails, LogEntry, LogKind};

    fn hash(number: u8) -> ObjectHash {
        ObjectHash::from_bytes([number; 32])
    }

    fn items(numbers: &[u8]) -> Vec<LogItem> {
        let kind = LogKind::Record;
        let items = numbers.iter().map(|number| LogItem {
            kind,
            hash: hash(*number),
        });
        items.collect()
    }

    fn entry(name: u8, number: u64, previous: &[u8], added: &[u8], removed: &[u8]) -> Entry {
        Entry {
            hash: hash(name),
            plain: LogEntry {
                number,
                previous: previous.iter().map(|name| hash(*name)).collect(),
                added: items(added),
                removed: items(removed),
                ..LogEntry::default()
            },
            details: LogDetails::default(),
        }
    }

    /// Returns two lines of entries. Both begin at entry 1, and entry 4 joins them.
    fn joined() -> Vec<Entry> {
        vec![
            entry(1, 1, &[], &[10, 11, 12], &[]),
            entry(2, 2, &[1], &[13], &[10]),
            entry(3, 2, &[1], &[14], &[11]),
            entry(4, 3, &[2, 3], &[15], &[13]),
        ]
    }

    #[test]
    fn the_set_of_an_entry_is_everything_that_it_and_earlier_entries_add_and_do_not_remove() {
        let graph = Graph::new(joined());
        assert_eq!(graph.set(&[hash(1)]), items(&[10, 11, 12]));
        assert_eq!(graph.set(&[hash(2)]), items(&[11, 12, 13]));
        assert_eq!(graph.set(&[hash(3)]), items(&[10, 12, 14]));
        assert_eq!(graph.set(&[hash(4)]), items(&[12, 14, 15]));
        assert_eq!(graph.set(&[hash(2), hash(3)]), items(&[12, 13, 14]));
        assert_eq!(graph.tips(), [hash(4)]);
        assert_eq!(graph.next_number(&graph.tips()), 4);
        assert!(graph.missing().is_empty() && graph.miscounted().next().is_none());
    }

    #[test]
    fn entries_before_a_summary_do_not_count() {
        let mut entries = joined();
        entries[3].plain.summary = true;
        entries[3].plain.removed.clear();
        // The summary adds object 10 again, which an earlier entry removed.
        entries[3].plain.added = items(&[10, 12]);
        entries.push(entry(5, 4, &[4], &[16], &[12]));
        let graph = Graph::new(entries);
        assert_eq!(graph.set(&[hash(5)]), items(&[10, 16]));
        assert_eq!(graph.since_summary(), 1);
        // An entry that does not precede the summary counts.
        let mut entries = joined();
        entries[3].plain.summary = true;
        entries[3].plain.added = items(&[12]);
        entries.push(entry(6, 3, &[3], &[17], &[12]));
        let graph = Graph::new(entries);
        assert_eq!(graph.set(&graph.tips()), items(&[17]));
        assert_eq!(graph.next_number(&graph.tips()), 4);
    }

    #[test]
    fn a_missing_entry_that_another_one_names_is_noticed() {
        let mut entries = joined();
        entries.remove(1);
        let graph = Graph::new(entries);
        assert_eq!(graph.missing(), [hash(2)]);
        assert_eq!(graph.tips(), [hash(4)]);
        assert!(
            graph.miscounted().next().is_none(),
            "without that entry the number cannot be verified"
        );
    }

    #[test]
    fn a_number_that_is_not_one_more_than_those_before_is_noticed() {
        let mut entries = joined();
        entries[3].plain.number = u64::MAX;
        let graph = Graph::new(entries);
        assert!(graph.miscounted().eq([hash(4)]));
        assert_eq!(graph.next_number(&graph.tips()), u64::MAX);
    }
}
