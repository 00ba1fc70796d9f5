//! Restores of damaged backups: undamaged parts are restored, and the others are named.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::failures::assert_error;
use crate::support::program::{Ran, World, json_lines};
use crate::support::{LoopDevice, noise};

const MIB: usize = 1 << 20;
const CHUNK: u64 = 64 << 10;
/// The number of bytes of content that one leaf of the tree describes.
const LEAF: u64 = 4 << 20;

/// A world with a backup of this content in the volume “v”, and without a cache.
fn backed_up(content: &[u8]) -> World {
    let world = World::new();
    world.backup(&[&world.write("disk.img", content), "--volume", "v"]);
    forget_cache(&world);
    world
}

/// Removes the cache, which has copies of tree nodes.
fn forget_cache(world: &World) {
    let _ = fs::remove_dir_all(world.path("cache"));
}

/// Returns the packs in this directory of the project: `packs` has chunks, `trees` has nodes.
fn packs(world: &World, directory: &str) -> Vec<PathBuf> {
    let below = world.project().join(directory);
    let mut packs = world.packs();
    packs.retain(|pack| pack.starts_with(&below));
    packs.sort();
    packs
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// Returns the holes that a restore with `--json` lists: the parts that it could not restore.
fn holes(ran: &Ran) -> Vec<Range<u64>> {
    let lines = json_lines(&String::from_utf8(ran.stdout.clone()).unwrap());
    let of_type = |kind| {
        lines
            .iter()
            .filter(move |line| line["message_type"] == kind)
    };
    let number = |line: &Value, name: &str| line[name].as_u64().unwrap();
    let holes: Vec<_> = of_type("hole")
        .map(|line| number(line, "offset")..number(line, "offset") + number(line, "length"))
        .collect();
    let missing: u64 = holes.iter().map(|hole| hole.end - hole.start).sum();
    let summary = of_type("summary").next().unwrap();
    assert_eq!(number(summary, "bytes_missing"), missing);
    assert_eq!(ran.code, Some(if missing == 0 { 0 } else { 21 }));
    holes
}

/// Returns the expected result of a restore with these holes. In the holes, the target keeps its
/// old content.
fn expected(content: &[u8], before: &[u8], holes: &[Range<u64>]) -> Vec<u8> {
    let mut expected = content.to_vec();
    for hole in holes {
        let hole = usize::try_from(hole.start).unwrap()..usize::try_from(hole.end).unwrap();
        expected[hole.clone()].copy_from_slice(&before[hole]);
    }
    expected
}

#[track_caller]
fn restore_all_that_can_be_read(world: &World, content: &[u8]) -> Vec<Range<u64>> {
    let target = world.at("out");
    let ran = world.run(&["restore", "v", &target, "--keep-going", "--json"]);
    let holes = holes(&ran);
    let restored = fs::read(&target).unwrap();
    fs::remove_file(target).unwrap();
    assert!(
        restored == expected(content, &vec![0; content.len()], &holes),
        "{holes:?}"
    );
    holes
}

#[test]
fn everything_except_a_damaged_chunk_is_restored_to_every_kind_of_target() {
    let content = noise(1, 12 * MIB);
    let world = backed_up(&content);
    flip(&packs(&world, "packs")[0], MIB);

    let refused = world.fails(&["restore", "v", &world.at("out")], 21);
    let expected_text = [
        "bytes ",
        "of volume “v” cannot be read",
        "damaged",
        "--keep-going",
        "check",
    ];
    assert_error(&refused, &expected_text);
    assert!(!world.path("out").exists());

    let holes = restore_all_that_can_be_read(&world, &content);
    let lost: u64 = holes.iter().map(|hole| hole.end - hole.start).sum();
    assert!((CHUNK..=LEAF).contains(&lost), "{holes:?}");
    let zeros = vec![0; content.len()];
    let with_zeros = expected(&content, &zeros, &holes);

    let streamed = world.run(&["restore", "v", "-", "--keep-going"]);
    assert_eq!(streamed.code, Some(21), "{}", streamed.stderr);
    assert!(streamed.stdout == with_zeros);
    let offset = holes[0].start.to_string();
    assert_error(&streamed.stderr, &[&offset, "they are zeros in the target"]);

    let before = noise(2, content.len());
    let existing = world.write("existing", &before);
    let text = world.fails(
        &["restore", "v", &existing, "--in-place", "--keep-going"],
        21,
    );
    assert_error(&text, &["the target keeps its old content there"]);
    let kept = expected(&content, &before, &holes);
    assert!(fs::read(&existing).unwrap() == kept);
    assert!(world.path(".existing.cuttlebone-restore").exists());
    world.fails(&["restore", "v", &existing, "--force", "--keep-going"], 21);
    assert!(fs::read(&existing).unwrap() == with_zeros);

    let Some(device) = LoopDevice::new(&before) else {
        return;
    };
    world.fails(
        &["restore", "v", &device.device, "--in-place", "--keep-going"],
        21,
    );
    assert!(fs::read(&device.device).unwrap() == kept);
    world.fails(
        &["restore", "v", &device.device, "--force", "--keep-going"],
        21,
    );
    assert!(fs::read(&device.device).unwrap() == with_zeros);
}

/// Restores a damaged backup to `target`, which has other content, and then an undamaged one. In
/// between, the target holds old and restored data.
#[track_caller]
fn a_mixture_is_not_backed_up(world: &World, target: &str, content: &[u8]) {
    let keep_going = ["restore", "v", target, "--in-place", "--keep-going"];
    assert_error(
        &world.fails(&keep_going, 21),
        &["“backup” refuses it until"],
    );
    let back_up = ["backup", target, "--volume", "w"];
    let refused = [target, "an incomplete restore of backup", "--in-place"];
    assert_error(&world.fails(&back_up, 1), &refused);
    // Nothing is left to write, and the holes still have their old content.
    world.fails(&keep_going, 21);
    assert_error(&world.fails(&back_up, 1), &refused);
    world.ok(&["restore", "whole", target, "--in-place"]);
    assert!(fs::read(target).unwrap() == content);
    world.backup(&back_up[1..]);
}

#[test]
fn a_target_that_keeps_old_content_in_place_of_damaged_parts_is_not_backed_up() {
    let content = noise(9, 12 * MIB);
    let world = backed_up(&content);
    flip(&packs(&world, "packs")[0], MIB);
    let other = noise(10, 12 * MIB);
    world.backup(&[&world.write("whole.img", &other), "--volume", "whole"]);
    let before = noise(11, 12 * MIB);
    a_mixture_is_not_backed_up(&world, &world.write("existing", &before), &other);
    assert!(!world.path(".existing.cuttlebone-restore").exists());

    let Some(device) = LoopDevice::new(&before) else {
        return;
    };
    a_mixture_is_not_backed_up(&world, &device.device, &other);
}

#[test]
fn a_map_names_the_parts_that_were_restored() {
    let content = noise(3, 5 * MIB);
    let world = backed_up(&content);
    let args = [
        "restore",
        "v",
        "out",
        "--keep-going",
        "--map",
        "map",
        "--force",
        "--json",
    ];
    assert!(holes(&world.run(&args)).is_empty());
    let map = || {
        let map = fs::read_to_string(world.path("map")).unwrap();
        fs::remove_file(world.path("map")).unwrap();
        let lines = map.lines().filter(|line| !line.starts_with('#'));
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
        let parts = lines.skip(1).map(|line| {
            let [start, len, status] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                unreachable!("{line}");
            };
            (
                number(start)..number(start) + number(len),
                status.to_owned(),
            )
        });
        parts.collect::<Vec<_>>()
    };
    assert_eq!(map(), [(0..5 << 20, "+".to_owned())]);

    flip(&packs(&world, "packs")[0], MIB);
    let holes = holes(&world.run(&args));
    let parts = map();
    let bad = parts.iter().filter(|(_, status)| status == "-");
    let bad: Vec<_> = bad.map(|(range, _)| range.clone()).collect();
    assert_eq!(bad, holes);
    let mut end = 0;
    for (range, _) in &parts {
        assert_eq!(range.start, end, "{parts:?}");
        end = range.end;
    }
    assert_eq!(end, 5 << 20);

    world.write("map", b"precious");
    let refused = world.fails(&args[..7], 1);
    assert_error(&refused, &["map", "exists"]);
    assert_eq!(fs::read(world.path("map")).unwrap(), b"precious");
    world.fails(&["restore", "v", "new", "--map", "other"], 2);
}

#[test]
fn damage_that_can_be_found_without_reading_data_is_reported_before_anything_is_written() {
    let content = noise(4, 12 * MIB);
    let before = noise(5, content.len());
    for (directory, is_cut) in [("packs", false), ("packs", true), ("trees", false)] {
        let world = backed_up(&content);
        for pack in packs(&world, directory) {
            if is_cut {
                let file = fs::File::options().write(true).open(pack).unwrap();
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            } else {
                fs::remove_file(pack).unwrap();
            }
        }
        let existing = world.write("existing", &before);
        for args in [
            &["restore", "v", "-"][..],
            &["restore", "v", "new"],
            &["restore", "v", &existing, "--in-place"],
            &["restore", "v", &existing, "--force"],
        ] {
            let ran = world.run(args);
            assert_eq!(ran.code, Some(21), "{ran:?}");
            let expected = [
                "cannot be restored completely",
                "nothing was written",
                "--keep-going",
                "“v”",
            ];
            assert_error(&ran.stderr, &expected);
            assert!(ran.stdout.is_empty());
        }
        assert!(!world.path("new").exists());
        assert!(fs::read(&existing).unwrap() == before, "{directory}");
        assert!(!restore_all_that_can_be_read(&world, &content).is_empty());
    }
}

#[test]
fn after_any_damage_all_undamaged_parts_are_restored() {
    // The content has data, zeros, and an incomplete leaf at the end.
    let mut content = noise(6, 14 * MIB + 1000);
    content[5 * MIB..9 * MIB].fill(0);
    let mut worst = 0;
    let mut nodes_lost = 0;
    for directory in ["packs", "trees"] {
        let world = backed_up(&content);
        let packs = packs(&world, directory);
        // Each node is in two packs. Damage both packs at the same place.
        let intact: Vec<_> = packs.iter().map(|pack| fs::read(pack).unwrap()).collect();
        let len = intact.iter().map(Vec::len).min().unwrap();
        for step in 0..10 {
            let at = len * step / 10 + 7;
            for pack in &packs {
                flip(pack, at);
            }
            forget_cache(&world);
            let holes = restore_all_that_can_be_read(&world, &content);
            let lost: u64 = holes.iter().map(|hole| hole.end - hole.start).sum();
            worst = worst.max(lost);
            nodes_lost += u32::from(directory == "trees" && lost > 0 && lost <= LEAF);
            for (pack, bytes) in packs.iter().zip(&intact) {
                fs::write(pack, bytes).unwrap();
            }
        }
        assert!(restore_all_that_can_be_read(&world, &content).is_empty());
    }
    assert!(
        worst > 0 && nodes_lost > 0,
        "bytes lost at most: {worst}, packs of nodes that lost data: {nodes_lost}"
    );
}

#[test]
fn a_stream_is_restored_despite_damage() {
    let content = noise(7, 9 * MIB);
    let world = World::new();
    let dump = fs::File::open(world.write("dump", &content)).unwrap();
    let args = ["backup", "-", "--volume", "v"];
    world.run_with_stdin(&args, dump).ok(&args);
    forget_cache(&world);
    flip(&packs(&world, "packs")[0], MIB);
    let holes = restore_all_that_can_be_read(&world, &content);
    assert!(!holes.is_empty());
}

#[test]
fn sectors_of_the_target_that_cannot_be_read_are_written() {
    let content = noise(8, 8 * MIB);
    let world = backed_up(&content);
    let mut before = content.clone();
    before[MIB..MIB + 5].fill(1);
    let Some(device) = LoopDevice::new(&before) else {
        return;
    };
    device.fail_from(6 << 20);
    let error = world.fails(&["restore", "v", &device.device], 1);
    assert_error(&error, &["sectors that cannot be read"]);
    let summary = world.json_one(&["restore", "v", &device.device, "--in-place"], "summary");
    let written = summary["bytes_written"].as_u64().unwrap();
    assert!((2 << 20..4 << 20).contains(&written), "{summary}");
    assert!(fs::read(&device.backing).unwrap() == content);
}
