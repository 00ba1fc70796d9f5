//! Finds the files of a repository that are damaged or that this process may not read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::base::{Phase, Progress, lock, recover};
use crate::format::PACK_SIZE_MAX;
use crate::ops::context::{Context, thread_pool};
use crate::ops::error::OpsError;
use crate::repo::{self, ObjectRef, Objects, RepoError};
use crate::storage::Name;

/// Maximum number of objects that are read at the same time.
const READERS_MAX: usize = 4;

/// The files of the store by their names, each with its object and its size in bytes.
pub(super) type Files = BTreeMap<Name, (ObjectRef, u64)>;

/// The reason why a file cannot be used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    Damaged,
    /// This process may not read the file.
    Denied,
}

/// Reads the files. Returns those that cannot be used, with the reason for each. Also returns the
/// total size of the files in bytes, without those that are too long to be read.
pub(super) fn find_unusable(
    objects: &Objects,
    files: &Files,
    context: &Context<'_>,
) -> Result<(HashMap<Name, Unusable>, u64), OpsError> {
    // Nothing is read of a file that is longer than any object can be.
    let len = |size: u64| if size > PACK_SIZE_MAX { 0 } else { size };
    let total = files.values().map(|(_, size)| len(*size)).sum();
    let (done, read) = (AtomicU64::new(0), AtomicU64::new(0));
    let unusable = Mutex::new(HashMap::new());
    let files: Vec<_> = files.iter().collect();
    thread_pool(context.threads.min(READERS_MAX))?.install(|| {
        files.par_iter().try_for_each(|(name, (object, size))| {
            context.cancel.check()?;
            let verified = repo::verify_stored(objects, *object, name, *size, context.cancel);
            if !matches!(&verified, Err(error) if error.is_missing()) {
                read.fetch_add(len(*size), Ordering::Relaxed);
            }
            match verified {
                // A later version of the program made this object. Only that version can verify the
                // object.
                Ok(()) | Err(RepoError::Unsupported { .. }) => {}
                // The object was deleted since it was listed.
                Err(error) if error.is_missing() => {}
                Err(error @ RepoError::Damaged { .. }) => {
                    let why = if error.is_denied() {
                        Unusable::Denied
                    } else {
                        Unusable::Damaged
                    };
                    lock(&unusable).insert((*name).clone(), why);
                }
                Err(error) => return Err(error),
            }
            let done = done.fetch_add(len(*size), Ordering::Relaxed) + len(*size);
            context.observer.progress(Progress {
                phase: Phase::CheckData,
                done,
                total: Some(total),
            });
            Ok(())
        })
    })?;
    Ok((recover(unusable.into_inner()), read.into_inner()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{Cancel, ProjectId, Silent};
    use crate::crypto::object_hash;
    use crate::storage::{Backend, MemoryBackend};

    #[test]
    fn a_file_that_was_deleted_since_it_was_listed_does_not_count_as_read() {
        let backend = MemoryBackend::new();
        let mut files = Files::new();
        for bytes in [&b"stays"[..], b"is deleted"] {
            let project = ProjectId::from_bytes([1; 16]);
            let object = ObjectRef::Pack(project, object_hash(&[bytes]));
            backend.put(&object.name(), &[bytes]).unwrap();
            files.insert(object.name(), (object, bytes.len() as u64));
            if bytes == b"is deleted" {
                backend.delete(&object.name()).unwrap();
            }
        }
        let cancel = Cancel::default();
        let context = Context {
            observer: Arc::new(Silent),
            cancel: &cancel,
            threads: 1,
            cache: None,
        };
        let objects = Objects::new(Arc::new(backend));
        let (unusable, read) = find_unusable(&objects, &files, &context).unwrap();
        assert!(unusable.is_empty());
        assert_eq!(read, 5);
    }
}
