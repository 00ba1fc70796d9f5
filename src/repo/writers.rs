//! Loads and stores the certificates of keys, in the directory `writers/` of a project. Section 16
//! of `docs/format.md`.

use super::certificates::{Certificates, Certified};
use super::error::{Damage, RepoError};
use super::lease::Worker;
use super::log::{Log, NewEntry};
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::parallel::parallel_map;
use super::project::Project;
use crate::base::{Notice, ObjectHash, Observer, Role, Silent};
use crate::format::{Certificate, LogDetails, Revoked};

impl Project {
    /// Loads the certificates that count: those that are valid and not revoked. Reports those that
    /// cannot be read as notices, and leaves them out: their keys are foreign.
    pub fn certificates(&self, observer: &dyn Observer) -> Result<Certificates, RepoError> {
        let mut certificates = self.load_certificates(observer)?;
        let log = Log::load(self)?;
        let revoked = log.revocations().map(|revoked| revoked.certificate);
        certificates.withdraw(&revoked.collect());
        Ok(certificates)
    }

    /// Brings the signers up to date, if the certificates in the store are not those that were
    /// loaded.
    pub(super) fn refresh_signers(&self) -> Result<(), RepoError> {
        let listed = self.list(ObjectKind::Certificate)?;
        let names = listed.iter().filter_map(|(object, _)| object.hash());
        let names = names.collect();
        if !self.signers.has_seen(&names) {
            let certificates = self.load_certificates(&Silent)?;
            // Loading the log notes the revocations.
            Log::load(self)?;
            self.signers.update(names, certificates);
        }
        Ok(())
    }

    /// Loads the valid certificates, including revoked ones.
    fn load_certificates(&self, observer: &dyn Observer) -> Result<Certificates, RepoError> {
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

    /// Revokes a key: writes an entry of the log that revokes its certificate, and then deletes its
    /// slot. From now on, only accepted records of the key count, and the records that these follow
    /// or name as heads. Fails unless the role of the key in use is full.
    pub fn revoke(
        &self,
        key: &Certified,
        accepted: Vec<ObjectHash>,
        by: Worker<'_>,
    ) -> Result<(), RepoError> {
        let revoked = Revoked {
            certificate: key.name,
            accepted,
        };
        let entry = NewEntry {
            details: LogDetails {
                revoked: vec![revoked],
                ..LogDetails::default()
            },
            ..NewEntry::default()
        };
        let mut log = Log::load(self)?;
        log.append(self, entry, by)?;
        self.signers.withdraw(log.revocations());
        let slot = ObjectRef::Key(Some(self.id), key.certificate.slot);
        self.objects.delete_twice(slot)
    }

    /// Fails if the project is retired, or if the key in use may not back up the volume with this
    /// name: its record would be foreign.
    pub fn may_back_up(&self, volume: &str, observer: &dyn Observer) -> Result<(), RepoError> {
        if let Some(successor) = &self.settings.retired {
            return Err(RepoError::Retired {
                successor: successor.clone(),
            });
        }
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
