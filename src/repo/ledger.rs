//! The ledger, which states which packs were read, when, and how: section 22 (Ledger) of
//! `docs/format.md`. It decides nothing but which packs a later run may skip.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;

use jiff::Timestamp;

use super::error::RepoError;
use super::leases::Worker;
use super::object_ref::ObjectRef;
use super::project::Project;
use crate::base::{ObjectHash, Role};
use crate::crypto::{hash, random};
use crate::format::{AuditRun, DrillRun, LedgerBody, LedgerInfo, VerifiedLevel, VerifiedPacks};
use crate::storage::StorageErrorKind;

/// Once a signer has this many entries, its next one replaces them.
const ENTRIES_MAX: usize = 8;
/// Maximum number of runs, and of drills, that an entry repeats of those that it replaces.
const RUNS_MAX: usize = 100;

/// The entries of the ledger that can be read, and whose keys were not revoked.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    /// Entries of revoked keys.
    revoked: Vec<ObjectHash>,
}

#[derive(Debug)]
struct Entry {
    name: ObjectHash,
    /// The role of its signer.
    role: Role,
    /// Whether this key signed it.
    own: bool,
    /// When it was stored, by the store's clock, in milliseconds since 1970.
    stored: u64,
    body: LedgerBody,
}

/// A new entry.
#[derive(Debug, Default)]
pub struct NewLedgerEntry {
    /// Runs that read packs.
    pub runs: Vec<AuditRun>,
    /// Restore drills.
    pub drills: Vec<DrillRun>,
    /// The packs that were found undamaged.
    pub verified: Vec<VerifiedPacks>,
}

impl Ledger {
    /// Reads the ledger. Leaves out entries that are damaged or foreign, and those of revoked keys.
    pub fn load(project: &Project) -> Result<Self, RepoError> {
        let own = project.keys.signing().public();
        let mut ledger = Self::default();
        for loaded in project.load_all::<LedgerBody>()? {
            let (Some(name), Ok(signed)) = (loaded.hash, loaded.body) else {
                continue;
            };
            if project.signers.is_revoked(&signed.signer) {
                ledger.revoked.push(name);
                continue;
            }
            let Some(role) = project.signers.role_of(&signed.signer) else {
                continue;
            };
            ledger.entries.push(Entry {
                name,
                role,
                own: signed.signer == own,
                stored: since_1970(loaded.listed.modified),
                body: signed.body,
            });
        }
        Ok(ledger)
    }

    /// Returns when each pack was last verified at this level or a higher one, in milliseconds
    /// since 1970. Counts only entries of full keys and of this key, since the holder of another
    /// key may lie. Times later than `now` do not count: some clock was wrong.
    #[must_use]
    pub fn verified(&self, level: VerifiedLevel, now: u64) -> HashMap<ObjectHash, u64> {
        let mut latest: HashMap<ObjectHash, u64> = HashMap::new();
        let counting = self.entries.iter();
        for entry in counting.filter(|entry| entry.role == Role::Full || entry.own) {
            // Only a full key can open packs.
            let counts = |group: &&VerifiedPacks| {
                group.level >= level
                    && (group.level == VerifiedLevel::Hashed || entry.role == Role::Full)
            };
            for group in entry.body.groups.iter().filter(counts) {
                let time = group.time.min(entry.stored);
                for pack in group.packs.iter().filter(|_| time <= now) {
                    let known = latest.entry(*pack).or_default();
                    *known = time.max(*known);
                }
            }
        }
        latest
    }

    /// Returns the runs with the roles of their keys, oldest first. A run that was stored several
    /// times while it ran is returned once.
    #[must_use]
    pub fn runs(&self) -> Vec<(Role, AuditRun)> {
        let mut runs: HashMap<ObjectHash, (Role, &AuditRun)> = HashMap::new();
        for entry in &self.entries {
            for run in &entry.body.about.runs {
                let known = runs.entry(run.seed).or_insert((entry.role, run));
                if (run.complete, run.seconds) > (known.1.complete, known.1.seconds) {
                    *known = (entry.role, run);
                }
            }
        }
        let mut runs: Vec<_> = runs
            .into_values()
            .map(|(r, run)| (r, run.clone()))
            .collect();
        runs.sort_by_key(|(_, run)| run.time.at());
        runs
    }

    /// Returns the drills, oldest first.
    #[must_use]
    pub fn drills(&self) -> Vec<DrillRun> {
        let full = self.entries.iter().filter(|entry| entry.role == Role::Full);
        let mut drills: Vec<_> = full.flat_map(|e| e.body.about.drills.clone()).collect();
        drills.sort_by_key(|drill| (drill.time.at(), drill.backup));
        drills.dedup();
        drills
    }

    /// Stores an entry. If this key has many entries, the new one repeats and replaces them, so
    /// that the ledger does not grow without bound. Then it leaves out packs for which `exists`
    /// returns false.
    pub fn append(
        self,
        project: &Project,
        mut new: NewLedgerEntry,
        worker: Worker<'_>,
        exists: impl Fn(&ObjectHash) -> bool,
    ) -> Result<(), RepoError> {
        let own: Vec<_> = self.entries.iter().filter(|entry| entry.own).collect();
        let repeated = own.iter().flat_map(|entry| &entry.body.about.replaces);
        let repeated: HashSet<_> = repeated.copied().collect();
        let mut replaced: Vec<_> = own.iter().map(|entry| entry.name).collect();
        replaced.retain(|name| !repeated.contains(name));
        let mut outdated = self.revoked.clone();
        if project.role() != Role::Full {
            outdated.clear();
        }
        if replaced.len() >= ENTRIES_MAX {
            outdated.extend(own.iter().map(|entry| entry.name));
            new = self.merged(new, exists);
        } else {
            replaced.clear();
        }
        for body in bodies(new, &replaced, worker) {
            project.put(&body)?;
        }
        for name in outdated {
            match project.objects.delete(ObjectRef::Ledger(project.id, name)) {
                // A store may forbid it to delete. Then the entries stay.
                Err(RepoError::Storage(error)) if is_forbidden(error.kind) => {}
                deleted => deleted?,
            }
        }
        Ok(())
    }

    /// Returns an entry that repeats all entries of this key.
    fn merged(&self, new: NewLedgerEntry, exists: impl Fn(&ObjectHash) -> bool) -> NewLedgerEntry {
        let now = since_1970(SystemTime::now());
        let own = || self.entries.iter().filter(|entry| entry.own);
        let stated = own().flat_map(|entry| {
            let groups = entry.body.groups.iter();
            groups.map(|group| (group.time.min(entry.stored), group))
        });
        let stated = stated.chain(new.verified.iter().map(|group| (group.time, group)));
        let mut latest: BTreeMap<(ObjectHash, VerifiedLevel), u64> = BTreeMap::new();
        for (time, group) in stated.filter(|(time, _)| *time <= now) {
            for pack in group.packs.iter().filter(|pack| exists(pack)) {
                let known = latest.entry((*pack, group.level)).or_default();
                *known = time.max(*known);
            }
        }
        let mut groups: BTreeMap<(u64, VerifiedLevel), Vec<ObjectHash>> = BTreeMap::new();
        for ((pack, level), time) in &latest {
            let opened = latest.get(&(*pack, VerifiedLevel::Opened));
            if *level == VerifiedLevel::Opened || opened.is_none_or(|opened| opened < time) {
                groups.entry((*time, *level)).or_default().push(*pack);
            }
        }
        let groups = groups.into_iter();
        let mut runs: Vec<_> = own()
            .flat_map(|entry| &entry.body.about.runs)
            .cloned()
            .collect();
        runs.extend(new.runs);
        runs.sort_by_key(|run| (run.time.at(), run.seconds));
        runs.dedup_by(|later, earlier| {
            let same = later.seed == earlier.seed;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        let mut drills: Vec<_> = own().flat_map(|e| &e.body.about.drills).cloned().collect();
        drills.extend(new.drills);
        drills.sort_by_key(|drill| (drill.time.at(), drill.backup));
        drills.dedup();
        runs.drain(..runs.len().saturating_sub(RUNS_MAX));
        drills.drain(..drills.len().saturating_sub(RUNS_MAX));
        NewLedgerEntry {
            runs,
            drills,
            verified: groups
                .map(|((time, level), packs)| VerifiedPacks { time, level, packs })
                .collect(),
        }
    }
}

/// Divides an entry into objects of the allowed size.
fn bodies(new: NewLedgerEntry, replaced: &[ObjectHash], worker: Worker<'_>) -> Vec<LedgerBody> {
    let about = LedgerInfo {
        requires: Vec::new(),
        time: Timestamp::now().to_string(),
        host: worker.host.map(str::to_owned),
        tool: Some(worker.tool.to_owned()),
        runs: Vec::new(),
        drills: Vec::new(),
        replaces: Vec::new(),
    };
    let first = LedgerInfo {
        runs: new.runs,
        drills: new.drills,
        replaces: replaced.to_vec(),
        ..about.clone()
    };
    let mut bodies = vec![LedgerBody {
        about: first,
        groups: Vec::new(),
    }];
    let mut left = LedgerBody::PACKS_MAX;
    for group in new.verified {
        let VerifiedPacks { time, level, packs } = group;
        let mut packs = &packs[..];
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
                body.groups.push(VerifiedPacks { time, level, packs });
            }
            left -= here.len();
            packs = rest;
        }
    }
    bodies
}

/// Returns a new seed of a random order.
pub fn new_seed() -> Result<ObjectHash, RepoError> {
    Ok(ObjectHash::from_bytes(random()?))
}

/// Puts packs into the order that a seed gives. Without the seed, the order cannot be known before.
pub fn order_by_seed<T>(seed: &ObjectHash, packs: &mut [(ObjectRef, T)]) {
    packs.sort_by_cached_key(|(pack, _)| {
        let name = pack.hash().unwrap_or(*seed);
        hash(&[seed.as_bytes(), name.as_bytes()])
    });
}

/// Whether a store does not permit to delete.
fn is_forbidden(kind: StorageErrorKind) -> bool {
    matches!(kind, StorageErrorKind::Denied | StorageErrorKind::ReadOnly)
}

/// Returns a time in milliseconds since 1970.
#[must_use]
pub fn since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
