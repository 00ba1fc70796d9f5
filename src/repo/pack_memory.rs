//! Limits the memory that packs take after they are compressed and before they are stored.

use std::num::NonZeroUsize;

/// Maximum number of bytes that are compressed but not stored yet: a pack that is being stored, and
/// half of the next one. With 64 MiB, a backup is not faster.
const BUDGET: usize = 48 << 20;

/// The minimum for each packer, in bytes. With less, packs could be so small that a prune repacks
/// them.
const BUDGET_MIN: usize = 16 << 20;

/// The number of bytes that each packer of a project may hold compressed but not stored yet.
///
/// Packers do not share this memory. If they did, a packer that waits for its source would keep the
/// bytes of its open pack, and could stop all other packers.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackMemory(usize);

impl PackMemory {
    /// Returns the memory of each packer if this many packers run at the same time.
    pub(super) const fn of_each(packers: NonZeroUsize) -> Self {
        let bytes = BUDGET / packers.get();
        Self(if bytes < BUDGET_MIN {
            BUDGET_MIN
        } else {
            bytes
        })
    }

    pub(super) const fn bytes(self) -> usize {
        self.0
    }
}

impl Default for PackMemory {
    fn default() -> Self {
        Self(BUDGET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packers_at_the_same_time_get_equal_parts_but_no_less_than_the_minimum() {
        let of = |packers| PackMemory::of_each(NonZeroUsize::new(packers).unwrap()).bytes() >> 20;
        assert_eq!([1, 2, 3, 4, 16].map(of), [48, 24, 16, 16, 16]);
        assert_eq!(PackMemory::default().bytes() >> 20, 48);
    }
}
