//! Loads and stores the certificates of keys, in the directory `writers/` of a project. Section 16
//! of `docs/format.md`.

use super::certificates::{Certificates, Certified};
use super::error::{Damage, RepoError};
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::parallel::parallel_map;
use super::project::Project;
use crate::base::{Notice, ObjectHash, Observer, Role};
use crate::format::Certificate;

impl Project {
    /// Loads all certificates. Reports those that cannot be read as notices, and leaves them out:
    /// their keys are foreign. Leaves out foreign ones, too.
    pub fn certificates(&self, observer: &dyn Observer) -> Result<Certificates, RepoError> {
        let listed = self.list(ObjectKind::Certificate)?;
        let certified = parallel_map(&listed, |(object, _)| match self.certified(*object) {
            Ok(certified) => Ok(Some(certified)),
            Err(RepoError::Foreign { .. }) => Ok(None),
            Err(e) if e.is_missing() => Ok(None),
            Err(e @ RepoError::Damaged { .. }) => {
                let problem = e.to_string();
                observer.notice(Notice::CertificateDamaged { problem });
                Ok(None)
            }
            Err(e) => Err(e),
        })?;
        Ok(Certificates::new(certified.into_iter().flatten().collect()))
    }

    fn certified(&self, object: ObjectRef) -> Result<Certified, RepoError> {
        let certificate: Certificate = self.read(object)?;
        let impossible = |why| RepoError::damaged(object, Damage::Impossible(why));
        Ok(Certified {
            name: object.hash().ok_or_else(|| impossible("it has no hash"))?,
            role: (certificate.role.parse()).map_err(|_| impossible("it has no role"))?,
            certificate,
        })
    }

    /// Stores a certificate. It is durable when this returns.
    pub(super) fn certify(&self, certificate: &Certificate) -> Result<ObjectHash, RepoError> {
        self.put(certificate)
    }

    /// Fails if the key in use may not back up the volume with this name: its record would be
    /// foreign.
    pub fn may_back_up(&self, volume: &str, observer: &dyn Observer) -> Result<(), RepoError> {
        self.keys.require(Role::Write)?;
        if self.role() == Role::Full {
            return Ok(());
        }
        let certificates = self.certificates(observer)?;
        let own = certificates.of_signer(&self.keys.signing().public());
        let own = own.filter(|certified| certified.role == Role::Write);
        let own = own.ok_or(RepoError::NotCertified)?;
        if own.covers(volume) {
            return Ok(());
        }
        Err(RepoError::OtherVolumes {
            volume: volume.to_owned(),
            patterns: own.certificate.volumes.clone(),
        })
    }
}
