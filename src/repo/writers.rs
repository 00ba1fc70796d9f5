//! Loads and stores the certificates of keys, in the directory `writers/` of a project. Section 16
//! (Certificate) of `docs/format.md`.

use std::collections::{BTreeSet, HashSet};

use super::certificates::{Certificates, Certified};
use super::error::{Damage, RepoError};
use super::keys::{self, KeyScope, KeySummary};
use super::leases::Worker;
use super::log::{Log, NewEntry};
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::parallel::parallel_map;
use super::project::Project;
use crate::base::{Notice, ObjectHash, Observer, Role, Silent};
use crate::format::{Certificate, LogDetails, LogItem, LogKind, Revoked};

/// The valid certificates, the names of all certificates in the store, and the errors of those that
/// cannot be read.
type ReadCertificates = (Certificates, HashSet<ObjectHash>, Vec<RepoError>);

impl Project {
    /// Loads the certificates that count: those that are valid and not revoked. Reports those that
    /// are damaged as notices, and leaves them out: then objects of their keys are foreign. Fails
    /// if a certificate needs a newer version of this program.
    pub fn certificates(&self, observer: &dyn Observer) -> Result<Certificates, RepoError> {
        let mut certificates = self.load_certificates(observer)?;
        let log = Log::load(self)?;
        let revoked = log.revocations().map(|revoked| revoked.signer);
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
        let (certificates, _, damaged) = self.read_certificates()?;
        for problem in damaged.iter().filter(|error| !error.is_missing()) {
            let problem = problem.to_string();
            observer.notice(Notice::CertificateDamaged { problem });
        }
        Ok(certificates)
    }

    /// Reads all certificates. Returns the valid ones, the names of all that are in the store, and
    /// the errors of those that cannot be read.
    fn read_certificates(&self) -> Result<ReadCertificates, RepoError> {
        let listed = self.list(ObjectKind::Certificate)?;
        let read = parallel_map(&listed, |(object, _)| match self.certified(*object) {
            Ok(certified) => Ok(Some(Ok(certified))),
            Err(RepoError::Foreign { .. }) => Ok(None),
            Err(e @ RepoError::Damaged { .. }) => Ok(Some(Err(e))),
            Err(e) => Err(e),
        })?;
        let names = listed.iter().filter_map(|(object, _)| object.hash());
        let (mut certified, mut damaged) = (Vec::new(), Vec::new());
        for read in read.into_iter().flatten() {
            match read {
                Ok(read) => certified.push(read),
                Err(error) => damaged.push(error),
            }
        }
        Ok((Certificates::new(certified), names.collect(), damaged))
    }

    /// Reads all certificates again, and brings the signers up to date. Returns an error for each
    /// certificate that is missing or cannot be read although the log names it as added or revoked.
    /// Skips certificates that the log removes or accepts as lost. Objects of the keys of lost
    /// certificates seem foreign. So if there is an error, the caller must delete nothing.
    pub fn verify_certificates(&self, log: &Log) -> Result<Vec<RepoError>, RepoError> {
        let (certificates, listed, damaged) = self.read_certificates()?;
        let set = log.set().into_iter();
        let added = set.filter(|item| item.kind == LogKind::Certificate);
        let revoked = log.revocations().map(|revoked| revoked.certificate);
        let mut named: BTreeSet<ObjectHash> = added.map(|item| item.hash).chain(revoked).collect();
        named.retain(|name| !log.excuses_certificate(*name));
        let mut errors = damaged;
        errors.retain(|error| {
            error
                .object_hash()
                .is_some_and(|name| named.contains(&name))
        });
        let missing = named.iter().filter(|name| !listed.contains(name));
        errors.extend(missing.map(|name| {
            let object = ObjectRef::Certificate(self.id, *name);
            RepoError::damaged(object, Damage::Missing)
        }));
        self.signers.update(listed, certificates);
        Ok(errors)
    }

    /// Returns the keys of this project whose slots have no certificate. Leaves out slots whose
    /// info does not open, since nobody with a key of the project made them.
    pub fn uncertified_keys(&self) -> Result<Vec<KeySummary>, RepoError> {
        let scope = KeyScope::Project(self.id);
        let certificates = self.load_certificates(&Silent)?;
        let mut keys = Vec::new();
        for found in keys::read_slots(&self.objects, scope, None, &Silent)? {
            if certificates.of_slot(found.id, found.role()).is_none()
                && let Some(info) = found.info(self.keys.slot_info())
            {
                keys.push(KeySummary {
                    info,
                    ..KeySummary::of_slot(&found)
                });
            }
        }
        Ok(keys)
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

    /// Stores a certificate, and adds it to the log. From then on, no process deletes packs or
    /// records unless it can read the certificate. When the function returns, the certificate is
    /// durable. `host` is the name of this host.
    pub(super) fn certify(
        &self,
        certificate: &Certificate,
        host: Option<&str>,
    ) -> Result<(), RepoError> {
        let hash = self.put(certificate)?;
        let kind = LogKind::Certificate;
        let entry = NewEntry {
            added: vec![LogItem { kind, hash }],
            ..NewEntry::default()
        };
        let tool = Worker::TOOL;
        Log::load(self)?.append(self, entry, Worker { host, tool })
    }

    /// Revokes a signer: writes an entry of the log, and then deletes the slot of its key. From now
    /// on, a record of the signer counts only if it is accepted, or if accepted records reach it
    /// through `follows` and `heads`. Fails unless the role of the key in use is full.
    pub fn revoke(
        &self,
        revoked: Revoked,
        slot: ObjectHash,
        by: Worker<'_>,
    ) -> Result<(), RepoError> {
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
        self.objects
            .delete_twice(ObjectRef::Key(Some(self.id), slot))
    }

    /// Fails if the project is retired. Also fails if the key in use may not back up the volume
    /// with this name: the record of such a backup would be foreign.
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
        let own = certificates.all_of(&self.keys.signing().public());
        let own: Vec<_> = own.filter(|key| key.role == Role::Write).collect();
        if own.is_empty() {
            return Err(RepoError::NotCertified);
        }
        if own.iter().any(|key| key.covers(volume)) {
            return Ok(());
        }
        let patterns = own.iter().flat_map(|key| &key.certificate.volumes);
        Err(RepoError::OtherVolumes {
            volume: volume.to_owned(),
            patterns: patterns.cloned().collect(),
        })
    }
}
