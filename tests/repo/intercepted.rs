//! A store that runs a closure before each call. The closure can make the call fail or wait.

use std::time::Duration;

use cuttlebone::storage::{
    Backend, MemoryBackend, Name, ObjectInfo, StorageError, StorageErrorKind, StorageOperation,
};

/// Receives each operation and the name of its object or directory. An error makes the call fail.
type Before = dyn Fn(StorageOperation, &str) -> Result<(), StorageErrorKind> + Send + Sync;

/// A store in memory that runs the closure `before` at the beginning of each call.
pub(super) struct Intercepted {
    store: MemoryBackend,
    before: Box<Before>,
}

impl Intercepted {
    pub(super) fn new<F>(store: &MemoryBackend, before: F) -> Self
    where
        F: Fn(StorageOperation, &str) -> Result<(), StorageErrorKind> + Send + Sync + 'static,
    {
        Self {
            store: store.clone(),
            before: Box::new(before),
        }
    }

    /// Returns a store that fails with `kind` if an object whose name contains `part` is read.
    pub(super) fn unreadable(
        store: &MemoryBackend,
        part: &'static str,
        kind: StorageErrorKind,
    ) -> Self {
        Self::new(store, move |operation, name| {
            if operation == StorageOperation::Get && name.contains(part) {
                Err(kind)
            } else {
                Ok(())
            }
        })
    }

    fn call(&self, operation: StorageOperation, name: &str) -> Result<(), StorageError> {
        (self.before)(operation, name).map_err(|kind| StorageError {
            kind,
            operation,
            object: name.to_owned(),
            location: self.location().to_owned(),
            is_remote: false,
            source: None,
        })
    }
}

impl Backend for Intercepted {
    fn location(&self) -> &str {
        self.store.location()
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.call(StorageOperation::Put, name.as_str())?;
        self.store.put(name, parts)
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.call(StorageOperation::Put, name.as_str())?;
        self.store.put_new(name, parts)
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        self.call(StorageOperation::Get, name.as_str())?;
        self.store.get(name, limit)
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.call(StorageOperation::Get, name.as_str())?;
        self.store.get_range(name, offset, buf)
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        self.call(StorageOperation::Size, name.as_str())?;
        self.store.size(name)
    }

    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        self.call(StorageOperation::List, directory)?;
        self.store.list(directory)
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        self.call(StorageOperation::List, directory)?;
        self.store.directories(directory)
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.call(StorageOperation::Delete, name.as_str())?;
        self.store.delete(name)
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        self.call(StorageOperation::RemoveLeftovers, directory)?;
        self.store.remove_leftovers(directory, age)
    }
}
