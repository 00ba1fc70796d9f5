//! The certificates of a project. Each states the role of a key that a holder of a full key added.

use std::collections::HashSet;

use crate::base::{ObjectHash, Role, SignerId};
use crate::format::{Certificate, matches_pattern};

/// A key that a holder of a full key added to a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The hash that names its certificate.
    pub name: ObjectHash,
    /// Its role.
    pub role: Role,
    /// Its certificate.
    pub certificate: Certificate,
}

impl Certified {
    /// Whether the key may back up the volume with this name.
    #[must_use]
    pub fn covers(&self, volume: &str) -> bool {
        let patterns = &self.certificate.volumes;
        patterns.is_empty() || patterns.iter().any(|p| matches_pattern(p, volume))
    }

    /// Whether objects that the key signed may require this feature.
    #[must_use]
    pub fn may_require(&self, feature: &str) -> bool {
        self.certificate.features.iter().any(|f| f == feature)
    }
}

/// The valid certificates of a project at one point in time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates(Vec<Certified>);

impl Certificates {
    pub(super) fn new(certified: Vec<Certified>) -> Self {
        Self(certified)
    }

    /// Removes the certificates of these signers, whose keys were revoked.
    pub fn withdraw(&mut self, revoked: &HashSet<SignerId>) {
        let counts = |signer: &SignerId| !revoked.contains(signer);
        self.0
            .retain(|certified| certified.certificate.signer.as_ref().is_none_or(counts));
    }

    /// All certificates.
    #[must_use]
    pub fn all(&self) -> &[Certified] {
        &self.0
    }

    /// Returns the key with this slot, if its certificate has this role.
    #[must_use]
    pub fn of_slot(&self, slot: ObjectHash, role: Role) -> Option<&Certified> {
        let mut all = self.0.iter();
        all.find(|c| c.certificate.slot == slot && c.role == role)
    }

    /// Returns the key with this slot, whose certificate may have any role; `None` if no
    /// certificate names the slot.
    pub(super) fn naming(&self, slot: ObjectHash) -> Option<&Certified> {
        self.0.iter().find(|c| c.certificate.slot == slot)
    }

    /// Returns a certificate that names this public key; `None` if there is none.
    #[must_use]
    pub fn of_signer(&self, signer: &SignerId) -> Option<&Certified> {
        self.all_of(signer).next()
    }

    /// Returns all certificates that name this public key. The key has the rights of all of them.
    pub fn all_of<'a>(
        &'a self,
        signer: &SignerId,
    ) -> impl Iterator<Item = &'a Certified> + use<'a> {
        let signer = Some(*signer);
        let all = self.0.iter();
        all.filter(move |c| c.certificate.signer == signer)
    }
}
