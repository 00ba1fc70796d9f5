//! Stores the diffs of one stream. Each diff starts from the snapshot at which the diff before it
//! ends.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::cutter::LeafCutter;
use super::export_info::ExportInfo;
use crate::base::{Buffer, LEAF_SIZE, Notice, ObjectHash, lock};
use crate::format::{
    Attachment, ByteString, Content, ContentKind, DiffHeader, DiffReader, ImageMetadata, RbdImage,
};
use crate::ops::backup::attachment::store_attachment;
use crate::ops::backup::base::{Ancestor, AncestorId, choose_base, find_base, same_image_id};
use crate::ops::backup::content::content;
use crate::ops::backup::image_spec::ImageSpec;
use crate::ops::backup::leaves::{QUEUE, store_leaves};
use crate::ops::backup::options::{BackupOptions, ListTest, not_empty};
use crate::ops::backup::pack::{Packed, pack};
use crate::ops::backup::protect::Protection;
use crate::ops::backup::shared::shares_data;
use crate::ops::backup::snapshots::Taken;
use crate::ops::backup::task::{BackupTask, Stored};
use crate::ops::context::Context;
use crate::ops::diff_error::reading;
use crate::ops::error::OpsError;
use crate::ops::image_backups::trusted;
use crate::ops::pipeline::Failed;
use crate::repo::{Backup, BlobReader, Index, Project, Records, RunLen, Top};
use crate::volume::Gaps;

/// The value of `source.kind` in the record of a backup that was made from a diff.
pub(super) const KIND: &str = "rbd-diff";

/// Properties of a stream of diffs.
pub(super) struct DiffInfo<'a> {
    pub(super) name: &'a str,
    /// The length of the stream in bytes, if it is known.
    pub(super) total: Option<u64>,
    /// The path of the stream in the file system, without symbolic links, if it has one.
    pub(super) origin: Option<ByteString>,
    /// Set when the pipeline that receives the extents fails.
    pub(super) failed: &'a Failed,
}

/// The properties that all diffs of one stream share.
pub(super) struct DiffChain<'a> {
    pub(super) project: &'a Project,
    pub(super) options: &'a BackupOptions,
    pub(super) context: &'a Context<'a>,
    pub(super) records: &'a Records,
    /// The records that the first new backup follows.
    pub(super) follows: Vec<ObjectHash>,
    pub(super) image: Option<RbdImage>,
    /// The metadata of the image, if it has any.
    pub(super) metadata: Option<ImageMetadata>,
    pub(super) info: DiffInfo<'a>,
    /// Set if this program exported the stream from a cluster.
    pub(super) export: Option<ExportInfo>,
}

/// The backup that a diff is merged or compared with.
#[derive(Clone, Copy)]
pub(super) enum Base {
    /// The diff builds on this backup: all content outside the diff is taken from it.
    On(Ancestor),
    /// Like `On`, but only the name of a snapshot connects the diff with the backup.
    OnByName(Ancestor),
    /// The diff is a full one: it starts from an empty image. It is compared with this backup, to
    /// store only the differences. This is the newest backup of the volume that can be compared.
    Compared(Ancestor),
    /// The diff is a full one, and there is no backup to compare it with.
    None,
}

impl Base {
    pub(super) fn ancestor(&self) -> Option<&Ancestor> {
        match self {
            Self::On(base) | Self::OnByName(base) | Self::Compared(base) => Some(base),
            Self::None => None,
        }
    }
}

/// A diff of the chain that is not committed yet. Its content was stored, or only compared with the
/// base. It was only compared in a dry run, or if the volume already has a backup of the diff's
/// snapshot.
pub(super) struct Link<'a> {
    pub(super) header: DiffHeader,
    pub(super) started: Timestamp,
    pub(super) packed: Packed,
    pub(super) base: Base,
    /// The backup with this content that the volume has already. It is of the same snapshot, or of
    /// the head of the image if the diff leads to the head. `None` if there is no such backup.
    pub(super) existing: Option<&'a Backup>,
    /// Whether the cluster's list of changes names all changes of this diff; `None` if this was not
    /// tested.
    pub(super) list_test: Option<ListTest>,
}

impl Link<'_> {
    pub(super) fn same_content(&self, other: &Self) -> bool {
        let (a, b) = (&self.packed.stored, &other.packed.stored);
        (a.size, a.top) == (b.size, b.top)
    }

    pub(super) fn as_ancestor(&self, number: usize) -> Ancestor {
        let stored = &self.packed.stored;
        Ancestor {
            top: Top::new(stored.top, stored.size),
            size: stored.size,
            id: match self.existing {
                Some(backup) => AncestorId::Committed(backup.id),
                None => AncestorId::Link(number),
            },
        }
    }
}

impl<'a> DiffChain<'a> {
    /// Fails if the object size or the striping of the image has changed since the last backup of
    /// the volume that states them.
    pub(super) fn require_same_image(&self) -> Result<(), OpsError> {
        let layout = |image: &RbdImage| (image.order, image.stripe_unit, image.stripe_count);
        let mut backups = self.records.of_volume(&self.options.volume).rev();
        let before = backups.find_map(|backup| backup.record.source.as_ref()?.image.as_ref());
        match (&self.image, before) {
            (Some(now), Some(before)) if layout(now) != layout(before) => {
                Err(OpsError::OtherImage {
                    name: self.info.name.to_owned(),
                    volume: self.options.volume.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Returns the backup that the first diff of the stream is merged or compared with.
    pub(super) fn first_base(&self, header: &DiffHeader) -> Result<Base, OpsError> {
        let options = self.options;
        if let Some(base) = find_base(self.project, self.records, options, header)? {
            if options.base.is_some() || same_image_id(options, base) {
                return Ok(Base::On(base.into()));
            }
            self.context.observer.notice(Notice::BaseByName {
                volume: options.volume.clone(),
                snapshot: base.snapshot().map(ToString::to_string).unwrap_or_default(),
            });
            return Ok(Base::OnByName(base.into()));
        }
        let chunk_size = self.project.chunk_size.bytes();
        let newest = choose_base(self.project, self.records, options, ContentKind::Image)?
            .filter(|newest| newest.record.content.chunk_size == chunk_size);
        Ok(newest.map_or(Base::None, |newest| Base::Compared(newest.into())))
    }

    /// Stores the content of one diff. The parameter `options` is a copy of the options of the
    /// chain, in which `reread` is set if stored data is missing or damaged.
    pub(super) fn store_diff<R: Read + Send>(
        &self,
        index: &Arc<Index>,
        protection: &mut Protection<'_>,
        reader: &mut DiffReader<R>,
        header: DiffHeader,
        base: Base,
        options: &BackupOptions,
    ) -> Result<Link<'a>, OpsError> {
        if header.size > Content::SIZE_MAX {
            return Err(OpsError::TooLarge {
                name: self.info.name.to_owned(),
                size: header.size,
            });
        }
        not_empty(self.options, self.info.name, header.size)?;
        let made = self.export.as_ref().and_then(|export| export.time);
        let started = made.unwrap_or_else(Timestamp::now);
        let to = header.to.as_ref().map(|to| ByteString::from(&to[..]));
        let mut taken = Taken::find(self.project, self.records, self.options, to);
        taken.may_be_wrong = self.export.as_ref().is_some_and(|e| e.may_correct);
        taken.check_size(header.size)?;
        let options = taken.compare_only(options);
        let mut unrelated = None;
        let packed = pack(
            self.project,
            index,
            protection,
            &options,
            RunLen::Part,
            self.context,
            |task| {
                let attachments = self.store_attachments(task)?;
                let stored = self.merge_with_base(task, reader, header.size, &base)?;
                if let Base::Compared(newest) = &base
                    && !self.options.accept.new_content
                    && self.export.is_none()
                    && !shares_data(task, newest.top)?
                {
                    unrelated = Some(newest.id);
                }
                Ok((stored, attachments))
            },
        )?;
        let root = content(self.project, &packed.stored).root;
        let same = |backup: &&Backup| backup.record.content.root == root;
        let existing = taken.same_content(root)?;
        let existing = existing.or_else(|| self.same_head(&header).filter(same));
        if let (Some(AncestorId::Committed(backup)), None) = (unrelated, existing) {
            return Err(OpsError::NothingShared {
                volume: self.options.volume.clone(),
                backup,
            });
        }
        // The tree of `existing` was not stored again. The next diff builds on this tree.
        protection.build_on(existing);
        let listed = self.export.as_ref().and_then(|e| e.listed.as_ref());
        let list_test = match listed.filter(|_| existing.is_none() && !options.dry_run) {
            Some(listed) => {
                let blobs = BlobReader::new(index).stopped_by(self.context.cancel);
                let now = Top::new(packed.stored.top, packed.stored.size);
                Some(listed.test(&blobs, now, self.context)?)
            }
            None => None,
        };
        Ok(Link {
            header,
            started,
            packed,
            base,
            existing,
            list_test,
        })
    }

    /// Stores the image's metadata as an attachment, if there is any.
    fn store_attachments(&self, task: &BackupTask<'_>) -> Result<Vec<Attachment>, OpsError> {
        let store = |metadata: &ImageMetadata| {
            store_attachment(task, ImageMetadata::ATTACHMENT, &metadata.encode())
        };
        self.metadata.iter().map(store).collect()
    }

    /// Returns the volume's newest backup if it may have the same content as this diff. Both must
    /// be of the head of the image. The backup must be made from a diff that starts from the same
    /// snapshot, and must be [`trusted`]. Otherwise returns `None`.
    fn same_head(&self, header: &DiffHeader) -> Option<&'a Backup> {
        let from = header.from.as_ref().map(|from| ByteString::from(&from[..]));
        let newest = self.records.of_volume(&self.options.volume).next_back()?;
        let source = newest.record.source.as_ref()?;
        let same = source.kind == KIND && source.from_snapshot == from;
        let same = same && trusted(self.project, newest);
        (header.to.is_none() && source.snapshot.is_none() && same).then_some(newest)
    }

    /// Merges one diff with its base, and stores the result.
    fn merge_with_base<R: Read + Send>(
        &self,
        task: &BackupTask<'_>,
        reader: &mut DiffReader<R>,
        size: u64,
        base: &Base,
    ) -> Result<Stored, OpsError> {
        let spec = ImageSpec {
            size,
            base: base.ancestor().map(|base| base.top),
            gaps: match base {
                Base::On(_) | Base::OnByName(_) => Gaps::Unchanged,
                Base::Compared(_) | Base::None => Gaps::Zeros,
            },
        };
        let begin = reader.offset();
        let (spare_in, spare) = crossbeam_channel::bounded(task.context.threads * QUEUE);
        // If the base is longer than the image now, its end is cut off. A full diff needs no cut,
        // since all content that it does not name is zeros.
        let is_longer = |base: &Ancestor| base.size > size && spec.gaps == Gaps::Unchanged;
        let shrunk = base.ancestor().is_some_and(is_longer);
        // Has an entry for each leaf in which an extent ends, until the leaf is done. An entry has
        // the leaf's number, and the offset in the stream after the last extent that ends in it.
        let read_up_to: Mutex<VecDeque<(u64, u64)>> = Mutex::default();
        let top = store_leaves(
            task,
            &spec,
            self.info.failed,
            |leaves| {
                let mut leaves = LeafCutter::new(leaves, &spare);
                while let Some(extent) = reader.next_extent().map_err(reading(self.info.name))? {
                    leaves.extent(&extent, |into| {
                        self.context.cancel.check()?;
                        reader.read_data(into).map_err(reading(self.info.name))
                    })?;
                    let last = extent.end().saturating_sub(1) / LEAF_SIZE;
                    let mut read_up_to = lock(&read_up_to);
                    read_up_to.pop_back_if(|(leaf, _)| *leaf == last);
                    read_up_to.push_back((last, reader.offset()));
                }
                leaves.finish(shrunk.then_some(size))?;
                let read = reader.offset() - begin;
                task.tally.read.fetch_add(read, Ordering::Relaxed);
                Ok(())
            },
            |_, _, mut data: Buffer, buf| {
                std::mem::swap(buf, &mut data);
                // If the queue of spare buffers is full, this one is freed.
                let _ = spare_in.try_send(data);
                Ok(())
            },
            |leaves| {
                let mut read_up_to = lock(&read_up_to);
                while let Some((_, offset)) = read_up_to.pop_front_if(|(last, _)| *last < leaves) {
                    task.worked(offset, self.info.total);
                }
            },
        )?;
        task.worked(reader.offset(), self.info.total);
        Ok(Stored {
            kind: ContentKind::Image,
            size,
            top,
        })
    }
}
