//! Backup: source → slot → chunks → id → known? drop : compress, seal, pack, store → segment → tree → record.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;

use super::error::describe;
use super::image::image_into;
use super::stream::stream_into;
use super::{Context, OpsError, TOOL};
use crate::base::{BlobId, Notice, ObjectHash, VolumeId};
use crate::crypto::random;
use crate::format::{
    BackupRecord, ByteString, Content, ContentKind, Counts, SourceInfo, VolumeInfo,
    root_description,
};
use crate::repo::{
    Backup, BlobReader, Compression, IndexStored, PackTargets, Packer, PackerOptions, Project,
    Records, RepoError,
};
use crate::volume::{ImageIdentity, ImageKind, ImageSource};

/// What is backed up.
pub enum Input {
    /// An image file or a block device.
    Image(ImageSource),
    /// Bytes until they end. A read that fails with `WouldBlock` is tried again, unless the backup is to stop.
    Stream(Box<dyn Read + Send>),
}

/// How to back up.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Name of the volume.
    pub volume: String,
    /// Whether the user chose that name; one that was only derived must not join two sources in one volume.
    pub volume_chosen: bool,
    /// A backup to compare with, instead of the volume's newest.
    pub base: Option<String>,
    /// Given by the user.
    pub labels: BTreeMap<String, String>,
    /// Do everything but store.
    pub dry_run: bool,
    /// How hard to compress.
    pub compression: Compression,
    /// When packs are full.
    pub pack_targets: PackTargets,
    /// Read all of the source, even if nobody wrote to the file since the base, and rely on nothing but the
    /// packs that are there: what was lost is stored again.
    pub reread: bool,
    /// The name of this host.
    pub host: Option<String>,
}

/// What a backup did.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The new backup; none after a dry run.
    pub id: Option<ObjectHash>,
    /// The content's size in bytes.
    pub size: u64,
    /// What it took.
    pub counts: Counts,
    /// What it was compared with.
    pub base: Option<ObjectHash>,
}

/// What was counted on the way.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) changed: AtomicU64,
    pub(super) read: AtomicU64,
}

/// A content that has been stored.
pub(super) struct Stored {
    pub(super) kind: ContentKind,
    pub(super) size: u64,
    pub(super) top: Option<BlobId>,
}

/// Everything that the steps of one backup share.
pub(super) struct Run<'a> {
    pub(super) project: &'a Project,
    pub(super) context: &'a Context<'a>,
    pub(super) blobs: &'a BlobReader<'a>,
    pub(super) packer: &'a Packer<'a>,
    pub(super) tally: &'a Tally,
    pub(super) reread: bool,
}

/// Work that may be under way for each thread, so that one slow slot does not stop the others.
pub(super) const AHEAD: usize = 4;

/// Backs up a source. Nothing is committed unless all of it was read and stored.
pub fn backup(
    project: &Project,
    input: Input,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupReport, OpsError> {
    let started = Timestamp::now();
    let records = Records::load(project)?;
    for error in records.damaged() {
        let text = format!("{error}; “check” tells more");
        context.observer.notice(Notice::Text(text));
    }
    let (kind, source) = match &input {
        Input::Image(image) => (ContentKind::Image, source_info(image.identity())),
        Input::Stream(_) => (ContentKind::Stream, stdin_info()),
    };
    let base = choose_base(&records, options, kind)?;
    if !options.volume_chosen {
        same_source(&records, options, &source)?;
    }
    let (stored, counts, receipt) = store(project, input, base, options, context)?;
    let volume = match records.of_volume(&options.volume).next_back() {
        Some(before) => before.volume,
        None => VolumeId::from_bytes(random().map_err(RepoError::from)?),
    };
    let record = BackupRecord {
        requires: Vec::new(),
        volume: VolumeInfo {
            id: volume.to_string(),
            name: options.volume.clone(),
        },
        content: content(project, &stored),
        time: started.to_string(),
        finished: Timestamp::now().to_string(),
        host: options.host.clone(),
        base: base.map(|b| b.id.to_string()),
        heads: records.heads().iter().map(ToString::to_string).collect(),
        labels: options.labels.clone(),
        source: Some(source),
        counts,
        tool: Some(TOOL.to_owned()),
    };
    context.cancel.check()?;
    let id = if options.dry_run {
        None
    } else {
        Some(Records::commit(project, &record, &receipt)?)
    };
    Ok(BackupReport {
        id,
        size: stored.size,
        counts,
        base: base.map(|b| b.id),
    })
}

/// Stores what the project does not hold yet, and the tree over all of it.
fn store(
    project: &Project,
    input: Input,
    base: Option<&Backup>,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<(Stored, Counts, IndexStored), OpsError> {
    let index = context.index(project)?;
    if options.reread {
        // Whoever mistrusts what is there wants lost packs and segments to be made good, too.
        index.believe_only_what_is_there()?;
        index.look_again()?;
    }
    let (journal, left_over) = super::journal(&index);
    let blobs = BlobReader::new(&index).stopped_by(context.cancel);
    let tally = Tally::default();
    let packing = PackerOptions {
        compression: options.compression,
        targets: options.pack_targets,
        dry_run: options.dry_run,
    };
    let (stored, receipt, report) = Packer::scope(&index, journal, packing, |packer| {
        packer.adopt(&left_over, context.observer)?;
        let run = Run {
            project,
            context,
            blobs: &blobs,
            packer,
            tally: &tally,
            reread: options.reread,
        };
        match (input, base) {
            (Input::Image(image), Some(base)) if unwritten_since(&image, base, options) => {
                let text = "nobody wrote to the file since the last backup, so its content was taken \
                    from there (--reread reads it all the same)";
                context.observer.notice(Notice::Text(text.to_owned()));
                Ok(Stored {
                    kind: ContentKind::Image,
                    size: base.record.content.size,
                    top: base.top,
                })
            }
            (Input::Image(image), base) => image_into(&run, &image, base),
            (Input::Stream(source), _) => stream_into(&run, source),
        }
    })?;
    let counts = Counts {
        changed: tally.changed.into_inner(),
        read: tally.read.into_inner(),
        new: report.bytes_new,
        stored: report.bytes_stored,
        chunks_new: report.chunks_new,
    };
    drop(blobs);
    index.close();
    Ok((stored, counts, receipt))
}

/// The backup that this one is compared with.
fn choose_base<'a>(
    records: &'a Records,
    options: &BackupOptions,
    kind: ContentKind,
) -> Result<Option<&'a Backup>, OpsError> {
    let Some(selector) = &options.base else {
        let same_kind = |b: &&Backup| b.record.content.kind == kind;
        return Ok(records.of_volume(&options.volume).rfind(same_kind));
    };
    let base = records.select(selector)?;
    let found = base.record.content.kind;
    if found == kind {
        Ok(Some(base))
    } else {
        let (found, needed) = (describe(found), describe(kind));
        Err(OpsError::BaseKind {
            base: selector.clone(),
            found,
            needed,
        })
    }
}

/// Two files of the same name must not become one volume because nobody named them.
fn same_source(
    records: &Records,
    options: &BackupOptions,
    source: &SourceInfo,
) -> Result<(), OpsError> {
    let Some(before) = records.of_volume(&options.volume).next_back() else {
        return Ok(());
    };
    let (Some(was), Some(is)) = (
        before.record.source.as_ref().and_then(|s| s.path.as_ref()),
        &source.path,
    ) else {
        return Ok(());
    };
    if was == is {
        return Ok(());
    }
    let volume = options.volume.clone();
    Err(OpsError::OtherSource {
        volume,
        before: was.to_string(),
        now: is.to_string(),
    })
}

fn content(project: &Project, stored: &Stored) -> Content {
    let chunk_size = match stored.kind {
        ContentKind::Image => project.chunk_size.bytes(),
        ContentKind::Stream => 0,
    };
    let described = root_description(stored.kind, stored.size, chunk_size, stored.top.as_ref());
    Content {
        kind: stored.kind,
        size: stored.size,
        chunk_size,
        top: stored.top.map(|id| id.to_string()),
        root: project.keys.root(&described).to_string(),
    }
}

fn source_info(identity: &ImageIdentity) -> SourceInfo {
    use std::os::unix::ffi::OsStrExt;
    SourceInfo {
        kind: match identity.kind {
            ImageKind::File => "file".into(),
            ImageKind::Device => "device".into(),
        },
        path: Some(ByteString::from(identity.path.as_os_str().as_bytes())),
        inode: Some((identity.device, identity.inode)),
        changed_ns: Some((identity.mtime_ns, identity.ctime_ns)),
        settled: identity.settled,
    }
}

fn stdin_info() -> SourceInfo {
    SourceInfo {
        kind: "stdin".into(),
        path: None,
        inode: None,
        changed_ns: None,
        settled: false,
    }
}

/// Whether the file is the one that `base` was made from and nobody wrote to it since: same host, device,
/// inode, size and times, and the times were not so fresh that a write could hide behind them.
fn unwritten_since(image: &ImageSource, base: &Backup, options: &BackupOptions) -> bool {
    let now = image.identity();
    let Some(then) = &base.record.source else {
        return false;
    };
    let (Some((device, inode)), Some((mtime_ns, ctime_ns))) = (then.inode, then.changed_ns) else {
        return false;
    };
    let then = ImageIdentity {
        path: now.path.clone(),
        kind: if then.kind == "file" {
            ImageKind::File
        } else {
            ImageKind::Device
        },
        device,
        inode,
        size: base.record.content.size,
        mtime_ns,
        ctime_ns,
        settled: then.settled,
    };
    !options.reread
        && options.host.is_some()
        && options.host == base.record.host
        && now.unchanged_since(&then)
}
