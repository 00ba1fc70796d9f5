//! Key slots that an attacker who controls the store added to find out a password.

use std::sync::{Arc, Mutex};

use cuttlebone::base::{Role, Silent};
use cuttlebone::crypto::{ProjectKeys, Secret};
use cuttlebone::repo::Repository;

use super::{Owner, forge};
use crate::repo::PASSWORD;
use crate::repo::intercepted::Intercepted;

/// Tries a password. Returns the calls of the store before and during the attempt, each sorted, and
/// whether the repository opened.
fn calls(owner: &Owner, password: &[u8]) -> ([Vec<String>; 2], bool) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&calls);
    let store = Intercepted::new(&owner.store, move |operation, name| {
        log.lock().unwrap().push(format!("{operation:?} {name}"));
        Ok(())
    });
    let take = || {
        let mut taken = std::mem::take(&mut *calls.lock().unwrap());
        // Sort them, since some calls are made at the same time.
        taken.sort_unstable();
        taken
    };
    let found = Repository::find(Arc::new(store), None, &Silent).unwrap();
    let before = take();
    let opened = found.unlock(password, &Silent);
    ([before, take()], opened.is_ok())
}

/// The attacker guesses a password, and adds a slot for it. If the client read other objects after
/// this slot opens, the store would learn that the guess was right.
#[test]
fn a_store_sees_the_same_reads_whether_a_slot_that_it_added_matches_or_not() {
    let owner = Owner::new();
    let own = ProjectKeys::full(&Secret::random().unwrap());
    for (role, len) in [(Role::Full, 32), (Role::Write, 1344), (Role::Verify, 96)] {
        for password in [PASSWORD, b"full", b"write", b"verify", b"wrong"] {
            let seen = [password, b"another"].map(|guess| {
                let slot = forge(&owner, &own, role, &vec![7; len], guess);
                let forged = owner.put_forged(&slot);
                let ([before, after], opened) = calls(&owner, password);
                owner.remove(forged);
                assert_eq!(opened, password != b"wrong", "{role}");
                assert_eq!(after.is_empty(), opened, "{role}: {after:?}");
                (before.len(), after)
            });
            assert_eq!(seen[0], seen[1], "{role}");
        }
    }
}
