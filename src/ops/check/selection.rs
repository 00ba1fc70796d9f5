//! Chooses the packs that a check reads, in a random order. Notes the results in the ledger, the
//! project's list of verified and damaged packs.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use crate::base::{Notice, ObjectHash, Observer, Role, lock};
use crate::format::{AuditRun, ReadPacks, ReadResult, RecordTime, VerifiedLevel};
use crate::ops::context::TOOL;
use crate::repo::{
    Index, Ledger, ListedPack, NewLedgerEntry, ObjectRef, Project, RepoError, Worker, new_seed,
    order_by_seed, since_1970,
};

/// A run stores its results in the ledger at this interval, so that little is lost if the run is
/// killed.
const NOTE_EVERY: Duration = Duration::from_mins(10);

/// How much of the data a check reads.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadData {
    /// The part of the data to read.
    pub part: DataPart,
    /// Leaves out packs that were verified less than this time ago. `None` leaves out none.
    pub unverified_for: Option<Duration>,
    /// After this time, the run begins no further pack.
    pub time_limit: Option<Duration>,
    /// The name of this host, for the ledger.
    pub host: Option<String>,
}

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DataPart {
    /// All packs.
    All,
    /// A random choice of at most this percentage of the bytes of all packs, but at least one pack.
    Percent(f64),
    /// A random choice of at most this number of bytes, but at least one pack.
    Bytes(u64),
    /// One of `of` parts. Every pack is in exactly one part.
    Nth {
        /// The number of this part, from 1 to `of`.
        number: u64,
        /// The number of parts.
        of: u64,
    },
}

impl ReadData {
    /// Returns the request to read everything.
    #[must_use]
    pub const fn all(host: Option<String>) -> Self {
        Self {
            part: DataPart::All,
            unverified_for: None,
            time_limit: None,
            host,
        }
    }

    /// Returns whether the check must read everything.
    pub(super) fn is_all(&self) -> bool {
        self.part == DataPart::All && self.unverified_for.is_none() && self.time_limit.is_none()
    }
}

/// The data that a check read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadReport {
    /// How packs were verified. A key that is not full verifies only hashes, since it cannot open
    /// all packs.
    pub level: VerifiedLevel,
    /// The seed of the random order.
    pub seed: ObjectHash,
    /// The number of packs from which this run chose. If the run reads a part of the data, these
    /// include packs that only superseded segments name.
    pub packs: u64,
    /// The number of packs that this run chose to read.
    pub packs_chosen: u64,
    /// The number of packs that this run found undamaged at the first read. These may include packs
    /// that the run did not choose, but that backups use.
    pub packs_verified: u64,
    /// Whether this run read all packs that it chose. A run that reads all data must also have read
    /// all packs that backups use.
    pub complete: bool,
}

/// The choice of packs that a run made, as known when the run ends.
pub(super) struct Chosen {
    /// The number of packs that the run chose.
    pub(super) packs: u64,
    /// The number of packs from which the run chose.
    pub(super) of: u64,
    /// False if the run had to read all data, but has not finished the walk over the trees. Then
    /// backups may use packs that the run has not read.
    pub(super) is_all: bool,
}

/// A run that reads packs. It collects the results and stores them in the ledger.
pub(super) struct LedgerRun<'a> {
    project: &'a Project,
    observer: &'a dyn Observer,
    host: Option<String>,
    pub(super) level: VerifiedLevel,
    pub(super) seed: ObjectHash,
    begun: Instant,
    time: Timestamp,
    deadline: Option<Instant>,
    state: Mutex<State>,
}

struct State {
    run: AuditRun,
    /// The number of packs that were read, or that are missing.
    read: u64,
    /// Verified packs that are not in the ledger yet.
    verified: Vec<ObjectHash>,
    /// Damaged packs that are not in the ledger yet.
    damaged: Vec<ObjectHash>,
    /// When this run last tried to store results in the ledger. At first, when the run began.
    noted: Instant,
}

impl<'a> LedgerRun<'a> {
    /// Begins a run, with a new random seed.
    pub(super) fn new(
        project: &'a Project,
        observer: &'a dyn Observer,
        read: &ReadData,
    ) -> Result<Self, RepoError> {
        let level = match project.role() {
            Role::Full => VerifiedLevel::Opened,
            Role::Write | Role::Verify => VerifiedLevel::Hashed,
        };
        let seed = new_seed()?;
        let begun = Instant::now();
        let time = Timestamp::now();
        Ok(Self {
            project,
            observer,
            host: read.host.clone(),
            level,
            seed,
            begun,
            time,
            deadline: read.time_limit.and_then(|limit| begun.checked_add(limit)),
            state: Mutex::new(State {
                run: AuditRun {
                    time: RecordTime::from(time),
                    host: read.host.clone(),
                    level,
                    seed,
                    packs: 0,
                    bytes: 0,
                    damaged: 0,
                    seconds: 0,
                    complete: false,
                },
                read: 0,
                verified: Vec::new(),
                damaged: Vec::new(),
                noted: begun,
            }),
        })
    }

    /// Chooses some of these packs, which come with their sizes in bytes. Returns the chosen packs
    /// in a random order.
    pub(super) fn choose(
        &self,
        index: &Index,
        read: &ReadData,
        mut packs: Vec<(ObjectRef, u64)>,
    ) -> Result<Vec<(ObjectRef, u64)>, RepoError> {
        order_by_seed(&self.seed, &mut packs);
        let total: u64 = packs.iter().map(|(_, size)| size).sum();
        let limit = match read.part {
            DataPart::All => None,
            DataPart::Percent(percent) => Some(part_of(total, percent)),
            DataPart::Bytes(bytes) => Some(bytes),
            DataPart::Nth { number, of } => {
                packs.retain(|(pack, _)| is_in_part(*pack, number, of));
                None
            }
        };
        if let Some(age) = read.unverified_for {
            let now = since_1970(SystemTime::now());
            let candidates: HashSet<_> = packs.iter().filter_map(|(pack, _)| pack.hash()).collect();
            let ledger = Ledger::load(self.project, now, |pack| candidates.contains(pack))?;
            let verified = ledger.verified(self.level);
            let stored = stored_times(&index.list_packs()?);
            packs.retain(|(pack, _)| {
                let time = pack.hash().and_then(|hash| {
                    let time = *verified.get(&hash)?;
                    // In a copy of the repository, a file can be newer than its verification.
                    // Nobody has verified such a file.
                    (*stored.get(&hash)? <= time).then_some(time)
                });
                time.is_none_or(|time| u128::from(now.saturating_sub(time)) >= age.as_millis())
            });
        }
        if let Some(limit) = limit {
            let mut sum = 0;
            let mut first = true;
            packs.retain(|(_, size)| {
                let fits = sum + size <= limit || (first && limit > 0);
                first = false;
                sum += if fits { *size } else { 0 };
                fits
            });
        }
        Ok(packs)
    }

    /// Returns whether the time limit has passed, so that no further pack may be begun.
    pub(super) fn is_over(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Notes the outcome of reading a pack. `size` is the size of the pack in bytes.
    pub(super) fn note(&self, pack: ObjectHash, size: u64, outcome: ReadOutcome) {
        let mut state = lock(&self.state);
        state.read += 1;
        if outcome != ReadOutcome::Missing {
            state.run.bytes += size;
        }
        match outcome {
            ReadOutcome::Whole => {
                state.run.packs += 1;
                state.verified.push(pack);
            }
            // Do not count the pack as verified, so that the next run reads it again.
            ReadOutcome::WholeWhenReadAgain | ReadOutcome::Missing => {}
            ReadOutcome::Damaged => {
                state.run.damaged += 1;
                state.damaged.push(pack);
            }
        }
        if state.noted.elapsed() >= NOTE_EVERY {
            self.store(&mut state, |new, worker| new.store(self.project, worker));
        }
    }

    /// Ends the run. Stores the results in the ledger if any pack was read or found missing.
    /// `exists` returns whether a pack still exists.
    pub(super) fn end(&self, chosen: &Chosen, exists: impl Fn(&ObjectHash) -> bool) -> ReadReport {
        let mut state = lock(&self.state);
        state.run.complete = chosen.is_all && state.read >= chosen.packs;
        if state.read > 0 {
            let now = since_1970(SystemTime::now());
            self.store(&mut state, |new, worker| {
                Ledger::load(self.project, now, exists)?.append(self.project, new, worker)
            });
        }
        ReadReport {
            level: self.level,
            seed: self.seed,
            packs: chosen.of,
            packs_chosen: chosen.packs,
            packs_verified: state.run.packs,
            complete: state.run.complete,
        }
    }

    /// Stores an entry with `put`. If that fails, sends a notice, and the run goes on: the data is
    /// verified even if the ledger does not say so.
    fn store(
        &self,
        state: &mut State,
        put: impl FnOnce(NewLedgerEntry, Worker<'_>) -> Result<(), RepoError>,
    ) {
        state.run.seconds = self.begun.elapsed().as_secs();
        let group = |result: ReadResult, packs: &[ObjectHash]| {
            let mut packs = packs.to_vec();
            packs.sort_unstable();
            packs.dedup();
            let time = u64::try_from(self.time.as_millisecond()).unwrap_or(0);
            ReadPacks {
                time,
                result,
                packs,
            }
        };
        let mut groups = vec![
            group(ReadResult::Damaged, &state.damaged),
            group(ReadResult::Verified(self.level), &state.verified),
        ];
        groups.retain(|group| !group.packs.is_empty());
        let new = NewLedgerEntry {
            runs: vec![state.run.clone()],
            drills: Vec::new(),
            packs: groups,
        };
        let worker = Worker {
            host: self.host.as_deref(),
            tool: TOOL,
        };
        let stored = put(new, worker);
        state.noted = Instant::now();
        match stored {
            Ok(()) => {
                state.verified.clear();
                state.damaged.clear();
            }
            Err(error) => self.observer.notice(Notice::LedgerNotStored {
                problem: error.to_string(),
            }),
        }
    }
}

/// The outcome of reading a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// It is undamaged.
    Whole,
    /// It seemed damaged at first, but was undamaged when it was read again.
    WholeWhenReadAgain,
    /// It is damaged.
    Damaged,
    /// It is missing.
    Missing,
}

/// Returns this percentage of a number of bytes, rounded up.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a percentage from 0 to 100 of a size"
)]
fn part_of(total: u64, percent: f64) -> u64 {
    (total as f64 * percent / 100.0).ceil() as u64
}

/// Returns whether a pack is in this part. This depends only on its name, so that all runs agree.
fn is_in_part(pack: ObjectRef, number: u64, of: u64) -> bool {
    pack.hash().is_some_and(|hash| {
        let [a, b, c, d, ..] = *hash.as_bytes();
        u64::from(u32::from_be_bytes([a, b, c, d])) % of == number - 1
    })
}

/// Returns when packs were stored, by the store's clock, in milliseconds since 1970.
fn stored_times(packs: &[ListedPack]) -> HashMap<ObjectHash, u64> {
    let time = |pack: &ListedPack| (pack.hash, since_1970(pack.info.modified));
    packs.iter().map(time).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ProjectId;

    #[test]
    fn every_pack_is_in_one_of_the_parts() {
        for byte in 0..=255 {
            let hash = ObjectHash::from_bytes([byte; 32]);
            let pack = ObjectRef::Pack(ProjectId::from_bytes([0; 16]), hash);
            let parts = (1..=7).filter(|number| is_in_part(pack, *number, 7));
            assert_eq!(parts.count(), 1, "{byte}");
        }
    }

    #[test]
    fn a_percentage_of_the_data_is_rounded_up() {
        assert_eq!(part_of(1000, 10.0), 100);
        assert_eq!(part_of(1001, 10.0), 101);
        assert_eq!(part_of(0, 100.0), 0);
        assert_eq!(part_of(7, 100.0), 7);
    }
}
