//! Selects a backup. Fails if a lost record may be of the backup that the user means.

use std::collections::HashSet;

use super::records::Records;
use crate::base::ObjectHash;
use crate::repo::backup::Backup;
use crate::repo::error::RepoError;
use crate::repo::no_backup::{LostRecord, NewestReadable};

impl Records {
    /// Returns the records that are lost: first those that cannot be read, then those that are
    /// missing although other records or the log name them.
    #[must_use]
    pub fn lost(&self) -> &[LostRecord] {
        &self.lost_records().lost
    }

    /// Selects a backup like [`select`](Self::select). Fails with [`RepoError::Uncertain`] in two
    /// cases:
    ///
    /// - The selector is `NAME` or `NAME~N`, and a lost record may be of a newer backup of the same
    ///   volume.
    /// - The selector matches no backup, and records are lost.
    pub fn select_surely(&self, selector: &str) -> Result<&Backup, RepoError> {
        let uncertain = |reason: LostRecord, found: Option<&Backup>| RepoError::Uncertain {
            selector: selector.to_owned(),
            reason,
            found: found.map(|backup| NewestReadable {
                id: backup.id,
                time: backup.time,
            }),
        };
        let backup = match self.select(selector) {
            Err(error @ RepoError::NoBackup { .. }) => {
                let mut lost = self.lost().iter();
                let named = lost
                    .clone()
                    .find(|lost| lost.id.to_string().starts_with(selector));
                return Err(match named.or_else(|| lost.next()) {
                    Some(lost) => uncertain(*lost, None),
                    None => error,
                });
            }
            selected => selected?,
        };
        let lost = if self.is_counted(selector, backup) {
            self.not_seen_by(backup)
        } else {
            None
        };
        match lost {
            Some(lost) => Err(uncertain(lost, Some(backup))),
            None => Ok(backup),
        }
    }

    /// Whether the selector selects this backup as `NAME` or `NAME~N`, so that it counts from the
    /// newest backup of a volume.
    fn is_counted(&self, selector: &str, backup: &Backup) -> bool {
        let is_it = |found: Option<&Backup>| found.is_some_and(|found| found.id == backup.id);
        if selector.parse::<ObjectHash>().is_ok() {
            return false;
        }
        let counted = || {
            let (name, back) = selector.rsplit_once('~')?;
            self.of_volume(name).nth_back(back.parse().ok()?)
        };
        is_it(self.newest(selector)) || is_it(counted())
    }

    /// Returns a lost record that may be of the same volume and newer than this backup; `None` if
    /// there is none. Ignores records that this backup names, directly or through other records,
    /// since these are older.
    fn not_seen_by(&self, backup: &Backup) -> Option<LostRecord> {
        if self.lost().is_empty() {
            return None;
        }
        let mut seen: HashSet<ObjectHash> = HashSet::new();
        let mut todo = vec![backup.id];
        while let Some(id) = todo.pop() {
            if !seen.insert(id) {
                continue;
            }
            match self.get(id) {
                Some(backup) => {
                    let record = &backup.record;
                    todo.extend(
                        record
                            .follows
                            .iter()
                            .chain(&record.heads)
                            .chain(&record.base),
                    );
                }
                None => todo.extend(self.lost_records().removed.get(&id).into_iter().flatten()),
            }
        }
        // A record follows only records of its own volume. So a lost record is of another volume if
        // a record of that volume follows it. Ignore records of write keys: a thief may have made
        // them.
        let volume = &backup.record.volume.name;
        let of_others = self
            .all()
            .iter()
            .filter(|b| b.is_full && b.record.volume.name != *volume);
        seen.extend(of_others.flat_map(|backup| &backup.record.follows));
        let mut lost = self.lost().iter();
        lost.find(|lost| !seen.contains(&lost.id)).copied()
    }
}
