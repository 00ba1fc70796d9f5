//! Measures a long log. The argument is the number of objects (default one million). Writes entries
//! that add these objects and remove a tenth of them again. Then loads the log, lists its objects,
//! and appends to it. Prints times, bytes and the peak memory of the process.
//!
//! `cargo bench --bench log -- 1000000`

#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]
#![expect(clippy::cast_precision_loss, reason = "rounded figures")]

mod memory;

use std::sync::Arc;
use std::time::Instant;

use cuttlebone::base::{ByteSize, CHUNK_SIZE_DEFAULT, ObjectHash, Silent};
use cuttlebone::crypto::KdfParams;
use cuttlebone::format::{LogItem, LogKind, SlotInfo};
use cuttlebone::repo::{InitOptions, Log, NewEntry, NewKey, Repository, Worker};
use cuttlebone::storage::LocalBackend;

use memory::peak_memory;

/// The number of objects that one entry adds. If `head` runs each night after some large backups,
/// its entry adds about as many objects.
const ADDED: u64 = 2_000;
const WORKER: Worker<'static> = Worker {
    host: None,
    tool: "bench",
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // cargo bench adds its own arguments.
    let objects: u64 = std::env::args()
        .find_map(|word| word.parse().ok())
        .unwrap_or(1_000_000);
    let directory = tempfile::tempdir()?;
    let store = directory.path().join("repository");
    let backend = Arc::new(LocalBackend::create(store.clone())?);
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

    let mut log = Log::load(&project)?;
    let start = Instant::now();
    let mut entries = 0;
    for first in (0..objects).step_by(usize::try_from(ADDED)?) {
        let end = objects.min(first + ADDED);
        let entry = NewEntry {
            added: (first..end).map(item).collect(),
            // Each entry removes a tenth of the objects that the previous entry added.
            removed: (first.saturating_sub(ADDED)..first)
                .filter(|number| number % 10 == 0)
                .map(item)
                .collect(),
            ..NewEntry::default()
        };
        log.append(&project, entry, WORKER)?;
        entries += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{objects} objects in {entries} entries: {:.2} ms an entry, peak memory {}",
        seconds * 1e3 / f64::from(entries),
        peak_memory()
    );
    drop(log);
    let folder = store
        .join("projects")
        .join(project.id.to_string())
        .join("log");
    let mut bytes = 0;
    for file in folder.read_dir()? {
        bytes += file?.metadata()?.len();
    }
    let named = objects + objects / 10;
    println!(
        "{} in the store, {:.1} bytes an object that is added or removed",
        ByteSize(bytes),
        bytes as f64 / named as f64
    );

    let timed = |what: &str, start: Instant| {
        println!(
            "{what:36} {:8.3} s   peak memory {}",
            start.elapsed().as_secs_f64(),
            peak_memory()
        );
    };
    let start = Instant::now();
    let mut log = Log::load(&project)?;
    timed("load and verify", start);
    let start = Instant::now();
    let set = log.set();
    timed("list the objects that remain", start);
    println!("{} objects", set.len());
    drop(set);
    let start = Instant::now();
    let entry = NewEntry {
        added: (objects..objects + ADDED).map(item).collect(),
        ..NewEntry::default()
    };
    log.append(&project, entry, WORKER)?;
    timed("append an entry", start);
    Ok(())
}

/// Returns a log item that names a pack. The pack itself does not exist.
fn item(number: u64) -> LogItem {
    LogItem {
        kind: LogKind::ChunkPack,
        hash: ObjectHash::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes()),
    }
}
