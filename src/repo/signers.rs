//! The signers of a project and the objects that each may sign: section 7 (Sealed object) of
//! `docs/format.md`.

use std::collections::HashSet;
use std::sync::RwLock;

use super::certificates::Certificates;
use super::error::ForeignReason;
use super::object_kind::ObjectKind;
use crate::base::{ObjectHash, Role, SignerId, read_lock, write_lock};
use crate::crypto::ProjectKeys;
use crate::format::Revoked;

/// The signers of a project, and the objects that each may sign.
#[derive(Debug)]
pub struct Signers {
    /// The public key of the project. Full keys sign with its private key.
    authority: SignerId,
    known: RwLock<Known>,
}

/// The certified keys that were loaded.
#[derive(Debug, Default)]
struct Known {
    /// The names of all certificates that were in the store when they were loaded, valid or not.
    listed: HashSet<ObjectHash>,
    certificates: Certificates,
    /// The signers that entries of the log revoke.
    revoked: HashSet<SignerId>,
}

impl Signers {
    /// Returns the signers that are known without any certificate: the project's own key.
    #[must_use]
    pub fn new(keys: &ProjectKeys) -> Self {
        Self {
            authority: *keys.authority(),
            known: RwLock::default(),
        }
    }

    /// Replaces the known certificates with these. `listed` are the names of all certificates that
    /// were in the store when these were loaded, valid or not.
    pub(super) fn update(&self, listed: HashSet<ObjectHash>, certificates: Certificates) {
        let mut known = write_lock(&self.known);
        (known.listed, known.certificates) = (listed, certificates);
    }

    /// Notes that these revocations are in the log.
    pub(super) fn withdraw<'a>(&self, revoked: impl Iterator<Item = &'a Revoked>) {
        let mut known = write_lock(&self.known);
        let revoked = revoked.map(|revoked| revoked.signer);
        // A full key cannot be revoked.
        known
            .revoked
            .extend(revoked.filter(|signer| *signer != self.authority));
    }

    /// Returns whether an entry of the log that this process has read revokes this signer.
    pub(super) fn is_revoked(&self, signer: &SignerId) -> bool {
        read_lock(&self.known).revoked.contains(signer)
    }

    /// Returns whether exactly the certificates with these names were in the store when the known
    /// certificates were loaded.
    pub(super) fn has_seen(&self, listed: &HashSet<ObjectHash>) -> bool {
        read_lock(&self.known).listed == *listed
    }

    /// Returns the role of a signer: full for the project's own key, and for another key the role
    /// that its certificate states. Of several certificates, the one with the most rights counts.
    /// `None` if this is another key and no certificate names it.
    #[must_use]
    pub fn role_of(&self, signer: &SignerId) -> Option<Role> {
        if *signer == self.authority {
            return Some(Role::Full);
        }
        let known = read_lock(&self.known);
        let roles = known.certificates.all_of(signer).map(|key| key.role);
        roles.max_by_key(|role| role.includes(Role::Write))
    }

    /// Returns whether this signer is a full key.
    #[must_use]
    pub fn is_full(&self, signer: &SignerId) -> bool {
        *signer == self.authority
    }

    /// Fails if this signer may not sign objects of this kind.
    pub fn may_sign(&self, kind: ObjectKind, signer: &SignerId) -> Result<(), ForeignReason> {
        let role = self
            .role_of(signer)
            .ok_or(ForeignReason::UnknownSigner(Box::new(*signer)))?;
        match kind.info().signed_by {
            // After a revocation, voids and leases of the signer are foreign. The revocation itself
            // states which records of the signer count. The packs and segments of the signer stay
            // readable, since readers verify the data in them.
            Some(_)
                if matches!(kind, ObjectKind::Void | ObjectKind::Lease)
                    && self.is_revoked(signer) =>
            {
                Err(ForeignReason::Revoked(Box::new(*signer)))
            }
            Some(least) if role.includes(least) => Ok(()),
            _ => Err(ForeignReason::Role(role)),
        }
    }

    /// Fails if this signer may not make records of the volume with this name.
    pub fn may_back_up(&self, signer: &SignerId, volume: &str) -> Result<(), ForeignReason> {
        if self.is_full(signer) {
            return Ok(());
        }
        let known = read_lock(&self.known);
        let mut all = known.certificates.all_of(signer);
        if all.any(|key| key.role == Role::Write && key.covers(volume)) {
            return Ok(());
        }
        Err(ForeignReason::Volume(volume.to_owned()))
    }

    /// Returns whether objects of this signer may require this feature. If such an object requires
    /// a feature that the program does not know, the program must stop. A full key may require any
    /// feature. Other keys may require only those that their certificates list.
    #[must_use]
    pub fn may_require(&self, signer: &SignerId, feature: &str) -> bool {
        let known = read_lock(&self.known);
        let mut all = known.certificates.all_of(signer);
        self.is_full(signer) || all.any(|key| key.may_require(feature))
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificates::Certified;
    use super::*;
    use crate::crypto::Secret;
    use crate::format::Certificate;

    #[test]
    fn the_projects_own_key_may_sign_everything_and_an_unknown_key_may_sign_nothing() {
        let keys = ProjectKeys::full(&Secret::new([1; 32]));
        let signers = Signers::new(&keys);
        let unknown = SignerId::from_bytes([9; 32]);
        for kind in ObjectKind::ALL {
            let signed = kind.info().signed_by.is_some();
            assert_eq!(signers.may_sign(kind, keys.authority()).is_ok(), signed);
            let refused = signers.may_sign(kind, &unknown);
            assert!(matches!(refused, Err(ForeignReason::UnknownSigner(_))));
        }
        assert!(signers.may_back_up(keys.authority(), "web1").is_ok());
        assert!(signers.may_back_up(&unknown, "web1").is_err());
        assert!(signers.may_require(keys.authority(), "later"));
        assert!(!signers.may_require(&unknown, "later"));
    }

    #[test]
    fn a_certified_key_may_sign_only_objects_that_its_role_and_certificate_allow() {
        let keys = ProjectKeys::full(&Secret::new([1; 32]));
        let signers = Signers::new(&keys);
        let signer = |byte| SignerId::from_bytes([byte; 32]);
        let certified = |role: Role, byte| Certified {
            name: ObjectHash::from_bytes([byte; 32]),
            role,
            certificate: Certificate {
                requires: Vec::new(),
                role: role.to_string(),
                slot: ObjectHash::from_bytes([byte; 32]),
                signer: Some(signer(byte)),
                volumes: vec!["web-*".into()],
                features: vec!["later".into()],
                created: "2026-11-21T10:00:00Z".into(),
                label: None,
            },
        };
        let both = vec![certified(Role::Write, 2), certified(Role::Verify, 3)];
        let names: HashSet<_> = both.iter().map(|certified| certified.name).collect();
        assert!(!signers.has_seen(&names));
        signers.update(names.clone(), Certificates::new(both));
        assert!(signers.has_seen(&names));

        let (write, verify) = (signer(2), signer(3));
        for kind in ObjectKind::ALL {
            let least = kind.info().signed_by;
            let by_all = kind == ObjectKind::Ledger;
            assert_eq!(least == Some(Role::Verify), by_all, "{kind:?}");
            let by_writers = by_all || least == Some(Role::Write);
            assert_eq!(
                signers.may_sign(kind, &write).is_ok(),
                by_writers,
                "{kind:?}"
            );
            assert_eq!(signers.may_sign(kind, &verify).is_ok(), by_all, "{kind:?}");
        }
        assert!(signers.may_back_up(&write, "web-1").is_ok());
        assert!(signers.may_back_up(&write, "db").is_err());
        assert!(signers.may_back_up(&verify, "web-1").is_err());
        assert!(signers.may_require(&write, "later"));
        assert!(!signers.may_require(&write, "other"));
        assert!(!signers.is_full(&write) && !signers.is_full(&verify));

        // Another certificate of the same signer gives it more rights.
        let mut other = certified(Role::Write, 2);
        other.name = ObjectHash::from_bytes([4; 32]);
        other.certificate.volumes = vec!["db".into()];
        let all = [Role::Write, Role::Verify].map(|role| {
            let byte = if role == Role::Write { 2 } else { 3 };
            certified(role, byte)
        });
        let all = Certificates::new(all.into_iter().chain([other]).collect());
        signers.update(names, all.clone());
        assert!(signers.may_back_up(&write, "web-1").is_ok());
        assert!(signers.may_back_up(&write, "db").is_ok());
        assert!(signers.may_back_up(&write, "other").is_err());
        // But a revocation that names either of the two certificates ends all of these rights.
        let revoked = Revoked {
            certificate: ObjectHash::from_bytes([2; 32]),
            signer: write,
            accepted: Vec::new(),
        };
        signers.withdraw([revoked].iter());
        assert!(signers.is_revoked(&write) && !signers.is_revoked(&verify));
        let mut rest = all;
        rest.withdraw(&HashSet::from([write]));
        assert_eq!(rest.all().len(), 1);
        for kind in [ObjectKind::Void, ObjectKind::Lease] {
            let refused = signers.may_sign(kind, &write);
            assert!(
                matches!(refused, Err(ForeignReason::Revoked(_))),
                "{kind:?}"
            );
        }
        for kind in [ObjectKind::Backup, ObjectKind::Index, ObjectKind::Pack] {
            assert!(signers.may_sign(kind, &write).is_ok(), "{kind:?}");
        }
    }
}
