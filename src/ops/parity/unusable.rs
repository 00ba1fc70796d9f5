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
    let done = AtomicU64::new(0);
    let unusable = Mutex::new(HashMap::new());
    let files: Vec<_> = files.iter().collect();
    thread_pool(context.threads.min(READERS_MAX))?.install(|| {
        files.par_iter().try_for_each(|(name, (object, size))| {
            context.cancel.check()?;
            match repo::verify_stored(objects, *object, name, *size, context.cancel) {
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
    Ok((recover(unusable.into_inner()), total))
}
