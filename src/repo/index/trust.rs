//! Whom a client trusts that a pack holds the blobs that are listed of it.
//!
//! A holder of a write key can store anything under the id of real data. So a blob counts as
//! present for deduplication only where this client itself or a full key stored and listed it, or
//! where a full key read the pack and found it whole. Reading needs no trust: every id is verified.

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
    /// The signers of the project, if the client trusts all that may write and are not revoked.
    all: Option<Arc<Signers>>,
    /// The packs that a full key read and found whole.
    audited: HashSet<ObjectHash>,
}

impl Trust {
    /// Returns whom a client with the keys of this project trusts.
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

    /// Whether it trusts what is listed of a pack that these name. What the pack says of itself is
    /// not enough: anyone can store a copy of it with other bytes.
    pub(super) fn listing(&self, named: &NamedRow) -> bool {
        named.whole || named.signers.iter().any(|by| self.signer(by))
    }

    /// Whether it trusts that a pack of this signer holds what is listed of it, if these name it.
    pub(super) fn pack(&self, pack: &ObjectHash, signer: &SignerId, named: &NamedRow) -> bool {
        self.listing(named) && (self.signer(signer) || self.audited.contains(pack))
    }
}
