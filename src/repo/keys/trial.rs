//! Tries a password on a key slot.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use zeroize::Zeroizing;

use super::bundle::Bundle;
use super::slots::{FoundSlot, open_slot};
use crate::base::{ByteSize, Cancel, Memory, Notice, Observer};
use crate::crypto::{KdfError, KdfParams, Secret};
use crate::repo::error::RepoError;

/// The time between two tests whether the user wants to stop.
const WAIT: Duration = Duration::from_millis(50);

/// The parameters for trying slots on this machine.
pub(crate) struct Trials<'a> {
    /// The maximum memory that a slot may need, in bytes.
    memory: u64,
    cancel: &'a Cancel,
    observer: &'a dyn Observer,
}

impl<'a> Trials<'a> {
    /// Returns parameters for trying slots that need no more memory than is free now.
    pub(crate) fn new(cancel: &'a Cancel, observer: &'a dyn Observer) -> Self {
        Self {
            memory: Memory::of_this_machine().map_or(u64::MAX, |memory| memory.available),
            cancel,
            observer,
        }
    }

    /// Returns the secrets in a slot, or `None` if the password does not open it. If the slot
    /// cannot be tried, sends a notice and returns `None`, since anyone who can write to the store
    /// can add such a slot. Fails if the password opens the slot, but the slot needs a newer
    /// program.
    pub(crate) fn open(
        &self,
        found: &FoundSlot,
        password: &[u8],
    ) -> Result<Option<Bundle>, RepoError> {
        let kdf = match found.kdf() {
            Ok(kdf) => kdf,
            Err(problem) => return Ok(self.skip(found, problem)),
        };
        let needed = u64::from(kdf.memory_kib()) * 1024;
        if needed > self.memory {
            let (needed, free) = (ByteSize(needed), ByteSize(self.memory));
            return Ok(self.skip(
                found,
                format!("it needs {needed} of memory; {free} are free"),
            ));
        }
        match self.derive(kdf, password, &found.lock.salt)? {
            Ok(key) => open_slot(found, &key),
            Err(error) => Ok(self.skip(found, error.to_string())),
        }
    }

    fn skip(&self, found: &FoundSlot, problem: String) -> Option<Bundle> {
        let key = found.id;
        self.observer
            .notice(Notice::KeySlotSkipped { key, problem });
        None
    }

    /// Derives a key in a separate thread. The derivation cannot be interrupted. If the user wants
    /// to stop, fails at once. The thread still runs then, but the process is about to end.
    fn derive(
        &self,
        kdf: KdfParams,
        password: &[u8],
        salt: &[u8; 32],
    ) -> Result<Result<Secret, KdfError>, RepoError> {
        self.cancel.check()?;
        let (send, receive) = mpsc::channel();
        let (password, salt) = (Zeroizing::new(password.to_vec()), *salt);
        let derive = move || {
            // After an interruption, nobody receives the result.
            let _ = send.send(kdf.derive(&password, &salt));
        };
        thread::Builder::new()
            .name("argon2id".to_owned())
            .spawn(derive)
            .map_err(RepoError::Thread)?;
        loop {
            match receive.recv_timeout(WAIT) {
                Ok(derived) => return Ok(derived),
                Err(RecvTimeoutError::Timeout) => self.cancel.check()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(Err(KdfError::Stopped)),
            }
        }
    }
}
