//! Measures the plan of a large prune. The argument is the number of chunks in the project (default
//! 10 million, rounded up to whole packs). The data packs are sparse files, which have the right
//! size but hold no data. One backup uses nine of ten chunks, scattered over the packs. A second
//! backup shares most chunks with the first one. Prints times and the peak memory of the process.
//!
//! `cargo bench --bench prune -- 10000000`

#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]
#![expect(clippy::cast_possible_truncation, reason = "rounded figures")]

mod memory;
mod synthetic;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cuttlebone::base::{BlobId, CHUNK_SIZE_DEFAULT, Cancel, LEAF_SIZE, Silent, VolumeId};
use cuttlebone::crypto::KdfParams;
use cuttlebone::format::{
    BackupRecord, Children, Content, ContentKind, Counts, IndexSegment, RecordTime, SlotInfo,
    VolumeInfo, root_description,
};
use cuttlebone::ops::{AcceptedLoss, Context, MaxUnused, PruneOptions, plan_prune};
use cuttlebone::repo::{
    BlobReader, ImageTree, Index, InitOptions, NewKey, NodeStore, ObjectRef, PackedNodes, Packer,
    PackerOptions, Project, RepoError, Repository, Top, UnindexedPacks,
};
use cuttlebone::storage::LocalBackend;

use memory::peak_memory;
use synthetic::{PACK_CHUNKS, RUN_CHUNKS, SEGMENT_PACKS, id, pack};

/// Commits a backup of an image whose leaf `n` has the chunks that the callback returns.
fn commit(
    project: &Project,
    name: &str,
    leaves: u64,
    chunks_of: impl Fn(u64) -> Vec<Option<BlobId>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let index = Index::in_memory(project, Arc::new(Silent))?;
    let reader = BlobReader::new(&index);
    let size = leaves * LEAF_SIZE;
    let (unindexed, _) = UnindexedPacks::none();
    let (top, ..) = Packer::scope(&index, unindexed, PackerOptions::default(), |packer| {
        let nodes = PackedNodes {
            reader: &reader,
            packer,
            keys: &project.keys,
        };
        let mut tree = ImageTree::new(&nodes, size, None::<Top>)?;
        for leaf in 0..leaves {
            let mut plain = Vec::new();
            Children {
                level: 0,
                ids: chunks_of(leaf),
            }
            .encode_into(&mut plain);
            tree.set(leaf, Some(nodes.store(&plain)?))?;
        }
        tree.finish()
    })
    .map_err(|error: RepoError| error)?;
    let chunk_size = project.chunk_size.bytes();
    let described = root_description(ContentKind::Image, size, chunk_size, top.as_ref());
    let time: RecordTime = "2026-01-01T00:00:00Z".parse()?;
    let record = BackupRecord {
        requires: Vec::new(),
        volume: VolumeInfo {
            id: VolumeId::from_bytes([0; 16]),
            name: name.to_owned(),
        },
        content: Content {
            kind: ContentKind::Image,
            size,
            chunk_size,
            top,
            root: project.keys.root(&described),
        },
        time: time.clone(),
        finished: time,
        host: None,
        base: None,
        follows: Vec::new(),
        replaces: None,
        original: None,
        heads: Vec::new(),
        marks: Vec::new(),
        labels: BTreeMap::new(),
        source: None,
        attachments: Vec::new(),
        counts: Counts::default(),
        tool: None,
    };
    project.put_sealed(ObjectRef::Backup, &record.encode())?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<_> = std::env::args_os().collect();
    if let [_, step, directory] = &words[..]
        && (step == "fill" || step == "plan")
    {
        return measure(&step.to_string_lossy(), Path::new(directory));
    }
    // cargo bench adds its own arguments.
    let chunks: u64 = std::env::args()
        .find_map(|word| word.parse().ok())
        .unwrap_or(10_000_000);
    let packs = chunks.div_ceil(PACK_CHUNKS);
    let chunks = packs * PACK_CHUNKS;
    let directory = tempfile::tempdir()?;
    let store = directory.path().join("repository");
    let backend = Arc::new(LocalBackend::create(&store)?);
    let options = InitOptions {
        key: NewKey {
            password: b"bench",
            kdf: KdfParams::new(8, 1, 1)?,
            info: SlotInfo::default(),
        },
        project: "default",
        chunk_size: CHUNK_SIZE_DEFAULT,
        parity: None,
        created: 0,
        created_text: "2026-01-01T00:00:00Z".to_owned(),
    };
    let repository = Repository::init(backend, &options)?;
    let project = repository.project("default", &Silent)?;
    for first in (0..packs).step_by(SEGMENT_PACKS as usize) {
        let listings: Vec<_> = (first..packs.min(first + SEGMENT_PACKS))
            .map(|number| pack(number, *project.keys.authority()))
            .collect();
        for listing in &listings {
            let name = ObjectRef::Pack(project.id, listing.pack).name();
            let path = store.join(name.as_str());
            fs::create_dir_all(path.parent().ok_or("no directory")?)?;
            fs::File::create(path)?.set_len(listing.contents.pack_size())?;
        }
        let segment = IndexSegment {
            packs: listings,
            superseded: Vec::new(),
        };
        project.put_sealed(ObjectRef::Index, &segment.encode())?;
    }
    // The chunks of each leaf are scattered over the packs. One in ten places of a leaf has no
    // chunk. All remaining places have different chunks, since the factor is a prime that is larger
    // than the number of chunks.
    let leaves = chunks / RUN_CHUNKS;
    let factor = 0x9e37_79b1_85eb_ca87_u128;
    let scattered = |n: u64| (u128::from(n) * factor % u128::from(chunks)) as u64;
    let used = |leaf: u64| {
        let chunks = leaf * RUN_CHUNKS..(leaf + 1) * RUN_CHUNKS;
        let chunk = |n| (n % 10 != 0).then(|| id(scattered(n)));
        chunks.map(chunk).collect::<Vec<_>>()
    };
    commit(&project, "first", leaves, used)?;
    commit(&project, "second", leaves, |leaf| {
        used(if leaf % 50 == 0 { leaf / 2 } else { leaf })
    })?;
    println!("{chunks} chunks in {packs} packs, {leaves} leaves, two backups");

    // Measure in separate processes, so that the memory used to make the project does not count.
    for step in ["fill", "plan"] {
        let mut child = Command::new(std::env::current_exe()?);
        let done = child.args([step.as_ref(), directory.path()]).status()?;
        if !done.success() {
            return Err(done.to_string().into());
        }
    }
    Ok(())
}

fn timed(what: &str, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what:30} {seconds:8.2} s   peak memory {}", peak_memory());
}

/// Runs one step in a prepared directory.
fn measure(step: &str, directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let backend = Arc::new(LocalBackend::open(directory.join("repository"))?);
    let repository = Repository::open(backend, b"bench", &Silent)?;
    let project = repository.project("default", &Silent)?;
    let cache = directory.join("cache");
    let start = Instant::now();
    if step == "fill" {
        Index::open(&project, &cache, Arc::new(Silent))?.close();
        timed("fill the cache", start);
        return Ok(());
    }
    let cancel = Cancel::default();
    let context = Context {
        observer: Arc::new(Silent),
        cancel: &cancel,
        threads: 2,
        cache: Some(&cache),
    };
    let options = PruneOptions {
        max_unused: MaxUnused::Percent(5.0),
        max_repack: None,
        merge_small: true,
        grace: Duration::ZERO,
        accept_loss: AcceptedLoss::default(),
        host: None,
    };
    let prune = plan_prune(&project, &options, true, &context)?;
    timed("plan", start);
    println!("{:?}", prune.plan().repack);
    prune.close();
    Ok(())
}
