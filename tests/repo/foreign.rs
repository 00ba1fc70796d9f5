//! Foreign objects in the store: garbage, moved objects, objects without a signature, and objects
//! with a signature by another key, for another project, or for another kind of object. They must
//! be ignored and stop no command.

use std::time::Duration;

use cuttlebone::base::{LeaseId, ObjectHash, ProjectId, SignerId};
use cuttlebone::crypto::{SealNonce, Secret, SigningKey, object_hash};
use cuttlebone::format::{Codec, HEADER_LEN, IndexSegment, Magic, Payload};
use cuttlebone::ops::{Finding, OpsError};
use cuttlebone::repo::{
    ForeignReason, Leases, Marks, ObjectKind, ObjectRef, Records, RepoError, RepoErrorKind,
};
use cuttlebone::storage::{Backend, MemoryBackend, Name};

use super::prune::{forget, prune};
use super::{CHUNK, Host, Image, LEAF, RecordingObserver, TestRepo, noise};

/// Longer than the lifetime of a lease.
const EXPIRED: Duration = Duration::from_mins(11);

/// A store with two volumes of two backups each.
struct Genuine {
    store: MemoryBackend,
    project: ProjectId,
    backups: Vec<(ObjectHash, Image)>,
}

impl Genuine {
    fn new() -> Self {
        let store = MemoryBackend::new();
        let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
        let host = Host::without_cache();
        let mut backups = Vec::new();
        for (number, volume) in (0..).zip(["disk", "disk", "other", "other"]) {
            let image = Image::new(LEAF).with(0, &noise(number, CHUNK));
            let made = host.back_up(&test_repo, volume, &image).unwrap();
            backups.push((made.id, image));
        }
        let project = test_repo.project.id;
        Self {
            store,
            project,
            backups,
        }
    }

    /// Returns the bytes of one object in this directory of the project. Returns `None` if the
    /// directory is empty.
    fn object_in(&self, directory: &str) -> Option<Vec<u8>> {
        let below = format!("projects/{}/{directory}", self.project);
        let listed = self.store.list(&below).unwrap();
        let first = listed.first()?;
        Some(self.store.get(&first.name, u64::MAX).unwrap())
    }
}

/// Stores bytes in the directory for objects of `kind`, under the name that such an object has.
fn put_foreign(store: &MemoryBackend, project: ProjectId, kind: ObjectKind, bytes: &[u8]) {
    let name = place(project, kind, object_hash(&[bytes]));
    store.put(&name, &[bytes]).unwrap();
}

/// Returns the name of an object of this kind with this hash.
fn place(project: ProjectId, kind: ObjectKind, hash: ObjectHash) -> Name {
    let (directory, hash) = (kind.directory(project), hash.to_string());
    let name = match kind {
        ObjectKind::Pack | ObjectKind::Tree => format!("{directory}/{}/{hash}", &hash[..2]),
        ObjectKind::Lease => format!("{directory}/{}", &hash[..32]),
        // Parity of an object that does not exist.
        ObjectKind::Parity => format!("{directory}/{}/{hash}.{hash}", &hash[..2]),
        _ => format!("{directory}/{hash}"),
    };
    Name::new(name).unwrap()
}

/// Kinds of objects that each have a directory in the project.
const KINDS: [ObjectKind; 15] = [
    ObjectKind::Key,
    ObjectKind::Settings,
    ObjectKind::Certificate,
    ObjectKind::Pack,
    ObjectKind::Tree,
    ObjectKind::Index,
    ObjectKind::Backup,
    ObjectKind::Void,
    ObjectKind::Log,
    ObjectKind::Lease,
    ObjectKind::Mark,
    ObjectKind::Audit,
    ObjectKind::Ledger,
    ObjectKind::Batch,
    ObjectKind::Parity,
];

/// The kinds of foreign objects that are put into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ForeignFile {
    /// An object without bytes.
    Nothing,
    Random,
    /// Only the header of an object of the directory's kind.
    Header,
    NewerVersion,
    NewerEpoch,
    UnknownFeature,
    OtherKind,
    OtherProject,
}

const FOREIGN_FILES: [ForeignFile; 8] = [
    ForeignFile::Nothing,
    ForeignFile::Random,
    ForeignFile::Header,
    ForeignFile::NewerVersion,
    ForeignFile::NewerEpoch,
    ForeignFile::UnknownFeature,
    ForeignFile::OtherKind,
    ForeignFile::OtherProject,
];

fn bytes_of(genuine: &Genuine, other: &Genuine, kind: ObjectKind, file: ForeignFile) -> Vec<u8> {
    let info = kind.info();
    // Returns an object of the kind if there is one, and otherwise noise with its header.
    let like = || match genuine.object_in(info.directory) {
        Some(bytes) => bytes,
        None => [&info.magic.header()[..], &noise(98, 300)].concat(),
    };
    let changed = |at: usize| {
        let mut bytes = like();
        bytes[at] ^= 0x40;
        bytes
    };
    match file {
        ForeignFile::Nothing => Vec::new(),
        ForeignFile::Random => noise(99, 300),
        ForeignFile::Header => info.magic.header().to_vec(),
        ForeignFile::NewerVersion => changed(8),
        ForeignFile::NewerEpoch => changed(10),
        ForeignFile::UnknownFeature => changed(12),
        ForeignFile::OtherKind if kind == ObjectKind::Backup => genuine.object_in("index").unwrap(),
        ForeignFile::OtherKind => genuine.object_in("backups").unwrap(),
        ForeignFile::OtherProject => match other.object_in(info.directory) {
            Some(bytes) => bytes,
            None => other.object_in("backups").unwrap(),
        },
    }
}

fn open(store: &MemoryBackend) -> TestRepo {
    TestRepo::open(store.clone(), &RecordingObserver::default()).unwrap()
}

/// Restores, checks, backs up, forgets and prunes in a repository with foreign objects. Panics if
/// one of these commands fails or has a wrong result. `foreign` is the number of foreign objects
/// that `check` must count. If it is `None`, `check` must count an error.
fn assert_nothing_is_stopped(
    genuine: &Genuine,
    store: &MemoryBackend,
    foreign: Option<u64>,
    when: &str,
) {
    let host = Host::without_cache();
    let test_repo = open(store);
    let all_restore = |count: usize| {
        let backups = test_repo.backups();
        assert_eq!(backups.len(), count, "{when}");
        for (id, image) in &genuine.backups {
            let Some(backup) = backups.iter().find(|backup| backup.id == *id) else {
                continue;
            };
            let restored = host.restore_image(&test_repo, backup);
            let restored = restored.unwrap_or_else(|e| panic!("{when}: {e:?}"));
            assert!(restored == *image, "{when}");
        }
    };
    all_restore(4);

    let (report, findings) = host.check(&test_repo, true);
    match foreign {
        Some(expected) => assert_eq!(report.foreign, expected, "{when}: {findings:?}"),
        None => assert!(report.errors > 0, "{when}"),
    }
    // For a kind that is kept twice, the test stored only one of the two copies.
    let is_expected = |finding: &Finding| match finding {
        Finding::ObjectForeign { .. } => true,
        Finding::CopyDamaged { .. } => foreign.is_none(),
        Finding::ObjectDamaged { object, .. } => object.kind() == ObjectKind::Batch,
        Finding::RepositoryDamaged { problem } => {
            let batch = |object: &ObjectRef| object.kind() == ObjectKind::Batch;
            matches!(&**problem, RepoError::Unsupported { object, .. } if batch(object))
        }
        _ => false,
    };
    assert!(findings.iter().all(is_expected), "{when}: {findings:?}");
    assert_eq!(report.backups_affected, [], "{when}");

    let next = Image::new(LEAF).with(0, &noise(50, CHUNK));
    let made = host.back_up(&test_repo, "disk", &next);
    let made = made.unwrap_or_else(|e| panic!("{when}: {e:?}"));
    let restored = host.restore_image(&test_repo, &test_repo.backup(made.id));
    assert!(restored.unwrap() == next, "{when}");

    let [first, ..] = &genuine.backups[..] else {
        unreachable!()
    };
    forget(&test_repo, &[first.0]);
    let pruned = prune(&test_repo, &host, Duration::ZERO);
    let pruned = pruned.unwrap_or_else(|e| panic!("{when}: {e:?}"));
    assert!(pruned.deleted.packs > 0, "{when}: {pruned:?}");
    all_restore(4);
}

#[test]
fn foreign_objects_in_any_directory_stop_no_command() {
    let (genuine, other) = (Genuine::new(), Genuine::new());
    for kind in KINDS {
        let foreign = match kind {
            // Packs that no segment names are read only if a blob is missing. Only a check without
            // a key reads parity.
            ObjectKind::Pack | ObjectKind::Tree | ObjectKind::Parity => Some(0),
            // A batch is neither sealed nor signed, so it is damaged.
            ObjectKind::Batch => None,
            kind if kind.info().kept_twice => None,
            _ => Some(1),
        };
        for what in FOREIGN_FILES {
            let store = genuine.store.copy();
            let bytes = bytes_of(&genuine, &other, kind, what);
            put_foreign(&store, genuine.project, kind, &bytes);
            let when = format!("{what:?} among {kind:?}");
            assert_nothing_is_stopped(&genuine, &store, foreign, &when);
        }
    }
}

/// A damaged file in the directory of records may be a genuine record, so any data may be in use. A
/// damaged file in the directory of the log may be a genuine entry, so any object may be missing.
#[test]
fn a_file_with_a_wrong_hash_stops_a_prune_only_if_it_is_among_the_records_or_in_the_log() {
    let genuine = Genuine::new();
    for kind in KINDS {
        if kind == ObjectKind::Lease {
            continue;
        }
        let store = genuine.store.copy();
        let name = place(genuine.project, kind, ObjectHash::from_bytes([0xab; 32]));
        store.put(&name, &[&noise(97, 300)]).unwrap();
        let when = format!("a wrong name among {kind:?}");
        let test_repo = open(&store);
        let host = Host::without_cache();
        let (report, findings) = host.check(&test_repo, true);
        assert_eq!(report.foreign, 0, "{when}: {findings:?}");
        assert_eq!(report.backups_affected, [], "{when}: {findings:?}");
        for backup in test_repo.backups() {
            host.restore_image(&test_repo, &backup)
                .unwrap_or_else(|e| panic!("{when}: {e:?}"));
        }
        let next = Image::new(LEAF).with(0, &noise(50, CHUNK));
        host.back_up(&test_repo, "disk", &next)
            .unwrap_or_else(|e| panic!("{when}: {e:?}"));
        forget(&test_repo, &[genuine.backups[0].0]);
        let pruned = prune(&test_repo, &host, Duration::ZERO);
        if kind == ObjectKind::Backup {
            assert!(
                matches!(&pruned, Err(OpsError::Unreadable { .. })),
                "{pruned:?}"
            );
        } else if kind == ObjectKind::Log {
            assert!(
                matches!(&pruned, Err(OpsError::HistoryCut { missing })
                    if missing.is_only_damage() && missing.damaged_entries.len() == 1),
                "{pruned:?}"
            );
        } else {
            let pruned = pruned.unwrap_or_else(|e| panic!("{when}: {e:?}"));
            assert!(pruned.deleted.packs > 0, "{when}: {pruned:?}");
        }
    }
}

/// Returns the bytes of an object, with this header, signer and signature.
fn sealed(
    test_repo: &TestRepo,
    header: [u8; 16],
    body: &[u8],
    signer: &SignerId,
    sign: impl FnOnce(&[&[u8]]) -> [u8; 64],
) -> Vec<u8> {
    let plain = raw(body).encode(signer);
    let project = &test_repo.project;
    let aad = [&project.id.as_bytes()[..], &header].concat();
    let (nonce, sealed) = (project.keys.object())
        .seal_signed(&aad, &plain, sign)
        .unwrap();
    [&header[..], nonce.as_bytes(), &sealed].concat()
}

fn raw(body: &[u8]) -> Payload<'_> {
    Payload {
        codec: Codec::Raw,
        plain_len: body.len(),
        padding: 0,
        body,
    }
}

/// Returns an object with the signed payload of another one, sealed with another nonce.
fn sealed_again(test_repo: &TestRepo, bytes: &[u8]) -> Vec<u8> {
    let project = &test_repo.project;
    let (header, rest) = bytes.split_at(HEADER_LEN);
    let (nonce, sealed) = rest.split_first_chunk().unwrap();
    let aad = [&project.id.as_bytes()[..], header].concat();
    let object = project.keys.object();
    let plain = object
        .open(&SealNonce::from_bytes(*nonce), &aad, sealed)
        .unwrap();
    let (nonce, sealed) = object.seal(&aad, &plain).unwrap();
    [header, nonce.as_bytes(), &sealed].concat()
}

/// Returns the bytes of an object with this header and body, which `key` has signed.
fn signed_by(test_repo: &TestRepo, key: &SigningKey, header: [u8; 16], body: &[u8]) -> Vec<u8> {
    let project = test_repo.project.id;
    sealed(test_repo, header, body, &key.public(), |parts| {
        key.sign(project, &header, parts)
    })
}

fn other_key() -> SigningKey {
    SigningKey::from_seed(&Secret::new([42; 32]))
}

/// Returns valid bodies, by kind. Each would do harm if its object counted.
fn bodies(test_repo: &TestRepo) -> Vec<(ObjectKind, Vec<u8>)> {
    let backups = test_repo.backups();
    let mut record = backups[0].record.clone();
    record.time = "2035-01-01T00:00:00Z".parse().unwrap();
    let all = |directory: ObjectKind| {
        let listed = test_repo
            .project
            .objects
            .list(&directory.directory(test_repo.project.id))
            .unwrap();
        let hashes = listed.iter().filter_map(|(object, ..)| object.hash());
        hashes.collect::<Vec<_>>()
    };
    let texts = |hashes: Vec<ObjectHash>| {
        let texts: Vec<_> = hashes.iter().map(ToString::to_string).collect();
        serde_json::to_string(&texts).unwrap()
    };
    let segment = IndexSegment {
        packs: Vec::new(),
        superseded: all(ObjectKind::Index),
    };
    let packs = texts(all(ObjectKind::Pack));
    let mark = format!(r#"{{"packs":{packs},"time":"2026-11-21T12:00:00Z"}}"#);
    let lease = r#"{"work":"prune","running_seconds":1,"store_time":9999999999}"#.to_owned();
    vec![
        (ObjectKind::Backup, record.encode()),
        (ObjectKind::Index, segment.encode()),
        (ObjectKind::Mark, mark.into_bytes()),
        (ObjectKind::Lease, lease.into_bytes()),
    ]
}

/// Returns the reference to an object of this kind with these bytes.
fn object(project: ProjectId, kind: ObjectKind, bytes: &[u8]) -> ObjectRef {
    let hash = object_hash(&[bytes]);
    match kind {
        ObjectKind::Backup => ObjectRef::Backup(project, hash),
        ObjectKind::Index => ObjectRef::Index(project, hash),
        ObjectKind::Mark => ObjectRef::Mark(project, hash),
        _ => ObjectRef::Lease(project, LeaseId::from_bytes([1; 16])),
    }
}

#[test]
fn an_object_that_was_sealed_again_with_another_nonce_is_foreign() {
    let genuine = Genuine::new();
    let test_repo = open(&genuine.store);
    let project = &test_repo.project;
    for (kind, body) in bodies(&test_repo) {
        let header = kind.info().magic.header();
        let valid = signed_by(&test_repo, project.keys.signing(), header, &body);
        let again = sealed_again(&test_repo, &valid);
        let open = |bytes: &[u8]| project.open(object(project.id, kind, bytes), bytes, 1 << 20);
        assert!(open(&valid).is_ok(), "{kind:?}");
        let refused = open(&again);
        assert!(
            matches!(
                refused,
                Err(RepoError::Foreign {
                    reason: ForeignReason::Signature(_),
                    ..
                })
            ),
            "{kind:?}: {refused:?}"
        );
    }
}

#[test]
fn an_object_counts_only_with_the_signature_of_its_signer_for_its_place() {
    let genuine = Genuine::new();
    let test_repo = open(&genuine.store);
    let project = test_repo.project.id;
    let authority = test_repo.project.keys.signing();
    let by_authority = authority.public();
    let other = other_key();
    let limit = 1 << 20;
    for (kind, body) in bodies(&test_repo) {
        let header = kind.info().magic.header();
        let elsewhere = if kind == ObjectKind::Mark {
            Magic::Backup.header()
        } else {
            Magic::Mark.header()
        };
        let open = |bytes: &[u8]| {
            let object = object(project, kind, bytes);
            test_repo.project.open(object, bytes, limit)
        };
        let valid = signed_by(&test_repo, authority, header, &body);
        let opened = open(&valid).unwrap();
        assert_eq!((opened.signer, &opened.body), (by_authority, &body));

        let nobody = SignerId::from_bytes([0; 32]);
        let another_body = [&body[..], b" "].concat();
        let cases = [
            (
                "signed by nobody",
                sealed(&test_repo, header, &body, &nobody, |_| [0; 64]),
            ),
            (
                "without a signature",
                sealed(&test_repo, header, &body, &by_authority, |_| [0; 64]),
            ),
            (
                "signed by another key",
                sealed(&test_repo, header, &body, &by_authority, |parts| {
                    other.sign(project, &header, parts)
                }),
            ),
            (
                "signed for another project",
                sealed(&test_repo, header, &body, &by_authority, |parts| {
                    authority.sign(ProjectId::from_bytes([9; 16]), &header, parts)
                }),
            ),
            (
                "signed for another kind of object",
                sealed(&test_repo, header, &body, &by_authority, |parts| {
                    authority.sign(project, &elsewhere, parts)
                }),
            ),
            (
                "with the signature of another object",
                sealed(&test_repo, header, &body, &by_authority, |parts| {
                    let payload = raw(&another_body).encode(&by_authority);
                    authority.sign(project, &header, &[parts[0], &payload])
                }),
            ),
        ];
        for (how, bytes) in &cases {
            let refused = open(bytes);
            assert!(
                matches!(
                    &refused,
                    Err(RepoError::Foreign {
                        reason: ForeignReason::Signature(_),
                        ..
                    })
                ),
                "{kind:?} {how}: {refused:?}"
            );
        }
        let unknown = signed_by(&test_repo, &other, header, &body);
        let refused = open(&unknown);
        assert!(
            matches!(
                &refused,
                Err(RepoError::Foreign { reason: ForeignReason::UnknownSigner(signer), .. })
                    if **signer == other.public()
            ),
            "{kind:?}: {refused:?}"
        );
        let all = cases.iter().map(|(_, bytes)| bytes).chain([&unknown]);
        let store = genuine.store.copy();
        for bytes in all {
            put_foreign(&store, project, kind, bytes);
        }
        let when = format!("wrong signatures among {kind:?}");
        let forged = open_all(&store);
        assert_eq!(
            forged,
            [4, 0, 0],
            "{when}: records, marks, leases that count"
        );
        let foreign = cases.len() as u64 + 1;
        assert_nothing_is_stopped(&genuine, &store, Some(foreign), &when);
    }
}

/// Returns the numbers of records, marks and leases that count.
fn open_all(store: &MemoryBackend) -> [usize; 3] {
    let project = open(store).project;
    [
        Records::load(&project).unwrap().all().len(),
        Marks::load(&project).unwrap().all().len(),
        Leases::load(&project, None).unwrap().others.len(),
    ]
}

#[test]
fn a_newer_version_or_feature_stops_a_prune_only_in_an_object_of_a_full_key() {
    let genuine = Genuine::new();
    let test_repo = open(&genuine.store);
    let project = test_repo.project.id;
    let authority = test_repo.project.keys.signing();
    let requires = |body: &[u8]| {
        let mut json: serde_json::Value = serde_json::from_slice(body).unwrap();
        json["requires"] = serde_json::json!(["later"]);
        serde_json::to_vec(&json).unwrap()
    };
    for (kind, body) in bodies(&test_repo) {
        let mut newer = Vec::new();
        for at in [8, 10, 12, 15] {
            let mut header = kind.info().magic.header();
            header[at] ^= 0x40;
            newer.push((header, body.clone()));
        }
        if kind != ObjectKind::Index {
            newer.push((kind.info().magic.header(), requires(&body)));
        }
        for (header, body) in newer {
            let when = format!("{kind:?} {header:?}");
            let store = genuine.store.copy();
            let foreign = signed_by(&test_repo, &other_key(), header, &body);
            put_foreign(&store, project, kind, &foreign);
            assert_eq!(open_all(&store), [4, 0, 0], "{when}");
            let host = Host::without_cache();
            prune(&open(&store), &host, Duration::ZERO).unwrap();

            let store = genuine.store.copy();
            let genuine = signed_by(&test_repo, authority, header, &body);
            put_foreign(&store, project, kind, &genuine);
            match prune(&open(&store), &host, Duration::ZERO) {
                Err(OpsError::Repo(error)) => {
                    assert_eq!(error.kind(), RepoErrorKind::Unsupported, "{when}");
                }
                other => panic!("{when}: {other:?}"),
            }
        }
    }
}

#[test]
fn an_expired_lease_with_any_content_delays_no_process() {
    let genuine = Genuine::new();
    let test_repo = open(&genuine.store);
    let authority = test_repo.project.keys.signing();
    let mut newer = Magic::Lease.header();
    newer[8] = 9;
    let body = br#"{"work":"prune","running_seconds":1,"store_time":9999999999}"#;
    let contents = [
        signed_by(&test_repo, authority, newer, body),
        signed_by(&test_repo, authority, Magic::Lease.header(), body),
        signed_by(&test_repo, authority, Magic::Lease.header(), b"no JSON"),
        noise(1, 300),
    ];
    for bytes in contents {
        let store = genuine.store.copy();
        put_foreign(&store, genuine.project, ObjectKind::Lease, &bytes);
        store.age(EXPIRED);
        let host = Host::without_cache();
        prune(&open(&store), &host, Duration::ZERO).unwrap();
        assert_eq!(
            store
                .list(&ObjectKind::Lease.directory(genuine.project))
                .unwrap()
                .len(),
            0
        );
    }
}
