//! Derives a key from a password, with Argon2id (RFC 9106). This key opens a key slot.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::secret::Secret;

/// The cost of trying a password. It is stored in each key slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfParams {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Parameters are outside the bounds that a reader accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "Argon2id needs 8 KiB to 4 GiB of memory (at least 8 KiB a lane), 1 to 1024 passes, 1 to 64 \
     lanes, and at most 64 GiB in all passes together, not {memory_kib} KiB, {passes} passes and \
     {lanes} lanes"
)]
pub struct KdfParamsError {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Default for KdfParams {
    /// Returns 64 MiB, three passes and four lanes: the second recommendation of RFC 9106.
    fn default() -> Self {
        Self {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 4,
        }
    }
}

impl KdfParams {
    /// The most memory that a reader accepts, in KiB.
    pub const MEMORY_KIB_MAX: u32 = 4 << 20;
    /// The most passes over the memory that a reader accepts.
    pub const PASSES_MAX: u32 = 1024;
    /// The most lanes that a reader accepts.
    pub const LANES_MAX: u32 = 64;
    /// The most work that a reader accepts, memory in KiB times passes: about a minute of one core.
    pub const WORK_KIB_MAX: u64 = 64 << 20;
    /// The least memory for a new key slot, in KiB.
    pub const NEW_MEMORY_KIB_MIN: u32 = 8 << 10;
    /// The least work for a new key slot, memory in KiB times passes: two passes over 19 MiB, the
    /// minimum that OWASP recommends for passwords.
    pub const NEW_WORK_KIB_MIN: u64 = 38 << 10;

    /// Returns the least memory for this number of lanes, in KiB.
    #[must_use]
    pub const fn memory_kib_min(lanes: u32) -> u32 {
        8 * lanes
    }

    /// Checks parameters against their bounds. They may come from a key slot that is not
    /// authenticated yet, and must not make a reader allocate or compute without limit.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, KdfParamsError> {
        let fits = (1..=Self::LANES_MAX).contains(&lanes)
            && (1..=Self::PASSES_MAX).contains(&passes)
            && (Self::memory_kib_min(lanes)..=Self::MEMORY_KIB_MAX).contains(&memory_kib)
            && u64::from(memory_kib) * u64::from(passes) <= Self::WORK_KIB_MAX;
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

    /// Returns the memory in KiB.
    #[must_use]
    pub fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    /// Returns the number of passes over the memory.
    #[must_use]
    pub fn passes(&self) -> u32 {
        self.passes
    }

    /// Returns the number of lanes: parts of the memory that can be filled in parallel.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        self.lanes
    }

    /// Returns the work for one password: memory in KiB times passes.
    #[must_use]
    pub fn work_kib(&self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// Derives a key from a password and a salt.
    pub fn derive(&self, password: &[u8], salt: &[u8; 32]) -> Result<Secret, KdfError> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32))?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password, salt, &mut *key)?;
        Ok(Secret::new(*key))
    }
}

/// A key could not be derived from a password.
#[derive(Debug, thiserror::Error)]
pub enum KdfError {
    /// Argon2id returned an error. With parameters in the bounds of [`KdfParams`], the reason is a
    /// lack of memory.
    #[error("could not derive a key from the password ({0})")]
    Argon2(#[from] argon2::Error),
    /// The thread that ran Argon2id ended without a result.
    #[error("could not derive a key from the password")]
    Stopped,
}
