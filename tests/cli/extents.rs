//! `backup --extents`: lists of changed extents in all forms, and files that are not lists.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::rbd::fixture;
use crate::support::noise;
use crate::support::program::World;

const MIB: usize = 1 << 20;

/// Returns a world with a backup of an image of 8 MiB in the volume `v`, and the path of the image.
fn world() -> (World, String) {
    let world = World::new();
    let mut content = noise(1, 2 * MIB);
    content.resize(8 * MIB, 0);
    let image = world.write("disk.img", &content);
    world.backup(&[&image, "--volume", "v"]);
    (world, image)
}

fn change(image: &str, at: u64) {
    let file = File::options().write(true).open(image).unwrap();
    file.write_all_at(&noise(at, 100), at).unwrap();
}

#[test]
fn lists_of_all_forms_name_the_chunks_that_may_have_changed() {
    let (world, image) = world();
    for (number, form) in (0..).zip(["json", "xml", "txt"]) {
        change(&image, 130_560 + number);
        change(&image, (5 << 20) + 16_000 + number);
        let list = fixture(&format!("std-diff-s1-s2.{form}"));
        let list = list.to_str().unwrap();
        let args = [
            "backup",
            &image,
            "--volume",
            "v",
            "--base",
            "v",
            "--extents",
        ];
        let summary = world.json_one(
            &[&args[..], &[list, "--verify-sample", "1000"]].concat(),
            "summary",
        );
        // The image has 128 chunks. The extents touch the chunks 0, 1, 20, 40, 41 and 80.
        assert_eq!(summary["bytes_read"], 128 * 65_536);
        assert_eq!(summary["chunks_verified"], 122);
        assert_eq!(summary["bytes_changed"], 2 * 65_536);
        assert!(summary["base"].is_string());
        world.restores("v", &image);
    }

    change(&image, 0);
    let list = File::open(fixture("std-diff-s1-s2.json")).unwrap();
    let args = [
        "backup",
        &image,
        "--volume",
        "v",
        "--base",
        "v",
        "--extents",
        "-",
    ];
    let output = world.run_with_stdin(&args, list).ok(&args);
    assert!(
        output.contains("  64 chunks outside the list compared with the base\n"),
        "{output}"
    );
    world.restores("v", &image);
    world.is_clean();
}

#[test]
fn a_list_that_omits_a_change_exits_with_20_and_commits_nothing() {
    let (world, image) = world();
    change(&image, 3 << 20);
    let list = world.write("list", b"[]");
    let args = [
        "backup",
        &image,
        "--volume",
        "v",
        "--base",
        "v",
        "--extents",
        &list,
        "--verify-sample",
        "128",
    ];
    let output = world.fails(&args, 20);
    for expected in [
        "differs from backup ",
        "65536 bytes from 3145728 on, which are not in the list of extents",
        "next: nothing was stored; ",
        "without --extents",
    ] {
        assert!(
            output.contains(expected),
            "{expected:?} is not in\n{output}"
        );
    }
    assert_eq!(world.json(&["list"]).len(), 1);
    world.backup(&[&image, "--volume", "v"]);
    world.restores("v", &image);
}

#[test]
fn an_invalid_list_is_refused_before_the_password_is_read() {
    let mut world = World::empty();
    world.set("CUTTLEBONE_PASSWORD", "");
    let image = world.write("disk.img", &[0; 5000]);
    for (text, code, expected) in [
        ("", 1, "it is empty"),
        (
            "rbd: error opening image",
            1,
            "neither JSON, nor XML, nor a table (byte 0)",
        ),
        (
            r#"[{"offset":-1,"length":1,"exists":"true"}]"#,
            1,
            "(line 1, column 13)",
        ),
        ("Offset  Length  Type\n0  1  hole\n", 1, "(line 2)"),
        ("<extents><extent>", 1, "cut short (byte 17)"),
    ] {
        let list = world.write("list", text.as_bytes());
        let args = [
            "backup",
            &image,
            "--volume",
            "v",
            "--base",
            "v",
            "--extents",
            &list,
        ];
        let output = world.fails(&args, code);
        for expected in [
            expected,
            &list,
            "cannot be used as a list of extents",
            "rbd diff --format json",
        ] {
            assert!(
                output.contains(expected),
                "{expected:?} is not in\n{output}"
            );
        }
    }
    let list = world.at("long");
    let file = File::create(&list).unwrap();
    file.set_len((256 << 20) + 1).unwrap();
    let args = [
        "backup",
        &image,
        "--volume",
        "v",
        "--base",
        "v",
        "--extents",
        &list,
    ];
    let output = world.fails(&args, 1);
    assert!(
        output.contains("is too long for a list of extents"),
        "{output}"
    );
    fs::remove_file(&list).unwrap();
    world.fails(&args, 1);
}

#[test]
fn a_list_that_exceeds_the_image_is_refused() {
    let (world, image) = world();
    let list = world.write(
        "list",
        br#"[{"offset":8388600,"length":9,"exists":"true"}]"#,
    );
    let args = [
        "backup",
        &image,
        "--volume",
        "v",
        "--base",
        "v",
        "--extents",
        &list,
    ];
    let output = world.fails(&args, 20);
    assert!(
        output.contains("the list of extents reaches up to byte 8388609, but")
            && output.contains("ends at 8388608"),
        "{output}"
    );
}

#[test]
fn options_that_contradict_a_list_are_wrong_usage() {
    let (world, image) = world();
    let list = world.write("list", b"[]");
    for args in [
        &["backup", &image, "--base", "v", "--extents", &list][..],
        &["backup", "--volume", "v", "--base", "v", "--extents", &list],
        &[
            "backup",
            "-",
            "--volume",
            "v",
            "--base",
            "v",
            "--extents",
            &list,
        ],
        &[
            "backup",
            &image,
            "--volume",
            "v",
            "--base",
            "v",
            "--extents",
            &list,
            "--reread",
        ],
        &[
            "backup",
            "--diff",
            &list,
            "--volume",
            "v",
            "--base",
            "v",
            "--extents",
            &list,
        ],
        &["backup", &image, "--volume", "v", "--verify-sample", "1"],
        &[
            "backup",
            &image,
            "--volume",
            "v",
            "--base",
            "v",
            "--extents",
            &list,
            "--verify-sample",
            "-1",
        ],
        &[
            "backup",
            &image,
            "--volume",
            "v",
            "--base",
            "v",
            "--extents",
            "-",
            "--password-file",
            "-",
        ],
    ] {
        world.fails(args, 2);
    }
    let args = ["backup", &image, "--volume", "v", "--extents", &list];
    for more in [
        &["--from-nothing", "--base", "v"][..],
        &["--from-nothing", "--from-snapshot", "a"],
        &["--from-snapshot", ""],
        &["--base", "v", "--to-snapshot", ""],
        &["--base", "v", "--verify-sample"],
    ] {
        world.fails(&[&args[..], more].concat(), 2);
    }
    world.fails(&["backup", &image, "--from-snapshot", "a"], 2);
    world.fails(&["backup", &image, "--base", "v", "--force-base"], 2);
    let diff = ["backup", "--diff", &list, "--volume", "v"];
    world.fails(&[&diff[..], &["--to-snapshot", "a"]].concat(), 2);
}

/// Writes a list with one extent of 4096 bytes at this offset. Returns the path of the list.
fn list_of(world: &World, offset: u64) -> String {
    let text = format!(r#"[{{"offset":{offset},"length":4096,"exists":"true"}}]"#);
    world.write("list", text.as_bytes())
}

#[test]
fn a_list_that_does_not_say_where_it_starts_is_wrong_usage() {
    let (mut world, image) = world();
    let list = list_of(&world, 0);
    world.set("CUTTLEBONE_PASSWORD", "");
    let args = ["backup", &image, "--volume", "v", "--extents", &list];
    let output = world.fails(&args, 2);
    for expected in [
        "a list of extents does not say from which backup or snapshot its changes start",
        "--from-snapshot NAME",
        "--base BACKUP",
        "--from-nothing",
    ] {
        assert!(
            output.contains(expected),
            "{expected:?} is not in\n{output}"
        );
    }
}

#[test]
fn a_list_after_a_missed_run_is_refused() {
    let world = World::new();
    let image = world.write("disk.img", &noise(1, 2 * MIB));
    let volume = ["backup", &image, "--volume", "v"];
    world.backup(&[&volume[1..], &["--to-snapshot", "mon"]].concat());
    // The run of Tuesday fails. The list of Wednesday starts from Tuesday.
    change(&image, MIB as u64);
    change(&image, 5000);
    let list = list_of(&world, 4096);
    let wednesday = ["--extents", &list, "--verify-sample", "0"];
    let from = |snapshot| {
        let from = ["--from-snapshot", snapshot, "--to-snapshot", "wed"];
        [&volume[..], &wednesday, &from].concat()
    };
    let output = world.fails(&from("tue"), 20);
    assert!(
        output.contains("no backup of the snapshot “tue”, from which the changes start")
            && output.contains("it has backups of the snapshots mon"),
        "{output}"
    );
    assert_eq!(world.json(&["list"]).len(), 1);
    // The user names the backup of another snapshot as the base.
    let output = world.fails(&[&from("tue")[..], &["--base", "v"]].concat(), 20);
    assert!(
        output.contains("start from snapshot “tue”, but"),
        "{output}"
    );
    // This list starts from the right snapshot.
    let list = world.write(
        "list",
        br#"[{"offset":0,"length":8192,"exists":"true"},
            {"offset":1048576,"length":4096,"exists":"true"}]"#,
    );
    assert_eq!(list, world.at("list"));
    world.ok(&from("mon"));
    world.restores("v", &image);
    world.is_clean();
}

#[test]
fn a_list_from_the_snapshot_of_an_older_backup_needs_the_option_base() {
    let (world, image) = world();
    let volume = ["backup", &image, "--volume", "v"];
    change(&image, 0);
    world.ok(&[&volume[..], &["--to-snapshot", "old"]].concat());
    let id = world.json(&["list"])[1]["backup_id"]
        .as_str()
        .unwrap()
        .to_owned();
    change(&image, 70_000);
    world.ok(&[&volume[..], &["--to-snapshot", "new"]].concat());
    change(&image, 4096);
    let list = world.write(
        "list",
        br#"[{"offset":4096,"length":70000,"exists":"true"}]"#,
    );
    let args = [&volume[..], &["--extents", &list, "--from-snapshot", "old"]].concat();
    let output = world.fails(&args, 20);
    assert!(
        output.contains("the backup of snapshot “old” is not the newest of volume “v”")
            && output.contains(&format!("--base {}", &id[..8])),
        "{output}"
    );
    world.ok(&[&args[..], &["--base", &id]].concat());
    world.restores("v", &image);
}

#[test]
fn a_list_cannot_start_from_a_backup_of_another_volume() {
    let (world, image) = world();
    let list = list_of(&world, 0);
    let args = [
        "backup",
        &image,
        "--volume",
        "w",
        "--extents",
        &list,
        "--base",
        "v",
    ];
    let output = world.fails(&args, 20);
    assert!(
        output.contains("is of volume “v”, but the changes are for volume “w”"),
        "{output}"
    );
    world.ok(&[&args[..], &["--force-base"]].concat());
    world.restores("w", &image);
}

#[test]
fn backups_record_the_snapshots_of_a_list_and_diffs_and_lists_build_on_each_other() {
    let (world, image) = world();
    let volume = ["backup", &image, "--volume", "v"];
    let shown = || world.json_one(&["show", "v"], "backup");
    world.ok(&[&volume[..], &["--to-snapshot", "s1"]].concat());
    assert_eq!(shown()["snapshot"], "s1");
    change(&image, 4096);
    let list = list_of(&world, 4096);
    let args = [
        "--extents",
        &list,
        "--from-snapshot",
        "s1",
        "--to-snapshot",
        "s2",
    ];
    let summary = world.json_one(&[&volume[..], &args].concat(), "summary");
    assert_eq!(summary["snapshot"], "s2");
    let source = &shown()["source"];
    assert_eq!(
        (&source["snapshot"], &source["from_snapshot"]),
        (&"s2".into(), &"s1".into())
    );
    // If a script repeats the command because it did not see the result, nothing new is stored.
    let again = world.json_one(&[&volume[..], &args].concat(), "summary");
    assert_eq!(again["existing"], true);
    assert_eq!(again["backup_id"], summary["backup_id"]);
    // A backup with other content and the same snapshot name is refused.
    change(&image, 4500);
    world.fails(&[&volume[..], &args].concat(), 20);
    world.fails(&[&volume[..], &["--to-snapshot", "s2"]].concat(), 20);

    let data = noise(9, 512);
    let mut diff = b"rbd diff v1\nf\x02\0\0\0s2t\x02\0\0\0s3s".to_vec();
    diff.extend(((8 * MIB) as u64).to_le_bytes());
    diff.push(b'w');
    diff.extend(4096u64.to_le_bytes());
    diff.extend(512u64.to_le_bytes());
    diff.extend(&data);
    diff.push(b'e');
    let diff = world.write("diff", &diff);
    world.ok(&["backup", "--diff", &diff, "--volume", "v"]);
    let file = File::options().write(true).open(&image).unwrap();
    file.write_all_at(&data, 4096).unwrap();
    change(&image, 6 << 20);
    let list = list_of(&world, 6 << 20);
    let args = [
        "--extents",
        &list,
        "--from-snapshot",
        "s3",
        "--to-snapshot",
        "s4",
    ];
    world.ok(&[&volume[..], &args].concat());
    let base = world.json_one(&["show", "v~1"], "backup")["backup_id"].clone();
    assert_eq!(shown()["base"], base);
    world.is_clean();
}
