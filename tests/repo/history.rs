//! A prune and a forget stop if certificates or records are missing. Revoked keys stay revoked.

use std::time::Duration;

use cuttlebone::base::{Notice, ObjectHash, Role, Silent};
use cuttlebone::crypto::object_hash;
use cuttlebone::format::{Certificate, LogKind, RemovedRecord};
use cuttlebone::ops::{self, AcceptedLoss, MaxUnused, MissingHistory, OpsError, PruneOptions};
use cuttlebone::repo::{Certified, Log, ObjectRef, Records, Voids};
use cuttlebone::storage::{Backend, MemoryBackend, StorageOperation};

use super::intercepted::Intercepted;
use super::provenance::client;
use super::prune::forget;
use super::{CHUNK, Host, Image, LEAF, TestRepo, noise};

/// A project with two backups of one volume: the first by a full key, the second by a write key.
struct Site {
    store: MemoryBackend,
    full: TestRepo,
    client: TestRepo,
    host: Host,
    image: Image,
    of_full: ObjectHash,
    of_client: ObjectHash,
}

impl Site {
    fn new() -> Self {
        let store = MemoryBackend::new();
        let full = TestRepo::init(store.clone(), CHUNK).unwrap();
        let client = client(&store, Role::Write, 1);
        let host = Host::without_cache();
        let old = Image::new(LEAF).with(0, &noise(1, 3 * CHUNK));
        let image = Image::new(LEAF).with(0, &noise(2, 3 * CHUNK));
        let of_full = host.back_up(&full, "disk", &old).unwrap().id;
        let of_client = host.back_up(&client, "disk", &image).unwrap().id;
        Self {
            store,
            full,
            client,
            host,
            image,
            of_full,
            of_client,
        }
    }

    /// Prunes. Returns the number of records and voids of revoked keys that the prune removed.
    fn try_prune(&self, accept_loss: AcceptedLoss) -> Result<u64, OpsError> {
        let options = PruneOptions {
            max_unused: MaxUnused::Bytes(0),
            max_repack: None,
            merge_small: false,
            grace: Duration::ZERO,
            accept_loss,
            host: None,
        };
        let context = self.host.context();
        let planned = ops::plan_prune(&self.full.project, &options, false, &context)?;
        Ok(planned.run()?.refused)
    }

    #[track_caller]
    fn prune(&self) -> u64 {
        self.try_prune(AcceptedLoss::default()).unwrap()
    }

    /// Asserts that both prune and forget stop and store nothing. Returns the missing objects.
    #[track_caller]
    fn missing(&self) -> MissingHistory {
        let stored = self.store.list("projects").unwrap().len();
        let nothing = AcceptedLoss::default();
        let project = &self.full.project;
        let forget = ops::require_history(project, &nothing, None, false);
        let prune = self.try_prune(nothing);
        assert_eq!(self.store.list("projects").unwrap().len(), stored);
        match (prune, forget) {
            (
                Err(OpsError::HistoryCut { missing }),
                Err(OpsError::HistoryCut { missing: again }),
            ) => {
                assert_eq!(missing, again);
                *missing
            }
            other => panic!("{:?}", other.0),
        }
    }

    fn certified(&self) -> Certified {
        let certificates = self.full.project.certificates(&Silent).unwrap();
        let signer = self.client.project.keys.signing().public();
        certificates.of_signer(&signer).unwrap().clone()
    }

    fn revoke(&self, accepted: &[ObjectHash]) -> Certified {
        let key = self.certified();
        ops::revoke_key(&self.full.project, &key, accepted.to_vec(), None).unwrap();
        key
    }

    /// Removes both copies of a certificate from the store. Returns its bytes.
    fn take(&self, certificate: ObjectHash) -> Vec<u8> {
        let object = ObjectRef::Certificate(self.full.project.id, certificate);
        let bytes = self.store.get(&object.name(), 1 << 20).unwrap();
        for name in [object.name(), object.copy_name()] {
            self.store.delete(&name).unwrap();
        }
        bytes
    }

    fn put(&self, certificate: ObjectHash, bytes: &[u8]) {
        let object = ObjectRef::Certificate(self.full.project.id, certificate);
        for name in [object.name(), object.copy_name()] {
            self.store.put(&name, &[bytes]).unwrap();
        }
    }

    fn delete_record(&self, id: ObjectHash) {
        let name = ObjectRef::Backup(self.full.project.id, id).name();
        self.store.delete(&name).unwrap();
    }

    #[track_caller]
    fn restores(&self) {
        let backup = self.full.backup(self.of_client);
        assert!(self.host.restore_image(&self.full, &backup).unwrap() == self.image);
    }
}

fn accepting(objects: &[ObjectHash]) -> AcceptedLoss {
    AcceptedLoss {
        objects: objects.iter().copied().map(Into::into).collect(),
        all: false,
    }
}

#[test]
fn prune_and_forget_stop_if_a_certificate_is_missing() {
    let site = Site::new();
    let name = site.certified().name;
    let bytes = site.take(name);
    let missing = site.missing();
    assert_eq!(missing.certificates.len(), 1, "{missing:?}");
    assert_eq!(missing.certificates[0].id, name);
    assert_eq!(missing.certificates[0].damage, None);
    assert_eq!(missing.keys.len(), 1, "the key's slot has no certificate");
    assert!(missing.records.is_empty() && !missing.is_only_damage());
    let (report, findings) = site.host.check(&site.full, false);
    assert_eq!(report.certificates_vanished, [name], "{findings:?}");
    site.put(name, &bytes);
    site.prune();
    site.restores();
    site.host.check_clean(&site.full, "the certificate is back");
}

#[test]
fn prune_and_forget_stop_if_both_copies_of_a_certificate_are_damaged() {
    let site = Site::new();
    let name = site.certified().name;
    let bytes = site.take(name);
    let mut wrong = bytes.clone();
    wrong[50] ^= 1;
    site.put(name, &wrong);
    let missing = site.missing();
    assert!(missing.is_only_damage(), "{missing:?}");
    assert!(missing.certificates[0].damage.is_some());
    // One undamaged copy is enough.
    let object = ObjectRef::Certificate(site.full.project.id, name);
    site.store.put(&object.copy_name(), &[&bytes]).unwrap();
    site.prune();
    site.restores();
}

#[test]
fn a_prune_continues_if_the_user_accepts_the_loss_of_a_certificate() {
    let site = Site::new();
    let name = site.certified().name;
    site.take(name);
    assert!(site.try_prune(accepting(&[site.of_full])).is_err());
    site.try_prune(accepting(&[name])).unwrap();
    site.prune();
    let records = Records::load(&site.full.project).unwrap();
    assert!(
        records.get(site.of_client).is_none(),
        "the backup is foreign now"
    );
    assert!(records.get(site.of_full).is_some());
}

#[test]
fn a_file_that_is_no_certificate_among_the_certificates_stops_nothing() {
    let site = Site::new();
    let rubbish = b"no certificate";
    site.put(object_hash(&[rubbish]), rubbish);
    site.put(ObjectHash::from_bytes([7; 32]), rubbish);
    site.prune();
    site.restores();
}

#[test]
fn a_prune_adds_certificates_and_records_that_the_log_does_not_name() {
    let site = Site::new();
    let project = &site.full.project;
    let first = site.certified();
    // Store a certificate that the log does not name, as an interrupted command would.
    let certificate = Certificate {
        slot: ObjectHash::from_bytes([1; 32]),
        ..first.certificate
    };
    let put = project.put_sealed(ObjectRef::Certificate, &certificate.encode());
    let unnamed = put.unwrap();
    let named = || {
        let set = Log::load(project).unwrap().set();
        let has = |kind, hash| {
            set.iter()
                .any(|item| (item.kind, item.hash) == (kind, hash))
        };
        [
            has(LogKind::Certificate, first.name),
            has(LogKind::Certificate, unnamed),
            has(LogKind::Record, site.of_client),
        ]
    };
    assert_eq!(named(), [true, false, false]);
    site.prune();
    assert_eq!(named(), [true; 3]);
    let newest = Log::load(project).unwrap().newest();
    site.prune();
    assert_eq!(Log::load(project).unwrap().newest(), newest);
    // Only the log names this record.
    site.delete_record(site.of_client);
    let missing = site.missing();
    assert_eq!(missing.records.len(), 1);
    assert_eq!(missing.records[0].id, site.of_client);
}

#[test]
fn prune_and_forget_stop_if_a_record_is_missing_that_a_revocation_accepts() {
    let site = Site::new();
    site.revoke(&[site.of_client]);
    site.delete_record(site.of_client);
    let missing = site.missing();
    assert_eq!(missing.records[0].id, site.of_client);
    let all = AcceptedLoss {
        objects: Vec::new(),
        all: true,
    };
    site.try_prune(all).unwrap();
    site.host
        .check_clean(&site.full, "all losses were accepted");
}

#[test]
fn a_prune_stops_if_the_certificate_of_a_revoked_key_is_missing() {
    let site = Site::new();
    let key = site.revoke(&[site.of_client]);
    let bytes = site.take(key.name);
    assert_eq!(site.missing().certificates[0].id, key.name);
    site.put(key.name, &bytes);
    assert_eq!(site.prune(), 0);
    site.restores();
}

#[test]
fn another_certificate_of_a_revoked_signer_changes_nothing() {
    let site = Site::new();
    let key = site.revoke(&[]);
    let again = Certificate {
        slot: ObjectHash::from_bytes([9; 32]),
        ..key.certificate.clone()
    };
    let project = &site.full.project;
    project
        .put_sealed(ObjectRef::Certificate, &again.encode())
        .unwrap();
    for first_is_there in [true, false] {
        if !first_is_there {
            site.take(key.name);
        }
        let opened = TestRepo::open(site.store.clone(), &Silent).unwrap();
        let mut records = Records::load(&opened.project).unwrap();
        assert!(records.get(site.of_client).is_none());
        let foreign = records.take_foreign();
        let revoked = foreign.iter().filter(|error| error.is_of_revoked_key());
        assert_eq!(revoked.count(), foreign.len(), "{foreign:?}");
        let certificates = opened.project.certificates(&Silent).unwrap();
        let signer = key.certificate.signer.unwrap();
        assert!(certificates.of_signer(&signer).is_none());
        assert!(site.client.project.may_back_up("disk", &Silent).is_err());
    }
}

#[test]
fn a_prune_removes_unaccepted_objects_of_a_revoked_key() {
    let site = Site::new();
    let project = &site.client.project;
    let mut record = site.full.backup(site.of_full).record;
    record.follows = vec![site.of_client];
    let later = project.put_sealed(ObjectRef::Backup, &record.encode());
    let later = later.unwrap();
    record.content.size += 1;
    let malformed = project.put_sealed(ObjectRef::Backup, &record.encode());
    let malformed = malformed.unwrap();
    Voids::put(project, later, "theft").unwrap();
    site.revoke(&[site.of_client]);
    let (report, findings) = site.host.check(&site.full, false);
    let found = (report.errors, report.foreign, report.revoked);
    assert_eq!(found, (3, 3, 3), "{findings:?}");
    // A dry run removes nothing.
    let options = PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        max_repack: None,
        merge_small: false,
        grace: Duration::ZERO,
        accept_loss: AcceptedLoss::default(),
        host: None,
    };
    let context = site.host.context();
    let dry = ops::plan_prune(&site.full.project, &options, true, &context);
    dry.unwrap().close();
    assert_eq!(site.host.check(&site.full, false).0.revoked, 3);

    assert_eq!(site.prune(), 3);
    let log = Log::load(&site.full.project).unwrap();
    assert!(log.removed(LogKind::Record, later) && log.removed(LogKind::Record, malformed));
    assert!(!log.excuses(site.of_client));
    site.host
        .check_clean(&site.full, "the unaccepted objects are removed");
    site.restores();
    assert_eq!(site.prune(), 0);
}

#[test]
fn names_that_a_write_key_invented_are_not_added_to_the_log() {
    let site = Site::new();
    let put = |change: &dyn Fn(&mut cuttlebone::format::BackupRecord)| {
        let mut record = site.full.backup(site.of_full).record;
        change(&mut record);
        let project = &site.client.project;
        let put = project.put_sealed(ObjectRef::Backup, &record.encode());
        put.unwrap()
    };
    let mut hash = [8; 32];
    let made_up: Vec<_> = (0..20_000_u32)
        .map(|number| {
            hash[..4].copy_from_slice(&number.to_be_bytes());
            ObjectHash::from_bytes(hash)
        })
        .collect();
    let many = put(&|record| {
        record.heads = made_up.clone();
        record.heads.extend(vec![site.of_client; 5000]);
        record.follows = [&made_up[..], &[site.of_full]].concat();
    });
    let long_name = put(&|record| record.volume.name = "v".repeat(5000));
    let log = Log::load(&site.full.project).unwrap();
    let records = Records::load(&site.full.project).unwrap();
    assert_eq!(records.vanished(), []);
    assert_eq!(records.unconfirmed(&log).len(), made_up.len());
    site.host.notices.take();
    site.prune();
    let notices = site.host.notices.take();
    let counts = |notice: &Notice| {
        matches!(notice, Notice::NamedByWriteKeysOnly { records, .. }
            if *records == made_up.len() as u64)
    };
    assert!(notices.iter().any(counts), "{notices:?}");

    forget(&site.full, &[many, long_name]);
    let log = Log::load(&site.full.project).unwrap();
    assert!(log.removed(LogKind::Record, long_name));
    assert!(log.removed_record(long_name).is_none());
    let described: &RemovedRecord = log.removed_record(many).unwrap();
    assert_eq!(described.heads, [site.of_client]);
    assert_eq!(described.follows, [site.of_full]);
    site.host.check_clean(&site.full, "the record was removed");
    site.prune();
    site.restores();
}

#[test]
fn a_record_that_is_stored_and_logged_while_records_are_read_has_not_vanished() {
    let site = Site::new();
    let again = std::sync::Mutex::new(Some(site.store.clone()));
    let busy = Intercepted::new(&site.store, move |operation, name| {
        let reads_log = operation == StorageOperation::List && name.contains("/log");
        if reads_log && let Some(store) = again.lock().unwrap().take() {
            let other = TestRepo::open(store, &Silent).unwrap();
            let host = Host::without_cache();
            let image = Image::new(LEAF).with(0, &noise(3, CHUNK));
            host.back_up(&other, "new", &image).unwrap();
            ops::head(&other.project, None, &host.context()).unwrap();
        }
        Ok(())
    });
    let busy = TestRepo::open(busy, &Silent).unwrap();
    let (report, findings) = site.host.check(&busy, false);
    assert!(findings.is_empty(), "{findings:?}");
    assert!(report.vanished.is_empty());
}
