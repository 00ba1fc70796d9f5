//! Searches for damage before anything is written.

use super::holes::Holes;
use super::task::RestoreTask;
use crate::ops::error::OpsError;
use crate::repo::{ContentPart, LostChunks, RepoErrorKind};

/// Searches for damage without reading the data, and fails if it finds any. Finds tree nodes that
/// cannot be read, chunks whose packs are missing or too short, and chunks in places that are known
/// to be damaged.
pub(super) fn examine(task: &RestoreTask<'_>) -> Result<(), OpsError> {
    let holes = Holes::default();
    let lost = LostChunks::new(task.image.blobs().index())?;
    task.image.each_part(|part| {
        let (range, error) = match part {
            ContentPart::Chunk(chunk) => match lost.check(&chunk.id) {
                Ok(()) => return Ok(()),
                Err(error) => (chunk.range(), error),
            },
            ContentPart::Lost { range, error, .. } => (range, error),
        };
        if error.kind() != RepoErrorKind::Damaged {
            return Err(OpsError::from(error));
        }
        holes.add(range, error);
        Ok(())
    })?;
    match holes.take() {
        (ranges, Some(source)) => Err(OpsError::Holes {
            backup: task.backup.id.to_string(),
            volume: task.backup.record.volume.name.clone(),
            ranges,
            source: Box::new(source),
        }),
        _ => Ok(()),
    }
}
