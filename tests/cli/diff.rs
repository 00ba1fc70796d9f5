//! The commands below `diff`, which need no repository.

use std::fs::{self, File};

use crate::rbd::{apply, bytes, fixture, read};

use crate::support::program::{World, json_lines};

/// Returns a world whose environment has no repository and no password.
fn world() -> World {
    let mut world = World::empty();
    world.environment.retain(|(name, _)| name == "PATH");
    world.set("HOME", "/nonexistent");
    world
}

fn path(name: &str) -> String {
    fixture(name).to_str().unwrap().to_owned()
}

#[test]
fn inspect_shows_header_and_extents_of_a_diff() {
    let world = world();
    let output = world.ok(&["diff", "inspect", &path("std-inc-s1-s7.diff")]);
    for expected in [
        "From     s1\n",
        "To       s7-regrown\n",
        "Size     6.0 MiB (6291456 bytes)\n",
        "Data     4.6 KiB (4685 bytes), 3 extents\n",
        "Zeros    100.0 KiB (102427 bytes), 4 extents\n",
        "2 leaves of 4 MiB, 7 chunks of 64 KiB; bytes 0 to 5902335\n",
        "version 1, 4.7 KiB (4848 bytes)\n  whole\n",
    ] {
        assert!(
            output.contains(expected),
            "{expected:?} is not in\n{output}"
        );
    }
    let piped = File::open(fixture("std-full-head.diff")).unwrap();
    let ran = world.run_with_stdin(&["diff", "inspect", "-", "--json"], piped);
    let lines = json_lines(&ran.ok(&[]));
    let [diff, stream] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(diff["message_type"], "diff");
    assert_eq!((&diff["from"], &diff["to"]), (&().into(), &().into()));
    assert_eq!(
        (&diff["size"], &diff["extents_data"]),
        (&6_291_456.into(), &5.into())
    );
    assert_eq!(diff["whole"], true);
    assert_eq!(stream["message_type"], "diff_stream");
    assert_eq!(
        (&stream["whole"], &stream["bytes"]),
        (&true.into(), &240_235.into())
    );
}

#[test]
fn inspect_shows_each_snapshot_of_an_exported_image() {
    let world = world();
    let output = world.ok(&["diff", "inspect", &path("meta.rbd2")]);
    for expected in [
        "Objects   64.0 KiB",
        "colour = blau ✓",
        "(head)",
        "layering, ",
    ] {
        assert!(
            output.contains(expected),
            "{expected:?} is not in\n{output}"
        );
    }
    assert!(
        output.lines().all(|line| line.chars().count() <= 80),
        "{output}"
    );
    let lines = world.json(&["diff", "inspect", &path("std.rbd2")]);
    let of = |kind: &str| {
        lines
            .iter()
            .filter(|line| line["message_type"] == kind)
            .count()
    };
    assert_eq!((of("diff_image"), of("diff"), of("diff_stream")), (1, 8, 1));
    assert_eq!(lines[6]["to"], "snäp ✓ 日本 ́");
}

#[test]
fn inspect_prints_the_parts_that_it_could_read_and_then_the_damage() {
    let world = world();
    let file = path("bad/cut-data.diff");
    let ran = world.run(&["diff", "inspect", &file]);
    assert_eq!(ran.code, Some(21), "{ran:?}");
    let output = String::from_utf8(ran.stdout).unwrap();
    assert!(
        output.contains("To       x\n") && output.contains("damaged: "),
        "{output}"
    );
    for expected in [
        "is damaged",
        "cut short in the data of an extent (byte 5044)",
    ] {
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
    let ran = world.run(&["diff", "inspect", &file, "--json"]);
    assert_eq!(ran.code, Some(21), "{ran:?}");
    let lines = json_lines(std::str::from_utf8(&ran.stdout).unwrap());
    assert_eq!(
        (&lines[0]["whole"], &lines[1]["whole"]),
        (&false.into(), &false.into())
    );
    assert_eq!(json_lines(&ran.stderr)[0]["code"], 21);

    for (name, code) in [
        ("bad/wrong-banner.diff", 1),
        // An empty file counts as a diff that is cut short before its first byte.
        ("bad/empty-file.diff", 21),
        ("manifest.json", 1),
    ] {
        let output = world.fails(&["diff", "inspect", &path(name)], code);
        assert!(output.contains("cannot be used as an RBD diff"), "{output}");
    }
    assert!(
        world
            .fails(&["diff", "inspect", "nowhere"], 1)
            .contains("nowhere")
    );
    assert!(
        world
            .fails(&["diff", "inspect", "."], 1)
            .contains("a directory")
    );
    // This snapshot name is not UTF-8.
    let line = &world.json(&["diff", "inspect", &path("bad/name-not-utf8.diff")])[0];
    assert_eq!(line["to"]["hex"], "fffe");
}

#[test]
fn inspect_does_not_allocate_the_size_that_a_stream_states() {
    let world = world();
    let number = |value: u64| value.to_le_bytes();
    let v1 = [
        &b"rbd diff v1\ns"[..],
        &number(u64::MAX),
        b"w",
        &number(0),
        &number(1 << 62),
        b"data",
    ];
    let v2 = [&b"rbd image v2\n?"[..], &number(1 << 62), b"data"];
    for (name, stream) in [("v1", v1.concat()), ("v2", v2.concat())] {
        let file = world.write(name, &stream);
        for args in [
            &["diff", "inspect", &file][..],
            &["diff", "merge", &file, "-o", "-"],
        ] {
            let ran = world.run(args);
            assert_eq!(ran.code, Some(21), "{args:?}: {ran:?}");
            assert!(ran.peak < 64 << 20, "{args:?}: {ran:?}");
        }
    }
}

#[test]
fn merge_makes_one_diff_of_several() {
    let world = world();
    let inputs = ["std-full-s1.diff", "std-inc-s1-s2.diff"].map(path);
    let merged = world.at("merged.diff");
    let args = ["diff", "merge", &inputs[0], &inputs[1], "-o", &merged];
    let output = world.ok(&args);
    assert!(output.contains("merged 2 diffs into"), "{output}");
    let result = fs::read(&merged).unwrap();
    let image = |stream: &[u8]| {
        let mut image = Vec::new();
        apply(&mut image, &read(stream).unwrap()[0]);
        image
    };
    assert!(image(&result) == image(&bytes("std-full-s2.diff")));

    // An existing file is kept without --force.
    let output = world.fails(&args, 1);
    assert!(
        output.contains("--force") && !output.contains("--in-place"),
        "{output}"
    );
    assert_eq!(fs::read(&merged).unwrap(), result);
    fs::write(&merged, "old").unwrap();
    assert_eq!(world.ok(&[&args[..], &["--force", "-q"]].concat()), "");
    assert_eq!(fs::read(&merged).unwrap(), result);

    // Merge from standard input to standard output.
    let piped = File::open(&inputs[0]).unwrap();
    let args = ["diff", "merge", "-", &inputs[1], "-o", "-"];
    let ran = world.run_with_stdin(&args, piped);
    assert_eq!((ran.code, &ran.stdout), (Some(0), &result));
    assert!(ran.stderr.contains("merged 2 diffs"), "{}", ran.stderr);

    let summary = world.json_one(
        &[
            "diff",
            "merge",
            &inputs[1],
            "-o",
            &world.at("copy"),
            "--force",
        ],
        "summary",
    );
    assert_eq!(
        (&summary["from"], &summary["to"]),
        (&"s1".into(), &"s2".into())
    );
}

#[test]
fn merge_refuses_diffs_that_do_not_follow_each_other_and_leaves_no_file() {
    let world = world();
    let (first, third) = (
        path("std-inc-s1-s2.diff"),
        path("std-inc-s3-s4-shrink.diff"),
    );
    let target = world.at("merged");
    let output = world.fails(&["diff", "merge", &first, &third, "-o", &target], 20);
    assert!(
        output.contains("“s3-grown”") && output.contains("“s2”"),
        "{output}"
    );
    let cut = path("bad/no-end.diff");
    let output = world.fails(&["diff", "merge", &cut, "-o", &target], 21);
    assert!(
        output.contains(&cut) && output.contains("byte 8253"),
        "{output}"
    );
    assert!(
        world
            .fails(&["diff", "merge", "-", "-", "-o", &target], 2)
            .contains("two diffs")
    );
    assert!(
        world
            .fails(&["diff", "merge", &first], 2)
            .contains("--output")
    );
    world.fails(&["diff", "merge", &first, "-o", "-", "--force"], 2);
    world.fails(&["diff", "merge", &first, "-o", "-", "--json"], 2);
    let image = File::open(fixture("meta.rbd2")).unwrap();
    let ran = world.run_with_stdin(&["diff", "merge", "-", "-o", &target], image);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("regular file"), "{}", ran.stderr);
    assert_eq!(fs::read_dir(world.directory.path()).unwrap().count(), 0);
}
