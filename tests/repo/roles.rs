//! Attacks by a thief who has keys of each role and the whole store, and may write to the store.

mod forged;
mod signed;

use std::sync::{Arc, Mutex};

use cuttlebone::base::{Notice, ObjectHash, ProjectId, Role, Silent};
use cuttlebone::crypto::{
    KdfParams, ProjectKeys, SealKey, Secret, SigningKey, hash, object_hash, random,
};
use cuttlebone::format::{KeySlot, Scope, SlotInfo, SlotParams};
use cuttlebone::ops;
use cuttlebone::repo::{
    BlobReader, Grant, ImageReader, Index, KeySummary, ObjectRef, RepoError, RepoErrorKind,
    Repository,
};
use cuttlebone::storage::{Backend, MemoryBackend};
use cuttlebone::volume::{Source, SourceData, VolumeError};

use super::intercepted::Intercepted;
use super::{CHUNK, Host, Image, LEAF, PASSWORD, RecordingObserver, TestRepo, key, noise, options};

const ROLES: [(Role, &[u8]); 3] = [
    (Role::Full, b"full"),
    (Role::Write, b"write"),
    (Role::Verify, b"verify"),
];

/// A repository with a key of each role for its project. The write key may back up `web-*`.
struct Owner {
    store: MemoryBackend,
    test_repo: TestRepo,
    keys: [ObjectHash; 3],
}

impl Owner {
    fn new() -> Self {
        let store = MemoryBackend::new();
        let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
        let keys = ROLES.map(|(role, password)| {
            let volumes = [String::from("web-*")];
            let grant = Grant::Project {
                project: &test_repo.project,
                role,
                volumes: if role == Role::Write { &volumes } else { &[] },
            };
            let added = test_repo.repository.add_key(grant, &key(password), &Silent);
            added.unwrap()
        });
        Self {
            store,
            test_repo,
            keys,
        }
    }

    fn project(&self) -> ProjectId {
        self.test_repo.project.id
    }

    /// Opens the repository with the key of a role.
    fn open(&self, password: &[u8]) -> Result<TestRepo, RepoError> {
        open(&self.store, password)
    }

    fn list(&self) -> Vec<KeySummary> {
        self.test_repo.repository.list_keys(&Silent).unwrap()
    }

    fn slot(&self, id: ObjectHash) -> Vec<u8> {
        let name = ObjectRef::Key(Some(self.project()), id).name();
        self.store.get(&name, KeySlot::LEN_MAX).unwrap()
    }

    /// Puts a slot into the project, and returns its hash.
    fn put_forged(&self, slot: &[u8]) -> ObjectHash {
        put_forged(&self.store, self.project(), slot)
    }

    fn remove(&self, id: ObjectHash) {
        let object = ObjectRef::Key(Some(self.project()), id);
        // A slot of a thief has no second copy, and a removed slot has no copy at all.
        for name in [object.name(), object.copy_name()] {
            let _ = self.store.delete(&name);
        }
    }
}

fn open(store: &MemoryBackend, password: &[u8]) -> Result<TestRepo, RepoError> {
    let repository = Repository::open(Arc::new(store.clone()), password, &Silent)?;
    let project = repository.project("default", &Silent)?;
    Ok(TestRepo {
        repository,
        project,
    })
}

fn put_forged(store: &MemoryBackend, project: ProjectId, slot: &[u8]) -> ObjectHash {
    let id = object_hash(&[slot]);
    let object = ObjectRef::Key(Some(project), id);
    store.put(&object.name(), &[slot]).unwrap();
    id
}

fn is_refused(opened: Result<TestRepo, RepoError>) -> bool {
    matches!(
        opened.map_err(|e| e.kind()),
        Err(RepoErrorKind::WrongPassword)
    )
}

#[test]
fn a_key_opens_what_its_role_includes_and_the_list_shows_its_role_and_volumes() {
    let owner = Owner::new();
    for (role, password) in ROLES {
        let opened = owner.open(password).unwrap();
        assert_eq!(opened.repository.role(), role);
        let keys = &opened.project.keys;
        assert_eq!(keys.role(), role);
        assert_eq!(keys.data().is_ok(), role == Role::Full);
        assert_eq!(keys.data_private_key().is_ok(), role == Role::Full);
        assert_eq!(keys.data_public_key().is_ok(), role != Role::Verify);
        assert_eq!(keys.chunk_keys().is_ok(), role != Role::Verify);
        assert_eq!(opened.project.settings, owner.test_repo.project.settings);
        // Each key can list the keys of its project.
        let listed = opened.repository.list_keys(&Silent).unwrap();
        assert_eq!(listed.len(), 3);
        assert!(listed.iter().all(|key| !key.foreign), "{listed:?}");
        let own = listed.iter().find(|key| key.current).unwrap();
        assert_eq!((own.role, own.project.as_deref()), (role, Some("default")));
    }
    let listed = owner.list();
    assert_eq!(listed.len(), 4);
    for (id, (role, _)) in owner.keys.iter().zip(ROLES) {
        let shown = listed.iter().find(|key| key.id == *id).unwrap();
        assert_eq!(shown.role, role);
        assert_eq!(shown.volumes.is_empty(), role != Role::Write);
    }
}

#[test]
fn only_a_full_key_opens_chunks_and_every_key_walks_trees() {
    let owner = Owner::new();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, 3 * CHUNK));
    let made = host.back_up(&owner.test_repo, "disk", &image).unwrap();
    for (role, password) in ROLES {
        let opened = owner.open(password).unwrap();
        let backup = opened.backup(made.id);
        let index = Index::in_memory(&opened.project, host.notices.clone()).unwrap();
        let blobs = BlobReader::new(&index);
        let mut chunks = Vec::new();
        ImageReader::new(&blobs, &backup)
            .each_chunk(|chunk| {
                chunks.push(chunk.id);
                Ok::<(), RepoError>(())
            })
            .unwrap();
        assert_eq!(chunks.len(), 3);
        for id in chunks {
            let read = blobs.chunk(&id).map_err(|e| e.kind());
            match role {
                Role::Full => assert!(read.is_ok()),
                _ => assert_eq!(read.err(), Some(RepoErrorKind::Role), "{role}"),
            }
        }
    }
}

#[test]
fn only_a_full_key_adds_removes_and_changes_keys() {
    let owner = Owner::new();
    for (role, password) in &ROLES[1..] {
        let opened = owner.open(password).unwrap();
        let repository = &opened.repository;
        for grant in [
            Grant::Everything,
            Grant::Project {
                project: &opened.project,
                role: *role,
                volumes: &[],
            },
        ] {
            let added = repository.add_key(grant, &key(b"new"), &Silent);
            assert_eq!(added.unwrap_err().kind(), RepoErrorKind::Role);
        }
        let changed = repository.change_password(&key(b"new"), &Silent);
        assert_eq!(changed.unwrap_err().kind(), RepoErrorKind::Role);
        for listed in repository.list_keys(&Silent).unwrap() {
            let removed = repository.remove_key(&listed, &Silent);
            assert_eq!(removed.unwrap_err().kind(), RepoErrorKind::Role);
        }
    }
    assert_eq!(owner.list().len(), 4, "nothing was added or removed");
}

#[test]
fn the_last_full_key_of_a_project_stays_although_there_are_write_and_verify_keys() {
    let owner = Owner::new();
    let opened = owner.open(b"full").unwrap();
    let listed = opened.repository.list_keys(&Silent).unwrap();
    let full = listed.iter().find(|key| key.role == Role::Full).unwrap();
    let removed = opened.repository.remove_key(full, &Silent);
    assert!(matches!(removed, Err(RepoError::LastKey { .. })));
    for other in listed.iter().filter(|key| key.role != Role::Full) {
        opened.repository.remove_key(other, &Silent).unwrap();
    }
    // The repository's key also opens the project, so its holder can remove this full key.
    let of_owner = owner.list();
    let full = of_owner.iter().find(|key| key.id == full.id).unwrap();
    owner
        .test_repo
        .repository
        .remove_key(full, &Silent)
        .unwrap();
    assert_eq!(owner.list().len(), 1);
}

#[test]
fn a_slot_that_was_changed_in_any_byte_opens_nothing_or_is_foreign() {
    let owner = Owner::new();
    for (id, (role, password)) in owner.keys.iter().zip(ROLES) {
        let slot = owner.slot(*id);
        owner.remove(*id);
        let info_at = slot.len() - 24 - 4 - sealed_info_len(&slot);
        for at in 0..slot.len() {
            // Test only some bytes of the long public key.
            if role == Role::Write && (300..1300).contains(&at) && at % 50 != 0 {
                continue;
            }
            let mut changed = slot.clone();
            changed[at] ^= 1;
            let forged = owner.put_forged(&changed);
            let opened = owner.open(password);
            if at < info_at {
                assert!(is_refused(opened), "{role}, byte {at}");
            } else {
                // A slot with a changed info still opens, but no certificate names it.
                let listed = owner.list();
                let shown = listed.iter().find(|key| key.id == forged);
                assert!(shown.is_none_or(|key| key.foreign), "{role}, byte {at}");
            }
            owner.remove(forged);
        }
        owner.put_forged(&slot);
        assert_eq!(owner.open(password).unwrap().repository.role(), role);
    }
}

fn sealed_info_len(slot: &[u8]) -> usize {
    KeySlot::decode(slot).unwrap().sealed_info.len()
}

#[test]
fn a_slot_that_was_given_another_role_or_copied_to_another_project_is_refused() {
    let owner = Owner::new();
    let other = Owner::new();
    // Remove the slots of the other project, which have the same passwords.
    for own in other.keys {
        other.remove(own);
    }
    for (id, (role, password)) in owner.keys.iter().zip(ROLES) {
        let slot = owner.slot(*id);
        // Copy the slot into the other project.
        let copied = other.put_forged(&slot);
        assert!(is_refused(other.open(password)), "{role}");
        // The slot is still foreign there if its certificate is copied, too.
        copy_certificates(&owner, &other);
        let listed = other.list();
        assert!(listed.iter().find(|key| key.id == copied).unwrap().foreign);
        other.remove(copied);
        // Store the slot as a slot of the repository.
        let of_repository = ObjectRef::Key(None, *id);
        other.store.put(&of_repository.name(), &[&slot]).unwrap();
        assert!(is_refused(other.open(password)), "{role}");
        other.store.delete(&of_repository.name()).unwrap();
        // Give the slot another role.
        owner.remove(*id);
        for byte in (0..4).filter(|byte| *byte != slot[17]) {
            let mut relabelled = slot.clone();
            relabelled[17] = byte;
            let forged = owner.put_forged(&relabelled);
            assert!(is_refused(owner.open(password)), "{role} as {byte}");
            owner.remove(forged);
        }
        owner.put_forged(&slot);
    }
}

fn copy_certificates(from: &Owner, to: &Owner) {
    let directory = format!("projects/{}/writers", from.project());
    for listed in from.store.list(&directory).unwrap() {
        let bytes = from.store.get(&listed.name, 1 << 20).unwrap();
        let object = ObjectRef::Certificate(to.project(), object_hash(&[&bytes]));
        to.store.put(&object.name(), &[&bytes]).unwrap();
    }
}

#[test]
fn a_certificate_that_was_changed_in_any_byte_or_copied_to_another_project_is_ignored() {
    let owner = Owner::new();
    let other = Owner::new();
    copy_certificates(&owner, &other);
    let load = |owner: &Owner| owner.test_repo.project.certificates(&Silent).unwrap();
    let names = |owner: &Owner| {
        let mut slots: Vec<_> = (load(owner).all().iter())
            .map(|certified| certified.certificate.slot)
            .collect();
        slots.sort_unstable();
        slots
    };
    let sorted = |mut keys: [ObjectHash; 3]| {
        keys.sort_unstable();
        keys
    };
    assert_eq!(names(&other), sorted(other.keys));

    let certified = load(&owner).all()[0].clone();
    let object = ObjectRef::Certificate(owner.project(), certified.name);
    let bytes = owner.store.get(&object.name(), 1 << 20).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let forged = ObjectRef::Certificate(owner.project(), object_hash(&[&changed]));
        owner.store.put(&forged.name(), &[&changed]).unwrap();
        assert_eq!(names(&owner), sorted(owner.keys), "byte {at}");
        owner.store.delete(&forged.name()).unwrap();
    }

    // Without its certificate a slot is foreign.
    owner.store.delete(&object.name()).unwrap();
    owner.store.delete(&object.copy_name()).unwrap();
    for listed in owner.list() {
        let slot = certified.certificate.slot;
        assert_eq!(listed.foreign, listed.id == slot);
    }
}

/// Makes a slot with this bundle, like a thief who holds the project's metadata keys.
fn forge(owner: &Owner, keys: &ProjectKeys, role: Role, bundle: &[u8], password: &[u8]) -> Vec<u8> {
    let id = owner.project();
    let owner = id.as_bytes();
    let params = SlotParams {
        scope: Scope::Project,
        role,
        memory_kib: 8,
        passes: 1,
        lanes: 1,
        salt: random().unwrap(),
    };
    let kdf = KdfParams::new(8, 1, 1).unwrap();
    let slot_key = Secret::random().unwrap();
    let wrap = SealKey::new(&kdf.derive(password, &params.salt).unwrap());
    let aad = [&owner[..], &params.encode()].concat();
    let (nonce, sealed_key) = wrap.seal(&aad, slot_key.expose()).unwrap();
    let mut slot = KeySlot {
        params,
        nonce: *nonce.as_bytes(),
        sealed_key: sealed_key.try_into().unwrap(),
        bundle_nonce: [0; 24],
        sealed_bundle: Vec::new(),
        info_nonce: [0; 24],
        sealed_info: Vec::new(),
    };
    let aad = [&owner[..], &slot.bundle_context()].concat();
    let bundle_key = SealKey::new(&slot_key.derive("cuttlebone 2026-11-21 slot bundle"));
    let (nonce, sealed) = bundle_key.seal(&aad, bundle).unwrap();
    slot.bundle_nonce = *nonce.as_bytes();
    slot.sealed_bundle = sealed;
    let aad = [&owner[..], &hash(&[&slot.info_context()])].concat();
    let info = SlotInfo {
        label: "the owner's".into(),
        ..SlotInfo::default()
    };
    let (nonce, sealed) = keys.slot_info().seal(&aad, &info.encode()).unwrap();
    slot.info_nonce = *nonce.as_bytes();
    slot.sealed_info = sealed;
    slot.encode()
}

#[test]
fn a_slot_that_a_verify_key_added_opens_but_is_listed_as_foreign_without_its_label() {
    let owner = Owner::new();
    let thief = owner.open(b"verify").unwrap();
    let secrets = thief.project.keys.verify_secrets(Secret::random().unwrap());
    let bundle = [
        &secrets.metadata.expose()[..],
        secrets.authority.as_bytes(),
        secrets.seed.expose(),
    ]
    .concat();
    let slot = forge(&owner, &thief.project.keys, Role::Verify, &bundle, b"thief");
    let forged = owner.put_forged(&slot);
    let opened = owner.open(b"thief").unwrap();
    assert_eq!(opened.repository.role(), Role::Verify);
    for listed in [owner.list(), opened.repository.list_keys(&Silent).unwrap()] {
        let shown = listed.iter().find(|key| key.id == forged).unwrap();
        assert!(shown.foreign && shown.info.label.is_empty(), "{shown:?}");
        assert_eq!(listed.iter().filter(|key| key.foreign).count(), 1);
    }
    // A full key can remove the forged slot.
    let listed = owner.list();
    let shown = listed.iter().find(|key| key.id == forged).unwrap();
    owner
        .test_repo
        .repository
        .remove_key(shown, &Silent)
        .unwrap();
    assert_eq!(owner.list().len(), 4);
}

#[test]
fn a_slot_with_other_keys_than_the_project_has_does_not_open_the_project() {
    let owner = Owner::new();
    let thief = owner.open(b"write").unwrap();
    let keys = &thief.project.keys;
    let seed = Secret::random().unwrap();
    let own = SigningKey::from_seed(&seed).public();
    let secrets = keys.write_secrets(seed.clone()).unwrap();
    let other = ProjectKeys::full(&Secret::random().unwrap());
    let write = |data: &[u8], authority: &[u8]| {
        [
            &secrets.metadata.expose()[..],
            secrets.chunks.expose(),
            data,
            authority,
            seed.expose(),
        ]
        .concat()
    };
    let data = secrets.data.as_bytes();
    let other_data = other.data_public_key().unwrap().as_bytes();
    let authority = secrets.authority.as_bytes();
    for (role, bundle) in [
        // If the slot had the thief's data key, the thief could read the backups of the client.
        (Role::Write, write(other_data, authority)),
        // If it had the thief's signing key, the client would accept records of the thief.
        (Role::Write, write(data, own.as_bytes())),
        (Role::Full, Secret::random().unwrap().expose().to_vec()),
    ] {
        let forged = owner.put_forged(&forge(&owner, keys, role, &bundle, b"thief"));
        let opened = owner.open(b"thief").map(|opened| opened.repository.role());
        assert_eq!(opened.unwrap_err().kind(), RepoErrorKind::Damaged, "{role}");
        owner.remove(forged);
    }
}

#[test]
fn check_reports_a_slot_that_a_verify_key_added() {
    let owner = Owner::new();
    let thief = owner.open(b"verify").unwrap();
    let host = Host::without_cache();
    host.check_clean(&owner.test_repo, "before");
    let slot = forge(&owner, &thief.project.keys, Role::Full, &[7; 32], b"thief");
    let forged = owner.put_forged(&slot);
    let object = ObjectRef::Key(Some(owner.project()), forged);
    owner.store.put(&object.copy_name(), &[&slot]).unwrap();
    for checked in [&owner.test_repo, &thief] {
        let (report, findings) = host.check(checked, false);
        assert_eq!(report.errors, 1, "{findings:#?}");
    }
}

#[test]
fn a_right_password_causes_no_reads_and_a_wrong_password_causes_reads_of_the_second_copies() {
    let owner = Owner::new();
    for password in [PASSWORD, b"full", b"write", b"verify", b"wrong"] {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&calls);
        let store = Intercepted::new(&owner.store, move |_, name| {
            log.lock().unwrap().push(name.to_owned());
            Ok(())
        });
        let found = Repository::find(Arc::new(store), None, &Silent).unwrap();
        let before = calls.lock().unwrap().len();
        assert!(before > 0);
        let opened = found.unlock(password, &Silent);
        assert_eq!(opened.is_ok(), password != b"wrong");
        let after = calls.lock().unwrap().split_off(before);
        let mut others = after.iter().filter(|name| !name.contains("copy"));
        assert_eq!(
            others.next().map(String::as_str),
            opened.is_err().then_some("cuttlebone")
        );
        assert_eq!(after.is_empty(), opened.is_ok(), "{after:?}");
    }
}

/// A source that must not be read.
struct Untouched;

impl Source for Untouched {
    fn begin(&mut self) -> Result<SourceData<'_>, VolumeError> {
        panic!("the source was read");
    }
}

#[test]
fn a_key_refuses_a_volume_outside_its_certificate_before_the_source_is_read() {
    let owner = Owner::new();
    let host = Host::without_cache();
    let run = |password: &[u8], volume: &str| {
        let opened = owner.open(password).unwrap();
        let context = host.context();
        let made = ops::backup(&opened.project, &mut Untouched, &options(volume), &context);
        let error = made.unwrap_err();
        let ops::OpsError::Repo(error) = error else {
            panic!("{error:?}");
        };
        assert_eq!(error.kind(), RepoErrorKind::Role, "{error:?}");
        error
    };
    for volume in ["db", "web", "a-web-1"] {
        let RepoError::OtherVolumes { patterns, .. } = run(b"write", volume) else {
            panic!("{volume}");
        };
        assert_eq!(patterns, ["web-*"]);
    }
    assert!(matches!(run(b"verify", "web-1"), RepoError::Role(_)));
    let project = owner.open(b"write").unwrap().project;
    project.may_back_up("web-1", &Silent).unwrap();
    owner.test_repo.project.may_back_up("db", &Silent).unwrap();

    // A key without a certificate makes no backup, because all objects that it writes are foreign.
    let certificates = project.certificates(&Silent).unwrap();
    let own = certificates.of_slot(owner.keys[1], Role::Write).unwrap();
    let object = ObjectRef::Certificate(owner.project(), own.name);
    owner.store.delete(&object.name()).unwrap();
    owner.store.delete(&object.copy_name()).unwrap();
    assert!(matches!(run(b"write", "web-1"), RepoError::NotCertified));
}

#[test]
fn a_project_object_or_settings_with_one_damaged_copy_are_used_with_a_notice() {
    let owner = Owner::new();
    let settings = format!("projects/{}/settings", owner.project());
    let listed = owner.store.list(&settings).unwrap();
    assert_eq!(listed.len(), 2, "the settings are kept twice");
    for listed in listed {
        let bytes = owner.store.get(&listed.name, 1 << 20).unwrap();
        owner.store.put(&listed.name, &[&bytes[1..]]).unwrap();
        let observer = RecordingObserver::default();
        let opened = TestRepo::open(owner.store.clone(), &observer).unwrap();
        assert_eq!(opened.project.settings, owner.test_repo.project.settings);
        let noticed = observer.take();
        let is_copy = |notice: &Notice| matches!(notice, Notice::CopyDamaged { .. });
        let (_, is_second) = ObjectRef::parse(&listed.name).unwrap();
        assert_eq!(noticed.iter().any(is_copy), !is_second, "{noticed:?}");
        owner.store.put(&listed.name, &[&bytes]).unwrap();
    }
}
