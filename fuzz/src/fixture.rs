//! A repository with known keys, made from fixed bytes through the public interface of the program.
//! With these keys, hostile bytes can be sealed and signed, so that they pass authentication.

use std::cell::RefCell;
use std::sync::Arc;

use cuttlebone::base::Role;
use cuttlebone::base::{BlobId, ObjectHash, ProjectId, RepositoryId, Silent};
use cuttlebone::crypto::{
    self, KdfParams, PackCipher, PackRandom, ProjectKeys, RepositoryKeys, SealKey, Secret,
};
use cuttlebone::format::{
    Blob, BlobKind, Codec, Contents, Header, KeySlot, Magic, PackHead, PackKey, Payload,
    ProjectObject, ProjectSettings, RepositoryFile, Run, Scope, SlotInfo, SlotParams,
};
use cuttlebone::repo::{Compression, Compressor, ObjectRef, Objects, Project, Repository};
use cuttlebone::storage::{Backend, MemoryBackend};

/// The project's id.
pub(crate) const PROJECT: ProjectId = ProjectId::from_bytes([0xab; 16]);
/// The project's name.
pub(crate) const NAME: &str = "vms";
const PASSWORD: &[u8] = b"password";
/// The random bytes of all seals.
const RANDOM: [u8; 32] = [7; 32];

fn repository_secret() -> Secret {
    Secret::new([0x11; 32])
}

fn project_secret() -> Secret {
    Secret::new([0x22; 32])
}

/// Returns the keys of the project.
#[must_use]
pub(crate) fn project_keys() -> ProjectKeys {
    ProjectKeys::full(&project_secret())
}

/// Returns the hash of the bytes, which the format calls `H`.
#[must_use]
pub(crate) fn hash(bytes: &[u8]) -> [u8; 32] {
    crypto::hash(&[bytes])
}

/// An open repository and its store.
pub(crate) struct Fixture {
    /// The store that `repository` uses.
    pub(crate) store: MemoryBackend,
    /// Opened with the repository's key.
    pub(crate) repository: Repository,
    /// The only project of the repository. [`fresh_store`](Self::fresh_store) gives it a new store.
    pub(crate) project: Project,
    /// The same keys that `project` has.
    pub(crate) keys: ProjectKeys,
}

thread_local! {
    static FIXTURE: RefCell<Fixture> = RefCell::new(Fixture::new());
}

/// Runs `with` on this thread's fixture. The fixture is made only once, since opening needs a key
/// derivation.
pub(crate) fn fixture<T>(with: impl FnOnce(&mut Fixture) -> T) -> T {
    FIXTURE.with(|fixture| with(&mut fixture.borrow_mut()))
}

impl Fixture {
    fn new() -> Self {
        let store = MemoryBackend::new();
        put(
            &store,
            ObjectRef::Repository,
            &repository_file(1_800_000_000),
        );
        let slot = key_slot(&slot_info().encode());
        put(&store, key_ref(&slot), &slot);
        put(&store, ObjectRef::Project(PROJECT), &project_object());
        let settings = sealed_body(&project_keys(), Magic::Settings, &settings().encode());
        put(&store, settings_ref(&settings), &settings);
        let repository = open(&store);
        let project = repository.project(NAME, &Silent).expect("whole");
        Self {
            store,
            repository,
            project,
            keys: project_keys(),
        }
    }

    /// Gives the project a new empty store, and returns this store.
    pub(crate) fn fresh_store(&mut self) -> MemoryBackend {
        let store = MemoryBackend::new();
        self.project.objects = Objects::new(Arc::new(store.clone()));
        store
    }
}

/// Opens the repository in this store. This reads the project objects in the store.
#[must_use]
pub(crate) fn open(store: &MemoryBackend) -> Repository {
    Repository::open(Arc::new(store.clone()), PASSWORD, &Silent)
        .expect("the repository opens even if a project is damaged")
}

/// Puts an object under its name.
pub(crate) fn put(store: &MemoryBackend, object: ObjectRef, bytes: &[u8]) {
    store
        .put(&object.name(), &[bytes])
        .expect("a store in memory accepts every object");
}

/// Returns the name of a key slot of the repository.
#[must_use]
pub(crate) fn key_ref(slot: &[u8]) -> ObjectRef {
    ObjectRef::Key(None, ObjectHash::from_bytes(hash(slot)))
}

/// Returns the name of the settings of the project.
#[must_use]
pub(crate) fn settings_ref(settings: &[u8]) -> ObjectRef {
    ObjectRef::Settings(PROJECT, ObjectHash::from_bytes(hash(settings)))
}

/// Returns the repository file. `created` is in seconds since 1970-01-01 UTC.
#[must_use]
pub(crate) fn repository_file(created: u64) -> Vec<u8> {
    let file = RepositoryFile {
        id: RepositoryId::from_bytes([0xcd; 16]),
        created,
    };
    let mac = RepositoryKeys::new(&repository_secret()).file_mac(&file.fields());
    file.encode(&mac, hash).to_vec()
}

/// Returns the info of the fixture's key.
#[must_use]
pub(crate) fn slot_info() -> SlotInfo {
    SlotInfo {
        label: "first".into(),
        created: "2026-11-21T12:00:00Z".into(),
        host: "host".into(),
        user: "user".into(),
    }
}

/// Returns a key slot that opens the repository and has this info. Its key derivation is as cheap
/// as the format allows.
#[must_use]
pub(crate) fn key_slot(info: &[u8]) -> Vec<u8> {
    let kdf = KdfParams::new(8, 1, 1).expect("within bounds");
    let params = SlotParams {
        scope: Scope::Repository,
        role: Role::Full,
        memory_kib: kdf.memory_kib(),
        passes: kdf.passes(),
        lanes: kdf.lanes(),
        salt: [3; 32],
    };
    let owner = [0; 16];
    let (secret, slot_key) = (repository_secret(), Secret::new([0x33; 32]));
    let wrap = SealKey::new(&kdf.derive(PASSWORD, &params.salt).expect("8 KiB"));
    let aad = [&owner[..], &params.encode()].concat();
    let (nonce, sealed) = wrap.seal_with(&RANDOM, &aad, slot_key.expose());
    let mut slot = KeySlot {
        params,
        nonce: *nonce.as_bytes(),
        sealed_key: sealed_secret(&sealed),
        bundle_nonce: [0; 24],
        sealed_bundle: Vec::new(),
        info_nonce: [0; 24],
        sealed_info: Vec::new(),
    };
    let aad = [&owner[..], &slot.bundle_context()].concat();
    let bundle = SealKey::new(&slot_key.derive("cuttlebone 2026-11-21 slot bundle"));
    let (nonce, sealed) = bundle.seal_with(&RANDOM, &aad, secret.expose());
    (slot.bundle_nonce, slot.sealed_bundle) = (*nonce.as_bytes(), sealed);
    let aad = [&owner[..], &hash(&slot.info_context())].concat();
    let keys = RepositoryKeys::new(&secret);
    let (nonce, sealed) = keys.slot_info().seal_with(&RANDOM, &aad, info);
    (slot.info_nonce, slot.sealed_info) = (*nonce.as_bytes(), sealed);
    slot.encode()
}

/// Returns the settings of the fixture's project.
#[must_use]
pub(crate) fn settings() -> ProjectSettings {
    ProjectSettings {
        requires: Vec::new(),
        revision: 1,
        name: NAME.into(),
        created: "2026-11-21T12:00:00Z".into(),
        chunk_size: 64 << 10,
        trust: None,
        parity: None,
        retired: None,
    }
}

/// Returns the project object.
#[must_use]
pub(crate) fn project_object() -> Vec<u8> {
    let (header, keys) = (Magic::Project.header(), project_keys());
    let aad = [&PROJECT.as_bytes()[..], &header].concat();
    let wrap = RepositoryKeys::new(&repository_secret());
    let (nonce, sealed) = (wrap.project_wrap()).seal_with(&RANDOM, &aad, project_secret().expose());
    let data_key = keys.data_public_key().expect("the keys are full");
    let mut object = ProjectObject {
        header: Header::of(Magic::Project),
        nonce: *nonce.as_bytes(),
        sealed_secret: sealed_secret(&sealed),
        authority: *keys.authority(),
        data_key: Box::new(*data_key.as_bytes()),
        signature: [0; 64],
    };
    let signed = object.signed_part();
    object.signature = keys.signing().sign(PROJECT, &header, &[&signed]);
    object.encode()
}

fn sealed_secret(sealed: &[u8]) -> [u8; 48] {
    sealed.try_into().expect("32 bytes and a tag")
}

/// Returns a sealed object with this payload, which may be invalid, and the signature of a full
/// key.
#[must_use]
pub(crate) fn sealed_payload(keys: &ProjectKeys, magic: Magic, payload: &[u8]) -> Vec<u8> {
    let (header, signing) = (magic.header(), keys.signing());
    let plain = [payload, signing.public().as_bytes()].concat();
    let aad = [&PROJECT.as_bytes()[..], &header].concat();
    let sign = |parts: &[&[u8]]| signing.sign(PROJECT, &header, parts);
    let (nonce, sealed) = keys.object().seal_signed_with(&RANDOM, &aad, &plain, sign);
    [&header[..], nonce.as_bytes(), &sealed].concat()
}

/// Returns a sealed object with this body, which is not compressed.
#[must_use]
pub(crate) fn sealed_body(keys: &ProjectKeys, magic: Magic, body: &[u8]) -> Vec<u8> {
    let payload = Payload {
        codec: Codec::Raw,
        plain_len: body.len(),
        padding: 0,
        body,
    };
    sealed_payload(keys, magic, &payload.encode_unsigned())
}

/// Returns an entry of the log: these bytes, which may be invalid, then a valid signature of them.
#[must_use]
pub(crate) fn log_entry(keys: &ProjectKeys, signed: &[u8]) -> Vec<u8> {
    let signature = (keys.signing()).sign(PROJECT, &Magic::Log.header(), &[signed]);
    [signed, &signature].concat()
}

/// A run to be put into a pack.
#[derive(Clone)]
pub(crate) struct PlainRun {
    /// Its description in the pack and in the index.
    pub(crate) run: Run,
    /// Its content, encoded with its codec.
    pub(crate) content: Vec<u8>,
}

impl PlainRun {
    /// Returns a run of one blob with this content.
    #[must_use]
    pub(crate) fn new(codec: Codec, blob: Blob, content: Vec<u8>) -> Self {
        let mut run = Self {
            run: Run {
                codec,
                stored_len: 0,
                check: [0; 16],
                blobs: vec![blob],
            },
            content,
        };
        run.fit();
        run
    }

    /// Returns a run of one blob that is not compressed.
    #[must_use]
    pub(crate) fn raw(id: BlobId, plain: &[u8]) -> Self {
        let blob = Blob {
            plain_len: len_u32(plain.len()),
            id,
        };
        Self::new(Codec::Raw, blob, plain.to_vec())
    }

    /// Appends the blobs of another run, if neither is compressed. Otherwise, returns the other
    /// run.
    pub(crate) fn join(&mut self, other: Self) -> Result<(), Self> {
        if self.run.codec != Codec::Raw || other.run.codec != Codec::Raw {
            return Err(other);
        }
        self.run.blobs.extend(other.run.blobs);
        self.content.extend(other.content);
        self.fit();
        Ok(())
    }

    /// Compresses the run, if that saves space.
    pub(crate) fn compress(&mut self) {
        let mut compressor = Compressor::new(Compression::default()).expect("memory is enough");
        if self.run.codec == Codec::Raw {
            let mut buffer = Vec::new();
            let (codec, content) = compressor.compress(&self.content, &mut buffer);
            if codec == Codec::Zstd {
                self.content = content.to_vec();
                self.run.codec = codec;
                self.fit();
            }
        }
    }

    /// Sets the stored length of the run to the length of the content and its tag. If the run is
    /// one compressed blob, makes the blob's plain length at least the length of the content.
    fn fit(&mut self) {
        let content = len_u32(self.content.len());
        self.run.stored_len = content + 16;
        if let ([first], Codec::Zstd) = (&mut self.run.blobs[..], self.run.codec) {
            first.plain_len = first.plain_len.max(content);
        }
    }
}

fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("far below 4 GiB")
}

/// Returns the contents of a pack with these runs.
#[must_use]
pub(crate) fn contents(kind: BlobKind, runs: &[PlainRun]) -> Contents {
    let runs = runs.iter().map(|run| run.run.clone()).collect();
    Contents {
        kind,
        key: PackKey::Project,
        gap: 0,
        runs,
    }
}

/// Returns a pack of these runs.
#[must_use]
pub(crate) fn pack(
    keys: &ProjectKeys,
    random: [u8; 16],
    kind: BlobKind,
    runs: &[PlainRun],
) -> Vec<u8> {
    let key = match kind {
        BlobKind::Chunk => keys.data().expect("the keys are full"),
        BlobKind::Node => keys.tree(),
    };
    let cipher = PackCipher::new(key, PROJECT, PackRandom::from_bytes(random));
    let header = Magic::Pack.header();
    let aad = [&PROJECT.as_bytes()[..], &header, &[kind.byte()]].concat();
    let mut sealed = Vec::new();
    for (ordinal, run) in (0..).zip(runs) {
        let mut content = run.content.clone();
        let tag = cipher.seal_in_place(ordinal, &run.run.descriptor(), &aad, &mut content);
        sealed.extend_from_slice(&content);
        sealed.extend_from_slice(&tag);
    }
    pack_with(keys, random, &sealed, &contents(kind, runs).encode())
}

/// Returns a pack with these sealed runs and these bytes as contents, which may be invalid. The
/// signer, the signature, and the hash of the bytes before the contents are right.
#[must_use]
pub(crate) fn pack_with(
    keys: &ProjectKeys,
    random: [u8; 16],
    runs: &[u8],
    contents: &[u8],
) -> Vec<u8> {
    let head = PackHead { random }.encode();
    let (header, signing) = (Magic::Pack.header(), keys.signing());
    let before = hash(&[&head[..], runs].concat());
    let plain = [contents, &before, signing.public().as_bytes()].concat();
    let aad = [&PROJECT.as_bytes()[..], &head].concat();
    let sign = |parts: &[&[u8]]| signing.sign(PROJECT, &header, parts);
    let (nonce, sealed) = keys
        .contents()
        .seal_signed_with(&RANDOM, &aad, &plain, sign);
    let len = len_u32(nonce.as_bytes().len() + sealed.len());
    let end = len.to_le_bytes();
    [&head[..], runs, nonce.as_bytes(), &sealed, &end].concat()
}
