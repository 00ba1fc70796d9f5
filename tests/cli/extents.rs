//! `backup --extents`: lists of changed extents in all forms, and files that are not lists.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::rbd::fixture;
use crate::support::noise;
use crate::support::program::World;

const MIB: usize = 1 << 20;

/// Returns a world with an image of 8 MiB, and a backup of it in the volume `v`.
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
fn only_listed_extents_are_read_whatever_the_form_of_the_list() {
    let (world, image) = world();
    for (number, form) in (0..).zip(["json", "xml", "txt"]) {
        change(&image, 130_560 + number);
        change(&image, (5 << 20) + 16_000 + number);
        let list = fixture(&format!("std-diff-s1-s2.{form}"));
        let list = list.to_str().unwrap();
        let args = ["backup", &image, "--volume", "v", "--extents"];
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
    let args = ["backup", &image, "--volume", "v", "--extents", "-"];
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
        let args = ["backup", &image, "--volume", "v", "--extents", &list];
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
    let args = ["backup", &image, "--volume", "v", "--extents", &list];
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
    let args = ["backup", &image, "--volume", "v", "--extents", &list];
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
        &["backup", &image, "--extents", &list][..],
        &["backup", "--volume", "v", "--extents", &list],
        &["backup", "-", "--volume", "v", "--extents", &list],
        &[
            "backup",
            &image,
            "--volume",
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
            "--extents",
            &list,
        ],
        &["backup", &image, "--volume", "v", "--verify-sample", "1"],
        &[
            "backup",
            &image,
            "--volume",
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
            "--extents",
            "-",
            "--password-file",
            "-",
        ],
    ] {
        world.fails(args, 2);
    }
}
