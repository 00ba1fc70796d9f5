//! Decides which packs a client trusts to hold the blobs that are listed for them.
//!
//! A holder of a write key can store anything under the id of real data. So a blob counts for
//! deduplication only in trusted packs. This client or a full key must have stored and listed the
//! pack, or a full key must have read it and found it undamaged. If the settings of the project say
//! so, all write keys that are not revoked are trusted, too. Reading needs no trust, since every id
//! is verified.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::tables::NamedRow;
use crate::base::{ObjectHash, Role, SignerId};
use crate::repo::project::Project;
use crate::repo::signers::Signers;

/// Maximum number of places of a blob that are tried for each signer that this client does not
/// trust. Only an attacker stores a blob more often.
const PLACES_MAX: usize = 64;

/// Counts the untrusted places of a blob that were tried. Counts them for each signer of segments,
/// so that the holder of one write key cannot keep a reader from the places that others name.
#[derive(Default)]
pub(super) struct UntrustedPlaces {
    tried: HashMap<Namer, usize>,
}

/// Who names a pack in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Namer {
    Nobody,
    Signer(SignerId),
}

impl UntrustedPlaces {
    /// Returns whether one more place in a pack that these signers name may be tried.
    pub(super) fn has_left(&self, named: &NamedRow) -> bool {
        self.namer_with_left(named).is_some()
    }

    /// Counts one more place in a pack that these signers name as tried.
    pub(super) fn take(&mut self, named: &NamedRow) {
        if let Some(namer) = self.namer_with_left(named) {
            *self.tried.entry(namer).or_default() += 1;
        }
    }

    fn namer_with_left(&self, named: &NamedRow) -> Option<Namer> {
        let nobody = named.signers.is_empty().then_some(Namer::Nobody);
        let signers = named.signers.iter().copied().map(Namer::Signer);
        let has_left = |namer: &Namer| {
            self.tried
                .get(namer)
                .is_none_or(|tried| *tried < PLACES_MAX)
        };
        signers.chain(nobody).find(has_left)
    }
}

/// The signers and packs that a client trusts.
pub(super) struct Trust {
    /// The client's own public key, and the project's.
    signers: [SignerId; 2],
    /// The signers of the project, if the client trusts all write keys that are not revoked.
    all: Option<Arc<Signers>>,
    /// The packs that a full key has read and found undamaged.
    audited: HashSet<ObjectHash>,
}

impl Trust {
    /// Returns the signers that a client with the keys of this project trusts.
    pub(super) fn of(project: &Project) -> Self {
        let own = project.keys.signing().public();
        let all = project.settings.trusts_all();
        Self {
            signers: [own, *project.keys.authority()],
            all: all.then(|| Arc::clone(&project.signers)),
            audited: HashSet::new(),
        }
    }

    /// From now on, also trusts these packs, which audits name. They replace those of the last
    /// call.
    pub(super) fn set_audited(&mut self, packs: HashSet<ObjectHash>) {
        self.audited = packs;
    }

    /// Whether the client trusts this signer.
    pub(super) fn signer(&self, signer: &SignerId) -> bool {
        let writes = |all: &Arc<Signers>| {
            let role = all.role_of(signer);
            let writes = role.is_some_and(|role| role.includes(Role::Write));
            writes && !all.is_revoked(signer)
        };
        self.signers.contains(signer) || self.all.as_ref().is_some_and(writes)
    }

    /// Whether the client trusts the listing of a pack that these signers name. The listing in the
    /// pack itself is not enough: anyone can store a copy of a pack with other bytes.
    pub(super) fn listing(&self, named: &NamedRow) -> bool {
        named.whole || named.signers.iter().any(|by| self.signer(by))
    }

    /// Whether the client trusts that a pack of this signer holds the listed blobs, if these
    /// signers name the pack.
    pub(super) fn pack(&self, pack: &ObjectHash, signer: &SignerId, named: &NamedRow) -> bool {
        self.listing(named) && (self.signer(signer) || self.audited.contains(pack))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(signers: &[u8]) -> NamedRow {
        NamedRow {
            by_itself: false,
            whole: false,
            retired: false,
            signers: signers
                .iter()
                .map(|number| SignerId::from_bytes([*number; 32]))
                .collect(),
        }
    }

    #[test]
    fn many_places_of_one_signer_do_not_hide_those_of_another() {
        let mut places = UntrustedPlaces::default();
        for _ in 0..PLACES_MAX {
            assert!(places.has_left(&named(&[1])));
            places.take(&named(&[1]));
        }
        assert!(!places.has_left(&named(&[1])));
        assert!(places.has_left(&named(&[2])) && places.has_left(&named(&[])));
        // A place that both signers name may be tried as long as one of them has tries left.
        assert!(places.has_left(&named(&[1, 2])));
        for _ in 0..PLACES_MAX {
            places.take(&named(&[1, 2]));
        }
        assert!(!places.has_left(&named(&[2, 1])));
        for _ in 0..PLACES_MAX {
            places.take(&named(&[]));
        }
        assert!(!places.has_left(&named(&[])) && places.has_left(&named(&[3])));
    }
}
