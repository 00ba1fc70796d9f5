//! Decides which packs a client trusts to hold the blobs that are listed for them.
//!
//! A holder of a write key can store anything under the id of real data. So a blob counts for
//! deduplication only in packs that this client or a full key has stored and listed, or that a full
//! key has read and found undamaged. Reading needs no trust, since every id is verified.

use std::collections::HashSet;
use std::sync::Arc;

use super::tables::NamedRow;
use crate::base::{ObjectHash, Role, SignerId};
use crate::repo::project::Project;
use crate::repo::signers::Signers;

/// The signers and packs that a client trusts.
pub(super) struct Trust {
    /// Its own public key, and the project's.
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

    /// Trusts these packs, too.
    pub(super) fn set_audited(&mut self, packs: HashSet<ObjectHash>) {
        self.audited = packs;
    }

    /// Whether it trusts this signer.
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
