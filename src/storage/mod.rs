//! Opaque bytes under names: what a repository needs from wherever it lies.
//!
//! A backend knows nothing of packs or keys. It promises this, and the contract suite
//! (`tests/storage/contract.rs`) holds every backend to it:
//!
//! - [`put`](Backend::put) is all or nothing, and durable when it returns: after a crash an object is whole
//!   or absent. Putting again replaces. After a failure the name holds what it held before or, if only the
//!   last step failed (or the answer was lost), the new object: whole either way, so putting again is safe.
//! - What [`list`](Backend::list) shows is whole; uploads under way or cut short are not shown.
//! - Calls may come from many threads at once.

mod error;
mod fault;
mod limit;
mod local;
mod memory;
mod name;
mod sftp;
mod temporary;

pub use error::{ErrorKind, Operation, StorageError};
pub use fault::{Call, Calls, Fault, FaultBackend, Moment, Plan};
pub use limit::{LimitBackend, Limits, Rate};
pub use local::LocalBackend;
pub use memory::MemoryBackend;
pub use name::{InvalidName, Name};
pub use sftp::{SftpBackend, SftpOptions, SftpServer};

use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// Its size in bytes.
    pub size: u64,
    /// When it was put, by the store's clock.
    pub modified: SystemTime,
}

/// A dumb store of immutable objects.
pub trait Backend: Send + Sync {
    /// Where it is, for messages: a path or an address without secrets.
    fn location(&self) -> &str;

    /// Stores the parts, one after the other, as one object. Replaces an object of that name.
    /// Directories are made as needed.
    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError>;

    /// As [`put`](Self::put), but fails with [`ErrorKind::Exists`], changing nothing, if the name is
    /// taken. Of several at the same time exactly one succeeds.
    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError>;

    /// The whole object, if it is at most `limit` bytes long; [`ErrorKind::TooLarge`] otherwise.
    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError>;

    /// Fills `buf` from `offset` on. An object that ends before `buf` is full is
    /// [`ErrorKind::Truncated`], and what `buf` then holds is unspecified. Filling an empty `buf` only
    /// finds out whether there is such an object.
    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError>;

    /// The object's size in bytes.
    fn size(&self, name: &Name) -> Result<u64, StorageError>;

    /// All objects below a directory at any depth, in no order; none if there is no such directory.
    /// The empty string is the whole store. What does not fit a [`Name`] is left out. An object that is put
    /// or deleted meanwhile may be shown or not.
    fn list(&self, directory: &str) -> Result<Vec<Listed>, StorageError>;

    /// The names of the directories right below a directory, in no order; none if there is no such directory.
    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError>;

    /// Deletes the object; durable when it returns. That there is none is [`ErrorKind::NotFound`].
    fn delete(&self, name: &Name) -> Result<(), StorageError>;

    /// Removes what uploads that died left below a directory, at any depth, and tells how many there were;
    /// none if there is no such directory. The empty string is the whole store. Only what nobody has written
    /// to for longer than `age`, by the store's clock, and nothing that is not this store's own temporary
    /// file. An upload that rests for longer than `age` fails, so choose one that no upload rests for.
    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError>;
}

/// Shared by several owners, it is the same store.
impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn location(&self) -> &str {
        (**self).location()
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        (**self).put(name, parts)
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        (**self).put_new(name, parts)
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        (**self).get(name, limit)
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        (**self).get_range(name, offset, buf)
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        (**self).size(name)
    }

    fn list(&self, directory: &str) -> Result<Vec<Listed>, StorageError> {
        (**self).list(directory)
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        (**self).directories(directory)
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        (**self).delete(name)
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        (**self).remove_leftovers(directory, age)
    }
}
