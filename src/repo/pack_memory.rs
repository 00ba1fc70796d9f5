//! The memory that packs take between compression and the store.

use std::sync::atomic::AtomicUsize;
use std::sync::{Condvar, Mutex};

/// Maximum number of bytes between compression and the store: a pack that is stored, and more than
/// half of the next one. With 64 MiB, a backup is not faster.
pub(super) const BUDGET: usize = 52 << 20;

/// The memory that all packers of an open project share, even if several backups run at the same
/// time.
pub(super) struct PackMemory {
    /// The bytes that are not taken.
    pub(super) left: Mutex<usize>,
    /// Notified when bytes are given back.
    pub(super) changed: Condvar,
    /// The number of closed packs that have not given back their bytes.
    pub(super) closed: AtomicUsize,
    /// Buffers for reuse.
    pub(super) spare: Mutex<Vec<Vec<u8>>>,
}

impl PackMemory {
    /// Returns memory of this many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: Mutex::new(bytes),
            changed: Condvar::new(),
            closed: AtomicUsize::new(0),
            spare: Mutex::default(),
        }
    }
}

impl Default for PackMemory {
    fn default() -> Self {
        Self::new(BUDGET)
    }
}
