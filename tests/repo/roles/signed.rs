//! Objects that the holders of keys sign without the program's checks. Also tests revoked keys.

use std::sync::Arc;

use cuttlebone::base::{LeaseId, ObjectHash, Role, Silent};
use cuttlebone::crypto::{Secret, SigningKey, object_hash};
use cuttlebone::format::{Certificate, Codec, Payload, ProjectSettings};
use cuttlebone::ops;
use cuttlebone::repo::{
    ObjectKind, ObjectRef, Project, Records, RepoError, RepoErrorKind, Repository,
};
use cuttlebone::storage::Backend;

use super::{Owner, ROLES, forge, is_refused};
use crate::repo::{CHUNK, Host, Image, LEAF, PASSWORD, TestRepo, noise};

/// Seals and signs an object directly, like a thief whose program checks no role.
fn sign_as(project: &Project, kind: ObjectKind, signing: &SigningKey, body: &[u8]) -> Vec<u8> {
    let payload = Payload {
        codec: Codec::Raw,
        plain_len: body.len(),
        padding: 0,
        body,
    };
    let header = kind.info().magic.header();
    let plain = payload.encode(&signing.public());
    let aad = [&project.id.as_bytes()[..], &header].concat();
    let sign = |parts: &[&[u8]]| signing.sign(project.id, &header, parts);
    let (nonce, sealed) = (project.keys.object())
        .seal_signed(&aad, &plain, sign)
        .unwrap();
    [&header[..], nonce.as_bytes(), &sealed].concat()
}

#[test]
fn settings_and_certificates_that_a_lesser_key_signs_are_foreign() {
    for (role, password) in &ROLES[1..] {
        let owner = Owner::new();
        let thief = owner.open(password).unwrap();
        let id = owner.project();
        let signing = thief.project.keys.signing();
        let settings = ProjectSettings {
            revision: 99,
            trust: Some("project".into()),
            parity: None,
            ..ProjectSettings::clone(&thief.project.settings)
        };
        let body = settings.encode();
        assert!(
            thief
                .project
                .put_sealed(ObjectRef::Settings, &body)
                .is_err()
        );
        let bytes = sign_as(&thief.project, ObjectKind::Settings, signing, &body);
        put_twice(
            &owner,
            ObjectRef::Settings(id, object_hash(&[&bytes])),
            &bytes,
        );

        // The thief makes a slot, and a certificate for the slot. This certificate names a second
        // signer, whose seed the thief has.
        let seed = Secret::random().unwrap();
        let secrets = thief.project.keys.verify_secrets(seed.clone());
        let bundle = [
            &secrets.metadata.expose()[..],
            secrets.authority.as_bytes(),
            seed.expose(),
        ]
        .concat();
        let keys = &thief.project.keys;
        let slot = forge(&owner, keys, Role::Verify, &bundle, b"thief");
        let forged = object_hash(&[&slot]);
        put_twice(&owner, ObjectRef::Key(Some(id), forged), &slot);
        let own = SigningKey::from_seed(&seed);
        let certificate = Certificate {
            requires: Vec::new(),
            role: "write".into(),
            slot: forged,
            signer: Some(own.public()),
            volumes: Vec::new(),
            features: Vec::new(),
            created: "2026-11-21T10:00:00Z".into(),
            label: None,
        };
        let bytes = sign_as(
            &thief.project,
            ObjectKind::Certificate,
            signing,
            &certificate.encode(),
        );
        put_twice(
            &owner,
            ObjectRef::Certificate(id, object_hash(&[&bytes])),
            &bytes,
        );
        // If the second signer counted, its lease would delay a prune.
        let lease = sign_as(&thief.project, ObjectKind::Lease, &own, b"{}");
        let name = LeaseId::from_bytes([1; 16]);
        let lease_name = ObjectRef::Lease(id, name).name();
        owner.store.put(&lease_name, &[&lease]).unwrap();

        let opened = owner.open(PASSWORD).unwrap();
        assert_eq!(opened.project.settings.revision, 1, "{role}");
        assert!(!opened.project.settings.trusts_all());
        let certificates = opened.project.certificates(&Silent).unwrap();
        assert_eq!(certificates.all().len(), 3);
        assert!(certificates.of_signer(&own.public()).is_none());
        let listed = opened.repository.list_keys(&Silent).unwrap();
        assert!(listed.iter().all(|key| key.foreign == (key.id == forged)));
        let (report, findings) = Host::without_cache().check(&opened, false);
        assert_eq!(report.foreign, 4, "{role}: {findings:#?}");
        assert_eq!(report.errors, 4, "{role}: {findings:#?}");
    }
}

fn put_twice(owner: &Owner, object: ObjectRef, bytes: &[u8]) {
    owner.store.put(&object.name(), &[bytes]).unwrap();
    owner.store.put(&object.copy_name(), &[bytes]).unwrap();
}

#[test]
fn the_settings_with_the_highest_revision_count() {
    let owner = Owner::new();
    let project = &owner.test_repo.project;
    for (revision, name) in [(3, "third"), (2, "second")] {
        let settings = ProjectSettings {
            revision,
            name: name.into(),
            ..ProjectSettings::clone(&project.settings)
        };
        let put = project.put_sealed(ObjectRef::Settings, &settings.encode());
        put.unwrap();
    }
    let open = |name| {
        let store = Arc::new(owner.store.clone());
        Repository::open(store, b"verify", &Silent)
            .unwrap()
            .project(name, &Silent)
    };
    assert_eq!(open("third").unwrap().settings.revision, 3);
    assert!(open("second").is_err() && open("default").is_err());
    // If the program does not know a feature of the newest settings, it does not use older settings
    // instead.
    let newer = br#"{"requires":["tomorrow"],"revision":4}"#;
    project.put_sealed(ObjectRef::Settings, newer).unwrap();
    let refused = open("third").err().unwrap().kind();
    assert_eq!(refused, RepoErrorKind::Unsupported);
}

#[test]
fn records_of_a_revoked_key_count_only_if_they_are_accepted() {
    let owner = Owner::new();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, 3 * CHUNK));
    let full = host.back_up(&owner.test_repo, "web-1", &image).unwrap().id;
    let record = owner.test_repo.backup(full).record;
    let writer = owner.open(b"write").unwrap().project;
    let put = |volume: &str, follows: ObjectHash| {
        let mut record = record.clone();
        record.volume.name = volume.to_owned();
        record.follows = vec![follows];
        writer
            .put_sealed(ObjectRef::Backup, &record.encode())
            .unwrap()
    };
    let first = put("web-1", full);
    let second = put("web-1", first);
    let other_volume = put("db", full);
    let ids = |opened: &TestRepo| {
        let mut ids: Vec<_> = opened.backups().iter().map(|b| b.id).collect();
        ids.sort_unstable();
        ids
    };
    let sorted = |mut ids: Vec<ObjectHash>| {
        ids.sort_unstable();
        ids
    };
    let opened = owner.open(PASSWORD).unwrap();
    assert_eq!(ids(&opened), sorted(vec![full, first, second]));
    owner
        .store
        .delete(&ObjectRef::Backup(owner.project(), other_volume).name())
        .unwrap();

    let slot = owner.slot(owner.keys[1]);
    let certificates = opened.project.certificates(&Silent).unwrap();
    let key = certificates.of_slot(owner.keys[1], Role::Write).unwrap();
    let lesser = owner.open(b"verify").unwrap();
    assert!(ops::revoke_key(&lesser.project, key, vec![], None).is_err());
    ops::revoke_key(&opened.project, key, vec![first], None).unwrap();
    for opened in [opened, owner.open(PASSWORD).unwrap(), lesser] {
        assert_eq!(ids(&opened), sorted(vec![full, first]));
        let mut records = Records::load(&opened.project).unwrap();
        let foreign = records.take_foreign();
        assert_eq!(foreign.len(), 1, "{foreign:?}");
        assert!(foreign[0].to_string().contains(&second.to_string()));
        assert_eq!(records.vanished(), [], "the foreign record still exists");
    }
    // Objects that the key signs after its revocation do not count.
    let third = put("web-1", first);
    let opened = owner.open(PASSWORD).unwrap();
    assert_eq!(ids(&opened), sorted(vec![full, first]));
    let (report, findings) = host.check(&opened, false);
    assert_eq!(
        (report.errors, report.foreign),
        (2, 2),
        "{third}: {findings:#?}"
    );

    // A copy of the revoked key's slot opens the project. But the slot is foreign, and a backup
    // with its key is refused.
    assert!(is_refused(owner.open(b"write")));
    let again = owner.put_forged(&slot);
    let listed = owner.list();
    assert!(listed.iter().find(|key| key.id == again).unwrap().foreign);
    let refused = owner
        .open(b"write")
        .unwrap()
        .project
        .may_back_up("web-1", &Silent);
    assert!(matches!(refused, Err(RepoError::NotCertified)));
}
