//! Tests a list of extents: compares random chunks outside the list with the base.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::image::{check_unchanged, read_padded};
use super::task::BackupTask;
use crate::base::{BlobId, Buffer, Phase, Progress, is_zero, to_usize};
use crate::crypto::random;
use crate::format::ExtentList;
use crate::ops::error::OpsError;
use crate::repo::{Backup, RepoError, Top, any_chunk, leaf_chunks};
use crate::volume::ImageSource;

/// The maximum number of random choices for each sample that should have data in the base. If too
/// few of the chosen chunks are outside the list, other random chunks outside the list are added.
const LOOKS: u64 = 8;

/// Compares chunks outside `plan`, the extents that the backup reads, with the base. Compares
/// `samples` of them, or all if there are fewer. Fails if a chunk differs. Without a base, the
/// compared chunks must be zeros.
///
/// About half of the samples are random chunks in which the base has data, since the image may have
/// discarded this data after the base was made. The others are random chunks outside `plan`, with
/// or without data.
pub(super) fn verify(
    task: &BackupTask<'_>,
    image: &dyn ImageSource,
    plan: &ExtentList,
    samples: u64,
    base: Option<&Backup>,
) -> Result<(), OpsError> {
    let chunk_size = u64::from(task.project.chunk_size.bytes());
    let chunks = image.size().div_ceil(chunk_size);
    let left_out = LeftOut::new(plan, chunk_size, chunks);
    let top = base.map(Backup::tree);
    let mut compare = Comparison {
        task,
        image,
        base,
        top,
        leaf: None,
        buf: Buffer::new(task.project.chunk_size.usize()),
        total: samples.min(left_out.count),
    };
    if samples >= left_out.count {
        let gaps = left_out.gaps.into_iter();
        gaps.flat_map(|(_, gap)| gap)
            .try_for_each(|chunk| compare.chunk(chunk))
    } else {
        let samples = choose(task, &left_out, samples, top)?;
        samples
            .into_iter()
            .try_for_each(|chunk| compare.chunk(chunk))
    }
}

/// Chooses `samples` of the chunks that are left out, and returns their numbers. There must be more
/// chunks than `samples`.
fn choose(
    task: &BackupTask<'_>,
    left_out: &LeftOut,
    samples: u64,
    top: Option<Top>,
) -> Result<BTreeSet<u64>, OpsError> {
    let width = task.project.chunk_size.per_leaf() as u64;
    let mut chosen = BTreeSet::new();
    if let Some(top) = top {
        let of_data = samples.div_ceil(2);
        for _ in 0..of_data.saturating_mul(LOOKS) {
            task.context.cancel.check()?;
            let pick = |children: usize| {
                let picked = below(children as u64)?;
                Ok(to_usize(picked))
            };
            let Some((leaf, number)) = any_chunk(task.blobs, top, pick)? else {
                break;
            };
            let chunk = leaf * width + number as u64;
            if left_out.contains(chunk) {
                chosen.insert(chunk);
            }
            if chosen.len() as u64 >= of_data {
                break;
            }
        }
    }
    while (chosen.len() as u64) < samples {
        task.context.cancel.check()?;
        chosen.extend(left_out.get(below(left_out.count)?));
    }
    Ok(chosen)
}

/// Returns an unpredictable number below `end`.
fn below(end: u64) -> Result<u64, RepoError> {
    let number = u64::from_le_bytes(random()?);
    let scaled = (u128::from(number) * u128::from(end)) >> 64;
    Ok(u64::try_from(scaled).unwrap_or_default())
}

/// The chunks of an image that a plan does not read, by their numbers.
struct LeftOut {
    /// Ranges of chunks, ascending, each with the number of chunks in all ranges before it.
    gaps: Vec<(u64, Range<u64>)>,
    /// The number of chunks in all ranges.
    count: u64,
}

impl LeftOut {
    fn new(plan: &ExtentList, chunk_size: u64, chunks: u64) -> Self {
        let (mut gaps, mut count, mut at) = (Vec::new(), 0, 0);
        let read = plan.ranges().iter();
        let read = read.map(|range| range.start / chunk_size..range.end.div_ceil(chunk_size));
        for range in read.chain(std::iter::once(chunks..chunks)) {
            let end = range.start.min(chunks);
            if at < end {
                gaps.push((count, at..end));
                count += end - at;
            }
            at = range.end;
        }
        Self { gaps, count }
    }

    /// Returns the chunk with this position among the chunks that are left out, counted from 0.
    /// Returns `None` if there are not so many.
    fn get(&self, number: u64) -> Option<u64> {
        let behind = self.gaps.partition_point(|(before, _)| *before <= number);
        let (before, gap) = self.gaps.get(behind.checked_sub(1)?)?;
        let chunk = gap.start + (number - before);
        gap.contains(&chunk).then_some(chunk)
    }

    fn contains(&self, chunk: u64) -> bool {
        let behind = self.gaps.partition_point(|(_, gap)| gap.end <= chunk);
        let gap = self.gaps.get(behind);
        gap.is_some_and(|(_, gap)| gap.contains(&chunk))
    }
}

/// A comparison of chunks of the image with the base.
struct Comparison<'a> {
    task: &'a BackupTask<'a>,
    image: &'a dyn ImageSource,
    base: Option<&'a Backup>,
    top: Option<Top>,
    /// The leaf of the base that was read last: its number and the ids of its chunks.
    leaf: Option<(u64, Vec<Option<BlobId>>)>,
    buf: Buffer,
    /// The number of chunks to compare.
    total: u64,
}

impl Comparison<'_> {
    /// Compares the chunk with this number. Fails if the base has another content at this place.
    fn chunk(&mut self, chunk: u64) -> Result<(), OpsError> {
        let (task, image) = (self.task, self.image);
        task.context.cancel.check()?;
        let expected = self.expected(chunk)?;
        let offset = chunk * self.buf.len() as u64;
        read_padded(task, image, offset, &mut self.buf)?;
        let keys = task.project.chunk_keys()?;
        let found = (!is_zero(&self.buf)).then(|| keys.id(&self.buf));
        if found != expected {
            // If the image changed while it was read, report this instead of an error in the list.
            check_unchanged(image)?;
            return Err(OpsError::ListIncomplete {
                path: image.name(),
                base: self.base.map(|base| base.id.to_string()),
                offset,
                len: (self.buf.len() as u64).min(image.size() - offset),
            });
        }
        let done = task.tally.verified.fetch_add(1, Ordering::Relaxed) + 1;
        task.context.observer.progress(Progress {
            phase: Phase::VerifySample,
            done: done * self.buf.len() as u64,
            total: Some(self.total.saturating_mul(self.buf.len() as u64)),
        });
        Ok(())
    }

    /// Returns the id of the base's chunk at the same place; `None` for zeros or without a base.
    fn expected(&mut self, chunk: u64) -> Result<Option<BlobId>, OpsError> {
        let Some(top) = self.top else {
            return Ok(None);
        };
        let width = self.task.project.chunk_size.per_leaf();
        let (leaf, number) = (chunk / width as u64, chunk % width as u64);
        let known = self.leaf.take_if(|(known, _)| *known == leaf);
        let chunks = match known {
            Some((_, chunks)) => chunks,
            None => leaf_chunks(self.task.blobs, top, leaf, width)?,
        };
        let number = to_usize(number);
        let expected = chunks.get(number).copied().flatten();
        self.leaf = Some((leaf, chunks));
        Ok(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_that_a_plan_leaves_out_are_counted_and_found() {
        // The plan reads these chunks of 4 bytes: 0, 1, 5, 6, 9 and 10, which is the last one.
        let plan: ExtentList = [0..8, 20..28, 36..48].into_iter().collect();
        let left_out = LeftOut::new(&plan, 4, 11);
        let all: Vec<u64> = (0..).map_while(|number| left_out.get(number)).collect();
        assert_eq!(all, [2, 3, 4, 7, 8]);
        assert_eq!(left_out.count, 5);
        for chunk in 0..14 {
            assert_eq!(left_out.contains(chunk), all.contains(&chunk), "{chunk}");
        }
        let none = LeftOut::new(&plan, 4, 2);
        assert_eq!((none.count, none.get(0)), (0, None));
        let open = LeftOut::new(&ExtentList::default(), 4, 3);
        assert_eq!((open.count, open.get(2), open.get(3)), (3, Some(2), None));
    }

    #[test]
    fn random_numbers_are_below_the_bound_and_differ() {
        let numbers: BTreeSet<u64> = (0..200).map(|_| below(10).unwrap()).collect();
        assert!(numbers.len() > 5 && numbers.iter().all(|number| *number < 10));
        assert_eq!(below(1).unwrap(), 0);
    }
}
