//! Tests of whole repositories through the library: crashes, damage, caches, isolation of projects,
//! and random operations whose results are compared with a model.
//!
//! A test makes a [`TestRepo`] on a store, usually a `MemoryBackend` or a `FaultBackend`. The test
//! can keep a clone of the store, to change it directly. One or more [`Host`]s run operations:
//!
//!     let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
//!     let host = Host::without_cache();
//!     let made = host.back_up(&test_repo, "disk", &image).unwrap();
//!     let backup = test_repo.backup(made.id);
//!     assert!(host.restore(&test_repo, &backup).unwrap() == image.bytes());
//!     host.check_clean(&test_repo, "after the first backup");

mod attachments;
mod command_crash;
mod copied_packs;
mod copy;
mod copy_crash;
mod copy_damage;
mod copy_runs;
mod copy_trust;
mod crash;
mod damage;
mod diff_of_other_key;
mod export;
mod extents;
mod false_records;
mod faulty;
mod foreign;
mod forget;
mod history;
mod index;
mod ingest;
mod ingest_crash;
mod ingest_model;
mod ingest_source;
mod init_race;
mod intercepted;
mod isolation;
mod keyless;
mod leases;
mod ledger;
mod log;
mod model;
mod object_cache;
mod panics;
mod parity;
mod parity_foreign;
mod parity_keys;
mod parity_matrix;
mod progress;
mod provenance;
mod prune;
mod prune_goes_on;
mod reader;
mod repair_index;
mod replaced;
mod replicate;
mod replicate_changing;
mod replicate_hostile;
mod resigned;
mod retired;
mod roles;
mod sweep;
mod unlock;
mod unreadable;
mod verify_writes;
mod voids;
mod write_crash;
mod write_segments;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use cuttlebone::base::{
    Cancel, ChunkSize, Notice, ObjectHash, Observer, ParityRate, Phase, Progress,
};
use cuttlebone::crypto::KdfParams;
use cuttlebone::format::SlotInfo;
use cuttlebone::ops::{
    self, Accept, BackupOptions, BackupReport, CheckReport, Context, Finding, OpsError, ReadData,
    Stated,
};
use cuttlebone::repo::{
    Backup, Compression, InitOptions, NewKey, PackSizes, Project, Records, RepoError,
    RepoErrorKind, Repository, VerifyWrites,
};
use cuttlebone::storage::Backend;
use cuttlebone::volume::{
    Existing, ImageSource, NamedInput, RawImage, Source, StreamSource, StreamTarget, open_target,
};
use tempfile::TempDir;

const PASSWORD: &[u8] = b"correct horse battery staple";
const KIB: usize = 1 << 10;
const LEAF: u64 = 4 << 20;
const CHUNK: usize = 64 * KIB;

/// An observer that records notices.
#[derive(Default)]
struct RecordingObserver(Mutex<Vec<Notice>>);

impl Observer for RecordingObserver {
    fn progress(&self, _: Progress) {}

    fn notice(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

impl RecordingObserver {
    /// Returns the notices since the last call.
    fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// An observer that records progress.
#[derive(Default)]
struct Watch(Mutex<Vec<Progress>>);

impl Observer for Watch {
    fn progress(&self, progress: Progress) {
        self.0.lock().unwrap().push(progress);
    }

    fn notice(&self, _: Notice) {}
}

impl Watch {
    /// Returns the progress of this phase.
    fn of(&self, phase: Phase) -> Vec<Progress> {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter(|progress| progress.phase == phase)
            .copied()
            .collect()
    }
}

/// Returns a key whose derivation takes almost no time or memory.
fn key(password: &[u8]) -> NewKey<'_> {
    NewKey {
        password,
        kdf: KdfParams::new(8, 1, 1).unwrap(),
        info: SlotInfo::default(),
    }
}

/// An open repository and its project, named `default`.
///
/// [`init`](Self::init) creates it on a store; [`open`](Self::open) opens it again, as another
/// process does. Several `TestRepo`s can be open on clones of one store. A `TestRepo` has no cache
/// and runs no operations: a [`Host`] runs them. [`backups`](Self::backups) and
/// [`backup`](Self::backup) read the records from the store each time.
struct TestRepo {
    repository: Repository,
    project: Project,
}

impl TestRepo {
    fn init(backend: impl Backend + 'static, chunk_size: usize) -> Result<Self, RepoError> {
        Self::init_with(backend, chunk_size, None)
    }

    fn init_with(
        backend: impl Backend + 'static,
        chunk_size: usize,
        parity: Option<ParityRate>,
    ) -> Result<Self, RepoError> {
        let options = InitOptions {
            key: key(PASSWORD),
            project: "default",
            chunk_size: ChunkSize::new(chunk_size as u64).unwrap(),
            parity,
            created: 1_800_000_000,
            created_text: "2027-01-15T08:00:00Z".into(),
        };
        let repository = Repository::init(Arc::new(backend), &options)?;
        let project = repository.project("default", &RecordingObserver::default())?;
        Ok(Self {
            repository,
            project,
        })
    }

    fn open(backend: impl Backend + 'static, observer: &dyn Observer) -> Result<Self, RepoError> {
        let repository = Repository::open(Arc::new(backend), PASSWORD, observer)?;
        let project = repository.project("default", observer)?;
        Ok(Self {
            repository,
            project,
        })
    }

    fn backups(&self) -> Vec<Backup> {
        Records::load(&self.project).unwrap().all().to_vec()
    }

    fn backup(&self, id: ObjectHash) -> Backup {
        let found = self.backups().into_iter().find(|backup| backup.id == id);
        found.unwrap()
    }
}

/// A host that backs up, restores and checks. It has a directory for files, an observer, and
/// possibly a cache.
///
/// [`without_cache`](Self::without_cache) keeps the index in memory;
/// [`with_cache`](Self::with_cache) keeps it in a directory, which later operations of the same
/// host use again. Two hosts on one [`TestRepo`] are like two machines: they share only the store.
///
/// `notices` records the notices of operations. `cancel` stops the operation that runs.
/// [`path`](Self::path) returns the path of a file in the host's directory. The directory is
/// deleted when the host is dropped.
struct Host {
    directory: TempDir,
    cache: Option<PathBuf>,
    notices: Arc<RecordingObserver>,
    cancel: Cancel,
    threads: usize,
}

impl Host {
    /// Makes a host that keeps its index in memory.
    fn without_cache() -> Self {
        Self {
            directory: scratch(),
            cache: None,
            notices: Arc::default(),
            cancel: Cancel::default(),
            threads: 2,
        }
    }

    fn with_cache() -> Self {
        let mut host = Self::without_cache();
        host.cache = Some(host.path("cache"));
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn context(&self) -> Context<'_> {
        Context {
            observer: self.notices.clone(),
            cancel: &self.cancel,
            threads: self.threads,
            cache: self.cache.as_deref(),
        }
    }

    /// Writes an image to a file and backs it up.
    fn back_up(&self, test_repo: &TestRepo, volume: &str, image: &Image) -> Result<Made, OpsError> {
        self.run(test_repo, self.image(image)?, &options(volume))
    }

    fn back_up_stream(
        &self,
        test_repo: &TestRepo,
        volume: &str,
        content: &[u8],
    ) -> Result<Made, OpsError> {
        self.run(test_repo, stream(content), &options(volume))
    }

    /// Backs up an image as `backup --reread` does, which stores lost packs again.
    fn back_up_again(
        &self,
        test_repo: &TestRepo,
        volume: &str,
        image: &Image,
    ) -> Result<Made, OpsError> {
        self.run(test_repo, self.image(image)?, &reread(volume))
    }

    fn back_up_stream_again(
        &self,
        test_repo: &TestRepo,
        volume: &str,
        content: &[u8],
    ) -> Result<Made, OpsError> {
        self.run(test_repo, stream(content), &reread(volume))
    }

    fn image(&self, image: &Image) -> Result<Input, OpsError> {
        let path = self.path(&format!("image {:?}", thread::current().id()));
        image.write_to(&path);
        Ok(Box::new(RawImage::open(&path)?))
    }

    fn run(
        &self,
        test_repo: &TestRepo,
        input: Input,
        options: &BackupOptions,
    ) -> Result<Made, OpsError> {
        let report = back_up(&test_repo.project, input, options, &self.context())?;
        Ok(Made::of(&report))
    }

    /// Returns the content of a backup, restored to a stream.
    fn restore(&self, test_repo: &TestRepo, backup: &Backup) -> Result<Vec<u8>, OpsError> {
        let mut content = Vec::new();
        let target = StreamTarget::new(&mut content, "memory", backup.record.content.size);
        ops::restore(&test_repo.project, backup, &target, &self.context())?;
        drop(target);
        Ok(content)
    }

    /// Returns the content of a backup of an image, restored to a file.
    fn restore_image(&self, test_repo: &TestRepo, backup: &Backup) -> Result<Image, OpsError> {
        let path = self.path(&format!("restored {:?}", thread::current().id()));
        let target = open_target(&path, backup.record.content.size, Existing::Replace)?;
        ops::restore(&test_repo.project, backup, &*target, &self.context())?;
        let image = Image::read_from(&path);
        fs::remove_file(&path).unwrap();
        Ok(image)
    }

    fn check(&self, test_repo: &TestRepo, read_data: bool) -> (CheckReport, Vec<Finding>) {
        let mut findings = Vec::new();
        let report = ops::check(
            &test_repo.repository,
            &test_repo.project,
            read_data.then(|| ReadData::all(None)).as_ref(),
            &self.context(),
            &mut |finding| findings.push(finding.clone()),
        )
        .unwrap();
        assert_eq!(report.errors, findings.len() as u64);
        (report, findings)
    }

    /// Checks the repository with all data, and fails if there is a finding.
    fn check_clean(&self, test_repo: &TestRepo, when: &str) {
        let (report, findings) = self.check(test_repo, true);
        assert!(findings.is_empty(), "{when}: {findings:#?}");
        assert!(
            report.backups_affected.is_empty() && report.packs_damaged == 0,
            "{when}"
        );
    }
}

/// The parts of a backup's report that tests need.
#[derive(Debug, Clone, Copy)]
struct Made {
    id: ObjectHash,
    chunks_new: u64,
    bytes_stored: u64,
}

impl Made {
    fn of(report: &BackupReport) -> Self {
        Self {
            id: report.id.unwrap(),
            chunks_new: report.counts.chunks_new,
            bytes_stored: report.counts.stored,
        }
    }
}

/// Options for a backup with small packs, so that little data makes many of them.
fn options(volume: &str) -> BackupOptions {
    BackupOptions {
        force_base: false,
        volume: volume.to_owned(),
        volume_chosen: true,
        base: None,
        labels: BTreeMap::new(),
        dry_run: false,
        compression: Compression::default(),
        pack_sizes: PackSizes::new(100 * KIB, 1, 2),
        reread: false,
        verify_sample: 0,
        attached: Vec::new(),
        verify_writes: VerifyWrites::default(),
        accept: Accept {
            empty: true,
            ..Accept::default()
        },
        stated: Stated::default(),
        host: None,
    }
}

fn reread(volume: &str) -> BackupOptions {
    BackupOptions {
        reread: true,
        ..options(volume)
    }
}

/// A source that gives exactly one backup. (An RBD diff can give several.)
type Input = Box<dyn Source>;

/// Backs up a source that gives exactly one backup.
fn back_up(
    project: &Project,
    mut input: Input,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupReport, OpsError> {
    let mut reports = ops::backup(project, &mut *input, options, context)?;
    assert_eq!(reports.len(), 1, "this source should give one backup");
    Ok(reports.remove(0))
}

fn stream(content: &[u8]) -> Input {
    stream_of(Cursor::new(content.to_vec()))
}

/// Returns a source of the bytes of a reader.
fn stream_of(reader: impl Read + Send + 'static) -> Input {
    Box::new(StreamSource::new(NamedInput::new(reader, "a stream")))
}

fn is_damage(error: &OpsError) -> bool {
    match error {
        OpsError::Repo(error) => error.kind() == RepoErrorKind::Damaged,
        error => matches!(error, OpsError::Holes { .. } | OpsError::Hole { .. }),
    }
}

/// Creates a directory that is deleted when the returned value is dropped. It is in memory if
/// possible, since these tests need no disk.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Returns bytes that do not compress, different for each seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

const BLOCK_LEN: usize = 4 << 10;
const BLOCK: u64 = BLOCK_LEN as u64;

/// A simple model of an image. It holds only the blocks that are not all zeros, so the image can be
/// far larger than memory.
#[derive(Clone, PartialEq, Eq, Default)]
struct Image {
    size: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK_LEN]>>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let blocks: Vec<_> = self.blocks.keys().collect();
        write!(f, "{} bytes, data in blocks {blocks:?}", self.size)
    }
}

impl Image {
    fn new(size: u64) -> Self {
        Self {
            size,
            blocks: BTreeMap::new(),
        }
    }

    /// Writes bytes. Ignores those after the end of the image.
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() && at < self.size {
            let start = usize::try_from(at % BLOCK).unwrap();
            let space = usize::try_from((BLOCK - at % BLOCK).min(self.size - at)).unwrap();
            let (now, later) = rest.split_at(space.min(rest.len()));
            let block = self
                .blocks
                .entry(at / BLOCK)
                .or_insert_with(|| Box::new([0; BLOCK_LEN]));
            block[start..start + now.len()].copy_from_slice(now);
            if block.iter().all(|byte| *byte == 0) {
                self.blocks.remove(&(at / BLOCK));
            }
            at += now.len() as u64;
            rest = later;
        }
    }

    fn with(mut self, offset: u64, bytes: &[u8]) -> Self {
        self.write(offset, bytes);
        self
    }

    fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (at, byte) in (offset..self.size).zip(&mut bytes) {
            if let Some(block) = self.blocks.get(&(at / BLOCK)) {
                *byte = block[usize::try_from(at % BLOCK).unwrap()];
            }
        }
        bytes
    }

    fn resize(&mut self, size: u64) {
        if size < self.size {
            let zeros = vec![0; usize::try_from(BLOCK - size % BLOCK).unwrap()];
            self.write(size, &zeros);
            self.blocks.retain(|block, _| block * BLOCK < size);
        }
        self.size = size;
    }

    /// Returns the whole content.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.size.next_multiple_of(BLOCK)).unwrap()];
        for (number, block) in &self.blocks {
            let at = usize::try_from(number * BLOCK).unwrap();
            bytes[at..at + block.len()].copy_from_slice(&block[..]);
        }
        bytes.truncate(usize::try_from(self.size).unwrap());
        bytes
    }

    /// Writes the image to a sparse file.
    fn write_to(&self, path: &Path) {
        let file = File::create(path).unwrap();
        file.set_len(self.size).unwrap();
        for (number, block) in &self.blocks {
            let len = BLOCK.min(self.size - number * BLOCK);
            let len = usize::try_from(len).unwrap();
            file.write_all_at(&block[..len], number * BLOCK).unwrap();
        }
    }

    /// Reads the content of a file, except for its holes.
    fn read_from(path: &Path) -> Self {
        let source = RawImage::open(path).unwrap();
        let mut image = Self::new(source.size());
        for extent in source.extents() {
            let extent = extent.unwrap();
            let mut bytes = vec![0; usize::try_from(extent.end - extent.start).unwrap()];
            source.read_at(extent.start, &mut bytes).unwrap();
            image.write(extent.start, &bytes);
        }
        image
    }
}
