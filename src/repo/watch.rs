//! Remembers which leases and marks this host has seen, and when it first saw each of them, by the
//! store's clock. The store's time of an object does not show how old the object is. That time can
//! be in the future, and someone can put back an old object. Sections 13 (Lease) and 14 (Mark) of
//! `docs/format.md` state the rules.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::cache_dir::CacheDir;
use crate::base::{LeaseId, ObjectHash, lock};

/// A lease that is older than this, by the store's clock, has expired. A lease has also expired if
/// this host saw it this long ago and nobody has renewed it since.
pub(super) const TTL: Duration = Duration::from_mins(10);
/// The maximum number of leases that are remembered, and also the maximum number of marks.
const SEEN_MAX: usize = 4096;
/// Maximum number of bytes read from the file. [`SEEN_MAX`] lines for leases and as many for marks
/// have fewer bytes.
const FILE_MAX: u64 = 1 << 20;

type Seen = BTreeMap<ObjectHash, Sighting>;

/// The leases and marks that this host has seen, and when it first saw each of them, by the store's
/// clock.
#[derive(Default)]
pub(super) struct Watch {
    /// The directory that keeps `seen` for the next process, if there is one.
    cache: Option<CacheDir>,
    /// `None` until it is needed.
    seen: Mutex<Option<Seen>>,
}

/// A lease, as a process stored it at one time. Each renewal has other bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeenLease {
    /// The hash of its bytes. It is the same if someone stores the lease under another name.
    pub(super) hash: ObjectHash,
    /// The name under which it is stored.
    pub(super) id: LeaseId,
    pub(super) running_seconds: u64,
    /// Whether a full key signed it.
    pub(super) is_full: bool,
}

#[derive(Debug, Clone, Copy)]
struct Sighting {
    since: SystemTime,
    /// Whether a full key signed the object. Objects of other keys are forgotten first.
    is_full: bool,
    /// The name and the running time, if it is a lease.
    lease: Option<(LeaseId, u64)>,
}

impl Sighting {
    const fn is_lease(&self) -> bool {
        self.lease.is_some()
    }

    const fn is_mark(&self) -> bool {
        self.lease.is_none()
    }
}

impl Watch {
    /// Returns a watch that keeps its state in this directory. Reads and creates nothing yet.
    pub(super) fn kept_in(cache: CacheDir) -> Self {
        Self {
            cache: Some(cache),
            seen: Mutex::default(),
        }
    }

    /// Returns, for each of these leases, whether it is stale: nobody renews it. `leases` are all
    /// leases that have not expired by their times, and `now` is the time by the store's clock.
    ///
    /// A lease is stale if this host saw the same bytes, under any name, at least [`TTL`] ago. A
    /// process at work states a longer running time whenever it renews its lease. So a lease is
    /// also stale if it has stated the same running time under its name for [`TTL`]. The same is
    /// true if it states a shorter running time than an earlier lease of this name.
    pub(super) fn stale(&self, leases: &[SeenLease], now: SystemTime) -> Vec<bool> {
        if leases.is_empty() {
            return Vec::new();
        }
        let there = leases.iter().map(|lease| lease.hash);
        self.look(now, there, Sighting::is_lease, |seen| {
            let mut longest: HashMap<LeaseId, u64> = HashMap::new();
            let mut since: HashMap<(LeaseId, u64), SystemTime> = HashMap::new();
            for sighting in seen.values() {
                let Some((id, running)) = sighting.lease else {
                    continue;
                };
                let known = longest.entry(id).or_default();
                *known = running.max(*known);
                let first = since.entry((id, running)).or_insert(sighting.since);
                *first = sighting.since.min(*first);
            }
            let is_stale = |lease: &SeenLease| {
                let said = (lease.id, lease.running_seconds);
                let sighting = seen.entry(lease.hash).or_insert_with(|| Sighting {
                    since: since.get(&said).map_or(now, |since| now.min(*since)),
                    is_full: lease.is_full,
                    lease: Some(said),
                });
                let before = longest.get(&lease.id);
                before.is_some_and(|before| lease.running_seconds < *before)
                    || now
                        .duration_since(sighting.since)
                        .is_ok_and(|age| age >= TTL)
            };
            leases.iter().map(is_stale).collect()
        })
    }

    /// Returns when each of these objects, which are named by their hashes, was seen first, by the
    /// store's clock. This is `now` for an object that is seen for the first time. The flag of each
    /// object states whether a full key signed it.
    pub(super) fn first_seen(
        &self,
        objects: &[(ObjectHash, bool)],
        now: SystemTime,
    ) -> Vec<SystemTime> {
        if objects.is_empty() {
            return Vec::new();
        }
        let there = objects.iter().map(|(object, _)| *object);
        self.look(now, there, Sighting::is_mark, |seen| {
            let first = |(object, is_full): &(ObjectHash, bool)| {
                let sighting = seen.entry(*object).or_insert(Sighting {
                    since: now,
                    is_full: *is_full,
                    lease: None,
                });
                sighting.since
            };
            objects.iter().map(first).collect()
        })
    }

    /// Passes the seen objects to `look`, and keeps the objects that `look` adds. `there` are the
    /// objects of this call. They are either leases or marks, and `is_of_kind` returns whether an
    /// object is of the same kind. If there are more than [`SEEN_MAX`] objects of this kind,
    /// [`forget`] decides which are kept.
    fn look<T>(
        &self,
        now: SystemTime,
        there: impl Iterator<Item = ObjectHash>,
        is_of_kind: fn(&Sighting) -> bool,
        look: impl FnOnce(&mut Seen) -> T,
    ) -> T {
        let mut seen = lock(&self.seen);
        let seen = seen.get_or_insert_with(|| self.read().unwrap_or_default());
        for sighting in seen.values_mut() {
            // If the store's clock was set back, this time may be in the future.
            sighting.since = sighting.since.min(now);
        }
        let result = look(seen);
        if seen.len() > SEEN_MAX {
            forget(seen, is_of_kind, &there.collect());
        }
        self.keep(seen);
        result
    }

    /// Writes the seen objects to the cache. A failure only costs time: the next process treats the
    /// objects as seen for the first time.
    fn keep(&self, seen: &Seen) {
        let Some(cache) = &self.cache else {
            return;
        };
        let mut text = String::new();
        for (hash, sighting) in seen {
            let since = sighting.since.duration_since(SystemTime::UNIX_EPOCH);
            let since = since.unwrap_or_default().as_secs();
            let _ = write!(text, "{hash} {since} {}", u8::from(sighting.is_full));
            let _ = match sighting.lease {
                Some((id, running)) => writeln!(text, " {id} {running}"),
                None => writeln!(text),
            };
        }
        let _ = cache.replace_seen(&text);
    }

    /// Returns the objects that an earlier process has kept. `None` if there is no file, or if it
    /// cannot be read.
    fn read(&self) -> Option<Seen> {
        let text = self.cache.as_ref()?.read_seen(FILE_MAX).ok()??;
        let sighting = |line: &str| {
            let mut fields = line.split(' ');
            let hash = fields.next()?.parse().ok()?;
            let since = Duration::from_secs(fields.next()?.parse().ok()?);
            let sighting = Sighting {
                since: SystemTime::UNIX_EPOCH.checked_add(since)?,
                is_full: fields.next()? == "1",
                lease: match fields.next() {
                    Some(id) => Some((id.parse().ok()?, fields.next()?.parse().ok()?)),
                    None => None,
                },
            };
            Some((hash, sighting))
        };
        Some(text.lines().filter_map(sighting).collect())
    }
}

/// Forgets all but [`SEEN_MAX`] objects of a kind. Keeps objects of full keys before others, so
/// that the holder of a write key cannot displace them. Then keeps objects that are `there` before
/// others. Of the objects that are `there`, keeps those seen longest ago, so that new objects do
/// not displace them. Of the others, keeps those seen most recently.
fn forget(seen: &mut Seen, is_of_kind: fn(&Sighting) -> bool, there: &HashSet<ObjectHash>) {
    let of_kind = seen.iter().filter(|(_, sighting)| is_of_kind(sighting));
    let mut all: Vec<_> = of_kind.map(|(hash, sighting)| (*hash, *sighting)).collect();
    all.sort_by_key(|(hash, sighting)| {
        let is_there = there.contains(hash);
        let since = sighting.since;
        let oldest_first = is_there.then_some(since);
        let newest_first = Reverse((!is_there).then_some(since));
        (!sighting.is_full, !is_there, oldest_first, newest_first)
    });
    for (hash, _) in all.into_iter().skip(SEEN_MAX) {
        seen.remove(&hash);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::base::{ProjectId, RepositoryId};
    use crate::crypto::object_hash;

    fn at(minutes: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_mins(30_000_000 + minutes)
    }

    const ID: LeaseId = LeaseId::from_bytes([1; 16]);
    const OTHER: LeaseId = LeaseId::from_bytes([2; 16]);

    /// Returns a lease of a full key whose bytes depend on the name and the running time.
    fn lease(id: LeaseId, running_seconds: u64) -> SeenLease {
        SeenLease {
            hash: object_hash(&[id.to_string().as_bytes(), &running_seconds.to_le_bytes()]),
            id,
            running_seconds,
            is_full: true,
        }
    }

    impl Watch {
        fn is_stale(&self, id: LeaseId, running_seconds: u64, now: SystemTime) -> bool {
            self.stale(&[lease(id, running_seconds)], now) == [true]
        }
    }

    #[test]
    fn a_lease_that_states_the_same_running_time_for_10_minutes_is_stale() {
        let watch = Watch::default();
        assert!(!watch.is_stale(ID, 60, at(0)));
        assert!(!watch.is_stale(ID, 60, at(9)));
        assert!(watch.is_stale(ID, 60, at(10)));
        assert!(
            !watch.is_stale(OTHER, 60, at(10)),
            "seen for the first time"
        );
        // The process of this lease was suspended, and has continued.
        assert!(!watch.is_stale(ID, 90, at(11)));
        assert!(!watch.is_stale(ID, 90, at(20)));
        assert!(watch.is_stale(ID, 90, at(21)));
    }

    #[test]
    fn a_lease_with_other_bytes_but_the_same_running_time_for_10_minutes_is_stale() {
        let watch = Watch::default();
        for minutes in 0..20 {
            let again = SeenLease {
                hash: object_hash(&[&[minutes]]),
                ..lease(ID, 60)
            };
            let minutes = u64::from(minutes);
            assert_eq!(watch.stale(&[again], at(minutes)), [minutes >= 10]);
        }
    }

    #[test]
    fn copies_of_a_lease_under_any_names_are_as_old_as_the_first_one_that_was_seen() {
        let watch = Watch::default();
        let copy = |number: u64| SeenLease {
            id: LeaseId::from_bytes(u128::from(number).to_be_bytes()),
            ..lease(ID, 60)
        };
        let copies: Vec<_> = (0..1500).map(copy).collect();
        let none = |stale: Vec<bool>| stale.iter().all(|stale| !stale);
        assert!(none(watch.stale(&copies, at(0))));
        assert!(none(watch.stale(&copies, at(9))));
        assert!(watch.stale(&copies, at(10)).iter().all(|stale| *stale));
        // A new name each time makes no difference.
        let watch = Watch::default();
        for number in 0..10 {
            let stale = watch.stale(&[copy(number)], at(9 * number));
            assert_eq!(stale, [number >= 2], "after {} minutes", 9 * number);
        }
    }

    #[test]
    fn a_lease_that_is_renewed_is_never_stale() {
        let watch = Watch::default();
        for minutes in 0..100 {
            assert!(!watch.is_stale(ID, 60 * minutes, at(minutes)));
        }
        // The clocks may run at different speeds. A lease is stale only if its running time does
        // not grow.
        for minutes in 0..100 {
            assert!(!watch.is_stale(OTHER, minutes, at(9 * minutes)));
        }
    }

    #[test]
    fn an_earlier_version_of_a_lease_that_is_put_back_is_stale() {
        let watch = Watch::default();
        assert!(!watch.is_stale(ID, 600, at(0)));
        assert!(watch.is_stale(ID, 570, at(1)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_lease_stale() {
        let watch = Watch::default();
        assert!(!watch.is_stale(ID, 60, at(100)));
        assert!(!watch.is_stale(ID, 60, at(0)));
        assert!(watch.is_stale(ID, 60, at(10)));
    }

    #[test]
    fn an_object_keeps_the_time_at_which_it_was_seen_first() {
        let watch = Watch::default();
        let hashes = [1, 2].map(|byte| (ObjectHash::from_bytes([byte; 32]), true));
        assert_eq!(watch.first_seen(&hashes[..1], at(5)), [at(5)]);
        assert_eq!(watch.first_seen(&hashes, at(9)), [at(5), at(9)]);
        // The clock was set back.
        assert_eq!(watch.first_seen(&hashes, at(3)), [at(3), at(3)]);
    }

    fn kept_below(caches: &Path) -> Watch {
        let (repository, project) = ([1; 16], [2; 16]);
        let repository = RepositoryId::from_bytes(repository);
        let project = ProjectId::from_bytes(project);
        Watch::kept_in(CacheDir::new(repository, project, caches))
    }

    fn file(caches: &Path) -> PathBuf {
        caches
            .join("01".repeat(16))
            .join("02".repeat(16))
            .join("seen")
    }

    #[test]
    fn seen_leases_and_marks_are_remembered_for_the_next_process() {
        let top = tempfile::tempdir().unwrap();
        let caches = top.path().join("caches");
        let mark = [(ObjectHash::from_bytes([7; 32]), true)];
        assert!(!kept_below(&caches).is_stale(ID, 60, at(0)));
        assert!(!kept_below(&caches).is_stale(OTHER, 60, at(1)));
        assert_eq!(kept_below(&caches).first_seen(&mark, at(2)), [at(2)]);
        assert!(kept_below(&caches).is_stale(ID, 60, at(10)));
        assert!(!kept_below(&caches).is_stale(OTHER, 60, at(10)));
        assert_eq!(kept_below(&caches).first_seen(&mark, at(10)), [at(2)]);
        // A damaged file is treated like a missing one.
        fs::write(file(&caches), b"\xff no lease").unwrap();
        assert!(!kept_below(&caches).is_stale(ID, 60, at(11)));
    }

    #[test]
    fn a_file_that_another_user_may_have_written_makes_no_lease_stale() {
        let top = tempfile::tempdir().unwrap();
        let caches = top.path().join("caches");
        assert!(!kept_below(&caches).is_stale(ID, 60, at(0)));
        let file = file(&caches);
        let elsewhere = top.path().join("elsewhere");
        fs::rename(&file, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        assert!(!kept_below(&caches).is_stale(ID, 60, at(10)));
    }

    fn numbered(number: usize, is_full: bool) -> SeenLease {
        let id = LeaseId::from_bytes((number as u128).to_be_bytes());
        SeenLease {
            is_full,
            ..lease(id, u64::MAX)
        }
    }

    #[test]
    fn the_file_does_not_exceed_its_maximum_length_however_many_leases_there_are() {
        let top = tempfile::tempdir().unwrap();
        let caches = top.path().join("caches");
        let watch = kept_below(&caches);
        let many: Vec<_> = (0..SEEN_MAX + 50).map(|n| numbered(n, true)).collect();
        let stale = watch.stale(&many, at(u64::MAX >> 20));
        assert!(stale.iter().all(|stale| !stale));
        watch.first_seen(&marks(SEEN_MAX + 50), at(u64::MAX >> 20));
        assert!(fs::metadata(file(&caches)).unwrap().len() <= FILE_MAX);
        assert_eq!(kept_below(&caches).read().unwrap().len(), 2 * SEEN_MAX);
    }

    fn marks(count: usize) -> Vec<(ObjectHash, bool)> {
        let hash = |number: usize| object_hash(&[b"mark", &number.to_le_bytes()]);
        (0..count).map(|number| (hash(number), true)).collect()
    }

    #[test]
    fn leases_displace_no_marks_and_marks_displace_no_leases() {
        let watch = Watch::default();
        let marks = marks(SEEN_MAX);
        let leases: Vec<_> = (0..SEEN_MAX).map(|n| numbered(n, true)).collect();
        watch.first_seen(&marks, at(0));
        watch.stale(&leases, at(1));
        assert_eq!(watch.first_seen(&marks, at(2)), vec![at(0); SEEN_MAX]);
        assert!(watch.stale(&leases, at(11)).iter().all(|stale| *stale));
    }

    #[test]
    fn new_leases_displace_none_that_is_still_there_and_none_of_a_full_key() {
        let watch = Watch::default();
        let old: Vec<_> = (0..SEEN_MAX - 100).map(|n| numbered(n, true)).collect();
        watch.stale(&old, at(0));
        // Add more new leases of full keys than there are old ones. Then add leases of write keys.
        let new = (SEEN_MAX..2 * SEEN_MAX).map(|n| numbered(n, true));
        let both: Vec<_> = new.chain(old.iter().copied()).collect();
        watch.stale(&both, at(5));
        let many: Vec<_> = (2 * SEEN_MAX..4 * SEEN_MAX)
            .map(|n| numbered(n, false))
            .collect();
        watch.stale(&many, at(6));
        assert!(watch.stale(&old, at(10)).iter().all(|stale| *stale));
    }
}
