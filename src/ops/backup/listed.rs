//! Backup of an image of which a list says what changed: what it names is read, all else is the base's.
//!
//! Nothing but a sample vouches for the list. So a backup that was made by one is never taken for a file's
//! content without a look: see [`Listed::source_info`].

use std::io::Read;
use std::ops::Range;

use super::coverage::Coverage;
use super::image::{Extents, deal_leaves, planting, read_padded, still_the_same};
use super::leaves::{Deal, Gaps, ImageSpec, leaves_into};
use super::record::source_info;
use super::sample::verify;
use super::task::{BackupTask, Stored};
use crate::base::{Buffer, Cancel, LEAF_SIZE, Notice};
use crate::format::{ContentKind, ExtentList, SourceInfo};
use crate::ops::cancellable_reader::CancellableReader;
use crate::ops::diff::DiffSource;
use crate::ops::error::OpsError;
use crate::repo::{Backup, Project, Top};
use crate::volume::RawImage;

/// An image with a list of what changed in it since the base, as `rbd diff` gives it. Without a base
/// everything that the list leaves out is zeros.
pub struct Listed {
    /// What is read.
    pub image: RawImage,
    /// What may have changed.
    pub extents: ExtentList,
    /// So many chunks that the list leaves out are compared with the base before anything is stored; all, if
    /// there are no more. It takes 16 bytes of memory for each.
    pub samples: u64,
}

/// Reads a list of extents, of [`ExtentList::TEXT_MAX`] bytes at most.
///
/// Fails if the source cannot be read, is longer, or is no such list.
pub fn read_extents(source: DiffSource<'_>, cancel: &Cancel) -> Result<ExtentList, OpsError> {
    let (name, limit) = (source.name(), ExtentList::TEXT_MAX);
    let too_long = |size: u64| size > limit as u64;
    let mut text = Vec::new();
    let whole = if source.size().is_some_and(too_long) {
        Ok(())
    } else {
        let reader = CancellableReader::new(source, cancel);
        let read = reader.take(limit as u64 + 1).read_to_end(&mut text);
        if read.is_ok() && !too_long(text.len() as u64) {
            return ExtentList::parse(&text).map_err(|source| OpsError::NotAList { name, source });
        }
        read.map(drop)
    };
    // An interrupted read is told as what it is.
    cancel.check()?;
    match whole {
        Ok(()) => Err(OpsError::LongList { name, limit }),
        Err(source) => Err(OpsError::ReadList { name, source }),
    }
}

impl Listed {
    /// Where the backup comes from. The file's times say nothing of its content here: if the list was wrong, a
    /// later backup of all of the file must not find it unchanged.
    pub(super) fn source_info(&self) -> SourceInfo {
        SourceInfo {
            settled: false,
            ..source_info(self.image.identity())
        }
    }

    /// Whether list and base can be used at all.
    pub(super) fn check(&self, project: &Project, base: Option<&Backup>) -> Result<(), OpsError> {
        let (end, size) = (self.extents.end(), self.image.size());
        if end > size {
            let path = self.image.path().display().to_string();
            return Err(OpsError::ListBeyondEnd { path, end, size });
        }
        let chunk_size = project.chunk_size.bytes();
        match base.filter(|base| base.record.content.chunk_size != chunk_size) {
            None => Ok(()),
            Some(base) => Err(OpsError::BaseCutOtherwise {
                base: base.id.to_string(),
            }),
        }
    }

    /// What is to be read, in whole chunks: what the list names, and the end if it has moved.
    fn plan(&self, chunk_size: u64, base: Option<&Backup>) -> ExtentList {
        let size = self.image.size();
        let edge = match base.map(|base| base.record.content.size) {
            Some(before) if before < size => before..size,
            // Behind the end there are zeros, up to that of the leaf. Whole leaves go by themselves.
            Some(before) if before > size => size..size.next_multiple_of(LEAF_SIZE),
            _ => 0..0,
        };
        let listed = self.extents.ranges().iter().cloned();
        let all: ExtentList = listed.chain([edge]).collect();
        all.widened(chunk_size)
    }
}

/// Reads what the list names and stores what changed against the base; a sample of the rest comes first.
pub(super) fn listed_into(
    task: &BackupTask<'_>,
    listed: &Listed,
    base: Option<&Backup>,
) -> Result<Stored, OpsError> {
    let context = task.context;
    if base.is_none() {
        context.observer.notice(Notice::NoBaseForExtents);
    }
    let (image, size) = (&listed.image, listed.image.size());
    let plan = listed.plan(task.project.chunk_size.bytes().into(), base);
    verify(task, image, &plan, listed.samples, base)?;
    context.cancel.check()?;
    let plot = ImageSpec {
        size,
        base: base.map(|base| Top::new(base.top, base.record.content.size)),
        unsaid: Gaps::Base,
    };
    let fill = |leaf: u64, coverage: &Coverage, _: Extents, buf: &mut Buffer| {
        for range in coverage.ranges() {
            let offset = leaf * LEAF_SIZE + range.start as u64;
            read_padded(task, image, offset, &mut buf[range])?;
        }
        Ok(())
    };
    let deal = |deal: &mut Deal<Extents>| {
        let extents: &[Range<u64>] = plan.ranges();
        deal_leaves(extents.iter().cloned().map(Ok), deal)
    };
    let top = leaves_into(task, &plot, deal, fill, planting(task, size))?;
    still_the_same(image)?;
    Ok(Stored {
        kind: ContentKind::Image,
        size,
        top,
    })
}
