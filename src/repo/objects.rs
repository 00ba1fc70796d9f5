//! Reads, verifies and stores whole objects; handles objects that are kept twice.

use std::collections::HashSet;
use std::sync::Arc;

use super::batches::{self, Batches};
use super::error::{Damage, RepoError};
use super::object_cache::{NODE_PACK_MAX, ObjectCache};
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::parallel::join;
use super::parity::parity_of;
use super::quarantine::quarantined;
use crate::base::{Buffer, Notice, ObjectHash, Observer, ParityRate, ProjectId, to_usize};
use crate::crypto::object_hash;
use crate::format::BlobKind;
use crate::storage::{Backend, Name, ObjectInfo, StorageErrorClass, StorageErrorKind};

/// A store, accessed by objects instead of names.
#[derive(Clone)]
pub struct Objects {
    backend: Arc<dyn Backend>,
    /// The cache of objects on this host, if there is one.
    copies: Option<Arc<ObjectCache>>,
    batches: Arc<Batches>,
    /// How much parity is stored with each protected object. `None` if no parity is stored.
    parity: Option<ParityRate>,
}

impl Objects {
    /// Returns access to the objects in this store, without a cache and without parity.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            copies: None,
            batches: Arc::default(),
            parity: None,
        }
    }

    /// Returns the same store with this rate of parity. With `None`, no parity is stored.
    #[must_use]
    pub fn with_parity(&self, parity: Option<ParityRate>) -> Self {
        Self {
            parity,
            ..self.clone()
        }
    }

    /// Returns the same store, with this cache on this host. With `None`, everything is read from
    /// the store.
    pub(super) fn with_copies(&self, copies: Option<ObjectCache>) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            copies: copies.map(Arc::new),
            batches: Arc::clone(&self.batches),
            parity: self.parity,
        }
    }

    /// Returns the cache on this host. Returns `None` if there is no cache, or if it keeps no
    /// objects of this kind.
    fn copies_of(&self, object: ObjectRef) -> Option<&ObjectCache> {
        let copies = self.copies.as_deref();
        copies.filter(|_| object.kind().info().cached)
    }

    /// Returns the location of the store, for messages.
    #[must_use]
    pub fn location(&self) -> &str {
        self.backend.location()
    }

    /// Returns the store.
    #[must_use]
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Reads an object of at most `limit` bytes that is named by its hash, and verifies the hash.
    /// The bytes may come from a copy on this host: only a listing shows whether the store has the
    /// object.
    pub fn get_hashed(
        &self,
        object: ObjectRef,
        hash: ObjectHash,
        limit: u64,
    ) -> Result<Vec<u8>, RepoError> {
        let copies = self.copies_of(object);
        if let Some(bytes) = copies.and_then(|copies| copies.get(hash, limit)) {
            return Ok(bytes);
        }
        let (bytes, found) = self.get_with_hash(object, limit)?;
        if found != hash {
            return Err(RepoError::damaged(object, Damage::WrongHash));
        }
        if let Some(copies) = copies {
            copies.put(hash, &[&bytes]);
        }
        Ok(bytes)
    }

    /// Fills `buf` with the bytes of a pack of tree nodes from `offset` on.
    pub(super) fn read_node_pack(
        &self,
        project: ProjectId,
        pack: ObjectHash,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), RepoError> {
        let object = ObjectRef::Tree(project, pack);
        let name = object.name();
        let fetch = || self.backend.get(&name, NODE_PACK_MAX).ok();
        if let Some(copies) = &self.copies
            && copies.read_pack(pack, offset, buf, fetch)
        {
            return Ok(());
        }
        let read = self.backend.get_range(&name, offset, buf);
        read.map_err(|e| RepoError::reading(object, e))
    }

    /// Stores a pack. When the function returns, the pack is durable.
    pub(super) fn put_pack(
        &self,
        project: ProjectId,
        pack: ObjectHash,
        kind: BlobKind,
        parts: &[&[u8]],
    ) -> Result<(), RepoError> {
        let object = ObjectRef::of_pack(project, kind, pack);
        self.protect(object, parts)?;
        self.backend.put(&object.name(), parts)?;
        if let (Some(copies), BlobKind::Node) = (&self.copies, kind) {
            copies.put_pack(pack, parts);
        }
        Ok(())
    }

    /// Reads an object of at most `limit` bytes from the store, without verifying it. If it has no
    /// file of its own, reads it from a batch: a file with several objects, which
    /// [`list`](Self::list) has found before.
    pub fn get(&self, object: ObjectRef, limit: u64) -> Result<Vec<u8>, RepoError> {
        let read = match self.backend.get(&object.name(), limit) {
            Err(error) if error.kind == StorageErrorKind::NotFound => {
                match self.batches.place(object) {
                    Some(batched) if batched.len > limit => {
                        return Err(RepoError::damaged(object, Damage::TooLarge));
                    }
                    Some(batched) => batched.read(&*self.backend),
                    None => Err(error),
                }
            }
            read => read,
        };
        read.map_err(|e| RepoError::reading(object, e))
    }

    /// Reads an object from the store without verifying it. Returns its bytes and their hash.
    pub(super) fn get_with_hash(
        &self,
        object: ObjectRef,
        limit: u64,
    ) -> Result<(Vec<u8>, ObjectHash), RepoError> {
        let bytes = self.get(object, limit)?;
        let hash = object_hash(&[&bytes]);
        Ok((bytes, hash))
    }

    /// Stores an object that is named by its hash. When the function returns, the object is
    /// durable.
    pub(super) fn put_hashed(
        &self,
        object: ObjectRef,
        hash: ObjectHash,
        bytes: &[u8],
    ) -> Result<(), RepoError> {
        if object.kind().info().kept_twice {
            self.put_twice(object, bytes)?;
        } else {
            self.protect(object, &[bytes])?;
            self.backend.put(&object.name(), &[bytes])?;
        }
        if let Some(copies) = self.copies_of(object) {
            copies.put(hash, &[bytes]);
        }
        Ok(())
    }

    /// Stores the parity of an object, if the project has parity and if parity can protect this
    /// kind of object. The caller stores the object afterwards. So each such object in the store
    /// has its parity, even if the process is killed.
    pub fn protect(&self, object: ObjectRef, parts: &[&[u8]]) -> Result<(), RepoError> {
        let Some(rate) = self.parity else {
            return Ok(());
        };
        let of = object.hash().unwrap_or_else(|| object_hash(parts));
        if let Some(parity) = parity_of(object.kind(), of, parts, rate) {
            let hash = object_hash(&[&parity]);
            let name = ObjectRef::Parity(object.project(), of, hash).name();
            self.backend.put(&name, &[&parity])?;
        }
        Ok(())
    }

    /// Lists the parity objects of the object with this hash. With `None`, the object belongs to no
    /// project.
    pub fn parity_objects(
        &self,
        project: Option<ProjectId>,
        of: ObjectHash,
    ) -> Result<Vec<ObjectRef>, RepoError> {
        let any = ObjectRef::Parity(project, of, of).name();
        let listed = self.list(any.directory())?.into_iter();
        let is_of = |object: &ObjectRef| matches!(object, ObjectRef::Parity(_, o, _) if *o == of);
        Ok(listed.map(|(object, ..)| object).filter(is_of).collect())
    }

    /// Stores both copies of an object, the second copy first.
    pub fn put_twice(&self, object: ObjectRef, bytes: &[u8]) -> Result<(), RepoError> {
        self.protect(object, &[bytes])?;
        self.backend.put(&object.copy_name(), &[bytes])?;
        Ok(self.backend.put(&object.name(), &[bytes])?)
    }

    /// Deletes an object, if it still exists.
    pub fn delete(&self, object: ObjectRef) -> Result<(), RepoError> {
        // If the object is in a batch, unpack the batch first. Otherwise the object would still
        // exist in the batch.
        if let (Some(_), Some(project)) = (self.batches.place(object), object.project()) {
            self.unpack_batches(project)?;
        }
        if let (Some(copies), Some(hash)) = (&self.copies, object.hash()) {
            copies.remove(hash);
        }
        self.delete_name(&object.name())
    }

    /// Deletes both copies of an object. For a key slot, also deletes everything from which the
    /// slot could be restored: its damaged files in `quarantine/`, and its parity. Its parity may
    /// exist even if the project stores none now. Deletes these first, so that none of them stays
    /// without the slot if the process is killed. Deletes everything of a key slot twice. A repair
    /// that has read the slot before may store a part of it meanwhile. If the repair does not
    /// notice the removal, it has stored this part before everything is deleted for the second
    /// time.
    pub fn delete_twice(&self, object: ObjectRef) -> Result<(), RepoError> {
        let names = [object.name(), object.copy_name()];
        let ObjectRef::Key(project, hash) = object else {
            return names.iter().try_for_each(|name| self.delete_name(name));
        };
        for _ in 0..2 {
            self.delete_parity(project, hash)?;
            for damaged in quarantined(&*self.backend, hash)? {
                self.delete_name(&damaged)?;
            }
            for name in &names {
                self.delete_name(name)?;
            }
        }
        // Another process may have added parity meanwhile.
        self.delete_parity(project, hash)
    }

    /// Deletes all parity of the object with this hash, in a project or in none.
    pub(super) fn delete_parity(
        &self,
        project: Option<ProjectId>,
        of: ObjectHash,
    ) -> Result<(), RepoError> {
        for parity in self.parity_objects(project, of)? {
            self.delete_name(&parity.name())?;
        }
        Ok(())
    }

    /// Stores the parity of an object that exists, like [`protect`](Self::protect). If another
    /// process deleted a key slot meanwhile, deletes the parity of that slot again.
    pub fn protect_existing(&self, object: ObjectRef, bytes: &[u8]) -> Result<(), RepoError> {
        self.protect(object, &[bytes])?;
        self.delete_parity_if_removed(object)
    }

    /// Deletes the parity of an object if it is a key slot without any file.
    pub fn delete_parity_if_removed(&self, object: ObjectRef) -> Result<(), RepoError> {
        if let ObjectRef::Key(project, hash) = object
            && self.files_of(object)? == 0
        {
            self.delete_parity(project, hash)?;
        }
        Ok(())
    }

    /// Returns how many of the two copies of an object have a file, damaged or not.
    pub fn files_of(&self, object: ObjectRef) -> Result<usize, RepoError> {
        let mut files = 0;
        for name in [object.name(), object.copy_name()] {
            match self.backend.size(&name) {
                Err(error) if error.kind == StorageErrorKind::NotFound => {}
                Err(error) if error.kind.class() == StorageErrorClass::Damaged => files += 1,
                Err(error) => return Err(error.into()),
                Ok(_) => files += 1,
            }
        }
        Ok(files)
    }

    /// Deletes a file, if it still exists.
    pub(super) fn delete_name(&self, name: &Name) -> Result<(), RepoError> {
        match self.backend.delete(name) {
            Err(e) if e.kind != StorageErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Reads an object that is kept twice. Returns the first copy that `decode` accepts, and
    /// notifies the observer if that copy is the second. If neither is accepted, fails with the
    /// error of the first copy that exists.
    pub fn get_twice<T>(
        &self,
        object: ObjectRef,
        limit: u64,
        observer: &dyn Observer,
        decode: impl Fn(&[u8]) -> Result<T, RepoError>,
    ) -> Result<T, RepoError> {
        let read = |name| {
            let bytes = self
                .backend
                .get(&name, limit)
                .map_err(|e| RepoError::reading(object, e))?;
            decode(&bytes)
        };
        let first = match read(object.name()) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match read(object.copy_name()) {
            Ok(value) => {
                let problem = first.to_string();
                observer.notice(Notice::CopyDamaged { problem });
                Ok(value)
            }
            Err(RepoError::Damaged {
                source: Damage::Missing,
                ..
            }) => Err(first),
            Err(error) if first.is_missing() => Err(error),
            Err(_) => Err(first),
        }
    }

    /// Reads the copy with this name of an object that is kept twice, without verifying it. Returns
    /// `None` if this copy is missing or damaged. Also returns `None` if this process has no
    /// permission to read this copy, but can read the other one.
    pub(super) fn get_copy(&self, name: &Name, limit: u64) -> Result<Option<Vec<u8>>, RepoError> {
        let error = match self.backend.get(name, limit) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) => error,
        };
        match error.kind.class() {
            StorageErrorClass::Absent | StorageErrorClass::Damaged => Ok(None),
            // If the other copy cannot be read either, fail: a missing permission is not damage.
            StorageErrorClass::Denied if self.has_other_copy(name, limit) => Ok(None),
            _ => Err(error.into()),
        }
    }

    /// Returns whether the other copy of an object that is kept twice can be read.
    fn has_other_copy(&self, name: &Name, limit: u64) -> bool {
        const SUFFIX: &str = ".copy";
        let other = match name.as_str().strip_suffix(SUFFIX) {
            Some(first) => Name::new(first),
            None => Name::new(format!("{name}{SUFFIX}")),
        };
        other.is_ok_and(|other| self.backend.get(&other, limit).is_ok())
    }

    /// Reads an object like [`get`](Self::get), but into `buffer`, which gets the length of the
    /// object. The caller can reuse the buffer, and so allocates no memory for each object.
    pub fn get_into(
        &self,
        object: ObjectRef,
        limit: u64,
        buffer: &mut Buffer,
    ) -> Result<(), RepoError> {
        let name = object.name();
        if let Ok(size) = self.backend.size(&name)
            && size <= limit
        {
            buffer.resize(to_usize(size));
            match self.backend.get_range(&name, 0, buffer) {
                Ok(()) => return Ok(()),
                // Do not try again: each attempt to read a bad sector may take a long time.
                Err(error) if error.kind == StorageErrorKind::Unreadable => {
                    return Err(RepoError::reading(object, error));
                }
                Err(_) => {}
            }
        }
        // The object is missing, too long, or in a batch, or the connection was lost.
        let bytes = self.get(object, limit)?;
        buffer.resize(bytes.len());
        buffer.copy_from_slice(&bytes);
        Ok(())
    }

    /// Fills `buf` with the first bytes of an object's file, however long it is, without verifying
    /// them.
    pub fn get_start(&self, object: ObjectRef, buf: &mut [u8]) -> Result<(), RepoError> {
        let read = self.backend.get_range(&object.name(), 0, buf);
        read.map_err(|error| RepoError::reading(object, error))
    }

    /// Lists the objects below a directory, and whether each is a second copy. Files that are not
    /// part of the format are left out. If the directory is `backups/`, `voids/` or `log/` of a
    /// project, also lists the objects of this kind in the project's batches.
    pub fn list(&self, directory: &str) -> Result<Vec<(ObjectRef, bool, ObjectInfo)>, RepoError> {
        let files = || {
            let listed = self.backend.list(directory)?.into_iter();
            let known = listed.filter_map(|info| {
                let (object, copy) = ObjectRef::parse(&info.name)?;
                Some((object, copy, info))
            });
            Ok::<Vec<_>, RepoError>(known.collect())
        };
        let Some(project) = batches::project_of(directory) else {
            return files();
        };
        let (listed, more) = join(files, || self.batches.list(&*self.backend, project))?;
        let (mut listed, more) = (listed?, more?);
        if more.some_unpacked {
            listed = files()?;
        }
        if !more.objects.is_empty() {
            let mut seen: HashSet<_> = listed.iter().map(|(object, ..)| *object).collect();
            for (batched, info) in more.objects {
                let object = batched.object;
                if object.directory() == directory && seen.insert(object) {
                    let info = ObjectInfo {
                        name: object.name(),
                        size: batched.len,
                        modified: info.modified,
                    };
                    listed.push((object, false, info));
                }
            }
        }
        Ok(listed)
    }

    /// Stores the records, voids and log entries among these objects of a project in one batch.
    /// Ignores all other objects.
    pub fn put_batch(
        &self,
        project: ProjectId,
        objects: Vec<(ObjectRef, Vec<u8>)>,
    ) -> Result<(), RepoError> {
        let (batch, bytes) = batches::encode(project, objects);
        Ok(self.backend.put(&batch.name(), &[&bytes])?)
    }

    /// Stores the objects of all batches of a project under their own names, and deletes the
    /// batches. A batch with a damaged object stays.
    pub fn unpack_batches(&self, project: ProjectId) -> Result<(), RepoError> {
        self.batches.unpack(&*self.backend, project)
    }

    /// Reads the batches of a project. Returns the objects of the undamaged ones, and the errors of
    /// the others.
    pub fn verify_batches(
        &self,
        project: ProjectId,
    ) -> Result<(Vec<ObjectRef>, Vec<RepoError>), RepoError> {
        let (mut whole, mut damaged) = (Vec::new(), Vec::new());
        for info in self.backend.list(&ObjectKind::Batch.directory(project))? {
            let Some((batch, _)) = ObjectRef::parse(&info.name) else {
                continue;
            };
            match batches::verify(&*self.backend, project, batch, &info) {
                Ok(objects) => whole.extend(objects),
                // Another process unpacked the batch meanwhile.
                Err(error) if error.is_missing() => {}
                Err(error @ (RepoError::Damaged { .. } | RepoError::Unsupported { .. })) => {
                    damaged.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((whole, damaged))
    }
}
