//! Backup: source → slot → chunks → id → known? drop : compress, seal, pack, store → segment → tree → record.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use jiff::Timestamp;

use super::error::describe;
use super::{Context, OpsError, stream};
use crate::base::{BlobId, Notice, ObjectHash, Phase, Progress, SLOT_SIZE, VolumeId, is_zero};
use crate::crypto::random;
use crate::format::{
    BackupRecord, ByteString, Children, Content, ContentKind, Counts, SourceInfo, VolumeInfo,
    root_description,
};
use crate::repo::{
    Backup, BlobReader, Compression, ErrorKind, ImageTree, NodeStore, PackTargets, PackedNodes,
    Packer, PackerOptions, Project, Records, Sealed, Top, slot_chunks,
};
use crate::volume::{ImageIdentity, ImageKind, ImageSource};

/// What is backed up.
pub enum Input {
    /// An image file or a block device.
    Image(ImageSource),
    /// Bytes until they end.
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
    /// Nobody wrote to the source since the base, so it was not read.
    pub unread: bool,
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
        context
            .observer
            .notice(Notice::Text(format!("{error}; “check” tells more")));
    }
    let (kind, source) = match &input {
        Input::Image(image) => (ContentKind::Image, source_info(image.identity())),
        Input::Stream(_) => (ContentKind::Stream, stdin_info()),
    };
    let base = choose_base(&records, options, kind)?;
    if !options.volume_chosen {
        same_source(&records, options, &source)?;
    }

    let index = context.index(project)?;
    if options.reread {
        // Whoever mistrusts what is there wants lost packs to be made good, too.
        index.believe_only_what_is_there()?;
    }
    let (journal, left_over) = super::journal(&index);
    let blobs = BlobReader::new(&index).stopped_by(context.cancel);
    let tally = Tally::default();
    let unread = match (&input, base) {
        (Input::Image(image), Some(base)) if !options.reread => {
            unwritten_since(image, base, options)
        }
        _ => false,
    };
    if unread {
        let text = "nobody wrote to the file since the last backup, so its content was taken from there \
            (--reread reads it all the same)";
        context.observer.notice(Notice::Text(text.to_owned()));
    }
    let (stored, receipt, report) = Packer::scope(
        &index,
        journal,
        PackerOptions {
            compression: options.compression,
            targets: options.pack_targets,
            dry_run: options.dry_run,
        },
        |packer| {
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
                (Input::Image(_), Some(base)) if unread => Ok(Stored {
                    kind,
                    size: base.record.content.size,
                    top: base.top,
                }),
                (Input::Image(image), base) => image_into(&run, &image, base),
                (Input::Stream(source), _) => stream::stream_into(&run, source),
            }
        },
    )?;
    let counts = Counts {
        changed: tally.changed.into_inner(),
        read: tally.read.into_inner(),
        new: report.bytes_new,
        stored: report.bytes_stored,
        chunks_new: report.chunks_new,
    };
    let volume = match base.or_else(|| records.of_volume(&options.volume).next_back()) {
        Some(backup) if backup.record.volume.name == options.volume => backup.volume,
        _ => VolumeId::from_bytes(random().map_err(crate::repo::RepoError::from)?),
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
        tool: Some(concat!("cuttlebone ", env!("CARGO_PKG_VERSION")).to_owned()),
    };
    context.cancel.check()?;
    let id = if options.dry_run {
        None
    } else {
        Some(Records::commit(project, &record, &receipt)?)
    };
    drop(blobs);
    index.close();
    Ok(BackupReport {
        id,
        size: stored.size,
        counts,
        base: base.map(|b| b.id),
        unread,
    })
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
    options.host.is_some() && options.host == base.record.host && now.unchanged_since(&then)
}

/// A slot to be read.
struct SlotJob {
    number: usize,
    slot: u64,
    /// Where there may be data, within the slot, ascending.
    extents: Vec<Range<u64>>,
}

/// A slot that has been read and stored.
struct SlotDone {
    number: usize,
    slot: u64,
    /// Its chunks, unless they are those of the base.
    chunks: Option<Vec<Option<BlobId>>>,
}

/// Reads an image and stores what changed against the base.
fn image_into(
    run: &Run<'_>,
    image: &ImageSource,
    base: Option<&Backup>,
) -> Result<Stored, OpsError> {
    let size = image.size();
    let chunk_size = run.project.chunk_size.bytes();
    let base = base.filter(|b| b.record.content.chunk_size == chunk_size);
    let base_top = base.map(|b| Top::new(b.top, b.record.content.size));
    let ahead = run.context.threads * AHEAD;
    let (jobs_in, jobs) = bounded::<SlotJob>(ahead);
    let (done_in, done) = bounded::<Result<SlotDone, OpsError>>(ahead);
    let (permits_in, permits) = bounded::<()>(ahead);
    let top = thread::scope(|scope| {
        // Dropped before the threads are joined: else a failure leaves one waiting for it.
        let permits = permits;
        let failed = done_in.clone();
        scope.spawn(move || {
            if let Err(error) = find_slots(image, &permits_in, &jobs_in) {
                let _ = failed.send(Err(error));
            }
        });
        for _ in 0..run.context.threads {
            let (jobs, done) = (jobs.clone(), done_in.clone());
            scope.spawn(move || {
                if let Err(error) = work(run, image, base_top, &jobs, &done) {
                    let _ = done.send(Err(error));
                }
            });
        }
        drop((jobs, done_in));
        // Without a base every node is asked for, so that what was lost is stored again.
        let base = base_top.filter(|_| !run.reread);
        plant(run, size, base, done, &permits)
    })?;
    if image.changed_meanwhile()? {
        return Err(OpsError::SourceChanged {
            path: image.path().display().to_string(),
        });
    }
    Ok(Stored {
        kind: ContentKind::Image,
        size,
        top,
    })
}

/// Deals out the slots that have data, in order. A failure to send means that somebody else failed.
fn find_slots(
    image: &ImageSource,
    permits: &Sender<()>,
    jobs: &Sender<SlotJob>,
) -> Result<(), OpsError> {
    let mut open: Option<SlotJob> = None;
    let mut number = 0;
    let send = |job: SlotJob| permits.send(()).is_ok() && jobs.send(job).is_ok();
    for extent in image.data_extents() {
        let extent = extent?;
        let mut at = extent.start;
        while at < extent.end {
            let slot = at / SLOT_SIZE;
            let end = extent.end.min((slot + 1) * SLOT_SIZE);
            match &mut open {
                Some(job) if job.slot == slot => job.extents.push(at..end),
                _ => {
                    let mut next = SlotJob {
                        number,
                        slot,
                        extents: Vec::with_capacity(1),
                    };
                    next.extents.push(at..end);
                    number += 1;
                    if open.replace(next).is_some_and(|job| !send(job)) {
                        return Ok(());
                    }
                }
            }
            at = end;
        }
    }
    if let Some(job) = open {
        send(job);
    }
    Ok(())
}

/// One worker: slots in, chunks stored, ids out.
fn work(
    run: &Run<'_>,
    image: &ImageSource,
    base: Option<Top>,
    jobs: &Receiver<SlotJob>,
    done: &Sender<Result<SlotDone, OpsError>>,
) -> Result<(), OpsError> {
    let mut sealed = run.packer.worker()?;
    let mut buf = vec![0; usize::try_from(SLOT_SIZE).unwrap_or(usize::MAX)];
    let mut result = Ok(());
    for job in jobs {
        let step = run
            .context
            .cancel
            .check()
            .map_err(OpsError::from)
            .and_then(|()| store_slot(run, image, base, &job, &mut buf, &mut sealed));
        match step {
            Ok(chunks) => {
                let SlotJob { number, slot, .. } = job;
                if done
                    .send(Ok(SlotDone {
                        number,
                        slot,
                        chunks,
                    }))
                    .is_err()
                {
                    break;
                }
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    // Also after a failure: what has been compressed is of use to the next run.
    run.packer.flush(&mut sealed)?;
    result
}

/// Reads a slot and stores its new chunks. Its ids, unless they are the base's.
fn store_slot(
    run: &Run<'_>,
    image: &ImageSource,
    base: Option<Top>,
    job: &SlotJob,
    buf: &mut [u8],
    sealed: &mut Sealed,
) -> Result<Option<Vec<Option<BlobId>>>, OpsError> {
    let chunk_size = run.project.chunk_size.usize();
    let width = run.project.chunk_size.per_slot();
    let start = job.slot * SLOT_SIZE;
    let place = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
    let mut touched = vec![false; width];
    let mut filled = 0;
    for extent in &job.extents {
        let range = place(extent.start)..place(extent.end);
        buf[filled..range.start].fill(0);
        filled = range.end;
        touched[range.start / chunk_size..range.end.div_ceil(chunk_size)].fill(true);
        image.read_at(extent.start, &mut buf[range])?;
        run.tally
            .read
            .fetch_add(extent.end - extent.start, Ordering::Relaxed);
    }
    buf[filled..].fill(0);

    let before = match base.map(|top| slot_chunks(run.blobs, top, job.slot, width)) {
        Some(Err(error)) if run.reread && error.kind() == ErrorKind::Damaged => vec![None; width],
        Some(chunks) => chunks?,
        None => vec![None; width],
    };
    let mut now = vec![None; width];
    for (number, plain) in buf.chunks_exact(chunk_size).enumerate() {
        if touched[number] && !is_zero(plain) {
            let id = run.project.keys.chunk_id(plain);
            if run.reread || before[number] != Some(id) {
                run.packer.add_chunk(sealed, id, plain)?;
            }
            now[number] = Some(id);
        }
    }
    // What changed together is read together.
    run.packer.end_run(sealed)?;
    let changed = before
        .iter()
        .zip(&now)
        .filter(|(before, now)| before != now)
        .count();
    run.tally
        .changed
        .fetch_add((changed * chunk_size) as u64, Ordering::Relaxed);
    Ok((run.reread || changed > 0).then_some(now))
}

/// Puts the slots into the tree, in order, as they are done; holes between them become zeros.
fn plant(
    run: &Run<'_>,
    size: u64,
    base: Option<Top>,
    done: Receiver<Result<SlotDone, OpsError>>,
    permits: &Receiver<()>,
) -> Result<Option<BlobId>, OpsError> {
    let nodes = PackedNodes {
        reader: run.blobs,
        packer: run.packer,
        keys: &run.project.keys,
    };
    let mut tree = ImageTree::new(&nodes, size, base)?;
    let mut waiting: VecDeque<Option<SlotDone>> = VecDeque::new();
    let (mut next_number, mut next_slot) = (0, 0);
    let mut plain = Vec::new();
    let progress = |slots: u64| {
        let done = (slots * SLOT_SIZE).min(size);
        run.context.observer.progress(Progress {
            phase: Phase::Backup,
            done,
            total: Some(size),
        });
    };
    for result in done {
        let slot = result?;
        let at = slot.number - next_number;
        if waiting.len() <= at {
            waiting.resize_with(at + 1, || None);
        }
        waiting[at] = Some(slot);
        while let Some(Some(slot)) = waiting.front_mut().map(Option::take) {
            waiting.pop_front();
            next_number += 1;
            let _ = permits.recv();
            tree.clear(next_slot, slot.slot)?;
            next_slot = slot.slot + 1;
            if let Some(ids) = slot.chunks {
                let id = if ids.iter().any(Option::is_some) {
                    plain.clear();
                    Children { level: 0, ids }.encode_into(&mut plain);
                    Some(nodes.store(&plain)?)
                } else {
                    None
                };
                tree.set(slot.slot, id)?;
            }
            progress(next_slot);
        }
    }
    run.context.cancel.check()?;
    let slots = size.div_ceil(SLOT_SIZE);
    tree.clear(next_slot, slots)?;
    progress(slots);
    Ok(tree.finish()?)
}
