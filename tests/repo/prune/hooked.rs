//! A store that runs a hook in the middle of an operation.

use std::sync::Mutex;
use std::time::Duration;

use super::is_pack;
use cuttlebone::storage::{
    Backend, MemoryBackend, Name, ObjectInfo, StorageError, StorageOperation,
};

type Hook = Box<dyn FnOnce(MemoryBackend) + Send>;

/// A store that runs a hook once: before the first pack is stored, or before the first range of a
/// pack is read.
pub(super) struct Hooked {
    store: MemoryBackend,
    operation: StorageOperation,
    hook: Mutex<Option<Hook>>,
}

impl Hooked {
    pub(super) fn new(
        store: MemoryBackend,
        operation: StorageOperation,
        hook: impl FnOnce(MemoryBackend) + Send + 'static,
    ) -> Self {
        let hook: Hook = Box::new(hook);
        Self {
            store,
            operation,
            hook: Mutex::new(Some(hook)),
        }
    }

    fn run_hook(&self, operation: StorageOperation, name: &Name) {
        if operation == self.operation && is_pack(name) {
            let hook = self.hook.lock().unwrap().take();
            if let Some(hook) = hook {
                hook(self.store.clone());
            }
        }
    }
}

impl Backend for Hooked {
    fn location(&self) -> &str {
        self.store.location()
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.run_hook(StorageOperation::Put, name);
        self.store.put(name, parts)
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.store.put_new(name, parts)
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        self.store.get(name, limit)
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.run_hook(StorageOperation::Get, name);
        self.store.get_range(name, offset, buf)
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        self.store.size(name)
    }

    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        self.store.list(directory)
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        self.store.directories(directory)
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.store.delete(name)
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        self.store.remove_leftovers(directory, age)
    }
}
