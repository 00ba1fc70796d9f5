//! An open project.

use std::path::Path;
use std::sync::Arc;

use super::cache_dir::CacheDir;
use super::error::RepoError;
use super::object_cache::ObjectCache;
use super::objects::Objects;
use super::signers::Signers;
use crate::base::{ChunkSize, ProjectId, RepositoryId};
use crate::crypto::{ChunkKeys, PackCipher, PackRandom, ProjectKeys, Secret};
use crate::format::{BlobKind, ProjectSettings};

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
    /// Who may sign its objects.
    pub signers: Arc<Signers>,
    /// The store.
    pub objects: Objects,
    /// The secret that all its keys derive from.
    pub(super) secret: Secret,
}

impl Project {
    /// The directory below `caches` that caches this project.
    #[must_use]
    pub fn cache_dir(&self, caches: &Path) -> CacheDir {
        CacheDir::new(self.repository, self.id, caches)
    }

    /// Returns the keys that name chunks. Fails if the role of the key does not include them.
    pub fn chunk_keys(&self) -> Result<&ChunkKeys, RepoError> {
        Ok(self.keys.chunk_keys()?)
    }

    /// Returns the cipher of a pack with blobs of this kind. Fails if the role of the key does not
    /// include reading them.
    pub fn pack_cipher(&self, kind: BlobKind, random: PackRandom) -> Result<PackCipher, RepoError> {
        let key = match kind {
            BlobKind::Chunk => self.keys.data()?,
            BlobKind::Node => self.keys.tree(),
        };
        Ok(PackCipher::new(key, self.id, random))
    }

    /// Keeps copies of records, entries of the log and tree nodes in the cache directory below `caches`,
    /// and reads these objects from there, which saves requests over a slow link. The list of
    /// existing objects still comes from the store.
    pub fn keep_copies(&mut self, caches: &Path) {
        let directory = self.cache_dir(caches).objects();
        self.objects = self.objects.with_copies(Some(ObjectCache::open(directory)));
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
