//! How fast bytes may go.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::base::{Cancel, lock};

use super::{Backend, Listed, Name, StorageError};

/// What was not used for longer than this is forfeit.
const BURST: Duration = Duration::from_millis(100);
/// What is as small as this does not wait for packs, or for no longer than a moment: a lease would seem dead.
const SMALL: u64 = 64 << 10;
const SMALL_WAITS: Duration = Duration::from_secs(1);

/// A number of bytes a second that is not exceeded for longer than a moment. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Rate(Option<Arc<Limited>>);

#[derive(Debug)]
struct Limited {
    bytes_per_second: NonZeroU64,
    /// When all that has been asked for so far may have gone.
    free: Mutex<Instant>,
}

impl Rate {
    /// At most so many bytes a second.
    #[must_use]
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        Self(Some(Arc::new(Limited {
            bytes_per_second,
            free: Mutex::new(Instant::now()),
        })))
    }

    /// How long to wait before so many bytes may go. They count as gone.
    #[must_use]
    pub fn pause(&self, bytes: u64) -> Duration {
        self.pause_at(Instant::now(), bytes)
    }

    #[expect(clippy::cast_precision_loss, reason = "a bit more or less is fine")]
    fn pause_at(&self, now: Instant, bytes: u64) -> Duration {
        let Some(limited) = &self.0 else {
            return Duration::ZERO;
        };
        let mut free = lock(&limited.free);
        let begin = now
            .checked_sub(BURST)
            .map_or(*free, |least| least.max(*free));
        let takes = bytes as f64 / limited.bytes_per_second.get() as f64;
        let takes = Duration::try_from_secs_f64(takes).unwrap_or(Duration::MAX);
        *free = begin.checked_add(takes).unwrap_or(begin);
        begin.saturating_duration_since(now)
    }
}

/// For both ways; without limits unless set.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Towards the store.
    pub upload: Rate,
    /// From the store.
    pub download: Rate,
}

impl Limits {
    /// Whether there are none.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.upload.0.is_none() && self.download.0.is_none()
    }
}

/// A store behind a limit. It goes by whole calls: a store that can pace itself better gets the limits itself.
#[derive(Debug)]
pub struct LimitBackend<B> {
    inner: B,
    limits: Limits,
    cancel: Cancel,
}

impl<B: Backend> LimitBackend<B> {
    /// Puts a store behind limits, which no longer hold once `cancel` asks to stop.
    pub fn new(inner: B, limits: Limits, cancel: Cancel) -> Self {
        Self {
            inner,
            limits,
            cancel,
        }
    }

    fn wait(&self, rate: &Rate, bytes: u64) {
        self.sleep(rate.pause(bytes));
    }

    fn sleep(&self, mut left: Duration) {
        while !left.is_zero() && self.cancel.check().is_ok() {
            let slice = left.min(BURST);
            thread::sleep(slice);
            left -= slice;
        }
    }

    fn wait_to_put(&self, parts: &[&[u8]]) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let bytes = bytes as u64;
        let pause = self.limits.upload.pause(bytes);
        self.sleep(if bytes > SMALL {
            pause
        } else {
            pause.min(SMALL_WAITS)
        });
    }
}

impl<B: Backend> Backend for LimitBackend<B> {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.wait_to_put(parts);
        self.inner.put(name, parts)
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.wait_to_put(parts);
        self.inner.put_new(name, parts)
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        let got = self.inner.get(name, limit)?;
        // Its size is known only now; whoever comes next waits for it.
        self.wait(&self.limits.download, got.len() as u64);
        Ok(got)
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.wait(&self.limits.download, buf.len() as u64);
        self.inner.get_range(name, offset, buf)
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        self.inner.size(name)
    }

    fn list(&self, directory: &str) -> Result<Vec<Listed>, StorageError> {
        self.inner.list(directory)
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        self.inner.directories(directory)
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.inner.delete(name)
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        self.inner.remove_leftovers(directory, age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryBackend;

    #[test]
    fn the_rate_is_kept_and_what_was_not_used_is_forfeit() {
        let rate = Rate::new(NonZeroU64::new(1000).unwrap());
        let begin = Instant::now() + Duration::from_secs(1);
        let second = Duration::from_secs(1);
        assert_eq!(rate.pause_at(begin, 1100), Duration::ZERO);
        // The burst is used up, so that a second's worth is still to go.
        assert_eq!(rate.pause_at(begin, 500), second);
        assert_eq!(rate.pause_at(begin + second, 500), second / 2);
        let later = begin + 100 * second;
        assert_eq!(rate.pause_at(later, 100), Duration::ZERO);
        assert_eq!(rate.pause_at(later, 100), Duration::ZERO);
        assert_eq!(rate.pause_at(later, 100), second / 10);
        assert_eq!(Rate::default().pause(u64::MAX), Duration::ZERO);
    }
    #[test]
    fn what_is_small_does_not_wait_behind_packs() {
        let limits = Limits {
            upload: Rate::new(NonZeroU64::MIN),
            download: Rate::default(),
        };
        // It would take months.
        let _gone = limits.upload.pause(100 << 20);
        let backend = LimitBackend::new(MemoryBackend::new(), limits, Cancel::default());
        let name = Name::new("lease").unwrap();
        backend.put(&name, &[&[7; 1000]]).unwrap();
        assert_eq!(backend.size(&name).unwrap(), 1000);
    }
}
