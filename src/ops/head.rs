//! Head: adds all new objects to the log, and states the newest entry. The statement is kept on
//! paper. Later, it shows whether a store was rolled back: the entry must exist, and so must every
//! object that it covers, unless an entry removed the object.

use std::collections::BTreeSet;

use super::context::{Context, TOOL};
use super::error::OpsError;
use crate::base::{ObjectHash, ProjectId, Role, SignerId};
use crate::crypto::hash;
use crate::format::{BlobKind, LogEntry, LogItem, LogKind};
use crate::repo::{Index, Log, NewEntry, ObjectKind, Project, Records, RepoError, Worker};

/// After so many entries, the next entry is a summary. It lists all objects again, so that a reader
/// of the log need not read earlier entries to know them.
const SUMMARY_AFTER: usize = 1000;
/// The number of bytes of a hash that are written on paper.
const SHOWN: usize = 20;

/// The state of a project's log.
#[derive(Debug, Clone)]
pub struct Head {
    /// The project.
    pub project: ProjectId,
    /// Its name.
    pub name: String,
    /// The number of the newest entry.
    pub number: u64,
    /// The hash of that entry.
    pub entry: ObjectHash,
    /// When it was written, in seconds since 1970.
    pub time: u64,
    /// The public key that signs the log.
    pub signer: SignerId,
    /// Whether this run wrote the entry.
    pub written: bool,
    /// The number of objects that this run put into the log.
    pub added: u64,
    /// The number of objects that this entry and the entries before it cover.
    pub objects: u64,
}

impl Head {
    /// Returns the first bytes of the hash of the public key that signs the log.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; SHOWN] {
        shown(&hash(&[self.signer.as_bytes()]))
    }

    /// Returns the first bytes of the hash of the entry.
    #[must_use]
    pub fn entry_shown(&self) -> [u8; SHOWN] {
        shown(self.entry.as_bytes())
    }

    /// Returns two words that reveal a mistake in copying the statement: the first 4 bytes of the
    /// BLAKE3 hash of “cuttlebone head” ‖ 0 ‖ project id ‖ number (8 bytes, little-endian) ‖ the 20
    /// bytes of the entry ‖ the 20 bytes of the fingerprint, 16 bits a word. A word has consonants
    /// of 4 bits (`bdfghjklmnprstvz`) and vowels of 2 bits (`aiou`) in turn, from the highest bits
    /// down.
    #[must_use]
    pub fn checksum(&self) -> [String; 2] {
        let all = hash(&[
            b"cuttlebone head\0",
            self.project.as_bytes(),
            &self.number.to_le_bytes(),
            &self.entry_shown(),
            &self.fingerprint(),
        ]);
        [word([all[0], all[1]]), word([all[2], all[3]])]
    }
}

fn shown(hash: &[u8; 32]) -> [u8; SHOWN] {
    let mut first = [0; SHOWN];
    first.copy_from_slice(&hash[..SHOWN]);
    first
}

/// Writes 16 bits as a word that can be pronounced (a proquint).
fn word(bytes: [u8; 2]) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    let bits = usize::from(u16::from_be_bytes(bytes));
    let letters = [
        CONSONANTS[bits >> 12],
        VOWELS[bits >> 10 & 3],
        CONSONANTS[bits >> 6 & 15],
        VOWELS[bits >> 4 & 3],
        CONSONANTS[bits & 15],
    ];
    letters.map(char::from).iter().collect()
}

/// Adds an entry for everything that the project has and the log does not name yet. If there is
/// nothing new, adds none. Needs a full key.
pub fn head(
    project: &Project,
    host: Option<&str>,
    context: &Context<'_>,
) -> Result<Head, OpsError> {
    project.keys.require(Role::Full).map_err(RepoError::from)?;
    let index = context.index(project)?;
    let there = objects(project, &index, context)?;
    index.close();
    context.cancel.check()?;
    // Load the log after the lists: by then, it names all objects that were deleted meanwhile.
    let mut log = Log::load(project)?;
    let before = log.newest();
    let mut set: BTreeSet<LogItem> = log.set().into_iter().collect();
    let is_new = |item: &LogItem| !set.contains(item) && !log.removed(item.kind, item.hash);
    let new: Vec<LogItem> = there.into_iter().filter(is_new).collect();
    let added = new.len() as u64;
    set.extend(&new);
    let objects = set.len() as u64;
    let summary = log.since_summary() >= SUMMARY_AFTER && set.len() <= LogEntry::ITEMS_MAX;
    let entry = NewEntry {
        added: if summary {
            set.into_iter().collect()
        } else {
            new
        },
        summary,
        // The statement needs a single entry that covers everything.
        always: log.tips().len() != 1,
        ..NewEntry::default()
    };
    log.append(project, entry, Worker { host, tool: TOOL })?;
    let newest = log.newest().ok_or(OpsError::Internal("the log is empty"))?;
    Ok(Head {
        project: project.id,
        name: project.settings.name.clone(),
        number: newest.number,
        entry: newest.hash,
        time: newest.time,
        signer: *project.keys.authority(),
        written: before.is_none_or(|before| before.hash != newest.hash),
        added,
        objects,
    })
}

/// Returns the valid objects of the project.
fn objects(
    project: &Project,
    index: &Index,
    context: &Context<'_>,
) -> Result<BTreeSet<LogItem>, OpsError> {
    let mut items = BTreeSet::new();
    let mut add = |kind, hash| {
        items.insert(LogItem { kind, hash });
    };
    for (kind, object) in [
        (LogKind::Settings, ObjectKind::Settings),
        (LogKind::Certificate, ObjectKind::Certificate),
        (LogKind::Audit, ObjectKind::Audit),
    ] {
        for hash in project.intact(object)? {
            add(kind, hash);
        }
    }
    let records = Records::load(project)?;
    for backup in records.all() {
        add(LogKind::Record, backup.id);
    }
    for segment in index.segments()? {
        add(LogKind::Segment, segment);
    }
    let packs: BTreeSet<ObjectHash> = index.list_packs()?.iter().map(|p| p.hash).collect();
    let unnamed: BTreeSet<ObjectHash> = index.unnamed()?.into_iter().collect();
    index.each_pack(|listing| {
        context.cancel.check()?;
        // Leave out packs that no segment names: their backup may never be committed.
        if packs.contains(&listing.pack) && !unnamed.contains(&listing.pack) {
            let kind = match listing.contents.kind {
                BlobKind::Chunk => LogKind::ChunkPack,
                BlobKind::Node => LogKind::TreePack,
            };
            add(kind, listing.pack);
        }
        Ok(())
    })?;
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::object_hash;

    #[test]
    fn words_are_those_of_the_proquint_proposal() {
        // 127.0.0.1 is lusab-babad.
        assert_eq!([word([127, 0]), word([0, 1])], ["lusab", "babad"]);
        assert_eq!([word([63, 84]), word([220, 193])], ["gutih", "tugad"]);
    }

    #[test]
    fn every_part_of_a_statement_changes_its_checksum() {
        let head = Head {
            project: ProjectId::from_bytes([1; 16]),
            name: "default".into(),
            number: 7,
            entry: object_hash(&[b"entry"]),
            time: 0,
            signer: SignerId::from_bytes([2; 32]),
            written: true,
            added: 1,
            objects: 1,
        };
        let checksum = head.checksum();
        let others = [
            Head {
                project: ProjectId::from_bytes([3; 16]),
                ..head.clone()
            },
            Head {
                number: 8,
                ..head.clone()
            },
            Head {
                entry: object_hash(&[b"other"]),
                ..head.clone()
            },
            Head {
                signer: SignerId::from_bytes([4; 32]),
                ..head.clone()
            },
        ];
        assert!(others.iter().all(|other| other.checksum() != checksum));
        let again = Head {
            time: 9,
            written: false,
            added: 0,
            ..head
        };
        assert_eq!(again.checksum(), checksum);
    }
}
