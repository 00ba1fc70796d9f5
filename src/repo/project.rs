//! An open project.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use super::cache_dir::CacheDir;
use super::error::RepoError;
use super::object_cache::ObjectCache;
use super::objects::Objects;
use super::pack_memory::PackMemory;
use super::removals::KnownRemovals;
use super::sessions::Sessions;
use super::signers::Signers;
use super::watch::Watch;
use crate::base::{CHUNK_SIZE_DEFAULT, ChunkSize, ProjectId, RepositoryId, Role};
use crate::crypto::{ChunkKeys, PackCipher, PackRandom, ProjectKeys, RoleError, Secret};
use crate::format::{BlobKind, PackKey, ProjectSettings};

/// An open project: its keys, its settings, and the store that holds its objects. Clones share
/// them.
#[derive(Clone)]
pub struct Project {
    /// Its id, which is the name of its directory in the store.
    pub id: ProjectId,
    /// The repository that it was opened in.
    pub repository: RepositoryId,
    /// Its name, chunk size and other settings.
    pub settings: Arc<ProjectSettings>,
    /// Its chunk size.
    pub chunk_size: ChunkSize,
    /// Its keys.
    pub keys: Arc<ProjectKeys>,
    /// The signers that may sign its objects.
    pub signers: Arc<Signers>,
    /// The store.
    pub objects: Objects,
    /// The secret that all its keys derive from, if the role of the key is full.
    pub(super) secret: Option<Secret>,
    /// The keys of the sessions that were opened.
    pub(super) sessions: Arc<Sessions>,
    /// The objects that the log removed when it was read last.
    pub(super) removals: Arc<KnownRemovals>,
    /// When this host first saw the leases and marks of other processes.
    pub(super) watch: Arc<Watch>,
    /// The memory that each packer may use.
    pub(super) pack_memory: PackMemory,
}

impl Project {
    /// Returns a project with these keys and empty settings. The caller opens its settings with
    /// these keys.
    pub(super) fn without_settings(
        id: ProjectId,
        repository: RepositoryId,
        keys: Arc<ProjectKeys>,
        secret: Option<Secret>,
        objects: Objects,
    ) -> Self {
        let settings = ProjectSettings {
            requires: Vec::new(),
            revision: 0,
            name: String::new(),
            created: String::new(),
            chunk_size: CHUNK_SIZE_DEFAULT.bytes().into(),
            trust: None,
            parity: None,
            retired: None,
        };
        Self {
            id,
            repository,
            settings: Arc::new(settings),
            chunk_size: CHUNK_SIZE_DEFAULT,
            signers: Arc::new(Signers::new(&keys)),
            keys,
            objects,
            secret,
            sessions: Arc::default(),
            removals: Arc::default(),
            watch: Arc::default(),
            pack_memory: PackMemory::default(),
        }
    }

    /// Divides the memory for packs between this many backups that run at the same time.
    pub fn share_pack_memory(&mut self, backups: NonZeroUsize) {
        self.pack_memory = PackMemory::of_each(backups);
    }

    /// Returns the cache directory of this project, which is below `caches`.
    #[must_use]
    pub fn cache_dir(&self, caches: &Path) -> CacheDir {
        CacheDir::new(self.repository, self.id, caches).at(self.objects.backend().location())
    }

    /// Returns the role of the key that opened the project.
    #[must_use]
    pub fn role(&self) -> Role {
        self.keys.role()
    }

    /// Returns the secret that all keys of the project derive from. Fails unless the role of the
    /// key in use is full.
    pub(super) fn secret(&self) -> Result<&Secret, RepoError> {
        let (held, needed) = (self.role(), Role::Full);
        let secret = self.secret.as_ref();
        Ok(secret.ok_or(RoleError { held, needed })?)
    }

    /// Returns the keys that name chunks. Fails if the role of the key does not include them.
    pub fn chunk_keys(&self) -> Result<&ChunkKeys, RepoError> {
        Ok(self.keys.chunk_keys()?)
    }

    /// Returns the cipher that seals and opens the runs of a pack with blobs of this kind and this
    /// key. Fails if the role of the project's keys does not include reading such runs.
    pub fn pack_cipher(
        &self,
        kind: BlobKind,
        key: &PackKey,
        random: PackRandom,
    ) -> Result<PackCipher, RepoError> {
        Ok(match (kind, key) {
            (BlobKind::Node, _) => PackCipher::new(self.keys.tree(), self.id, random),
            (BlobKind::Chunk, PackKey::Project) => {
                PackCipher::new(self.keys.data()?, self.id, random)
            }
            (BlobKind::Chunk, PackKey::Session(encapsulation)) => {
                let private = self.keys.data_private_key()?;
                let key = self.sessions.key(encapsulation, self.id, private);
                PackCipher::new(&key, self.id, random)
            }
        })
    }

    /// Returns the key with which this client seals new chunks. This is the data key of the project
    /// if the role includes it, and otherwise the key of a new session.
    pub(super) fn new_pack_key(&self) -> Result<(PackKey, Secret), RepoError> {
        if let Ok(key) = self.keys.data() {
            return Ok((PackKey::Project, key.clone()));
        }
        let public = self.keys.data_public_key()?;
        let (encapsulation, key) = public.encapsulate(self.id)?;
        Ok((PackKey::Session(Arc::new(encapsulation)), key))
    }

    /// Keeps copies of records, voids, log entries and packs of tree nodes in the cache directory
    /// below `caches`, and reads these objects from there. This saves requests over a slow link.
    /// The list of existing objects still comes from the store. If the directory cannot be used,
    /// keeps no copies.
    pub fn keep_copies(&mut self, caches: &Path) {
        let directory = self.cache_dir(caches).create_objects().ok();
        self.objects = self.objects.with_copies(directory.map(ObjectCache::open));
    }

    /// Returns the errors of the batches that are damaged, belong to another project, or are of a
    /// later version.
    pub fn damaged_batches(&self) -> Result<Vec<RepoError>, RepoError> {
        Ok(self.objects.verify_batches(self.id)?.1)
    }

    /// Remembers in the cache directory below `caches` which leases and marks of other processes
    /// were seen, and when. So the next process notices leases that nobody renews, and how old
    /// marks are.
    pub fn remember_seen(&mut self, caches: &Path) {
        let watch = Watch::kept_in(self.cache_dir(caches));
        self.watch = Arc::new(watch);
    }

    /// Returns the same project without copies: every read goes to the store.
    #[must_use]
    pub fn without_copies(&self) -> Self {
        Self {
            objects: self.objects.with_copies(None),
            ..self.clone()
        }
    }
}
