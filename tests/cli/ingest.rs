//! Tests `backup --diff` on a full disk, and with pipes that end early, are slow, or get no data.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use cuttlebone::format::{DiffHeader, DiffWriter};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::program::{World, finish, until, wait};
use crate::support::{SmallDisk, noise};

const MIB: usize = 1 << 20;

/// Returns a diff whose data begins at byte 1000 of an image of 300 MiB.
fn diff(from: Option<&str>, to: &str, data: &[u8]) -> Vec<u8> {
    let name = |name: &str| name.as_bytes().to_vec();
    let header = DiffHeader {
        from: from.map(name),
        to: Some(name(to)),
        size: 300 << 20,
        protected: None,
    };
    let mut writer = DiffWriter::new(Vec::new(), &header).unwrap();
    for (number, piece) in (0..).zip(data.chunks(4 * MIB)) {
        let offset = 1000 + number * (4 << 20);
        writer.extent(offset, piece.len() as u64).unwrap();
        writer.data(piece).unwrap();
    }
    writer.finish().unwrap()
}

/// Returns the image that results from applying diffs with these pieces of data in turn.
fn image(pieces: &[&[u8]]) -> Vec<u8> {
    let mut image = vec![0; 300 * MIB];
    for piece in pieces {
        image[1000..1000 + piece.len()].copy_from_slice(piece);
    }
    image
}

/// Creates a named pipe, and returns its path.
fn fifo(world: &World) -> String {
    let fifo = world.at("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    fifo
}

#[test]
fn a_backup_of_a_diff_fails_on_a_full_disk_and_succeeds_when_there_is_space() {
    let Some(disk) = SmallDisk::mount(90 << 10) else {
        return;
    };
    let mut world = World::new();
    world.set("CUTTLEBONE_REPOSITORY", disk.path().join("repo"));
    world.ok(&["init", "-q"]);
    let (small, large) = (noise(1, MIB), noise(2, 200 * MIB));
    let first = world.write("first", &diff(None, "a", &small));
    let second = world.write("second", &diff(Some("a"), "b", &large));
    let back_up_diff = |diff| ["backup", "--volume", "v", "--diff", diff];
    world.ok(&back_up_diff(&first));
    let mount = disk.path().to_str().unwrap();
    let piped = ["backup", "--volume", "v", "--diff", "-"];
    let from_file = world.run(&back_up_diff(&second));
    let from_pipe = world.run_with_stdin(&piped, fs::File::open(&second).unwrap());
    for ran in [from_file, from_pipe] {
        assert_eq!(ran.code, Some(1), "{ran:?}");
        for expected in [
            "error: could not store",
            mount,
            "free of 90.0 MiB",
            "free some space",
        ] {
            assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
        }
    }
    world.is_clean();
    assert_eq!(world.json(&["list"]).len(), 1);
    world.restores("v", &world.write("image", &image(&[&small])));

    disk.resize(400 << 10);
    let summary = world.json_one(&back_up_diff(&second), "summary");
    let new = summary["bytes_new"].as_u64().unwrap();
    assert!(
        new <= 168 << 20,
        "data stored by the failed runs was stored again: {summary}"
    );
    assert!(summary["existing"].is_null(), "{summary}");
    world.restores("v", &world.write("image", &image(&[&small, &large])));
    world.is_clean();
}

/// If `rbd export-diff` fails, the pipe contains only the beginning of a valid stream.
#[test]
fn a_truncated_diff_exits_with_21_and_commits_nothing() {
    let world = World::new();
    let data = noise(3, 20 * MIB);
    let (first, second) = (noise(4, MIB), diff(Some("a"), "b", &data));
    world.ok(&[
        "backup",
        "--volume",
        "v",
        "--diff",
        &world.write("first", &diff(None, "a", &first)),
    ]);
    let piped = ["backup", "--volume", "v", "--diff", "-"];
    let feed = |stream: &[u8]| {
        let mut child = world.command(&piped).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let stream = stream.to_vec();
        let feeder = thread::spawn(move || pipe.write_all(&stream));
        let ran = finish(child, &piped);
        // Writing fails if the command exits before it has read the whole stream.
        let _ = feeder.join().unwrap();
        ran
    };
    // Cut the stream within the header, after the header, within data, and before the end mark.
    for cut in [20, 40, 9 * MIB, second.len() - 1] {
        let ran = feed(&second[..cut]);
        assert_eq!(ran.code, Some(21), "{cut}: {ran:?}");
        for expected in [
            "the RBD diff standard input is damaged",
            "it is cut short ",
            &format!("(byte {cut})"),
            "next: nothing was applied; check whether the program that wrote it failed",
        ] {
            assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
        }
        assert_eq!(world.json(&["list"]).len(), 1);
    }
    let ran = feed(b"");
    assert_eq!(ran.code, Some(21), "{ran:?}");
    for expected in [
        "it is empty",
        "whether the program that should write the diff failed",
    ] {
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
    world.is_clean();

    feed(&second).ok(&piped);
    world.restores("v", &world.write("image", &image(&[&first, &data])));
    world.restores("v@a", &world.write("image", &image(&[&first])));
    let output = feed(&second).ok(&piped);
    assert!(output.contains("already"), "{output}");
    assert_eq!(world.json(&["list"]).len(), 2);
}

#[test]
fn a_signal_interrupts_a_command_that_waits_for_its_pipe() {
    let world = World::new();
    let fifo = fifo(&world);
    let diff = world.write("diff", &diff(None, "a", b"data"));
    let disk = world.write("disk", b"data");
    let merged = world.at("merged");
    for (source, args) in [
        (&fifo[..], &["backup", "--volume", "v", "--diff", &fifo][..]),
        (
            &fifo,
            &[
                "backup",
                &disk,
                "--volume",
                "v",
                "--extents",
                &fifo,
                "--from-nothing",
            ],
        ),
        (&fifo, &["diff", "inspect", &fifo]),
        ("-", &["diff", "inspect", "-"]),
        (&fifo, &["diff", "merge", &diff, &fifo, "-o", &merged]),
        ("-", &["diff", "merge", "-", &diff, "-o", &merged]),
    ] {
        let mut child = world.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let pipe = child.stdin.take();
        // Wait until the command has opened its source.
        let open = format!("/proc/{}/fd", child.id());
        let is_source =
            |link: fs::DirEntry| link.path().read_link().is_ok_and(|to| to.ends_with(source));
        until(&mut child, || {
            source == "-" || fs::read_dir(&open).is_ok_and(|links| links.flatten().any(is_source))
        });
        thread::sleep(Duration::from_millis(300));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        assert_eq!(wait(&mut child), Some(130), "{args:?}");
        drop(pipe);
        assert!(!world.path("merged").exists());
    }
    assert_eq!(world.ok(&["list"]), "no backups\n");
}

#[test]
fn a_diff_that_arrives_late_and_slowly_is_read_to_its_end() {
    let world = World::new();
    let fifo = fifo(&world);
    let data = noise(5, 5 * MIB);
    let args = ["backup", "--volume", "v", "--diff", &fifo];
    let child = world.start(&args);
    let stream = diff(None, "a", &data);
    let writer = {
        let fifo = fifo.clone();
        thread::spawn(move || {
            // Send nothing for longer than a single read of the command waits.
            thread::sleep(Duration::from_millis(500));
            let mut fifo = fs::OpenOptions::new().write(true).open(fifo).unwrap();
            for piece in stream.chunks(2 * MIB) {
                fifo.write_all(piece).unwrap();
                thread::sleep(Duration::from_millis(250));
            }
        })
    };
    finish(child, &args).ok(&args);
    writer.join().unwrap();
    world.restores("v", &world.write("image", &image(&[&data])));
}

#[test]
fn snapshot_names_cannot_send_control_characters_to_the_terminal() {
    let world = World::new();
    let long = "x y ".repeat(1024);
    let control_name = world.write("first", &diff(None, "\u{1b}[2J\n", b"a"));
    let long_name = world.write("second", &diff(None, &long, b"b"));
    let next = world.write("third", &diff(Some("\u{9b}2J"), "c", b"c"));
    for diff in [&control_name, &long_name] {
        world.ok(&["backup", "--volume", "v", "--diff", diff, "--new-content"]);
    }
    let output = world.fails(&["backup", "--volume", "v", "--diff", &next], 20);
    assert!(output.contains("of the snapshot “\\x9b2J”"), "{output}");
    assert!(
        output.contains("snapshots \\x1b[2J\\x0a, x y x"),
        "{output}"
    );
    assert!(
        output.contains(&format!("--from-snap '{long}' POOL")),
        "{output}"
    );
    assert!(!output.contains(['\u{1b}', '\u{9b}']), "{output}");
    assert_eq!(output.matches(&long).count(), 1, "{output}");
}
