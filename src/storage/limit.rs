//! Limits the transfer rate of any store.

use std::time::Duration;

use super::backend::{Backend, ObjectInfo};
use super::error::StorageError;
use super::name::Name;
use super::rate::Limits;
use crate::base::Cancel;

/// A put of an object of up to this number of bytes waits at most [`SMALL_WAIT`] for the transfer
/// of other objects. It may be the put of a lease, and a lease that is stored too late expires.
const SMALL: u64 = 64 << 10;
const SMALL_WAIT: Duration = Duration::from_secs(1);

/// A store with limited rates.
///
/// If the inner store can [limit its transfers block by block](Backend::limit_blocks), it does so.
/// Otherwise this decorator waits between whole objects.
#[derive(Debug)]
pub struct LimitBackend<B> {
    inner: B,
    /// Unlimited if the inner store keeps the limits itself.
    limits: Limits,
    cancel: Cancel,
}

impl<B: Backend> LimitBackend<B> {
    /// Wraps a store. After `cancel` is set, running operations finish without limits.
    pub fn new(mut inner: B, limits: Limits, cancel: Cancel) -> Self {
        let limits = if inner.limit_blocks(&limits) {
            Limits::default()
        } else {
            limits
        };
        Self {
            inner,
            limits,
            cancel,
        }
    }

    fn wait(&self, pause: Duration) {
        // After a cancellation, running calls finish without limits.
        let _ = self.cancel.sleep(pause);
    }

    fn wait_to_put(&self, parts: &[&[u8]]) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let bytes = bytes as u64;
        let pause = self.limits.upload.pause(bytes);
        self.wait(if bytes > SMALL {
            pause
        } else {
            pause.min(SMALL_WAIT)
        });
    }
}

impl<B: Backend> Backend for LimitBackend<B> {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.wait_to_put(parts);
        self.inner.put(name, parts)
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.wait_to_put(parts);
        self.inner.put_new(name, parts)
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        let bytes = self.inner.get(name, limit)?;
        // The size is known only now. The wait delays the next transfer.
        self.wait(self.limits.download.pause(bytes.len() as u64));
        Ok(bytes)
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.wait(self.limits.download.pause(buf.len() as u64));
        self.inner.get_range(name, offset, buf)
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        self.inner.size(name)
    }

    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        self.inner.list(directory)
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        self.inner.directories(directory)
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.inner.delete(name)
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        self.inner.remove_leftovers(directory, age)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::super::memory::MemoryBackend;
    use super::super::rate::Rate;
    use super::*;

    #[test]
    fn a_small_object_waits_at_most_a_second_for_the_packs_before_it() {
        let limits = Limits {
            upload: Rate::new(NonZeroU64::MIN),
            download: Rate::default(),
        };
        // At this rate, the transfer of these bytes would take years.
        let _long = limits.upload.pause(100 << 20);
        let backend = LimitBackend::new(MemoryBackend::new(), limits, Cancel::default());
        let name = Name::new("lease").unwrap();
        backend.put(&name, &[&[7; 1000]]).unwrap();
        assert_eq!(backend.size(&name).unwrap(), 1000);
    }
}
