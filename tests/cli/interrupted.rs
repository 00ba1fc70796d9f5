//! Restores in place that are interrupted, or whose target another program changes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Child;

use super::failures::assert_error;
use crate::support::program::{World, finish, until, wait};
use crate::support::{LoopDevice, noise};

const MIB: usize = 1 << 20;

/// A world with a backup of a volume “v”, and its content.
fn backed_up() -> (World, Vec<u8>) {
    let world = World::new();
    let content = noise(1, 12 * MIB);
    world.backup(&[&world.write("disk.img", &content), "--volume", "v"]);
    (world, content)
}

/// Starts a restore in place that takes some seconds, and waits until its first bytes are written.
fn begin(world: &World, target: &str, content: &[u8]) -> Child {
    let args = [
        "restore",
        "v",
        target,
        "--in-place",
        "--limit-download",
        "4M",
    ];
    let mut child = world.start(&args);
    let file = File::open(target).unwrap();
    until(&mut child, || {
        let mut first = vec![0; 4096];
        file.read_exact_at(&mut first, 0).unwrap();
        first == content[..4096]
    });
    child
}

#[track_caller]
fn killed_and_then_continued(world: &World, target: &str, content: &[u8]) {
    let mut child = begin(world, target, content);
    child.kill().unwrap();
    wait(&mut child);
    assert!(
        fs::read(target).unwrap() != content,
        "the restore was complete before it was killed"
    );

    let texts = [target, "an incomplete restore of backup", "“v”"];
    let refused = world.fails(&["backup", target, "--volume", "w"], 1);
    let expected = [&texts[..], &["--in-place", "--allow-interrupted-restore"]].concat();
    assert_error(&refused, &expected);
    world.backup(&[target, "--volume", "w", "--allow-interrupted-restore"]);

    let again = ["restore", "v", target, "--in-place"];
    let ran = world.run(&again);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        texts.iter().all(|part| ran.stderr.contains(part)),
        "{}",
        ran.stderr
    );
    assert!(fs::read(target).unwrap() == content);

    let ran = world.run(&again);
    assert_eq!(
        (ran.code, ran.stderr.contains("incomplete")),
        (Some(0), false)
    );
    world.backup(&[target, "--volume", "w"]);
}

#[test]
fn an_interrupted_restore_to_a_file_is_reported_until_it_is_completed() {
    let (world, content) = backed_up();
    let target = world.write("target", &noise(2, content.len()));
    killed_and_then_continued(&world, &target, &content);
    assert!(!world.path(".target.cuttlebone-restore").exists());
}

#[test]
fn an_interrupted_restore_to_a_device_is_reported_until_it_is_completed() {
    let (world, content) = backed_up();
    let Some(device) = LoopDevice::new(&noise(3, content.len())) else {
        return;
    };
    killed_and_then_continued(&world, &device.device, &content);
    let marks = world.path("home/.local/state/cuttlebone/restores");
    assert_eq!(fs::read_dir(marks).unwrap().count(), 0);
}

#[test]
fn a_restore_that_replaces_the_file_removes_the_mark_of_an_interrupted_restore() {
    let (world, content) = backed_up();
    let target = world.write("target", &noise(4, content.len()));
    let mut child = begin(&world, &target, &content);
    child.kill().unwrap();
    wait(&mut child);
    world.ok(&["restore", "v", &target, "--force"]);
    assert!(fs::read(&target).unwrap() == content);
    world.backup(&[&target, "--volume", "w"]);
}

#[test]
fn a_restore_that_writes_nothing_leaves_no_mark() {
    let (world, content) = backed_up();
    let target = world.write("target", &content);
    world.ok(&["restore", "v", &target, "--in-place"]);
    for pack in world.packs() {
        fs::remove_file(pack).unwrap();
    }
    let _ = fs::remove_dir_all(world.path("cache"));
    world.fails(&["restore", "v", &target, "--in-place"], 21);
    assert!(!world.path(".target.cuttlebone-restore").exists());
}

#[test]
fn another_program_that_writes_to_the_target_is_noticed() {
    let (world, content) = backed_up();
    let args = ["a restore in place"];

    // The other program keeps the file open, and overwrites restored data.
    let target = world.write("kept open", &noise(5, content.len()));
    let other = File::options().write(true).open(&target).unwrap();
    let child = begin(&world, &target, &content);
    other.write_all_at(b"other", 100).unwrap();
    let ran = finish(child, &args);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let expected = ["another program changed the target at byte 0", "--in-place"];
    assert_error(&ran.stderr, &expected);

    // The other program closes the file.
    let target = world.write("closed", &noise(6, content.len()));
    let child = begin(&world, &target, &content);
    drop(File::options().write(true).open(&target).unwrap());
    let ran = finish(child, &args);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_error(
        &ran.stderr,
        &[&target, "another program had it open for writing"],
    );
    assert!(world.path(".closed.cuttlebone-restore").exists());
    world.ok(&["restore", "v", &target, "--in-place"]);
    assert!(fs::read(&target).unwrap() == content);
}
