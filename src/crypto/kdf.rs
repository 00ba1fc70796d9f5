//! From a password to the key that opens a slot: Argon2id, RFC 9106.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::keys::Secret;

/// What a guess at the password costs. Stored in the slot, so each slot can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfParams {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Parameters beyond what a reader accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "Argon2id takes 8 KiB to 4 GiB of memory (8 KiB a lane at least), 1 to 1024 passes and 1 to 64 lanes, \
     not {memory_kib} KiB, {passes} and {lanes}"
)]
pub struct KdfParamsError {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Default for KdfParams {
    /// 64 MiB, three passes, four lanes: RFC 9106's second recommendation.
    fn default() -> Self {
        Self {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 4,
        }
    }
}

impl KdfParams {
    /// The most memory, in KiB.
    pub const MEMORY_KIB_MAX: u32 = 4 << 20;
    /// The most passes over the memory.
    pub const PASSES_MAX: u32 = 1024;
    /// The most lanes.
    pub const LANES_MAX: u32 = 64;

    /// Returns the least memory for this number of lanes, in KiB.
    #[must_use]
    pub const fn memory_kib_min(lanes: u32) -> u32 {
        8 * lanes
    }

    /// Checks parameters against their bounds. They may come from a slot that nothing has
    /// authenticated yet, and must not make a reader allocate or compute without limit.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, KdfParamsError> {
        let fits = (1..=Self::LANES_MAX).contains(&lanes)
            && (1..=Self::PASSES_MAX).contains(&passes)
            && (Self::memory_kib_min(lanes)..=Self::MEMORY_KIB_MAX).contains(&memory_kib);
        if fits {
            Ok(Self {
                memory_kib,
                passes,
                lanes,
            })
        } else {
            Err(KdfParamsError {
                memory_kib,
                passes,
                lanes,
            })
        }
    }

    /// Memory in KiB.
    #[must_use]
    pub fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    /// Passes over the memory.
    #[must_use]
    pub fn passes(&self) -> u32 {
        self.passes
    }

    /// Lanes, which can run at the same time.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        self.lanes
    }

    /// The key that this password and salt give.
    pub fn derive(&self, password: &[u8], salt: &[u8; 32]) -> Result<Secret, KdfError> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32))?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password, salt, &mut *key)?;
        Ok(Secret::new(*key))
    }
}

/// Argon2id refused, which within the bounds of [`KdfParams`] means that memory is short.
#[derive(Debug, thiserror::Error)]
#[error("could not derive a key from the password")]
pub struct KdfError(#[from] argon2::Error);
