//! A real disk: Debian on ext4, a day's changes to it, and the cost of a second backup.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use cuttlebone::base::is_zero;

use crate::support::program::{PASSWORD, World, same};
use crate::support::skip;

const CHUNK: usize = 64 << 10;

/// Runs a script in `tests/image/` for this image. Returns its standard error if it fails.
fn script(name: &str, image: &Path) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/image")
        .join(name);
    let output = Command::new("bash").arg(path).arg(image).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns a Python interpreter with the packages that the reader in Python needs. `None` if there
/// is none.
fn python() -> Option<PathBuf> {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    [kept, PathBuf::from("python3")].into_iter().find(|python| {
        let import = "import blake3, nacl, argon2, zstandard";
        let ran = Command::new(python).args(["-c", import]).output();
        ran.is_ok_and(|ran| ran.status.success())
    })
}

/// Returns the size in bytes of the changed chunks that are not zero, each compressed by itself.
fn changed_bytes(before: &Path, after: &Path) -> u64 {
    let (a, b) = (File::open(before).unwrap(), File::open(after).unwrap());
    let size = b.metadata().unwrap().len();
    let (mut old, mut new) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut total = 0;
    for at in (0..size).step_by(CHUNK) {
        let len = usize::try_from((size - at).min(CHUNK as u64)).unwrap();
        a.read_exact_at(&mut old[..len], at).unwrap();
        b.read_exact_at(&mut new[..len], at).unwrap();
        if old != new && !is_zero(&new) {
            total += zstd::bulk::compress(&new, 1).unwrap().len().min(CHUNK) as u64;
        }
    }
    total
}

#[test]
fn a_debian_image_and_its_change_are_restored_exactly() {
    let world = World::new();
    let (old, disk) = (world.path("old.img"), world.at("disk.img"));
    if let Err(why) = script("make.sh", &old) {
        return skip(&format!("no Debian can be made here: {why}"));
    }
    // Copy the image with its holes.
    let copied = Command::new("cp")
        .arg("--sparse=always")
        .arg(&old)
        .arg(&disk)
        .status();
    assert!(copied.unwrap().success());

    let first = world.backup(&[&disk]);
    if let Err(why) = script("change.sh", Path::new(&disk)) {
        return skip(&format!("the image cannot be changed here: {why}"));
    }
    let second = world.backup(&[&disk]);
    assert_eq!(second["base"], first["backup_id"]);
    let stored = second["bytes_stored"].as_u64().unwrap();
    let alone = changed_bytes(&old, Path::new(&disk));
    eprintln!("the change was stored in {stored} bytes; its chunks take {alone} one by one");
    assert!(
        stored * 10 <= alone * 13,
        "{stored} bytes stored, {alone} changed"
    );
    let third = world.backup(&[&disk, "--reread"]);
    assert_eq!(
        (&third["chunks_new"], &third["bytes_changed"]),
        (&0.into(), &0.into())
    );

    // A file system may allocate the blocks of a file only when it writes the file to the disk. The
    // list of the file's extents may take an additional block.
    let blocks = |path: &Path| {
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        file.metadata().unwrap().blocks()
    };
    for (backup, source) in [
        ("disk.img~2", old.as_path()),
        ("disk.img", Path::new(&disk)),
    ] {
        let target = world.path("restored.img");
        world.ok(&["restore", backup, target.to_str().unwrap(), "-q"]);
        assert!(same(&target, source), "{backup}");
        assert!(
            blocks(&target) <= blocks(source) + 16,
            "{backup}: {} blocks",
            blocks(&target)
        );
        fs::remove_file(target).unwrap();
    }
    world.is_clean();
    an_independent_reader_agrees(&world, &old, Path::new(&disk));
}

/// Asserts that the reader in Python, written from docs/format.md alone, restores the same bytes.
#[track_caller]
fn an_independent_reader_agrees(world: &World, old: &Path, disk: &Path) {
    let Some(python) = python() else {
        return skip("there is no Python with the packages of tests/reader/requirements.txt");
    };
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader/read_backup.py");
    let read = |args: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(&reader).arg(world.repository()).args(args);
        let output = command
            .env("CUTTLEBONE_PASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(read(&["--check"]).lines().count(), 3);
    let first = world.json_one(&["show", "disk.img~2"], "backup")["backup_id"].clone();
    for (which, source) in [
        (["--backup", first.as_str().unwrap()], old),
        (["--volume", "disk.img"], disk),
    ] {
        let target = world.path("read.img");
        read(&[&which[..], &["-o", target.to_str().unwrap()]].concat());
        assert!(same(&target, source), "{which:?}");
    }
}
