//! Reads again the parts of packs that were noted as damaged, and finds those that are still
//! damaged.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reader::Opener;
use crate::base::{ObjectHash, to_usize};
use crate::repo::error::RepoError;
use crate::repo::index::{Index, KnownDamage};
use crate::repo::location::PlacedRun;

/// Reads again all runs and segments that were noted as damaged. Forgets the notes about those that
/// are undamaged now. From now on, only [`Index::find_anywhere`] finds blobs in runs that are still
/// damaged. If a segment is still damaged, rebuilds the cache without it.
pub fn exclude_damaged(index: &Index) -> Result<KnownDamage, RepoError> {
    let mut opener = Opener::default();
    index.exclude_damaged_by(&mut |run| is_whole(index, &mut opener, run))
}

/// Reads again all runs and segments that were noted as damaged. Returns the ordinals of the runs
/// that are still damaged, for each pack. Forgets the notes about all others.
pub fn still_damaged(index: &Index) -> Result<BTreeMap<ObjectHash, Vec<u64>>, RepoError> {
    let mut opener = Opener::default();
    index.still_damaged_by(&mut |run| is_whole(index, &mut opener, run))
}

/// Reads runs that are near each other in one pack, with one request if possible. Returns the
/// ordinals of those that do not open, or hold a blob that does not match its id. A run that the
/// store does not have counts as damaged.
pub fn damaged_among(
    index: &Index,
    opener: &mut Opener,
    runs: &[Arc<PlacedRun>],
) -> Result<Vec<u64>, RepoError> {
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
        return Ok(Vec::new());
    };
    let start = first.range().start;
    let mut stored = vec![0; to_usize(last.range().end - start)];
    match fetch(index, first, &mut stored) {
        Ok(()) => {}
        Err(RepoError::Damaged { .. }) if runs.len() > 1 => {
            // Some of the runs may still be readable.
            let mut damaged = Vec::new();
            for run in runs.chunks(1) {
                damaged.extend(damaged_among(index, opener, run)?);
            }
            return Ok(damaged);
        }
        Err(RepoError::Damaged { .. }) => return Ok(vec![first.ordinal()]),
        Err(error) => return Err(error),
    }
    let mut damaged = Vec::new();
    for run in runs {
        let range = run.range();
        let bytes = &mut stored[to_usize(range.start - start)..to_usize(range.end - start)];
        if !opens(index, opener, run, bytes) {
            damaged.push(run.ordinal());
        }
    }
    Ok(damaged)
}

/// Returns whether a run opens and all of its blobs match their ids. Fails if it cannot be fetched.
fn is_whole(index: &Index, opener: &mut Opener, run: &Arc<PlacedRun>) -> Result<bool, RepoError> {
    let range = run.range();
    let mut stored = vec![0; to_usize(range.end - range.start)];
    fetch(index, run, &mut stored)?;
    Ok(opens(index, opener, run, &mut stored))
}

/// Reads the bytes of a pack from the start of this run on.
fn fetch(index: &Index, run: &Arc<PlacedRun>, stored: &mut [u8]) -> Result<(), RepoError> {
    let project = index.project();
    let object = run.object(project.id);
    let backend = project.objects.backend();
    backend
        .get_range(&object.name(), run.range().start, stored)
        .map_err(|error| RepoError::reading(object, error))
}

/// Returns whether a run with these stored bytes opens, and all of its blobs match their ids.
fn opens(index: &Index, opener: &mut Opener, run: &Arc<PlacedRun>, stored: &mut [u8]) -> bool {
    let project = index.project();
    let Some(first) = run.locations().next() else {
        return true;
    };
    let mut blobs = run.locations();
    opener
        .open_run(project, &first, stored)
        .is_ok_and(|plain| blobs.all(|blob| Opener::blob(project, &blob, plain).is_ok()))
}
