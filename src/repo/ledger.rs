//! The ledger, which states which packs were read, when, and how: section 22 (Ledger) of
//! `docs/format.md`. It only decides which packs a later check may skip.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;

use jiff::Timestamp;

use super::envelope::Signed;
use super::error::RepoError;
use super::leases::Worker;
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::project::Project;
use crate::base::{ObjectHash, Role, SignerId};
use crate::crypto::{hash, random};
use crate::format::{
    AuditRun, DrillRun, LedgerBody, LedgerInfo, ReadPacks, ReadResult, VerifiedLevel,
};
use crate::storage::StorageErrorKind;

/// If a signer has this many entries, its next entry replaces them.
const ENTRIES_MAX: usize = 8;

/// The content of the ledger that counts for the key in use. Entries that are damaged or foreign,
/// that need a newer version of this program, or whose keys were revoked are left out.
///
/// The holder of another key may store any number of entries. So memory is used only for packs that
/// exist, and for a limited number of runs of each signer.
#[derive(Debug, Default)]
pub struct Ledger {
    /// When full keys read packs, and with which result.
    of_full: HashMap<ObjectHash, LastReads>,
    /// When this key read packs, if it is not a full key.
    of_own: HashMap<ObjectHash, LastReads>,
    /// The latest runs by signer and seed.
    runs: HashMap<SignerId, HashMap<ObjectHash, (Role, AuditRun)>>,
    /// The drills of full keys.
    drills: Vec<DrillRun>,
    /// The entries of this key.
    own_entries: HashSet<ObjectHash>,
    /// The entries of this key that another entry of this key replaces.
    repeated: HashSet<ObjectHash>,
    /// The entries of revoked keys.
    revoked: Vec<ObjectHash>,
}

/// When a pack was last read with each result, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default)]
struct LastReads {
    damaged: Option<u64>,
    hashed: Option<u64>,
    opened: Option<u64>,
}

/// A new entry.
#[derive(Debug, Default)]
pub struct NewLedgerEntry {
    /// Runs that read packs.
    pub runs: Vec<AuditRun>,
    /// Restore drills.
    pub drills: Vec<DrillRun>,
    /// The packs that were read.
    pub packs: Vec<ReadPacks>,
}

impl LastReads {
    fn add(&mut self, result: ReadResult, time: u64) {
        let last = match result {
            ReadResult::Damaged => &mut self.damaged,
            ReadResult::Verified(VerifiedLevel::Hashed) => &mut self.hashed,
            ReadResult::Verified(VerifiedLevel::Opened) => &mut self.opened,
        };
        *last = (*last).max(Some(time));
    }

    /// Returns when the pack was last verified at this level or a higher one. `None` if it never
    /// was, or if it was found damaged since.
    fn verified(self, level: VerifiedLevel) -> Option<u64> {
        let time = match level {
            VerifiedLevel::Hashed => self.hashed.max(self.opened),
            VerifiedLevel::Opened => self.opened,
        };
        time.filter(|_| time > self.damaged)
    }

    fn merged(self, other: Self) -> Self {
        Self {
            damaged: self.damaged.max(other.damaged),
            hashed: self.hashed.max(other.hashed),
            opened: self.opened.max(other.opened),
        }
    }

    /// Returns the results that an entry must state: the last time the pack was opened, damage that
    /// was found then or later, and a hash that was verified later.
    fn needed(self) -> impl Iterator<Item = (ReadResult, u64)> {
        let damaged = self.damaged.filter(|_| self.damaged >= self.opened);
        let hashed = self.hashed.filter(|_| self.hashed > self.opened);
        let results = [
            (ReadResult::Damaged, damaged),
            (ReadResult::Verified(VerifiedLevel::Hashed), hashed),
            (ReadResult::Verified(VerifiedLevel::Opened), self.opened),
        ];
        let results = results.into_iter();
        results.filter_map(|(result, time)| Some((result, time?)))
    }
}

impl Ledger {
    /// Reads the ledger. `exists` returns whether a pack exists: statements about other packs are
    /// left out. A pack that was verified later than `now`, in milliseconds since 1970, does not
    /// count as verified, since some clock was wrong. Damage that was stored later than `now`
    /// counts as found now.
    pub fn load(
        project: &Project,
        now: u64,
        exists: impl Fn(&ObjectHash) -> bool,
    ) -> Result<Self, RepoError> {
        let mut ledger = Self::default();
        // Read one entry after another, so that at most one is in memory.
        for (object, listed) in project.list(ObjectKind::Ledger)? {
            let Some(name) = object.hash() else { continue };
            match project.read_signed::<LedgerBody>(object) {
                Ok(entry) if project.signers.is_revoked(&entry.signer) => {
                    ledger.revoked.push(name);
                }
                Ok(entry) => {
                    let stored = since_1970(listed.modified);
                    ledger.add(project, name, stored, entry, now, &exists);
                }
                Err(error) if error.is_missing() => {}
                // The ledger only decides which packs may be skipped, so ignore an entry that
                // cannot be read.
                Err(
                    RepoError::Damaged { .. }
                    | RepoError::Foreign { .. }
                    | RepoError::Unsupported { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ledger)
    }

    /// Adds an entry that was stored at the time `stored`, by the store's clock.
    fn add(
        &mut self,
        project: &Project,
        name: ObjectHash,
        stored: u64,
        entry: Signed<LedgerBody>,
        now: u64,
        exists: impl Fn(&ObjectHash) -> bool,
    ) {
        let Signed { signer, body } = entry;
        let Some(role) = project.signers.role_of(&signer) else {
            return;
        };
        let is_own = signer == project.keys.signing().public();
        if is_own {
            self.own_entries.insert(name);
            self.repeated.extend(&body.about.replaces);
        }
        self.add_runs(role, signer, body.about.runs);
        let reads = match role {
            Role::Full => {
                self.drills.extend(body.about.drills);
                &mut self.of_full
            }
            _ if is_own => &mut self.of_own,
            // The holder of another key may lie.
            _ => return,
        };
        // Only a full key can open packs.
        let opened = ReadResult::Verified(VerifiedLevel::Opened);
        let groups = body.groups.into_iter();
        for group in groups.filter(|group| role == Role::Full || group.result != opened) {
            let time = match group.result {
                ReadResult::Damaged => stored.min(now),
                ReadResult::Verified(_) => group.time.min(stored),
            };
            if time <= now {
                for pack in group.packs.into_iter().filter(&exists) {
                    reads.entry(pack).or_default().add(group.result, time);
                }
            }
        }
    }

    /// Adds the runs of an entry. Keeps the latest [`RUNS_MAX`](LedgerInfo::RUNS_MAX) of each
    /// signer.
    fn add_runs(&mut self, role: Role, signer: SignerId, runs: Vec<AuditRun>) {
        let known = self.runs.entry(signer).or_default();
        for run in runs {
            let seen = known.get(&run.seed).map(|(_, seen)| progress(seen));
            if seen.is_none_or(|seen| progress(&run) > seen) {
                known.insert(run.seed, (role, run));
            }
            if known.len() > LedgerInfo::RUNS_MAX {
                let oldest = known.values().min_by_key(|(_, run)| run.time.at());
                let oldest = oldest.map(|(_, run)| run.seed);
                oldest.and_then(|seed| known.remove(&seed));
            }
        }
    }

    /// Returns when each pack was last verified at this level or a higher one, in milliseconds
    /// since 1970. Counts only entries of full keys and of this key, since the holder of another
    /// key may lie. Leaves out packs that were found damaged since.
    #[must_use]
    pub fn verified(&self, level: VerifiedLevel) -> HashMap<ObjectHash, u64> {
        let packs = self.of_full.keys().chain(self.of_own.keys());
        let verified = packs.filter_map(|pack| {
            let [full, own] = [&self.of_full, &self.of_own].map(|reads| reads.get(pack).copied());
            let reads = full.unwrap_or_default().merged(own.unwrap_or_default());
            Some((*pack, reads.verified(level)?))
        });
        verified.collect()
    }

    /// Returns the runs with the roles of their keys, oldest first. A run that was stored several
    /// times while it ran is returned once.
    #[must_use]
    pub fn runs(&self) -> Vec<(Role, AuditRun)> {
        let runs = self.runs.values().flat_map(HashMap::values);
        let mut runs: Vec<_> = runs.cloned().collect();
        runs.sort_by_key(|(_, run)| (run.time.at(), run.seed));
        runs
    }

    /// Returns the drills of full keys, oldest first.
    #[must_use]
    pub fn drills(&self) -> Vec<DrillRun> {
        let mut drills = self.drills.clone();
        drills.sort_by_key(|drill| (drill.time.at(), drill.backup));
        drills.dedup();
        drills
    }

    /// Stores an entry. If this key has many entries, the new one repeats and replaces them, so
    /// that the ledger does not grow without bound. A full key also deletes the entries of revoked
    /// keys.
    pub fn append(
        mut self,
        project: &Project,
        mut new: NewLedgerEntry,
        worker: Worker<'_>,
    ) -> Result<(), RepoError> {
        let mut outdated = std::mem::take(&mut self.revoked);
        if project.role() != Role::Full {
            outdated.clear();
        }
        let replaced = self.own_entries.difference(&self.repeated);
        let mut replaced: Vec<_> = replaced.copied().collect();
        if replaced.len() >= ENTRIES_MAX {
            replaced.truncate(LedgerInfo::REPLACES_MAX);
            outdated.extend(&self.own_entries);
            self.repeat(project, &mut new);
        } else {
            replaced.clear();
        }
        new.store_replacing(project, replaced, worker)?;
        for name in outdated {
            match project.objects.delete(ObjectRef::Ledger(project.id, name)) {
                // If the store forbids deletions, the entries stay.
                Err(RepoError::Storage(error)) if is_forbidden(error.kind) => {}
                deleted => deleted?,
            }
        }
        Ok(())
    }

    /// Adds the content of all entries of this key to a new one.
    fn repeat(mut self, project: &Project, new: &mut NewLedgerEntry) {
        let now = since_1970(SystemTime::now());
        let (role, own) = (project.role(), project.keys.signing().public());
        let mut reads = match role {
            Role::Full => std::mem::take(&mut self.of_full),
            Role::Write | Role::Verify => std::mem::take(&mut self.of_own),
        };
        for group in &new.packs {
            let time = match group.result {
                ReadResult::Damaged => now,
                ReadResult::Verified(_) => group.time,
            };
            for pack in group.packs.iter().filter(|_| time <= now) {
                reads.entry(*pack).or_default().add(group.result, time);
            }
        }
        let mut groups: BTreeMap<(u64, ReadResult), Vec<ObjectHash>> = BTreeMap::new();
        for (pack, reads) in reads {
            for (result, time) in reads.needed() {
                groups.entry((time, result)).or_default().push(pack);
            }
        }
        let groups = groups.into_iter().map(|((time, result), mut packs)| {
            packs.sort_unstable();
            ReadPacks {
                time,
                result,
                packs,
            }
        });
        new.packs = groups.collect();
        self.add_runs(role, own, std::mem::take(&mut new.runs));
        let runs = self.runs.remove(&own).unwrap_or_default();
        new.runs = runs.into_values().map(|(_, run)| run).collect();
        new.runs.sort_by_key(|run| (run.time.at(), run.seed));
        new.drills.extend(self.drills);
        new.drills
            .sort_by_key(|drill| (drill.time.at(), drill.backup));
        new.drills.dedup();
    }
}

impl NewLedgerEntry {
    /// Stores this entry. Replaces no other entries, so the ledger need not be read first.
    pub fn store(self, project: &Project, worker: Worker<'_>) -> Result<(), RepoError> {
        self.store_replacing(project, Vec::new(), worker)
    }

    fn store_replacing(
        self,
        project: &Project,
        replaced: Vec<ObjectHash>,
        worker: Worker<'_>,
    ) -> Result<(), RepoError> {
        // The first object names the replaced entries. Store it last, after the objects that repeat
        // their content.
        for body in self.bodies(replaced, worker).iter().rev() {
            project.put(body)?;
        }
        Ok(())
    }

    /// Divides this entry into objects of the allowed size. Cuts texts that are too long, and drops
    /// the first drills if there are too many, or if they are too long.
    fn bodies(mut self, replaced: Vec<ObjectHash>, worker: Worker<'_>) -> Vec<LedgerBody> {
        for drill in &mut self.drills {
            for text in [&mut drill.command, &mut drill.problem]
                .into_iter()
                .flatten()
            {
                text.truncate(text.floor_char_boundary(LedgerInfo::TEXT_MAX));
            }
            let volume = &mut drill.volume;
            volume.truncate(volume.floor_char_boundary(LedgerInfo::NAME_MAX));
        }
        let excess = self.drills.len().saturating_sub(LedgerInfo::DRILLS_MAX);
        self.drills.drain(..excess);
        let about = LedgerInfo {
            requires: Vec::new(),
            time: Timestamp::now().to_string(),
            host: worker.host.map(str::to_owned),
            tool: Some(worker.tool.to_owned()),
            runs: Vec::new(),
            drills: Vec::new(),
            replaces: Vec::new(),
        };
        let mut first = LedgerInfo {
            runs: self.runs,
            drills: self.drills,
            replaces: replaced,
            ..about.clone()
        };
        while !first.drills.is_empty() && !LedgerBody::has_room_for(&first) {
            first.drills.remove(0);
        }
        let mut bodies = vec![LedgerBody {
            about: first,
            groups: Vec::new(),
        }];
        let mut left = LedgerBody::PACKS_MAX;
        for group in self.packs {
            let mut packs = &group.packs[..];
            while !packs.is_empty() {
                if left == 0 {
                    bodies.push(LedgerBody {
                        about: about.clone(),
                        groups: Vec::new(),
                    });
                    left = LedgerBody::PACKS_MAX;
                }
                let (here, rest) = packs.split_at(packs.len().min(left));
                if let Some(body) = bodies.last_mut() {
                    let packs = here.to_vec();
                    body.groups.push(ReadPacks { packs, ..group });
                }
                left -= here.len();
                packs = rest;
            }
        }
        bodies
    }
}

/// Returns how far a run had come when it was stored.
const fn progress(run: &AuditRun) -> (bool, u64) {
    (run.complete, run.seconds)
}

/// Returns a new seed of a random order.
pub fn new_seed() -> Result<ObjectHash, RepoError> {
    Ok(ObjectHash::from_bytes(random()?))
}

/// Puts packs or other objects into the order that a seed gives. Without the seed, the order cannot
/// be predicted.
pub fn order_by_seed<T>(seed: &ObjectHash, packs: &mut [(ObjectRef, T)]) {
    packs.sort_by_cached_key(|(pack, _)| {
        let name = pack.hash().unwrap_or(*seed);
        hash(&[seed.as_bytes(), name.as_bytes()])
    });
}

/// Whether this error shows that the store forbids deletions.
fn is_forbidden(kind: StorageErrorKind) -> bool {
    matches!(kind, StorageErrorKind::Denied | StorageErrorKind::ReadOnly)
}

/// Returns a time in milliseconds since 1970; 0 for earlier times.
#[must_use]
pub fn since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::RecordTime;

    #[test]
    fn entries_with_the_longest_texts_and_the_most_packs_can_be_read() {
        let time = RecordTime::from(Timestamp::UNIX_EPOCH);
        // JSON takes six bytes for each of these characters.
        let text = |len| "\u{1}".repeat(len);
        let (host, seed) = (text(LedgerInfo::NAME_MAX), ObjectHash::from_bytes([7; 32]));
        let run = AuditRun {
            time: time.clone(),
            host: Some(host.clone()),
            level: VerifiedLevel::Opened,
            seed,
            packs: u64::MAX,
            bytes: u64::MAX,
            damaged: u64::MAX,
            seconds: u64::MAX,
            complete: false,
        };
        let drill = |number| DrillRun {
            time: time.clone(),
            host: Some(host.clone()),
            backup: seed,
            volume: text(LedgerInfo::NAME_MAX + 1),
            bytes: number,
            milliseconds: u64::MAX,
            command: Some(text(LedgerInfo::TEXT_MAX + 1)),
            success: false,
            problem: Some(text(LedgerInfo::TEXT_MAX + 1)),
        };
        let packs = (0..=LedgerBody::PACKS_MAX as u64).map(|time| ReadPacks {
            time,
            result: ReadResult::Damaged,
            packs: vec![seed],
        });
        let worker = Worker {
            host: Some(&host),
            tool: "test",
        };
        let entry = NewLedgerEntry {
            runs: vec![run; LedgerInfo::RUNS_MAX],
            drills: (0..150).map(drill).collect(),
            packs: packs.collect(),
        };
        let bodies = entry.bodies(vec![seed; LedgerInfo::REPLACES_MAX], worker);
        assert_eq!(bodies.len(), 2);
        for body in &bodies {
            let bytes = body.encode();
            assert!(bytes.len() <= LedgerBody::BODY_MAX);
            assert_eq!(LedgerBody::decode(&bytes).as_ref(), Ok(body));
        }
        let about = &bodies[0].about;
        assert_eq!(about.runs.len(), LedgerInfo::RUNS_MAX);
        let kept: Vec<_> = about.drills.iter().map(|drill| drill.bytes).collect();
        assert!(kept.len() > 10, "{kept:?}");
        assert!(kept.is_sorted() && kept.last() == Some(&149), "{kept:?}");
    }
}
