//! Repositories that contain the object of a case.

use std::sync::Arc;

use cuttlebone::base::{BlobId, ObjectHash, ProjectId, RepositoryId, Silent};
use cuttlebone::crypto::{
    self, KdfParams, PackCipher, PackNonce, ProjectKeys, RepositoryKeys, SealNonce, Secret,
};
use cuttlebone::format::{
    Blob, BlobKind, Codec, Contents, IndexSegment, KeySlot, Magic, PackHead, PackListing,
    ProjectObject, ProjectSettings, RepositoryFile, Run, Scope, SlotInfo, SlotParams,
};
use cuttlebone::repo::{ObjectRef, Project, RepoError, Repository};
use cuttlebone::storage::{Backend, MemoryBackend};

/// The password and the project's name in every fixture.
pub(super) const WORD: &str = "fixture";
const PASSWORD: &[u8] = WORD.as_bytes();

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

/// Adds a key slot: of the repository, or of a project.
pub(super) fn add_slot(store: &MemoryBackend, secret: &Secret, project: Option<ProjectId>) {
    let owner = project.map_or([0; 16], |id| *id.as_bytes());
    let params = SlotParams {
        scope: match project {
            None => Scope::Repository,
            Some(_) => Scope::Project,
        },
        memory_kib: 8,
        passes: 1,
        lanes: 1,
        salt: [2; 32],
    };
    let wrap = KdfParams::new(8, 1, 1).unwrap();
    let wrap = wrap.derive(PASSWORD, &params.salt).unwrap().seal_key();
    let nonce = SealNonce::from_bytes([3; 24]);
    let context = [&owner[..], &params.encode()].concat();
    let sealed = wrap.seal(&nonce, &context, secret.expose());
    let mut slot = KeySlot {
        params,
        nonce: [3; 24],
        sealed_secret: sealed.try_into().unwrap(),
        info_nonce: [4; 24],
        sealed_info: Vec::new(),
    };
    let context = [&owner[..], &slot.info_context()].concat();
    let info = SlotInfo::default().encode();
    let info_nonce = SealNonce::from_bytes(slot.info_nonce);
    slot.sealed_info = secret.slot_info_key().seal(&info_nonce, &context, &info);
    let bytes = slot.encode();
    let hash = ObjectHash::from_bytes(crypto::hash(&[&bytes]));
    put(store, ObjectRef::Key(project, hash), &bytes);
}

/// Adds a project object.
pub(super) fn add_project(
    store: &MemoryBackend,
    repository: &Secret,
    id: ProjectId,
    secret: &Secret,
) {
    let nonce = SealNonce::from_bytes([5; 24]);
    let context = [&id.as_bytes()[..], &ProjectObject::secret_context()].concat();
    let keys = RepositoryKeys::new(repository);
    let sealed = keys.project_wrap().seal(&nonce, &context, secret.expose());
    let mut object = ProjectObject {
        nonce: [5; 24],
        sealed_secret: sealed.try_into().unwrap(),
        settings_nonce: [6; 24],
        sealed_settings: Vec::new(),
    };
    let settings = ProjectSettings {
        name: WORD.to_owned(),
        created: "2026-11-21T10:00:00Z".to_owned(),
        chunk_size: 65_536,
        requires: Vec::new(),
    };
    let context = [&id.as_bytes()[..], &object.settings_context()].concat();
    let nonce = SealNonce::from_bytes(object.settings_nonce);
    let keys = ProjectKeys::new(secret);
    object.sealed_settings = keys.object().seal(&nonce, &context, &settings.encode());
    put(store, ObjectRef::Project(id), &object.encode());
}

pub(super) fn open(store: &MemoryBackend) -> Result<Repository, RepoError> {
    Repository::open(Arc::new(store.clone()), PASSWORD, &Silent)
}

/// A store and an open project in it that holds nothing.
pub(super) fn project(id: ProjectId, secret: [u8; 32]) -> (MemoryBackend, Project) {
    let (repository, secret) = (Secret::new([7; 32]), Secret::new(secret));
    let store = store(&repository);
    add_slot(&store, &repository, None);
    add_project(&store, &repository, id, &secret);
    let project = open(&store).unwrap().project(WORD, &Silent).unwrap();
    (store, project)
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
    let head = PackHead { nonce: [8; 16] };
    let cipher = project.keys.pack_cipher(PackNonce::from_bytes(head.nonce));
    let context = [&project.id.as_bytes()[..], &Magic::Pack.header()].concat();
    let mut bytes = head.encode().to_vec();
    let mut runs = Vec::new();
    let mut seal = |ordinal: u64, context: &[u8], plain: &[u8]| {
        let mut sealed = plain.to_vec();
        let tag = cipher.seal_in_place(ordinal, context, &mut sealed);
        bytes.extend_from_slice(&sealed);
        bytes.extend_from_slice(&tag);
        u32::try_from(sealed.len() + tag.len()).unwrap()
    };
    for (ordinal, (id, plain)) in (0..).zip(blobs) {
        let plain_len = u32::try_from(plain.len()).unwrap();
        let run = Run {
            codec: Codec::Raw,
            stored_len: plain_len + 16,
            blobs: vec![Blob { plain_len, id: *id }],
        };
        seal(ordinal, &[&context[..], &run.context(kind)].concat(), plain);
        runs.push(run);
    }
    let contents = Contents { kind, runs };
    let contents_len = seal(PackCipher::CONTENTS, &context, &contents.encode());
    bytes.extend_from_slice(&contents_len.to_le_bytes());
    let pack = ObjectHash::from_bytes(crypto::hash(&[&bytes]));
    put(store, ObjectRef::Pack(project.id, pack), &bytes);
    let segment = IndexSegment {
        packs: vec![PackListing {
            pack,
            nonce: head.nonce,
            contents,
        }],
        superseded: Vec::new(),
    };
    let object = |hash| ObjectRef::Index(project.id, hash);
    let key = (project.id, project.keys.object());
    let body = segment.encode();
    project
        .objects
        .put_sealed(object, Magic::Index, key, &body)
        .unwrap();
}
