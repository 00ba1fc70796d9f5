//! Measures a large index. The argument is the number of chunks (default 10 million, rounded up to
//! whole packs). Fills the cache from synthetic segments that list these chunks, looks up chunks in
//! it, and prints times and the peak memory of the process.
//!
//! `cargo bench --bench index -- 10000000`

#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "rounded figures"
)]

mod memory;
mod synthetic;

use std::sync::Arc;
use std::time::Instant;

use cuttlebone::base::{ByteSize, CHUNK_SIZE_DEFAULT, Silent};
use cuttlebone::crypto::KdfParams;
use cuttlebone::format::{IndexSegment, SlotInfo};
use cuttlebone::repo::{Index, InitOptions, NewKey, ObjectRef, Repository};
use cuttlebone::storage::LocalBackend;

use memory::peak_memory;
use synthetic::{PACK_CHUNKS, SEGMENT_PACKS, id, pack};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // cargo bench adds its own arguments.
    let chunks: u64 = std::env::args()
        .find_map(|word| word.parse().ok())
        .unwrap_or(10_000_000);
    let packs = chunks.div_ceil(PACK_CHUNKS);
    let chunks = packs * PACK_CHUNKS;
    let directory = tempfile::tempdir()?;
    let backend = Arc::new(LocalBackend::create(directory.path().join("repository"))?);
    let key = NewKey {
        password: b"bench",
        kdf: KdfParams::new(8, 1, 1)?,
        info: SlotInfo::default(),
    };
    let options = InitOptions {
        key,
        project: "default",
        chunk_size: CHUNK_SIZE_DEFAULT,
        parity: None,
        created: 0,
        created_text: "2026-01-01T00:00:00Z".to_owned(),
    };
    let repository = Repository::init(backend, &options)?;
    let project = repository.project("default", &Silent)?;
    for first in (0..packs).step_by(SEGMENT_PACKS as usize) {
        let listings = (first..packs.min(first + SEGMENT_PACKS))
            .map(|number| pack(number, *project.keys.authority()))
            .collect();
        let segment = IndexSegment {
            packs: listings,
            superseded: Vec::new(),
        };
        project.put_sealed(ObjectRef::Index, &segment.encode())?;
    }
    println!(
        "{chunks} chunks in {packs} packs, {} segments",
        packs.div_ceil(SEGMENT_PACKS)
    );

    let cache = directory.path().join("cache");
    let timed = |what: &str, count: u64, start: Instant| {
        let seconds = start.elapsed().as_secs_f64();
        let rate = count as f64 / seconds;
        println!(
            "{what:44} {seconds:8.2} s {rate:12.0} /s   peak memory {}",
            peak_memory()
        );
    };
    let start = Instant::now();
    let index = Index::open(&project, &cache, Arc::new(Silent))?;
    timed("fill from the segments", chunks, start);
    let state = index.state()?;
    index.close();
    let file = state.path.ok_or("the index is in memory")?;
    println!("cache file {}", ByteSize(file.metadata()?.len()));

    let start = Instant::now();
    let index = Index::open(&project, &cache, Arc::new(Silent))?;
    timed("open", 1, start);
    let many = 1_000_000.min(chunks);
    let start = Instant::now();
    for n in chunks..chunks + many {
        assert!(index.find_trusted(&id(n))?.is_none());
    }
    timed("ask for chunks that are new", many, start);
    let start = Instant::now();
    for n in 0..many {
        assert!(index.find_trusted(&id(n))?.is_some());
    }
    timed("ask for known chunks, in order", many, start);
    let scattered = 100_000.min(chunks);
    let start = Instant::now();
    for n in 0..scattered {
        assert!(
            index
                .find_trusted(&id(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % chunks))?
                .is_some()
        );
    }
    timed("ask for known chunks, scattered", scattered, start);
    index.close();
    Ok(())
}
