//! `diff export` and `restore --format rbd-diff`.

use std::fs;
use std::process::Stdio;

use crate::rbd::{apply, read};

use crate::support::noise;
use crate::support::program::{self, World};

/// Returns a world with two backups of a volume, and their contents.
fn world() -> (World, Vec<u8>, Vec<u8>) {
    let world = World::new();
    let mut first = vec![0; (9 << 20) + 700];
    first[1 << 20..3 << 20].copy_from_slice(&noise(1, 2 << 20));
    first[9 << 20..].fill(7);
    let mut second = first.clone();
    second.resize(12 << 20, 0);
    second[(1 << 20) + 5..(1 << 20) + 500].fill(9);
    second[2 << 20..3 << 20].fill(0);
    world.backup(&[&world.write("disk", &first), "--volume", "web1"]);
    world.backup(&[&world.write("disk", &second), "--volume", "web1"]);
    (world, first, second)
}

fn applied(mut image: Vec<u8>, stream: &[u8]) -> Vec<u8> {
    apply(&mut image, &read(stream).unwrap()[0]);
    image
}

#[test]
fn an_exported_diff_turns_the_earlier_image_into_the_later_one() {
    let (world, first, second) = world();
    let args = [
        "diff",
        "export",
        "--from",
        "web1~1",
        "web1",
        "--from-snapshot",
        "mon@1",
    ];
    let ran = world.run(&args);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stderr.contains("exported changes since"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("from mon@1 to (head)"),
        "{}",
        ran.stderr
    );
    assert!(applied(first.clone(), &ran.stdout) == second);
    assert!(ran.stdout.len() < 200 << 10, "{} bytes", ran.stdout.len());

    // Export the reverse diff to a file.
    let file = world.at("back.diff");
    let args = [
        "diff",
        "export",
        "--from",
        "web1",
        "web1~1",
        "--from-snapshot",
        "tue",
        "--to-snapshot",
        "mon",
        "-o",
        &file,
    ];
    let summary = world.json_one(&args, "summary");
    let stream = fs::read(&file).unwrap();
    assert!(applied(second, &stream) == first);
    assert_eq!(
        (&summary["from"], &summary["to"]),
        (&"tue".into(), &"mon".into())
    );
    assert_eq!(summary["bytes_written"], stream.len());
    assert_eq!(
        (&summary["size"], &summary["volume"]),
        (&first.len().into(), &"web1".into())
    );

    // An existing file is kept without --force.
    let output = world.fails(&args, 1);
    assert!(
        output.contains("--force") && !output.contains("--in-place"),
        "{output}"
    );
    fs::write(&file, "old").unwrap();
    world.ok(&[&args[..], &["--force", "-q"]].concat());
    assert!(fs::read(&file).unwrap() == stream);
    let output = world.ok(&["diff", "inspect", &file]);
    assert!(output.contains("whole"), "{output}");
}

#[test]
fn a_backup_restores_as_a_full_diff() {
    let (world, first, second) = world();
    let file = world.at("full.diff");
    world.ok(&["restore", "web1", &file, "--format", "rbd-diff"]);
    let stream = fs::read(&file).unwrap();
    assert!(applied(Vec::new(), &stream) == second);
    let ran = world.run(&["restore", "web1~1", "-", "--format", "rbd-diff", "-q"]);
    assert_eq!((ran.code, &ran.stderr[..]), (Some(0), ""));
    assert!(applied(Vec::new(), &ran.stdout) == first);
    let ran = world.run(&["diff", "export", "web1", "-q"]);
    assert!(ran.code == Some(0) && ran.stdout == stream);

    world.fails(
        &[
            "restore",
            "web1",
            &file,
            "--format",
            "rbd-diff",
            "--in-place",
        ],
        2,
    );
    world.fails(&["restore", "web1", &file, "--format", "qcow2"], 2);
    world.fails(
        &["restore", "web1", "-", "--format", "rbd-diff", "--json"],
        2,
    );
    let output = world.fails(&["restore", "web1", &file, "--format", "rbd-diff"], 1);
    assert!(
        output.contains("--force") && !output.contains("--in-place"),
        "{output}"
    );
    world.ok(&["restore", "web1", &world.at("raw"), "--format", "raw"]);
    assert!(fs::read(world.at("raw")).unwrap() == second);
}

#[test]
fn an_impossible_export_is_refused_and_leaves_no_file() {
    let (world, ..) = world();
    world.backup(&[&world.write("other", &noise(2, 9000))]);
    let dump = world.write("dump", b"a stream");
    let piped = fs::File::open(dump).unwrap();
    world
        .run_with_stdin(&["backup", "-", "--volume", "dump.sql"], piped)
        .ok(&[]);
    let file = world.at("new.diff");
    let refused = |args: &[&str], code| {
        let output = world.fails(&[&["diff", "export", "-o", &file], args].concat(), code);
        assert!(!world.path("new.diff").exists());
        output
    };
    let output = refused(&["--from", "other", "web1"], 20);
    assert!(
        output.contains("“other”") && output.contains("“web1”"),
        "{output}"
    );
    let output = refused(&["dump.sql"], 20);
    assert!(
        output.contains("“dump.sql”") && output.contains("stream"),
        "{output}"
    );
    let output = refused(&["--from", "web1~1", "web1"], 20);
    assert!(output.contains("--from-snapshot NAME"), "{output}");
    refused(&["web1@mon"], 24);
    refused(&["web1", "--from-snapshot", "mon"], 2);
    refused(&["--from", "web1~1", "web1", "--from-snapshot", ""], 2);
    let long = "x".repeat(4097);
    let output = refused(&["web1", "--to-snapshot", &long], 1);
    assert!(output.contains("4096"), "{output}");

    // If packs are damaged, the exported stream lacks its end record, and no file is left.
    for pack in world.packs() {
        program::damage(&pack);
    }
    let ran = world.run(&["diff", "export", "web1"]);
    assert_eq!(ran.code, Some(21), "{ran:?}");
    assert!(read(&ran.stdout).is_err());
    refused(&["web1"], 21);
    let temporary = |name: &str| name.contains(".cuttlebone-");
    let mut names = fs::read_dir(world.directory.path()).unwrap();
    assert!(!names.any(|entry| temporary(entry.unwrap().file_name().to_str().unwrap())));
}

#[test]
fn export_ends_when_its_reader_closes_the_pipe() {
    let (world, ..) = world();
    let mut command = world.command(&["diff", "export", "web1"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = command.stdout(Stdio::from(writer)).spawn().unwrap();
    let ran = program::finish(child, &["diff", "export"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("standard output"), "{}", ran.stderr);
}
