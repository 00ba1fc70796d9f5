//! A program that is killed or interrupted harms no backup, and the next run repeats little of its
//! work.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::matrix::copy;
use crate::support::program::{self, ALONE, World, finish, until, wait};
use crate::support::{Random, noise};

const MIB: usize = 1 << 20;
const SIZE: usize = 208 * MIB;
/// The number of bytes that each change writes.
const NEW: usize = 80 * MIB;
const KILLS: u32 = 30;

/// Runs a command several times, each time in a new world with a copy of the repository of
/// `original`, and kills it at a random time. The first run is not killed: it shows how long the
/// command takes. Calls `before` before each run, and `after` after it.
pub(super) fn each_killed(
    original: &World,
    args: &[&str],
    before: impl Fn(&World),
    after: impl Fn(&World),
) {
    let mut random = Random::new();
    let mut most = 0;
    for round in 0..8 {
        let world = World::empty();
        copy(&original.repository(), &world.repository());
        before(&world);
        let begun = Instant::now();
        let mut child = world.start(args);
        if round > 0 {
            thread::sleep(Duration::from_millis(random.below(most)));
            child.kill().unwrap();
        }
        wait(&mut child);
        if round == 0 {
            most = u64::try_from(begun.elapsed().as_millis()).unwrap();
        }
        after(&world);
    }
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_kill_at_any_moment_harms_no_backup() {
    let _alone = ALONE.lock();
    let mut random = Random::new();
    let world = World::new();
    let early = world.write("early", &noise(1, 3 * MIB));
    world.backup(&[&early]);
    let disk = world.write("disk.img", &noise(2, SIZE));
    let file = fs::File::options().write(true).open(&disk).unwrap();
    let args = ["backup", &disk, "-q"];
    let begun = Instant::now();
    world.ok(&["backup", &disk, "-q", "--dry-run"]);
    let most = u64::try_from(begun.elapsed().as_millis()).unwrap();

    let mut finished = 0;
    for kill in 1..=KILLS {
        let mut child = world.start(&args);
        thread::sleep(Duration::from_millis(random.below(most)));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            finished += 1;
            // Write new data, since a backup that stores nothing ends before the test can kill it.
            let at = random.below((SIZE - NEW) as u64);
            file.write_all_at(&noise(random.below(u64::MAX), NEW), at)
                .unwrap();
        }
        if kill % 10 == 0 {
            world.is_clean();
            world.restores("early", &early);
        }
    }
    eprintln!("{finished} of {KILLS} ended before they were killed");
    world.backup(&[&disk]);
    world.restores("disk.img", &disk);
    world.restores("early", &early);
    world.is_clean();
}

#[test]
fn a_backup_uses_the_data_that_a_killed_one_has_stored() {
    let world = World::new();
    for (round, signal) in [(1, Signal::KILL), (2, Signal::INT), (3, Signal::TERM)] {
        let disk = world.write("disk.img", &noise(100 + round, SIZE));
        let before = world.packs().len();
        let mut child = world.start(&["backup", &disk]);
        until(&mut child, || world.packs().len() >= before + 4);
        send(&child, signal);
        let ran = finish(child, &["backup"]);
        if signal != Signal::KILL {
            assert_eq!(ran.code, Some(130), "{ran:?}");
            assert!(
                ran.stderr.contains("it uses the data stored so far"),
                "{}",
                ran.stderr
            );
        }
        let summary = world.backup(&[&disk]);
        let new = summary["bytes_new"].as_u64().unwrap();
        assert!(new <= (SIZE - 96 * MIB) as u64, "{signal:?}: {summary}");
        world.restores("disk.img", &disk);
    }
    world.is_clean();
}

#[test]
fn a_signal_interrupts_a_backup_of_an_endless_stream() {
    let world = World::new();
    let mut child = world.command(&["backup", "-", "--volume", "s"]);
    let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let feed = thread::spawn(move || {
        let data = noise(3, 8 * MIB);
        // Write until the program closes the other end.
        while pipe.write_all(&data).is_ok() {}
    });
    // Wait until the cache has files. Then the program has opened its index and is about to read.
    until(&mut child, || {
        !program::files(&world.path("cache")).is_empty()
    });
    thread::sleep(Duration::from_millis(200));
    send(&child, Signal::INT);
    assert_eq!(wait(&mut child), Some(130));
    feed.join().unwrap();
    assert_eq!(world.ok(&["list"]), "no backups\n");
}

#[test]
fn a_signal_interrupts_a_backup_that_waits_for_its_stream() {
    let world = World::new();
    for begun in [&b""[..], b"a few bytes"] {
        let mut child = world.command(&["backup", "-", "--volume", "s"]);
        let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(begun).unwrap();
        until(&mut child, || {
            !program::files(&world.path("cache")).is_empty()
        });
        thread::sleep(Duration::from_millis(200));
        send(&child, Signal::INT);
        assert_eq!(wait(&mut child), Some(130));
        drop(pipe);
    }
    assert_eq!(world.ok(&["list"]), "no backups\n");
}

#[test]
fn a_signal_interrupts_a_backup_that_waits_for_the_rest_of_a_diff() {
    let world = World::new();
    let fifo = world.at("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let head = b"rbd diff v1\ns\0\0\x10\0\0\0\0\0w";
    for source in ["-", &fifo] {
        let mut child = world.command(&["backup", "--volume", "v", "--diff", source]);
        let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // Both ends of the pipe stay open until the program has ended.
        let mut named = None;
        if source == "-" {
            pipe.write_all(head).unwrap();
        } else {
            let fifo = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
            named.insert(fifo).write_all(head).unwrap();
        }
        until(&mut child, || {
            !program::files(&world.path("cache")).is_empty()
        });
        thread::sleep(Duration::from_millis(300));
        send(&child, Signal::INT);
        assert_eq!(wait(&mut child), Some(130), "{source}");
        drop((pipe, named));
        fs::remove_dir_all(world.path("cache")).unwrap();
    }
    assert_eq!(world.ok(&["list"]), "no backups\n");
}

#[test]
fn a_signal_that_is_ignored_at_the_start_does_not_interrupt() {
    let world = World::new();
    for (signal, name) in [(Signal::HUP, "HUP"), (Signal::INT, "INT")] {
        // nohup(1) ignores SIGHUP; a shell without job control ignores SIGINT in background jobs.
        for (disposition, code) in [("default", 130), ("ignore", 0)] {
            let args = ["backup", "-", "--volume", "s"];
            let mut child = Command::new("/usr/bin/env")
                .arg(format!("--{disposition}-signal={name}"))
                .arg(env!("CARGO_BIN_EXE_cuttlebone"))
                .args(args)
                .env_clear()
                .envs(world.environment.iter().map(|(k, v)| (k, v)))
                .current_dir(world.directory.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut pipe = child.stdin.take().unwrap();
            until(&mut child, || {
                !program::files(&world.path("cache")).is_empty()
            });
            thread::sleep(Duration::from_millis(200));
            send(&child, signal);
            thread::sleep(Duration::from_millis(500));
            // Ignore errors, since an interrupted program no longer reads.
            let _ = pipe.write_all(b"a few bytes");
            drop(pipe);
            assert_eq!(wait(&mut child), Some(code), "{disposition} {name}");
            fs::remove_dir_all(world.path("cache")).unwrap();
        }
    }
}

#[test]
fn a_restore_that_ends_early_leaves_no_target() {
    let world = World::new();
    let disk = world.write("disk.img", &noise(4, SIZE));
    world.backup(&[&disk]);
    for (name, signal) in [("a", Signal::KILL), ("b", Signal::INT), ("c", Signal::TERM)] {
        fs::create_dir(world.path(name)).unwrap();
        let target = world.at(&format!("{name}/target"));
        let mut child = world.start(&["restore", "disk.img", &target]);
        // Wait until a file has blocks. Then the program is writing its temporary file.
        until(&mut child, || {
            program::files(&world.path(name)).iter().any(|file| {
                use std::os::unix::fs::MetadataExt;
                file.metadata().is_ok_and(|meta| meta.blocks() > 0)
            })
        });
        send(&child, signal);
        let code = wait(&mut child);
        assert!(!fs::exists(&target).unwrap(), "{signal:?}");
        if signal != Signal::KILL {
            assert_eq!(code, Some(130));
            assert_eq!(program::files(&world.path(name)).len(), 0, "{signal:?}");
        }
    }
    // A closed pipe ends the restore, too.
    let mut child = world.start(&["restore", "disk.img", "-"]);
    drop(child.stdout.take());
    assert_eq!(wait(&mut child), Some(1));
    world.restores("disk.img", &disk);
}

#[test]
fn several_backups_at_once_share_a_repository_and_a_cache() {
    let world = World::new();
    let shared = noise(5, 16 * MIB);
    let disks: Vec<_> = (0..4)
        .map(|number| {
            let content = [&shared[..], &noise(10 + number, 16 * MIB)].concat();
            world.write(&format!("disk{number}"), &content)
        })
        .collect();
    for _ in 0..2 {
        let start = |disk: &String| world.start(&["backup", disk, "--reread"]);
        let children: Vec<_> = disks.iter().map(start).collect();
        for child in children {
            finish(child, &["backup"]).ok(&["backup"]);
        }
    }
    let listed = world.json(&["list"]);
    assert_eq!(listed.len(), 8);
    for (number, disk) in disks.iter().enumerate() {
        world.restores(&format!("disk{number}"), disk);
        world.restores(&format!("disk{number}~1"), disk);
    }
    world.is_clean();
    let unchanged = world.backup(&[&disks[0], "--reread"]);
    assert_eq!(unchanged["chunks_new"], 0);
}
