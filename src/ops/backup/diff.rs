//! Backup of what RBD diff streams say: extents → leaves, merged with the base → the line of backups.
//!
//! A diff is only good on the content that it was made against, and nothing in it but the name of a
//! snapshot says which that is. So the base is found by that name, and nothing is committed before
//! the stream, with all its diffs, was seen to be whole.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use super::base::{Ancestor, find_base};
use super::coverage::Coverage;
use super::image::within;
use super::leaves::{AHEAD, Callbacks, Deal, Gaps, ImageSpec, leaves_into};
use super::protect::Protection;
use super::{BackupOptions, BackupReport, Entry, Packed, Run, Stored, content, load};
use super::{believe, pack, volume_id};
use crate::base::{Buffer, LEAF_SIZE, Notice, ObjectHash, Phase, Progress};
use crate::format::{
    ByteString, Content, ContentKind, DiffHeader, DiffReader, Extent, ExtentKind, RbdImage,
    SourceInfo,
};
use crate::ops::diff::{DiffSource, reading};
use crate::ops::patient::{CancellableReader, or_cancelled};
use crate::ops::{Context, OpsError};
use crate::repo::{Backup, CommitPermit, Index, Project, Records, RunLen, Top};

/// What `SourceInfo::kind` says of a diff.
const KIND: &str = "rbd-diff";

/// Backs up every diff of a stream, in turn; reports one each. Those whose snapshot the volume has
/// already, with the same content, are passed over.
///
/// Nothing is stored if the base does not fit, and nothing is committed if the stream is not whole.
pub fn backup_diff(
    project: &Project,
    source: DiffSource<'_>,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<Vec<BackupReport>, OpsError> {
    let (name, total) = (source.name(), source.size());
    let origin = source.path();
    let hung_up = AtomicBool::new(false);
    let patient = CancellableReader::new(source, context.cancel).until(&hung_up);
    let told = DiffInfo {
        name: &name,
        total,
        origin,
        hung_up: &hung_up,
    };
    let result = ingest(project, patient, told, options, context);
    or_cancelled(result, context.cancel)
}

/// Reads through a diff that lies in a regular file, without its data: whether it is whole is known then
/// before anything is asked for or stored. Of what can be read only once nothing is said.
pub fn examine_diff(source: &DiffSource<'_>, context: &Context<'_>) -> Result<(), OpsError> {
    let DiffSource::File(file) = source else {
        return Ok(());
    };
    let Some(stream) = file.at(0) else {
        return Ok(());
    };
    let name = source.name();
    let mut reader = DiffReader::open_seekable(stream).map_err(reading(&name))?;
    while reader.next_diff().map_err(reading(&name))?.is_some() {
        while reader.next_extent().map_err(reading(&name))?.is_some() {
            context.cancel.check()?;
            context.observer.progress(Progress {
                phase: Phase::InspectDiff,
                done: reader.offset(),
                total: file.size(),
            });
        }
    }
    Ok(())
}

/// What is known of a source besides what it says.
struct DiffInfo<'a> {
    name: &'a str,
    /// Its length in bytes.
    total: Option<u64>,
    /// Where it is in the file system.
    origin: Option<ByteString>,
    /// Whether whoever took its extents has failed.
    hung_up: &'a AtomicBool,
}

fn ingest(
    project: &Project,
    source: impl Read + Send,
    told: DiffInfo<'_>,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<Vec<BackupReport>, OpsError> {
    let name = told.name;
    let mut reader = DiffReader::open(source).map_err(reading(name))?;
    let mut protection = Protection::begin(project, options, context)?;
    let records = load(project, context)?;
    let line = DiffChain {
        project,
        options,
        context,
        records: &records,
        image: reader.image().map(RbdImage::from),
        told,
    };
    line.same_image()?;
    if options.dry_run && reader.diffs() > 1 {
        return Err(OpsError::DryRunOfLine {
            name: name.to_owned(),
        });
    }
    let mut index = None;
    let mut members: Vec<Link<'_>> = Vec::new();
    while let Some(header) = reader.next_diff().map_err(reading(name))? {
        let base = match members.last() {
            Some(before) => Some(before.as_ancestor(members.len() - 1)),
            None => find_base(&records, options, &header)?,
        };
        // Only now: what does not fit should cost no time either.
        let index = match &mut index {
            Some(index) => index,
            none => {
                if let Some(AncestorId::Committed(id)) = base.map(|base| base.id) {
                    protection.build_on(records.all().iter().find(|backup| backup.id == id));
                }
                let index = none.insert(protection.index()?);
                believe(index, options)?;
                index
            }
        };
        let named_twice = |member: &Link<'_>| member.header.to == header.to;
        if members.iter().any(named_twice) {
            return Err(OpsError::SnapshotTwice {
                name: name.to_owned(),
                snapshot: ByteString::from(&header.to.unwrap_or_default()[..]).to_string(),
            });
        }
        members.push(line.member(index, &mut protection, &mut reader, header, base)?);
    }
    context.cancel.check()?;
    let Some(index) = index else {
        return Ok(Vec::new());
    };
    let new = members.iter().filter(|member| member.existing.is_none());
    let contents: Vec<_> = new.map(|member| member.packed.stored).collect();
    let cleared = if contents.is_empty() {
        None
    } else {
        protection.clear(&index, &contents)?
    };
    let reports = line.commit(members, cleared.as_ref());
    let stay = cleared.as_ref().map(|c| protection.committed(c));
    let reports = reports?;
    stay.transpose()?;
    index.close();
    Ok(reports)
}

/// What all diffs of one stream have in common.
struct DiffChain<'a> {
    project: &'a Project,
    options: &'a BackupOptions,
    context: &'a Context<'a>,
    records: &'a Records,
    image: Option<RbdImage>,
    told: DiffInfo<'a>,
}

/// One diff that was read and stored.
struct Link<'a> {
    header: DiffHeader,
    started: Timestamp,
    packed: Packed,
    base: Option<Ancestor>,
    /// The backup that the volume had of it already.
    existing: Option<&'a Backup>,
}

impl Link<'_> {
    fn as_ancestor(&self, number: usize) -> Ancestor {
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

/// Which backup a diff builds on.
#[derive(Debug, Clone, Copy)]
pub(super) enum AncestorId {
    /// One that is there.
    Committed(ObjectHash),
    /// The one of this number in the same stream.
    Link(usize),
}

impl<'a> DiffChain<'a> {
    /// Fails if the stream describes another image than the one that the volume was last told of.
    fn same_image(&self) -> Result<(), OpsError> {
        let shape = |image: &RbdImage| (image.order, image.stripe_unit, image.stripe_count);
        let mut backups = self.records.of_volume(&self.options.volume).rev();
        let before = backups.find_map(|backup| backup.record.source.as_ref()?.image.as_ref());
        match (&self.image, before) {
            (Some(now), Some(before)) if shape(now) != shape(before) => Err(OpsError::OtherImage {
                name: self.told.name.to_owned(),
                volume: self.options.volume.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Stores what one diff says.
    fn member<R: Read + Send>(
        &self,
        index: &Index<'_>,
        protection: &mut Protection<'_>,
        reader: &mut DiffReader<R>,
        header: DiffHeader,
        base: Option<Ancestor>,
    ) -> Result<Link<'a>, OpsError> {
        if header.size > Content::SIZE_MAX {
            return Err(OpsError::TooLarge {
                name: self.told.name.to_owned(),
                size: header.size,
            });
        }
        let started = Timestamp::now();
        let taken = self.taken(&header);
        let as_large = |backup: &&Backup| backup.record.content.size == header.size;
        if !taken.iter().any(as_large) {
            // Nothing that follows could make it the same.
            self.not_taken(&header, &taken)?;
        }
        let options = BackupOptions {
            // What the volume has already need not be stored to be compared with it; unless it is to be
            // made good.
            dry_run: self.options.dry_run || !(taken.is_empty() || self.options.reread),
            ..self.options.clone()
        };
        let packed = pack(
            self.project,
            index,
            protection,
            &options,
            RunLen::Part,
            self.context,
            |run| self.diff_into(run, reader, header.size, base.as_ref()),
        )?;
        let root = content(self.project, &packed.stored).root;
        let same = |backup: &&&Backup| backup.record.content.root == root;
        let existing = taken.iter().rev().find(same).copied();
        if existing.is_none() {
            self.not_taken(&header, &taken)?;
        }
        let existing = existing.or_else(|| self.same_head(&header).filter(|b| same(&b)));
        // Its tree was not stored again, and the next diff builds on it.
        protection.build_on(existing);
        Ok(Link {
            header,
            started,
            packed,
            base,
            existing,
        })
    }

    /// The volume's backups of the snapshot that a diff leads to.
    fn taken(&self, header: &DiffHeader) -> Vec<&'a Backup> {
        let Some(to) = &header.to else {
            return Vec::new();
        };
        let to = ByteString::from(&to[..]);
        let is_of = |backup: &&Backup| backup.snapshot() == Some(&to);
        let backups = self.records.of_volume(&self.options.volume);
        backups.filter(is_of).collect()
    }

    /// Fails if these are backups of the snapshot that a diff leads to, with other content.
    fn not_taken(&self, header: &DiffHeader, taken: &[&Backup]) -> Result<(), OpsError> {
        match (&header.to, taken.last()) {
            (Some(to), Some(other)) => Err(OpsError::SnapshotTaken {
                volume: self.options.volume.clone(),
                snapshot: ByteString::from(&to[..]).to_string(),
                backup: other.id.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// The volume's newest backup, if it is of the image's head as the diff is.
    fn same_head(&self, header: &DiffHeader) -> Option<&'a Backup> {
        let from = header.from.as_ref().map(|from| ByteString::from(&from[..]));
        let newest = self.records.of_volume(&self.options.volume).next_back()?;
        let source = newest.record.source.as_ref()?;
        let same = source.kind == KIND && source.from_snapshot == from;
        (header.to.is_none() && source.snapshot.is_none() && same).then_some(newest)
    }

    /// Merges one diff with its base.
    fn diff_into<R: Read + Send>(
        &self,
        run: &Run<'_>,
        reader: &mut DiffReader<R>,
        size: u64,
        base: Option<&Ancestor>,
    ) -> Result<Stored, OpsError> {
        let plot = ImageSpec {
            size,
            base: base.map(|base| base.top),
            unsaid: Gaps::Base,
        };
        let begin = reader.offset();
        let (spare_in, spare) = crossbeam_channel::bounded(run.context.threads * AHEAD);
        let shrunk = base.is_some_and(|base| base.size > size);
        let deal = |deal: &mut Deal<Buffer>| {
            let mut leaves = Leaves {
                deal,
                spare: &spare,
                open: None,
            };
            while let Some(extent) = reader.next_extent().map_err(reading(self.told.name))? {
                leaves.extent(&extent, |into| {
                    self.context.cancel.check()?;
                    reader.read_data(into).map_err(reading(self.told.name))
                })?;
                self.context.observer.progress(Progress {
                    phase: Phase::Backup,
                    done: reader.offset(),
                    total: self.told.total,
                });
            }
            leaves.finish(shrunk.then_some(size))?;
            let read = reader.offset() - begin;
            let tally = &run.tally.read;
            tally.fetch_add(read, Ordering::Relaxed);
            Ok(())
        };
        let fill = |_: u64, _: &Coverage, mut data: Buffer, buf: &mut Buffer| {
            std::mem::swap(buf, &mut data);
            // If there are enough already, it goes.
            let _ = spare_in.try_send(data);
            Ok(())
        };
        let hear = Callbacks {
            planted: |_| (),
            failed: || self.told.hung_up.store(true, Ordering::Relaxed),
        };
        let top = leaves_into(run, &plot, deal, fill, hear)?;
        Ok(Stored {
            kind: ContentKind::Image,
            size,
            top,
        })
    }

    /// A backup that is there keeps the labels that it has.
    fn tell_of_labels(&self, existing: &Backup) {
        if self.options.labels != existing.record.labels && !self.options.labels.is_empty() {
            let text = format!(
                "backup {} is there already, and keeps its own labels",
                existing.id
            );
            self.context.observer.notice(Notice::Text(text));
        }
    }

    /// Commits what the volume does not have, oldest first.
    fn commit(
        &self,
        members: Vec<Link<'_>>,
        cleared: Option<&CommitPermit>,
    ) -> Result<Vec<BackupReport>, OpsError> {
        let volume = volume_id(self.records, &self.options.volume)?;
        let mut heads = self.records.heads();
        let mut reports: Vec<BackupReport> = Vec::new();
        for member in members {
            let base = member.base.and_then(|base| match base.id {
                AncestorId::Committed(id) => Some(id),
                AncestorId::Link(number) => reports.get(number).and_then(|report| report.id),
            });
            let named = |name: &Option<Vec<u8>>| name.as_deref().map(ByteString::from);
            let snapshot = named(&member.header.to);
            let (size, counts) = (member.packed.stored.size, member.packed.counts);
            let id = match (member.existing, cleared) {
                (Some(existing), _) => {
                    self.tell_of_labels(existing);
                    Some(existing.id)
                }
                (None, None) => None,
                (None, Some(cleared)) => {
                    let entry = Entry {
                        started: member.started,
                        packed: member.packed,
                        source: SourceInfo {
                            path: self.told.origin.clone(),
                            snapshot: snapshot.clone(),
                            protected: member.header.protected,
                            from_snapshot: named(&member.header.from),
                            image: self.image.clone(),
                            ..SourceInfo::of_kind(KIND)
                        },
                        base,
                        heads: std::mem::take(&mut heads),
                    };
                    let id = entry.commit(self.project, volume, self.options, cleared)?;
                    heads.push(id);
                    Some(id)
                }
            };
            reports.push(BackupReport {
                id,
                existing: member.existing.is_some(),
                snapshot,
                size,
                counts,
                base,
                verified: None,
            });
        }
        Ok(reports)
    }
}

/// Cuts extents, which ascend, into leaves.
struct Leaves<'a> {
    deal: &'a mut Deal<Buffer>,
    spare: &'a crossbeam_channel::Receiver<Buffer>,
    open: Option<(u64, Coverage, Buffer)>,
}

impl Leaves<'_> {
    /// Takes an extent; `read` gives its data.
    fn extent(
        &mut self,
        extent: &Extent,
        mut read: impl FnMut(&mut [u8]) -> Result<(), OpsError>,
    ) -> Result<(), OpsError> {
        let mut at = extent.offset;
        while at < extent.end() {
            let leaf = at / LEAF_SIZE;
            let whole = leaf..extent.end() / LEAF_SIZE;
            if extent.kind == ExtentKind::Zero && at.is_multiple_of(LEAF_SIZE) && !whole.is_empty()
            {
                self.close()?;
                at = whole.end * LEAF_SIZE;
                self.deal.zeros(whole)?;
                continue;
            }
            let end = extent.end().min((leaf + 1).saturating_mul(LEAF_SIZE));
            let into = self.place(leaf, within(leaf, at)..within(leaf, end))?;
            match extent.kind {
                ExtentKind::Data => read(into)?,
                ExtentKind::Zero => into.fill(0),
            }
            at = end;
        }
        Ok(())
    }

    /// The place of a range within a leaf, which is set from now on.
    fn place(&mut self, leaf: u64, range: std::ops::Range<usize>) -> Result<&mut [u8], OpsError> {
        if self.open.as_ref().is_some_and(|(open, ..)| *open != leaf) {
            self.close()?;
        }
        let spare = self.spare;
        let (_, coverage, buf) = self.open.get_or_insert_with(|| {
            let mut buf = spare.try_recv().unwrap_or_default();
            buf.resize(usize::try_from(LEAF_SIZE).unwrap_or(usize::MAX));
            (leaf, Coverage::default(), buf)
        });
        coverage.push(range.clone());
        Ok(&mut buf[range])
    }

    fn close(&mut self) -> Result<(), OpsError> {
        match self.open.take() {
            Some((leaf, coverage, buf)) => self.deal.leaf(leaf, coverage, buf),
            None => Ok(()),
        }
    }

    /// Ends with what is behind the end of an image that was larger before: in its last leaf there are
    /// zeros then. Whole leaves behind it go by themselves.
    fn finish(&mut self, cut: Option<u64>) -> Result<(), OpsError> {
        if let Some(size) = cut.filter(|size| !size.is_multiple_of(LEAF_SIZE)) {
            let leaf = size / LEAF_SIZE;
            let end = usize::try_from(LEAF_SIZE).unwrap_or(usize::MAX);
            self.place(leaf, within(leaf, size)..end)?.fill(0);
        }
        self.close()
    }
}
