//! Describes missing parts of a project's history.

use std::collections::HashSet;
use std::fmt;

use jiff::Timestamp;

use crate::base::ObjectHash;
use crate::format::{LogItem, LogKind};

/// A backup whose record is missing, with the details that other records and the log give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRecord {
    /// The id of the record.
    pub id: ObjectHash,
    /// The name of its volume, if a backup by a full key or a removed backup follows it.
    pub volume: Option<String>,
    /// The time of the oldest backup by a full key that names it; `None` if no such backup does.
    pub before: Option<Timestamp>,
}

impl fmt::Display for MissingRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backup {}", self.id)?;
        if let Some(volume) = &self.volume {
            write!(f, " of volume “{volume}”")?;
        }
        match self.before {
            Some(time) => write!(f, " from before {time}"),
            None => Ok(()),
        }
    }
}

/// A certificate that the log names and that cannot be used. Backups by its key do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingCertificate {
    /// The certificate.
    pub id: ObjectHash,
    /// Why it cannot be read, if it is not missing.
    pub damage: Option<String>,
}

impl fmt::Display for MissingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {}", self.id)?;
        match &self.damage {
            Some(damage) => write!(f, " (damaged: {damage})"),
            None => Ok(()),
        }
    }
}

/// An entry of the log that exists and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedHistory {
    /// The hash of the entry, which is its name.
    pub id: ObjectHash,
    /// Why it cannot be read.
    pub damage: String,
}

/// Missing or damaged objects that no entry of the log removes or accepts as lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MissingHistory {
    /// Records that other records or the log name.
    pub records: Vec<MissingRecord>,
    /// Entries of the log that later ones name.
    pub entries: Vec<ObjectHash>,
    /// Entries of the log that cannot be read. They may have removed or added objects, or revoked
    /// keys.
    pub damaged_entries: Vec<DamagedHistory>,
    /// Certificates that the log names.
    pub certificates: Vec<MissingCertificate>,
    /// If certificates are missing or damaged, the keys without a certificate. Each of these
    /// certificates may belong to one of the keys.
    pub keys: Vec<String>,
    /// Records that cannot be read. Only a process that deletes packs stops because of them.
    pub(super) damaged_records: Vec<ObjectHash>,
    /// Those records and entries that the store does not deliver to this process. Another user may
    /// be able to read them. So their loss is accepted only if the command line names them.
    pub(super) unreadable: HashSet<ObjectHash>,
}

impl MissingHistory {
    /// Returns whether no record, log entry or certificate is missing, and all log entries and
    /// certificates can be read. Damaged records do not count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.entries.is_empty()
            && self.damaged_entries.is_empty()
            && self.certificates.is_empty()
    }

    /// Returns whether nothing is missing: all of these objects exist, but cannot be read.
    #[must_use]
    pub fn is_only_damage(&self) -> bool {
        let damaged = self.certificates.iter().all(|c| c.damage.is_some());
        self.records.is_empty() && self.entries.is_empty() && damaged
    }

    /// Returns the names of everything that is missing or damaged.
    pub(super) fn ids(&self) -> impl Iterator<Item = ObjectHash> {
        let records = self.records.iter().map(|record| record.id);
        let certificates = self.certificates.iter().map(|certificate| certificate.id);
        let entries = self.entries.iter().copied();
        let damaged = self.damaged_entries.iter().map(|entry| entry.id);
        let missing = records.chain(certificates).chain(entries);
        missing
            .chain(damaged)
            .chain(self.damaged_records.iter().copied())
    }

    /// Returns those records and certificates that are in `lost`, as items for an entry of the log.
    /// After an entry removes them, a check without a key does not report them as missing.
    pub(super) fn items(&self, lost: &[ObjectHash]) -> Vec<LogItem> {
        let records = self.records.iter().map(|record| record.id);
        let records = records.chain(self.damaged_records.iter().copied());
        let records = records.map(|hash| (LogKind::Record, hash));
        let certificates = self.certificates.iter();
        let certificates = certificates.map(|missing| (LogKind::Certificate, missing.id));
        let items = records.chain(certificates);
        let items = items.filter(|(_, hash)| lost.contains(hash));
        items.map(|(kind, hash)| LogItem { kind, hash }).collect()
    }

    /// Leaves out the objects with these names.
    pub(super) fn without(&mut self, ids: &[ObjectHash]) {
        self.records.retain(|record| !ids.contains(&record.id));
        self.certificates
            .retain(|missing| !ids.contains(&missing.id));
        self.entries.retain(|entry| !ids.contains(entry));
        self.damaged_entries
            .retain(|entry| !ids.contains(&entry.id));
        self.damaged_records.retain(|record| !ids.contains(record));
    }
}

impl fmt::Display for MissingHistory {
    /// Names the first 20 objects, and counts the others. Also names the keys without a
    /// certificate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        let certificates = self.certificates.iter().map(ToString::to_string);
        let records = self.records.iter().map(ToString::to_string);
        let entries = self.entries.iter().map(|hash| format!("log entry {hash}"));
        let damaged = self.damaged_entries.iter();
        let damaged =
            damaged.map(|entry| format!("log entry {} (damaged: {})", entry.id, entry.damage));
        let missing = certificates.chain(records).chain(entries);
        let all: Vec<String> = missing.chain(damaged).collect();
        f.write_str(&all[..all.len().min(SHOWN)].join(", "))?;
        match all.len().saturating_sub(SHOWN) {
            0 => {}
            more => write!(f, " and {more} more")?,
        }
        if self.keys.is_empty() {
            return Ok(());
        }
        write!(f, "; keys without a certificate: {}", self.keys.join(", "))
    }
}
