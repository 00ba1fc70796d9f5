//! Backup: source → leaf → chunks → id → known? drop : compress, seal, pack, store → segment → tree → record.

mod base;
mod coverage;
mod diff;
mod image;
mod leaves;
mod listed;
mod protect;
mod sample;
mod stream;

pub use diff::{backup_diff, examine_diff};
pub use listed::{Listed, read_extents};

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;

use self::base::{choose_base, same_source, unwritten_since};
use self::image::image_into;
use self::listed::listed_into;
use self::protect::Protection;
use self::stream::stream_into;
use super::{Context, OpsError, TOOL};
use crate::base::{BlobId, Notice, ObjectHash, VolumeId};
use crate::crypto::random;
use crate::format::{
    BackupRecord, ByteString, Content, ContentKind, Counts, SourceInfo, VolumeInfo,
    root_description,
};
use crate::repo::{
    BlobReader, CommitPermit, Compression, Index, IndexStored, PackSizes, Packer, PackerOptions,
    Project, Records, RepoError, RunLen,
};
use crate::volume::{ImageIdentity, ImageKind, ImageSource};

/// What is backed up.
pub enum Input {
    /// An image file or a block device.
    Image(ImageSource),
    /// An image of which a list says what changed.
    Listed(Listed),
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
    /// A backup to compare with, instead of the volume's newest; or the one that a diff builds on.
    pub base: Option<String>,
    /// Take `base` for a diff even if nothing says that it is what the diff builds on.
    pub force_base: bool,
    /// Given by the user.
    pub labels: BTreeMap<String, String>,
    /// Do everything but store.
    pub dry_run: bool,
    /// How hard to compress.
    pub compression: Compression,
    /// When packs are full.
    pub pack_targets: PackSizes,
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
    /// Nothing was committed, since the volume had this backup already.
    pub existing: bool,
    /// The snapshot that it is of, where the source named one.
    pub snapshot: Option<ByteString>,
    /// The content's size in bytes.
    pub size: u64,
    /// What it took.
    pub counts: Counts,
    /// What it was compared with.
    pub base: Option<ObjectHash>,
    /// Chunks that a list of extents did not name, and that were compared with the base; none without a list.
    pub verified: Option<u64>,
}

/// What was counted on the way.
#[derive(Default)]
struct Tally {
    changed: AtomicU64,
    read: AtomicU64,
    verified: AtomicU64,
}

/// A content that has been stored.
#[derive(Clone, Copy)]
struct Stored {
    kind: ContentKind,
    size: u64,
    top: Option<BlobId>,
}

/// Everything that the steps of one backup share.
struct Run<'a> {
    project: &'a Project,
    context: &'a Context<'a>,
    blobs: &'a BlobReader<'a>,
    packer: &'a Packer<'a>,
    tally: &'a Tally,
    reread: bool,
}

/// Backs up a source. Nothing is committed unless all of it was read and stored.
pub fn backup(
    project: &Project,
    input: Input,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupReport, OpsError> {
    let started = Timestamp::now();
    let mut protection = Protection::begin(project, options, context)?;
    let records = load(project, context)?;
    let (kind, source) = match &input {
        Input::Image(image) => (ContentKind::Image, source_info(image.identity())),
        Input::Listed(listed) => (ContentKind::Image, listed.source_info()),
        Input::Stream(_) => (ContentKind::Stream, SourceInfo::of_kind("stdin")),
    };
    let base = choose_base(&records, options, kind)?;
    let with_list = matches!(input, Input::Listed(_));
    if let Input::Listed(listed) = &input {
        listed.check(project, base)?;
    }
    if !options.volume_chosen {
        same_source(&records, options, &source)?;
    }
    protection.build_on(base);
    let index = protection.index()?;
    believe(&index, options)?;
    let packed = pack(
        project,
        &index,
        &protection,
        options,
        RunLen::Leaf,
        context,
        |run| match (input, base) {
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
            (Input::Image(image), base) => image_into(run, &image, base),
            (Input::Listed(listed), base) => listed_into(run, &listed, base),
            (Input::Stream(source), _) => stream_into(run, source),
        },
    )?;
    context.cancel.check()?;
    let (size, counts) = (packed.stored.size, packed.counts);
    let verified = with_list.then_some(packed.verified);
    let base = base.map(|b| b.id);
    let id = match protection.clear(&index, &[packed.stored])? {
        None => None,
        Some(cleared) => {
            let heads = records.heads();
            let volume = volume_id(&records, &options.volume)?;
            let entry = Entry {
                started,
                packed,
                source,
                base,
                heads,
            };
            let id = entry.commit(project, volume, options, &cleared);
            let stays = protection.committed(&cleared);
            // What failed first is what is told.
            let id = id?;
            stays?;
            Some(id)
        }
    };
    index.close();
    Ok(BackupReport {
        id,
        existing: false,
        snapshot: None,
        size,
        counts,
        base,
        verified,
    })
}

/// Whoever mistrusts what is there wants lost packs and segments to be made good, too.
fn believe(index: &Index<'_>, options: &BackupOptions) -> Result<(), OpsError> {
    if options.reread {
        index.require_present()?;
        index.scan_unindexed()?;
    }
    Ok(())
}

/// The records, with a word about those that cannot be read.
fn load(project: &Project, context: &Context<'_>) -> Result<Records, OpsError> {
    let records = Records::load(project)?;
    for error in records.damaged() {
        let text = format!("{error}; “check” tells more");
        context.observer.notice(Notice::Text(text));
    }
    Ok(records)
}

/// The id of the volume of this name, or one for a new volume.
fn volume_id(records: &Records, name: &str) -> Result<VolumeId, OpsError> {
    match records.of_volume(name).next_back() {
        Some(before) => Ok(before.volume),
        None => Ok(VolumeId::from_bytes(random().map_err(RepoError::from)?)),
    }
}

/// A content that is durable and indexed, and what that took.
struct Packed {
    stored: Stored,
    counts: Counts,
    verified: u64,
    receipt: IndexStored,
}

/// Lets `work` store what the project does not hold yet, and the tree over all of it.
fn pack(
    project: &Project,
    index: &Index<'_>,
    protection: &Protection<'_>,
    options: &BackupOptions,
    run_len: RunLen,
    context: &Context<'_>,
    work: impl FnOnce(&Run<'_>) -> Result<Stored, OpsError>,
) -> Result<Packed, OpsError> {
    let (journal, left_over) = super::journal(index);
    let journal = protection.told(journal);
    let left_over = protection.adopt(index, left_over)?;
    let blobs = BlobReader::new(index).stopped_by(context.cancel);
    let tally = Tally::default();
    let packing = PackerOptions {
        compression: options.compression,
        run_len,
        targets: options.pack_targets,
        leave_unnamed: false,
        dry_run: options.dry_run,
    };
    let (stored, receipt, report) = Packer::scope(index, journal, packing, |packer| {
        packer.adopt(&left_over, context.observer)?;
        work(&Run {
            project,
            context,
            blobs: &blobs,
            packer,
            tally: &tally,
            reread: options.reread,
        })
    })?;
    let counts = Counts {
        changed: tally.changed.into_inner(),
        read: tally.read.into_inner(),
        new: report.bytes_new,
        stored: report.bytes_stored,
        chunks_new: report.chunks_new,
    };
    Ok(Packed {
        stored,
        counts,
        verified: tally.verified.into_inner(),
        receipt,
    })
}

/// A backup that only lacks its record.
struct Entry {
    started: Timestamp,
    packed: Packed,
    source: SourceInfo,
    base: Option<ObjectHash>,
    heads: Vec<ObjectHash>,
}

impl Entry {
    fn commit(
        &self,
        project: &Project,
        volume: VolumeId,
        options: &BackupOptions,
        cleared: &CommitPermit,
    ) -> Result<ObjectHash, OpsError> {
        let record = BackupRecord {
            requires: Vec::new(),
            volume: VolumeInfo {
                id: volume.to_string(),
                name: options.volume.clone(),
            },
            content: content(project, &self.packed.stored),
            time: self.started.to_string(),
            finished: Timestamp::now().to_string(),
            host: options.host.clone(),
            base: self.base.map(|id| id.to_string()),
            heads: self.heads.iter().map(ToString::to_string).collect(),
            marks: cleared.marks().iter().map(ToString::to_string).collect(),
            labels: options.labels.clone(),
            source: Some(self.source.clone()),
            counts: self.packed.counts,
            tool: Some(TOOL.to_owned()),
        };
        Ok(Records::commit(
            project,
            &record,
            &self.packed.receipt,
            cleared,
        )?)
    }
}

/// How the content is cut, and its root.
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
        ..SourceInfo::default()
    }
}
