//! Who may sign which objects of a project: section 7 of `docs/format.md`.

use super::error::ForeignReason;
use super::object_kind::ObjectKind;
use crate::base::{Role, SignerId};
use crate::crypto::ProjectKeys;

/// The signers of a project, and what each may sign.
#[derive(Debug)]
pub struct Signers {
    /// Signs for all full keys.
    authority: SignerId,
}

impl Signers {
    /// Returns the signers that are known without any certificate: the project's own key.
    #[must_use]
    pub fn authority_only(keys: &ProjectKeys) -> Self {
        Self {
            authority: *keys.authority(),
        }
    }

    /// Returns the role of a signer. `None` if nothing certifies it.
    #[must_use]
    pub fn role_of(&self, signer: &SignerId) -> Option<Role> {
        (*signer == self.authority).then_some(Role::Full)
    }

    /// Whether this signer is a full key.
    #[must_use]
    pub fn is_full(&self, signer: &SignerId) -> bool {
        self.role_of(signer) == Some(Role::Full)
    }

    /// Fails if this signer may not sign objects of this kind.
    pub fn may_sign(&self, kind: ObjectKind, signer: &SignerId) -> Result<(), ForeignReason> {
        let role = self
            .role_of(signer)
            .ok_or(ForeignReason::UnknownSigner(*signer))?;
        match kind.info().signed_by {
            Some(least) if role.includes(least) => Ok(()),
            _ => Err(ForeignReason::Role(role)),
        }
    }

    /// Fails if this signer may not make records of the volume with this name.
    pub fn may_back_up(&self, signer: &SignerId, volume: &str) -> Result<(), ForeignReason> {
        if self.is_full(signer) {
            return Ok(());
        }
        Err(ForeignReason::Volume(volume.to_owned()))
    }

    /// Whether an object of this signer that needs a feature unknown to this program may hold up
    /// its work: any of a full key, and those that the certificate of another key lists.
    #[must_use]
    pub fn may_require(&self, signer: &SignerId, _feature: &str) -> bool {
        self.is_full(signer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Secret;

    #[test]
    fn the_projects_own_key_signs_everything_and_an_unknown_one_nothing() {
        let keys = ProjectKeys::full(&Secret::new([1; 32]));
        let signers = Signers::authority_only(&keys);
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
}
