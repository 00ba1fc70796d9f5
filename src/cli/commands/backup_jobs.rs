//! Several backups of images that run at the same time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::base::{Cancel, Cancelled, Notice, Observer, Phase, Progress, lock, recover};

/// The interval at which a waiting backup tests whether the user interrupted the command.
const STEP: Duration = Duration::from_millis(100);

/// The volumes to which backups are running. Two images can have the same volume, for example if
/// one image has the name that the other had before. Then their backups must not run at the same
/// time.
#[derive(Default)]
pub(super) struct VolumesInUse {
    names: Mutex<HashSet<String>>,
    freed: Condvar,
}

/// A volume that is in use until this value is dropped.
pub(super) struct VolumeInUse<'a> {
    volumes: &'a VolumesInUse,
    name: String,
}

impl VolumesInUse {
    /// Waits until no other backup uses this volume. Fails if the user interrupts the command.
    pub(super) fn claim(&self, name: &str, cancel: &Cancel) -> Result<VolumeInUse<'_>, Cancelled> {
        let mut names = lock(&self.names);
        while !names.insert(name.to_owned()) {
            cancel.check()?;
            (names, _) = recover(self.freed.wait_timeout(names, STEP));
        }
        let name = name.to_owned();
        let volumes = self;
        Ok(VolumeInUse { volumes, name })
    }
}

impl Drop for VolumeInUse<'_> {
    fn drop(&mut self) {
        lock(&self.volumes.names).remove(&self.name);
        self.volumes.freed.notify_all();
    }
}

/// Shows the progress of several backups as one sum.
pub(super) struct SumOfJobs {
    shown: Arc<dyn Observer>,
    done: AtomicU64,
}

impl SumOfJobs {
    pub(super) fn new(shown: Arc<dyn Observer>) -> Arc<Self> {
        let done = AtomicU64::new(0);
        Arc::new(Self { shown, done })
    }

    /// Returns an observer for one of the backups.
    pub(super) fn job(self: &Arc<Self>) -> Arc<dyn Observer> {
        Arc::new(Job {
            sum: Arc::clone(self),
            done: AtomicU64::new(0),
        })
    }
}

/// Adds the progress of one backup to the sum.
struct Job {
    sum: Arc<SumOfJobs>,
    done: AtomicU64,
}

impl Observer for Job {
    fn progress(&self, progress: Progress) {
        // Do not show the other phases: they are short, and different phases cannot be added up.
        if progress.phase != Phase::Backup {
            return;
        }
        let before = self.done.fetch_max(progress.done, Ordering::Relaxed);
        let more = progress.done.saturating_sub(before);
        let done = self.sum.done.fetch_add(more, Ordering::Relaxed) + more;
        self.sum.shown.progress(Progress {
            phase: Phase::Backup,
            done,
            total: None,
        });
    }

    fn notice(&self, notice: Notice) {
        self.sum.shown.notice(notice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_claim_of_a_volume_waits_until_the_volume_is_free_and_fails_if_interrupted() {
        let (volumes, cancel) = (VolumesInUse::default(), Cancel::default());
        let first = volumes.claim("a", &cancel).unwrap();
        drop(volumes.claim("b", &cancel).unwrap());
        let order = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let second = volumes.claim("a", &cancel).unwrap();
                lock(&order).push("second");
                second
            });
            thread::sleep(Duration::from_millis(50));
            lock(&order).push("first");
            drop(first);
            let _second = waiting.join().unwrap();
            cancel.cancel();
            assert!(volumes.claim("a", &cancel).is_err());
        });
        assert_eq!(*lock(&order), ["first", "second"]);
    }

    #[test]
    fn the_progress_of_several_backups_is_added() {
        #[derive(Default)]
        struct Last(AtomicU64);
        impl Observer for Last {
            fn progress(&self, progress: Progress) {
                self.0.store(progress.done, Ordering::Relaxed);
            }
            fn notice(&self, _: Notice) {}
        }
        let last = Arc::new(Last::default());
        let sum = SumOfJobs::new(Arc::clone(&last) as _);
        let jobs = [sum.job(), sum.job()];
        for (job, phase, done, expected) in [
            (0, Phase::Backup, 10, 10),
            (1, Phase::Backup, 5, 15),
            (1, Phase::Index, 900, 15),
            (1, Phase::Backup, 3, 15),
            (0, Phase::Backup, 12, 17),
        ] {
            let total = None;
            jobs[job].progress(Progress { phase, done, total });
            assert_eq!(last.0.load(Ordering::Relaxed), expected);
        }
    }
}
