//! Tests places again that were noted as damaged.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reader::Opener;
use crate::base::ObjectHash;
use crate::repo::error::RepoError;
use crate::repo::index::{Index, KnownDamage, PlacedRun};

/// Reads the parts of packs again that were noted as damaged. From now on, the index finds no blob
/// in those that are still damaged, except as a last resort. Forgets the others. If a segment is
/// still damaged, rebuilds the cache without it.
pub fn exclude_damaged(index: &Index) -> Result<KnownDamage, RepoError> {
    let mut opener = Opener::default();
    index.exclude_damaged_by(&mut |run| is_whole(index, &mut opener, run))
}

/// Reads the parts of packs again that were noted as damaged. Returns the ordinals of the runs that
/// are still damaged, for each pack. Forgets the others.
pub fn still_damaged(index: &Index) -> Result<BTreeMap<ObjectHash, Vec<u64>>, RepoError> {
    let mut opener = Opener::default();
    index.still_damaged_by(&mut |run| is_whole(index, &mut opener, run))
}

/// Returns whether a run opens and all of its blobs have their ids. Fails if it cannot be fetched.
fn is_whole(index: &Index, opener: &mut Opener, run: &Arc<PlacedRun>) -> Result<bool, RepoError> {
    let project = index.project();
    let Some(first) = run.locations().next() else {
        return Ok(true);
    };
    let object = first.object(project.id);
    let mut stored = vec![0; first.run().stored_len as usize];
    let backend = project.objects.backend();
    backend
        .get_range(&object.name(), run.range().start, &mut stored)
        .map_err(|error| RepoError::reading(object, error))?;
    let mut blobs = run.locations();
    Ok(opener
        .open_run(project, &first, &mut stored)
        .is_ok_and(|plain| blobs.all(|blob| Opener::blob(project, &blob, plain).is_ok())))
}
