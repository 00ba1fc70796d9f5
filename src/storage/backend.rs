//! The trait that every store implements.

use std::time::{Duration, SystemTime};

use super::error::StorageError;
use super::name::Name;
use super::rate::Limits;

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The name of the object.
    pub name: Name,
    /// The size in bytes.
    pub size: u64,
    /// When it was stored, by the store's clock.
    pub modified: SystemTime,
}

/// A store of immutable objects.
///
/// The contract suite (`tests/storage/contract.rs`) tests that every backend keeps these promises:
///
/// - [`put`](Self::put) stores the whole object or nothing. When the put returns, the object is
///   durable. On a server, this holds only if the server can wait for its disk. After a crash, an
///   object is whole or absent.
/// - After a failed put, the name has the same object as before. There is one exception: if only
///   the last step failed, or the answer was lost, the name may have the new object. Either object
///   is whole, so repeating the put is safe.
/// - [`list`](Self::list) returns only whole objects, never an upload that is in progress or was
///   interrupted.
/// - A read, a [`size`](Self::size) or a [`delete`](Self::delete) of an object that does not exist
///   fails with [`NotFound`](super::StorageErrorKind::NotFound).
/// - Calls may come from many threads at once.
/// - The [kind](super::StorageErrorKind) of an error decides how a caller reacts to it.
pub trait Backend: Send + Sync {
    /// Returns the location of the store for messages: a path or an address without secrets.
    fn location(&self) -> &str;

    /// Stores the parts, one after the other, as one object. Creates directories as needed.
    /// Replaces an object of that name. A server that cannot replace files keeps the old object
    /// instead. If the old object has another content, the put fails with
    /// [`Exists`](super::StorageErrorKind::Exists).
    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError>;

    /// Stores a new object like [`put`](Self::put), but fails with
    /// [`Exists`](super::StorageErrorKind::Exists) and changes nothing if the name is taken. If
    /// several callers try at the same time, exactly one succeeds. A local file system that can
    /// neither rename without replacing nor make hard links is an exception: several may succeed.
    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError>;

    /// Returns the whole object. Fails with [`TooLarge`](super::StorageErrorKind::TooLarge) if it
    /// is longer than `limit` bytes.
    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError>;

    /// Fills `buf` with the bytes of the object from `offset` on. Fails with
    /// [`Truncated`](super::StorageErrorKind::Truncated) if the object ends before `buf` is full;
    /// `buf` then holds unspecified bytes. A call with an empty `buf` only checks that the object
    /// exists.
    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError>;

    /// Returns the object's size in bytes.
    fn size(&self, name: &Name) -> Result<u64, StorageError>;

    /// Returns all objects below a directory at any depth, in no particular order. Returns an empty
    /// list if there is no such directory. The empty string is the whole store. Files whose path is
    /// not a valid [`Name`] are left out. An object that is stored or deleted during the call may
    /// be listed or not. If anything other than a file has [the name of an
    /// object](Name::is_of_object), it may be listed as an object, but it cannot be read.
    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError>;

    /// Returns the names of a directory's direct subdirectories, in no particular order. Returns an
    /// empty list if there is no such directory.
    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError>;

    /// Deletes the object. When the call returns, the deletion is as durable as a
    /// [`put`](Self::put).
    fn delete(&self, name: &Name) -> Result<(), StorageError>;

    /// Removes the files that interrupted uploads left below a directory, at any depth. Returns the
    /// number of files; 0 if there is no such directory. The empty string is the whole store.
    ///
    /// Removes only this store's own temporary files, and only those that were not written to for
    /// `age` or longer, by the store's clock. An upload that pauses for longer than `age` fails, so
    /// `age` must be longer than any upload can pause.
    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError>;

    /// Asks the backend to keep its transfers within `limits`, block by block, and returns whether
    /// it does. A backend that transfers whole objects returns `false`. In this case,
    /// [`LimitBackend`] waits between objects.
    ///
    /// [`LimitBackend`]: super::LimitBackend
    fn limit_blocks(&mut self, limits: &Limits) -> bool {
        let _ = limits;
        false
    }
}
