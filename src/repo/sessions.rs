//! The keys of sessions. A client with a write key seals its chunks with the key of a session.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::base::{ProjectId, lock};
use crate::crypto::{DataPrivateKey, Encapsulation, Secret, hash};

/// Maximum number of keys that are kept. A backup has only one session, but an attacker may store
/// packs with many sessions.
const KEYS_MAX: usize = 1024;

/// The keys of the sessions that were opened, by the hash of the encapsulation (the encrypted key
/// of a session). Opening a session takes about 100 µs.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Secret>>);

impl Sessions {
    /// Returns the key of a session.
    pub(super) fn key(
        &self,
        encapsulation: &Encapsulation,
        project: ProjectId,
        private: &DataPrivateKey,
    ) -> Secret {
        let name = hash(&[encapsulation]);
        if let Some(key) = lock(&self.0).get(&name) {
            return key.clone();
        }
        let key = private.decapsulate(encapsulation, project);
        let mut keys = lock(&self.0);
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(name, key.clone());
        key
    }
}
