//! Compares the changes between two backups of an image with the changes that the cluster listed.

use std::ops::Range;

use crate::base::{LEAF_SIZE, ObjectHash};
use crate::format::ExtentList;
use crate::ops::backup::options::{ListTest, MissedChanges};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{Backup, BlobReader, NodeReader, RepoErrorKind, Top, different_ranges};

/// The changes of an image since the snapshot of a backup, as the cluster lists them.
pub(crate) struct ListedChanges {
    /// The id of the backup.
    base: ObjectHash,
    /// The tree of the backup.
    top: Top,
    /// The chunks that the list names, as ranges of bytes.
    chunks: ExtentList,
    chunk_size: u64,
}

impl ListedChanges {
    /// Takes `listed`, the changes from the snapshot of `base` up to a snapshot in which the image
    /// has `size` bytes.
    pub(crate) fn new(base: &Backup, listed: &ExtentList, size: u64) -> Self {
        let content = &base.record.content;
        let chunk_size = u64::from(content.chunk_size);
        // The list names nothing after the end of the image. If the image has another size than
        // before, everything after the smaller size has changed.
        let behind = match content.size.min(size) {
            smaller if content.size != size => smaller..u64::MAX,
            _ => 0..0,
        };
        let listed: ExtentList = listed.ranges().iter().cloned().chain([behind]).collect();
        Self {
            base: base.id,
            top: base.tree(),
            chunks: listed.widened(chunk_size),
            chunk_size,
        }
    }

    /// Compares the base with the new content. All data of the new content must have been read from
    /// the source. Its tree, with the top `now`, must be durable.
    pub(super) fn test(
        &self,
        blobs: &BlobReader,
        now: Top,
        context: &Context<'_>,
    ) -> Result<ListTest, OpsError> {
        match self.missed(blobs, now, context) {
            Ok(changes) => Ok(ListTest::Compared {
                base: self.base,
                missed: changes,
            }),
            // The new backup is complete even if its base is damaged, so do not fail.
            Err(OpsError::Repo(error)) if error.kind() == RepoErrorKind::Damaged => {
                Ok(ListTest::Failed(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the changes that the list does not name, or `None` if it names all changes.
    fn missed(
        &self,
        nodes: &impl NodeReader,
        now: Top,
        context: &Context<'_>,
    ) -> Result<Option<MissedChanges>, OpsError> {
        let mut missed: Option<MissedChanges> = None;
        let mut add = |range: Range<u64>| {
            let first = missed.map_or(range.start, |missed| missed.first);
            let bytes = missed.map_or(0, |missed| missed.bytes);
            let bytes = bytes.saturating_add(range.end - range.start);
            missed = Some(MissedChanges { bytes, first });
        };
        different_ranges(
            nodes,
            (self.top, now),
            LEAF_SIZE / self.chunk_size,
            |chunks| -> Result<_, OpsError> {
                context.cancel.check()?;
                let at = |chunk: u64| chunk.saturating_mul(self.chunk_size);
                outside(&self.chunks, at(chunks.start)..at(chunks.end), &mut add);
                Ok(())
            },
        )?;
        Ok(missed)
    }
}

/// Calls `each` for the parts of a range that a list does not name.
fn outside(list: &ExtentList, range: Range<u64>, each: &mut impl FnMut(Range<u64>)) {
    let ranges = list.ranges();
    let first = ranges.partition_point(|listed| listed.end <= range.start);
    let mut at = range.start;
    for listed in &ranges[first..] {
        if listed.start >= range.end {
            break;
        }
        if at < listed.start {
            each(at..listed.start);
        }
        at = listed.end;
    }
    if at < range.end {
        each(at..range.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_outside_a_list_are_exact() {
        let list: ExtentList = [10..20, 30..40].into_iter().collect();
        let parts = |list: &ExtentList, range: Range<u64>| {
            let mut found = Vec::new();
            outside(list, range, &mut |part| found.push((part.start, part.end)));
            found
        };
        assert_eq!(parts(&list, 0..50), [(0, 10), (20, 30), (40, 50)]);
        assert_eq!(parts(&list, 10..20), []);
        assert_eq!(parts(&list, 15..35), [(20, 30)]);
        assert_eq!(parts(&list, 20..30), [(20, 30)]);
        assert_eq!(parts(&list, 5..12), [(5, 10)]);
        assert_eq!(parts(&list, 38..41), [(40, 41)]);
        assert_eq!(parts(&list, 50..60), [(50, 60)]);
        assert_eq!(parts(&ExtentList::default(), 1..2), [(1, 2)]);
    }
}
