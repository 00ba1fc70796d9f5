//! Transfer rates.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::base::lock;

/// Unused capacity is kept for this time and then lost.
const BURST: Duration = Duration::from_millis(100);

/// A maximum number of bytes per second, which transfers may exceed only for moments. The default
/// is no maximum. Clones share one rate: their transfers count together.
#[derive(Debug, Clone, Default)]
pub struct Rate(Option<Arc<Limited>>);

#[derive(Debug)]
struct Limited {
    bytes_per_second: NonZeroU64,
    /// The time at which the bytes requested so far will have been transferred.
    free: Mutex<Instant>,
}

impl Rate {
    /// Returns a rate of at most this many bytes per second.
    #[must_use]
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        Self(Some(Arc::new(Limited {
            bytes_per_second,
            free: Mutex::new(Instant::now()),
        })))
    }

    /// Returns the time to wait before this many bytes may be transferred, and counts them. The
    /// time depends only on earlier calls, and not on `bytes`.
    #[must_use]
    pub fn pause(&self, bytes: u64) -> Duration {
        self.pause_at(Instant::now(), bytes)
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    fn pause_at(&self, now: Instant, bytes: u64) -> Duration {
        let Some(limited) = &self.0 else {
            return Duration::ZERO;
        };
        let mut free = lock(&limited.free);
        let begin = now
            .checked_sub(BURST)
            .map_or(*free, |earliest| earliest.max(*free));
        let takes = bytes as f64 / limited.bytes_per_second.get() as f64;
        let takes = Duration::try_from_secs_f64(takes).unwrap_or(Duration::MAX);
        *free = begin.checked_add(takes).unwrap_or(begin);
        begin.saturating_duration_since(now)
    }
}

/// Rates for both directions; unlimited by default.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// From this host to the store.
    pub upload: Rate,
    /// From the store to this host.
    pub download: Rate,
}

impl Limits {
    /// Reports whether neither direction is limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.upload.0.is_none() && self.download.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_and_unused_capacity_is_lost() {
        let rate = Rate::new(NonZeroU64::new(1000).unwrap());
        let begin = Instant::now() + Duration::from_secs(1);
        let second = Duration::from_secs(1);
        assert_eq!(rate.pause_at(begin, 1100), Duration::ZERO);
        // The burst is used up, so the transfer of 1000 bytes, which takes a second, is pending.
        assert_eq!(rate.pause_at(begin, 500), second);
        assert_eq!(rate.pause_at(begin + second, 500), second / 2);
        let later = begin + 100 * second;
        assert_eq!(rate.pause_at(later, 100), Duration::ZERO);
        assert_eq!(rate.pause_at(later, 100), Duration::ZERO);
        assert_eq!(rate.pause_at(later, 100), second / 10);
        assert_eq!(Rate::default().pause(u64::MAX), Duration::ZERO);
    }
}
