//! Memory and time do not grow with the size of an image.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Stdio;
use std::thread;

use crate::support::program::{self, ALONE, Ran, World};
use crate::support::{noise, skip};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const PEAK_MAX: u64 = 200 * MIB;

#[track_caller]
fn assert_little_memory(ran: &Ran, what: &str) {
    assert_eq!(ran.code, Some(0), "{what}: {ran:?}");
    eprintln!("{what}: {} MiB, {:?}", ran.peak / MIB, ran.took);
    assert!(ran.peak <= PEAK_MAX, "{what} took {} MiB", ran.peak / MIB);
}

#[test]
fn memory_stays_small_for_an_image_of_8_gib() {
    let _alone = ALONE.lock();
    // Use a key of the default cost, since deriving it takes memory, too.
    let world = World::empty();
    world.ok(&["init", "-q"]);
    let disk = world.at("disk.img");
    let file = File::create(&disk).unwrap();
    file.set_len(8 * GIB).unwrap();
    // 300 MiB of data, spread over the image.
    for piece in 0..75 {
        file.write_all_at(&noise(piece, 4 << 20), piece * 109 * MIB + piece * 4096)
            .unwrap();
    }
    assert_little_memory(&world.run(&["backup", &disk]), "backup");
    assert_little_memory(&world.run(&["backup", &disk, "--reread"]), "unchanged");
    let target = world.at("target");
    assert_little_memory(&world.run(&["restore", "disk.img", &target]), "restore");
    assert!(program::same(&disk, &target));
    assert_little_memory(
        &world.run(&["restore", "disk.img", &target, "--in-place"]),
        "restore in place",
    );
    assert_little_memory(&world.run(&["check", "--read-data"]), "check");
}

#[test]
fn a_volume_of_16_tib_costs_only_the_data_in_it() {
    let _alone = ALONE.lock();
    let world = World::new();
    let disk = world.at("disk.img");
    let file = File::create(&disk).unwrap();
    // Stay below 16 TiB: with blocks of 4 KiB, the largest file on ext4 is 16 TiB minus one block.
    let size = 16 * TIB - MIB;
    if file.set_len(size).is_err() {
        skip("the file system takes no file of 16 TiB");
        return;
    }
    let piece = |seed| noise(seed, 1 << 20);
    let places = [0, 7 * TIB + 12_345, size - MIB];
    for (seed, at) in (1..).zip(places) {
        file.write_all_at(&piece(seed), at).unwrap();
    }
    let back_up = || {
        let ran = world.run(&["backup", &disk, "--json"]);
        assert_little_memory(&ran, "backup");
        let lines = program::json_lines(&ran.ok(&["backup"]));
        let read = lines.last().unwrap()["bytes_read"].as_u64().unwrap();
        assert!(read <= 8 * MIB, "{read} bytes read");
    };
    back_up();
    file.write_all_at(&piece(4), 3 * TIB).unwrap();
    back_up();
    let compared = world.json(&["compare", "disk.img~1", "disk.img"]);
    assert_eq!(
        (&compared[0]["offset"], &compared[0]["length"]),
        (&(3 * TIB).into(), &MIB.into())
    );
    assert_eq!(compared.len(), 2);

    let target = world.at("target");
    for args in [
        &["restore", "disk.img~1", &target][..],
        &["restore", "disk.img", &target, "--in-place"],
    ] {
        assert_little_memory(&world.run(args), "restore");
    }
    let restored = File::open(&target).unwrap();
    let metadata = restored.metadata().unwrap();
    assert_eq!(metadata.len(), size);
    assert!(metadata.blocks() <= file.metadata().unwrap().blocks() + 256);
    for (seed, at) in (1..).zip(places.into_iter().chain([3 * TIB])) {
        let mut bytes = vec![0; 1 << 20];
        restored.read_exact_at(&mut bytes, at).unwrap();
        assert!(bytes == piece(seed), "at {at}");
    }
    world.is_clean();
}

/// Backs up a diff that is written while it is read.
#[track_caller]
fn ingest(
    world: &World,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> Ran {
    let args = ["backup", "--volume", "v", "--diff", "-"];
    let mut child = world.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = io::BufWriter::with_capacity(1 << 20, child.stdin.take().unwrap());
    let feed = thread::spawn(move || {
        write(&mut pipe)?;
        pipe.flush()
    });
    let ran = program::finish(child, &args);
    feed.join().unwrap().unwrap();
    ran
}

/// The diff sets every second byte of some leaves, so it has the maximum number of extents.
#[test]
fn memory_stays_small_for_a_diff_of_single_bytes() {
    const LEAVES: u64 = 3;
    const LEAF: u64 = 4 * MIB;
    let _alone = ALONE.lock();
    let world = World::new();
    let number = |value: u64| value.to_le_bytes();
    let full = [&b"rbd diff v1\nt\x01\0\0\0as"[..], &number(TIB), b"e"].concat();
    assert_little_memory(
        &ingest(&world, move |pipe| pipe.write_all(&full)),
        "full diff",
    );
    let crumbs = move |pipe: &mut dyn Write| {
        pipe.write_all(b"rbd diff v1\nf\x01\0\0\0at\x01\0\0\0bs")?;
        pipe.write_all(&number(TIB))?;
        for at in (0..LEAVES * LEAF).step_by(2) {
            let mut record = [b'w'; 18];
            record[1..9].copy_from_slice(&number(at));
            record[9..17].copy_from_slice(&number(1));
            pipe.write_all(&record)?;
        }
        pipe.write_all(b"e")
    };
    let ran = ingest(&world, crumbs);
    assert_little_memory(&ran, "diff of single bytes");
    assert!(ran.peak < 100 * MIB, "{ran:?}");
    // Compare only the bytes where the data ends and the hole begins.
    let file = world.at("sparse");
    world.ok(&["restore", "v", &file, "-q"]);
    let mut front = vec![0; 8];
    File::open(&file)
        .unwrap()
        .read_exact_at(&mut front, LEAVES * LEAF - 6)
        .unwrap();
    assert_eq!(front, b"w\0w\0w\0\0\0");
}
