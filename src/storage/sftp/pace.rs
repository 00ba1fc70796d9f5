//! Delays blocks to keep a rate.

use std::time::Duration;

use super::options::SftpOptions;
use crate::storage::rate::Rate;
use crate::storage::runtime;

/// The rate of one direction.
pub(super) struct Pace<'a> {
    pub(super) rate: &'a Rate,
    pub(super) options: &'a SftpOptions,
}

impl Pace<'_> {
    /// Returns the time to wait before this many bytes may be transferred, and counts them.
    pub(super) fn pause(&self, bytes: usize) -> Duration {
        self.rate.pause(bytes as u64)
    }

    /// Reports whether this pause is so long that the caller must read all answers before it. If an
    /// answer stays unread during a long pause, the server seems not to answer.
    pub(super) fn is_long(&self, pause: Duration) -> bool {
        pause > self.options.timeout / 4
    }

    /// Waits for this time. After a cancellation, does not wait: running operations finish without
    /// a limit on their rate.
    pub(super) async fn wait(&self, pause: Duration) {
        runtime::sleep(pause, &self.options.cancel).await;
    }
}
