//! Repositories that contain the objects of a case.

use std::sync::Arc;

use serde_json::Value;

use super::{Case, unhex};
use cuttlebone::base::{BlobId, ObjectHash, ProjectId, RepositoryId, Role, SignerId, Silent};
use cuttlebone::crypto::{
    self, KdfParams, PackCipher, PackRandom, ProjectKeys, RepositoryKeys, SealKey, Secret,
};
use cuttlebone::format::{
    Blob, BlobKind, Certificate, Codec, Contents, Header, IndexSegment, KeySlot, Magic, PackHead,
    PackKey, PackListing, Payload, ProjectObject, ProjectSettings, RepositoryFile, Run, Scope,
    SignedContents, SlotParams,
};
use cuttlebone::repo::{ObjectRef, Project, RepoError, Repository};
use cuttlebone::storage::{Backend, MemoryBackend};

/// The password and the project's name in every fixture.
pub(super) const WORD: &str = "fixture";
const PASSWORD: &[u8] = WORD.as_bytes();
const RANDOM: [u8; 32] = [3; 32];

/// Returns a store that contains only a repository file.
pub(super) fn store(repository: &Secret) -> MemoryBackend {
    let keys = RepositoryKeys::new(repository);
    let file = RepositoryFile {
        id: RepositoryId::from_bytes([1; 16]),
        created: 0,
    };
    let bytes = file.encode(&keys.file_mac(&file.fields()), |b| crypto::hash(&[b]));
    let store = MemoryBackend::new();
    put(&store, ObjectRef::Repository, &bytes);
    store
}

pub(super) fn put(store: &MemoryBackend, object: ObjectRef, bytes: &[u8]) {
    store.put(&object.name(), &[bytes]).unwrap();
}

pub(super) fn hash(bytes: &[u8]) -> ObjectHash {
    ObjectHash::from_bytes(crypto::hash(&[bytes]))
}

/// Adds a key slot, of the repository or of a project, with the bundle (the secrets) of a case.
pub(super) fn add_slot(store: &MemoryBackend, project: ProjectId, bundle: &Value) {
    let (scope, role, names): (_, _, &[_]) = if bundle.get("repository_secret").is_some() {
        (Scope::Repository, Role::Full, &["repository_secret"])
    } else if bundle.get("project_secret").is_some() {
        (Scope::Project, Role::Full, &["project_secret"])
    } else if bundle.get("chunks").is_some() {
        let names = &[
            "metadata",
            "chunks",
            "data_public",
            "signing_public",
            "signing",
        ];
        (Scope::Project, Role::Write, names)
    } else {
        let names = &["metadata", "signing_public", "signing"];
        (Scope::Project, Role::Verify, names)
    };
    let parts = names
        .iter()
        .map(|name| unhex(bundle[*name].as_str().unwrap()));
    let bundle = parts.collect::<Vec<_>>().concat();
    let (owner, object): (_, fn(ProjectId, ObjectHash) -> ObjectRef) = match scope {
        Scope::Repository => ([0; 16], |_, hash| ObjectRef::Key(None, hash)),
        Scope::Project => (*project.as_bytes(), |id, hash| {
            ObjectRef::Key(Some(id), hash)
        }),
    };
    let params = SlotParams {
        scope,
        role,
        memory_kib: 8,
        passes: 1,
        lanes: 1,
        salt: [2; 32],
    };
    let kdf = KdfParams::new(8, 1, 1).unwrap();
    let wrap = SealKey::new(&kdf.derive(PASSWORD, &params.salt).unwrap());
    let context = [&owner[..], &params.encode()].concat();
    let slot_key = Secret::new([4; 32]);
    let (nonce, sealed) = wrap.seal_with(&RANDOM, &context, slot_key.expose());
    let mut slot = KeySlot {
        params,
        nonce: *nonce.as_bytes(),
        sealed_key: sealed.try_into().unwrap(),
        bundle_nonce: [0; 24],
        sealed_bundle: Vec::new(),
        info_nonce: [0; 24],
        sealed_info: vec![0; 16],
    };
    let context = [&owner[..], &slot.bundle_context()].concat();
    let key = SealKey::new(&slot_key.derive("cuttlebone 2026-11-21 slot bundle"));
    let (nonce, sealed) = key.seal_with(&RANDOM, &context, &bundle);
    slot.bundle_nonce = *nonce.as_bytes();
    slot.sealed_bundle = sealed;
    // The info does not open, so it counts as empty.
    let bytes = slot.encode();
    put(store, object(project, hash(&bytes)), &bytes);
}

/// Adds a project object.
pub(super) fn add_project(
    store: &MemoryBackend,
    repository: &Secret,
    id: ProjectId,
    secret: &Secret,
) {
    let keys = ProjectKeys::full(secret);
    let header = Magic::Project.header();
    let context = [&id.as_bytes()[..], &header].concat();
    let wrap = RepositoryKeys::new(repository);
    let (nonce, sealed) = wrap
        .project_wrap()
        .seal_with(&RANDOM, &context, secret.expose());
    let mut object = ProjectObject {
        header: Header::of(Magic::Project),
        nonce: *nonce.as_bytes(),
        sealed_secret: sealed.try_into().unwrap(),
        authority: *keys.authority(),
        data_key: Box::new(*keys.data_public_key().unwrap().as_bytes()),
        signature: [0; 64],
    };
    object.signature = keys.signing().sign(id, &header, &[&object.signed_part()]);
    put(store, ObjectRef::Project(id), &object.encode());
    add_settings(store, id, &keys);
}

/// Adds settings, which give the project its name.
pub(super) fn add_settings(store: &MemoryBackend, id: ProjectId, keys: &ProjectKeys) {
    let settings = ProjectSettings {
        requires: Vec::new(),
        revision: 1,
        name: WORD.to_owned(),
        created: "2026-11-21T10:00:00Z".to_owned(),
        chunk_size: 65_536,
        trust: None,
        parity: None,
        retired: None,
    };
    let bytes = seal(id, keys, Magic::Settings, &settings.encode());
    put(store, ObjectRef::Settings(id, hash(&bytes)), &bytes);
}

/// Returns a sealed object with this body, signed by these keys.
fn seal(id: ProjectId, keys: &ProjectKeys, magic: Magic, body: &[u8]) -> Vec<u8> {
    let payload = Payload {
        codec: Codec::Raw,
        plain_len: body.len(),
        padding: 0,
        body,
    };
    let header = magic.header();
    let plain = payload.encode(&keys.signing().public());
    let context = [&id.as_bytes()[..], &header].concat();
    let sign = |parts: &[&[u8]]| keys.signing().sign(id, &header, parts);
    let (nonce, sealed) = (keys.object()).seal_signed_with(&RANDOM, &context, &plain, sign);
    [&header[..], nonce.as_bytes(), &sealed].concat()
}

pub(super) fn open(store: &MemoryBackend) -> Result<Repository, RepoError> {
    Repository::open(Arc::new(store.clone()), PASSWORD, &Silent)
}

pub(super) fn project_id(case: &Case) -> Option<ProjectId> {
    case.array("project_id").map(ProjectId::from_bytes)
}

/// Returns a store with the project of a case, its certificates and its log, but without the case's
/// object. Also returns the open project.
pub(super) fn project(case: &Case) -> (MemoryBackend, Project) {
    let id = project_id(case).unwrap_or(ProjectId::from_bytes([9; 16]));
    let secret = Secret::new(case.array("project_secret").unwrap());
    let repository = Secret::new([7; 32]);
    let store = store(&repository);
    let bundle = serde_json::json!({ "repository_secret": hex::encode(repository.expose()) });
    add_slot(&store, id, &bundle);
    add_project(&store, &repository, id, &secret);
    for bytes in case.list("certificates") {
        put(&store, ObjectRef::Certificate(id, hash(&bytes)), &bytes);
    }
    for bytes in case.list("log") {
        put(&store, ObjectRef::Log(id, hash(&bytes)), &bytes);
    }
    let project = open(&store).unwrap().project(WORD, &Silent).unwrap();
    (store, project)
}

/// Adds a certificate for this key slot, with the role that the slot states.
pub(super) fn certify(store: &MemoryBackend, id: ProjectId, keys: &ProjectKeys, slot: &[u8]) {
    let role = match slot.get(17) {
        Some(1) => Role::Write,
        Some(2) => Role::Verify,
        _ => Role::Full,
    };
    let certificate = Certificate {
        requires: Vec::new(),
        role: role.to_string(),
        slot: hash(slot),
        signer: (role != Role::Full).then(|| SignerId::from_bytes([6; 32])),
        volumes: Vec::new(),
        features: Vec::new(),
        created: "2026-11-21T10:00:00Z".to_owned(),
        label: None,
    };
    let bytes = seal(id, keys, Magic::Certificate, &certificate.encode());
    put(store, ObjectRef::Certificate(id, hash(&bytes)), &bytes);
}

/// Stores blobs of one kind in a pack, each in its own run, and a segment that names the pack.
pub(super) fn add_blobs(
    store: &MemoryBackend,
    project: &Project,
    kind: BlobKind,
    blobs: &[(BlobId, Vec<u8>)],
) {
    if blobs.is_empty() {
        return;
    }
    let (id, keys) = (project.id, &project.keys);
    let head = PackHead { random: [8; 16] };
    let key = match kind {
        BlobKind::Chunk => keys.data().unwrap(),
        BlobKind::Node => keys.tree(),
    };
    let cipher = PackCipher::new(key, id, PackRandom::from_bytes(head.random));
    let header = Magic::Pack.header();
    let context = [&id.as_bytes()[..], &header, &[kind.byte()]].concat();
    let mut bytes = head.encode().to_vec();
    let mut runs = Vec::new();
    for (ordinal, (id, plain)) in (0..).zip(blobs) {
        let plain_len = u32::try_from(plain.len()).unwrap();
        let run = Run {
            codec: Codec::Raw,
            stored_len: plain_len + 16,
            check: [0; 16],
            blobs: vec![Blob { plain_len, id: *id }],
        };
        let mut sealed = plain.clone();
        let tag = cipher.seal_in_place(ordinal, &run.descriptor(), &context, &mut sealed);
        bytes.extend_from_slice(&sealed);
        bytes.extend_from_slice(&tag);
        runs.push(run);
    }
    let contents = Contents {
        kind,
        key: PackKey::Project,
        gap: 0,
        runs,
    };
    let signer = keys.signing().public();
    let before = crypto::hash(&[&bytes]);
    let plain = SignedContents::encode_unsigned(&contents, &before, &signer);
    let context = [&id.as_bytes()[..], &head.encode()].concat();
    let sign = |parts: &[&[u8]]| keys.signing().sign(id, &header, parts);
    let (nonce, sealed) = (keys.contents()).seal_signed_with(&RANDOM, &context, &plain, sign);
    bytes.extend_from_slice(nonce.as_bytes());
    bytes.extend_from_slice(&sealed);
    let len = u32::try_from(sealed.len() + 24).unwrap();
    bytes.extend_from_slice(&len.to_le_bytes());
    let pack = hash(&bytes);
    put(store, ObjectRef::of_pack(id, kind, pack), &bytes);
    let segment = IndexSegment {
        packs: vec![PackListing {
            pack,
            random: head.random,
            signer,
            contents,
        }],
        superseded: Vec::new(),
    };
    let stored = project.put_sealed(ObjectRef::Index, &segment.encode());
    stored.unwrap();
}
