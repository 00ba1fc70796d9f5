//! The leases of others that nobody renews. The time of an object in the store does not show that:
//! it can be in the future, and someone can put back a lease of a process that has ended. Section
//! 13 (Lease) of `docs/format.md` states the rule.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::cache_dir::CacheDir;
use crate::base::{LeaseId, lock};

/// A lease that is older than this, by the store's clock, has expired. So has one that nobody has
/// renewed for as long.
pub(super) const TTL: Duration = Duration::from_mins(10);
/// The number of leases that are remembered. The ones seen longest ago go first.
const SEEN_MAX: usize = 1024;
/// The most bytes of the file that are read: more than [`SEEN_MAX`] lines have.
const FILE_MAX: u64 = 256 << 10;

type Seen = BTreeMap<LeaseId, Sighting>;

/// What this host has seen of the leases of others: how long their work was running, and when it
/// saw that first, by the store's clock.
#[derive(Default)]
pub(super) struct LeaseWatch {
    /// The directory that keeps it for the next run, if there is one.
    cache: Option<CacheDir>,
    /// `None` until it is needed.
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug, Clone, Copy)]
struct Sighting {
    running_seconds: u64,
    since: SystemTime,
}

impl LeaseWatch {
    /// Keeps what is seen in this directory. Reads and creates nothing yet.
    pub(super) fn kept_in(cache: CacheDir) -> Self {
        Self {
            cache: Some(cache),
            seen: Mutex::default(),
        }
    }

    /// Returns whether nobody renews a lease that is in the store at this time, by its clock:
    /// whether it has said the same since it was seen a lease's life ago, or says less than it has
    /// said before. A process at work states a longer time whenever it renews its lease.
    pub(super) fn is_stale(&self, id: LeaseId, running_seconds: u64, now: SystemTime) -> bool {
        let mut seen = lock(&self.seen);
        let seen = seen.get_or_insert_with(|| self.read().unwrap_or_default());
        let sighting = Sighting {
            running_seconds,
            since: now,
        };
        match seen.get_mut(&id) {
            Some(before) if running_seconds < before.running_seconds => return true,
            Some(before) if running_seconds == before.running_seconds => {
                match now.duration_since(before.since) {
                    Ok(unchanged) => return unchanged >= TTL,
                    // The store's clock was set back.
                    Err(_) => before.since = now,
                }
            }
            Some(before) => *before = sighting,
            None => {
                seen.insert(id, sighting);
            }
        }
        while seen.len() > SEEN_MAX {
            let oldest = seen.iter().min_by_key(|(_, sighting)| sighting.since);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                break;
            };
            seen.remove(&oldest);
        }
        self.keep(seen);
        false
    }

    /// A failure costs time only: the next run sees the leases for the first time.
    fn keep(&self, seen: &Seen) {
        let Some(cache) = &self.cache else {
            return;
        };
        let mut text = String::new();
        for (id, sighting) in seen {
            let since = sighting.since.duration_since(SystemTime::UNIX_EPOCH);
            let since = since.unwrap_or_default().as_secs();
            let _ = writeln!(text, "{id} {} {since}", sighting.running_seconds);
        }
        let _ = cache.replace_leases(&text);
    }

    /// Returns what an earlier run has kept; `None` if it cannot be read.
    fn read(&self) -> Option<Seen> {
        let text = self.cache.as_ref()?.read_leases(FILE_MAX).ok()??;
        let sighting = |line: &str| {
            let mut fields = line.split(' ');
            let id = fields.next()?.parse().ok()?;
            let running_seconds = fields.next()?.parse().ok()?;
            let since = Duration::from_secs(fields.next()?.parse().ok()?);
            let since = SystemTime::UNIX_EPOCH.checked_add(since)?;
            let sighting = Sighting {
                running_seconds,
                since,
            };
            Some((id, sighting))
        };
        Some(text.lines().filter_map(sighting).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::base::{ProjectId, RepositoryId};

    fn at(minutes: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_mins(30_000_000 + minutes)
    }

    const ID: LeaseId = LeaseId::from_bytes([1; 16]);
    const OTHER: LeaseId = LeaseId::from_bytes([2; 16]);

    #[test]
    fn a_lease_that_says_the_same_for_its_life_is_stale() {
        let watch = LeaseWatch::default();
        assert!(!watch.is_stale(ID, 60, at(0)));
        assert!(!watch.is_stale(ID, 60, at(9)));
        assert!(watch.is_stale(ID, 60, at(10)));
        assert!(
            !watch.is_stale(OTHER, 60, at(10)),
            "seen for the first time"
        );
        // Its process was suspended, and goes on.
        assert!(!watch.is_stale(ID, 90, at(11)));
        assert!(!watch.is_stale(ID, 90, at(20)));
        assert!(watch.is_stale(ID, 90, at(21)));
    }

    #[test]
    fn a_lease_that_is_renewed_never_is_stale() {
        let watch = LeaseWatch::default();
        for minutes in 0..100 {
            assert!(!watch.is_stale(ID, 60 * minutes, at(minutes)));
        }
        // Clocks need not run alike: only a time that does not change is one.
        for minutes in 0..100 {
            assert!(!watch.is_stale(OTHER, minutes, at(9 * minutes)));
        }
    }

    #[test]
    fn an_earlier_version_of_a_lease_that_is_put_back_is_stale() {
        let watch = LeaseWatch::default();
        assert!(!watch.is_stale(ID, 600, at(0)));
        assert!(watch.is_stale(ID, 570, at(1)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_lease_stale() {
        let watch = LeaseWatch::default();
        assert!(!watch.is_stale(ID, 60, at(100)));
        assert!(!watch.is_stale(ID, 60, at(0)));
        assert!(watch.is_stale(ID, 60, at(10)));
    }

    fn kept_below(caches: &Path) -> LeaseWatch {
        let (repository, project) = ([1; 16], [2; 16]);
        let repository = RepositoryId::from_bytes(repository);
        let project = ProjectId::from_bytes(project);
        LeaseWatch::kept_in(CacheDir::new(repository, project, caches))
    }

    fn file(caches: &Path) -> PathBuf {
        caches
            .join("01".repeat(16))
            .join("02".repeat(16))
            .join("leases")
    }

    #[test]
    fn what_was_seen_is_known_to_the_next_run() {
        let top = tempfile::tempdir().unwrap();
        let caches = top.path().join("caches");
        assert!(!kept_below(&caches).is_stale(ID, 60, at(0)));
        assert!(!kept_below(&caches).is_stale(OTHER, 60, at(1)));
        assert!(kept_below(&caches).is_stale(ID, 60, at(10)));
        assert!(!kept_below(&caches).is_stale(OTHER, 60, at(10)));
        // A damaged file is as good as none.
        fs::write(file(&caches), b"\xff no lease").unwrap();
        assert!(!kept_below(&caches).is_stale(ID, 60, at(11)));
    }

    #[test]
    fn a_file_that_another_may_have_written_makes_no_lease_stale() {
        let top = tempfile::tempdir().unwrap();
        let caches = top.path().join("caches");
        assert!(!kept_below(&caches).is_stale(ID, 60, at(0)));
        let file = file(&caches);
        let elsewhere = top.path().join("elsewhere");
        fs::rename(&file, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        assert!(!kept_below(&caches).is_stale(ID, 60, at(10)));
    }

    #[test]
    fn a_flood_of_leases_does_not_make_the_file_longer_than_is_read() {
        let top = tempfile::tempdir().unwrap();
        let caches = top.path().join("caches");
        let watch = kept_below(&caches);
        for number in 0..SEEN_MAX + 50 {
            let id = LeaseId::from_bytes((number as u128).to_be_bytes());
            assert!(!watch.is_stale(id, u64::MAX, at(number as u64)));
        }
        assert!(fs::metadata(file(&caches)).unwrap().len() <= FILE_MAX);
        assert_eq!(kept_below(&caches).read().unwrap().len(), SEEN_MAX);
    }
}
