//! A store in memory, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use crate::base::{read_lock, write_lock};

use super::backend::{Backend, ObjectInfo};
use super::error::{StorageError, StorageErrorKind, StorageOperation};
use super::name::Name;

/// A store in memory. Its clones share the objects, which are dropped with the last clone.
#[derive(Debug, Clone, Default)]
pub struct MemoryBackend {
    objects: Arc<RwLock<Objects>>,
    /// The number of seconds by which the store's clock is ahead of the system clock.
    ahead: Arc<AtomicU64>,
}

type Objects = BTreeMap<Name, Object>;

#[derive(Debug, Clone)]
struct Object {
    bytes: Arc<[u8]>,
    modified: SystemTime,
}

impl MemoryBackend {
    /// Returns an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns an independent store with the same objects.
    #[must_use]
    pub fn copy(&self) -> Self {
        let objects = self.read().clone();
        Self {
            objects: Arc::new(RwLock::new(objects)),
            ahead: Arc::new(AtomicU64::new(self.ahead.load(Ordering::Relaxed))),
        }
    }

    /// Makes all objects older, as if this much time had passed.
    pub fn age(&self, by: Duration) {
        for object in self.write().values_mut() {
            object.modified -= by;
        }
    }

    /// Moves the store's clock forward by this many seconds, as if this time had passed only for
    /// the store. This happens to a client in a virtual machine that is paused.
    pub fn advance_clock(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Sets the modification time of an object. Does nothing if the object does not exist.
    pub fn set_modified(&self, name: &Name, modified: SystemTime) {
        if let Some(object) = self.write().get_mut(name) {
            object.modified = modified;
        }
    }

    /// Returns the time that the store's clock shows.
    #[must_use]
    pub fn clock(&self) -> SystemTime {
        SystemTime::now() + Duration::from_secs(self.ahead.load(Ordering::Relaxed))
    }

    fn object(&self, parts: &[&[u8]]) -> Object {
        Object {
            bytes: parts.concat().into(),
            modified: self.clock(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects> {
        read_lock(&self.objects)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects> {
        write_lock(&self.objects)
    }

    fn bytes(&self, operation: StorageOperation, name: &Name) -> Result<Arc<[u8]>, StorageError> {
        let object = self.read().get(name).map(|object| object.bytes.clone());
        object.ok_or_else(|| self.failed(StorageErrorKind::NotFound, operation, name))
    }

    fn failed(
        &self,
        kind: StorageErrorKind,
        operation: StorageOperation,
        name: &Name,
    ) -> StorageError {
        StorageError {
            kind,
            operation,
            object: name.to_string(),
            location: self.location().to_owned(),
            is_remote: false,
            source: None,
        }
    }
}

impl Backend for MemoryBackend {
    fn location(&self) -> &'static str {
        "memory"
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        let object = self.object(parts);
        self.write().insert(name.clone(), object);
        Ok(())
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        let object = self.object(parts);
        let mut objects = self.write();
        if objects.contains_key(name) {
            return Err(self.failed(StorageErrorKind::Exists, StorageOperation::Put, name));
        }
        objects.insert(name.clone(), object);
        Ok(())
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        let bytes = self.bytes(StorageOperation::Get, name)?;
        if bytes.len() as u64 > limit {
            return Err(self.failed(StorageErrorKind::TooLarge, StorageOperation::Get, name));
        }
        Ok(bytes.to_vec())
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        let bytes = self.bytes(StorageOperation::Get, name)?;
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| bytes.get(start..start.checked_add(buf.len())?));
        match range {
            _ if buf.is_empty() => Ok(()),
            Some(range) => {
                buf.copy_from_slice(range);
                Ok(())
            }
            None => Err(self.failed(StorageErrorKind::Truncated, StorageOperation::Get, name)),
        }
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        Ok(self.bytes(StorageOperation::Size, name)?.len() as u64)
    }

    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        let below = |name: &Name| match name.as_str().strip_prefix(directory) {
            Some(rest) => directory.is_empty() || rest.starts_with('/'),
            None => false,
        };
        let objects = self.read();
        let found = objects.iter().filter(|(name, _)| below(name));
        Ok(found
            .map(|(name, object)| ObjectInfo {
                name: name.clone(),
                size: object.bytes.len() as u64,
                modified: object.modified,
            })
            .collect())
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        let objects = self.list(directory)?;
        let below = |name: &Name| {
            let rest = name.as_str().strip_prefix(directory)?;
            let (first, _) = rest.trim_start_matches('/').split_once('/')?;
            Some(first.to_owned())
        };
        let names: BTreeSet<_> = objects.iter().filter_map(|o| below(&o.name)).collect();
        Ok(names.into_iter().collect())
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        let removed = self.write().remove(name);
        match removed {
            Some(_) => Ok(()),
            None => Err(self.failed(StorageErrorKind::NotFound, StorageOperation::Delete, name)),
        }
    }

    /// Does nothing: a put is a single step, so an interrupted put leaves no files.
    fn remove_leftovers(&self, _directory: &str, _age: Duration) -> Result<u64, StorageError> {
        Ok(0)
    }
}
