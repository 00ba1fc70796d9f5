//! `init --parity`, `parity set` and `repair parity`: damaged files are restored without a
//! password.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::matrix::{self, Way};
use crate::support::noise;
use crate::support::program::{CHEAP_KEY, World, damage, files, json_lines};

fn with_parity() -> World {
    let world = World::empty();
    world.ok(&[&["init", "--parity", "5%"][..], &CHEAP_KEY].concat());
    world
}

fn all(world: &World) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = files(&world.repository()).into_iter();
    let read = paths.map(|path| {
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    });
    read.filter(|(path, _)| !path.to_str().unwrap().contains("/quarantine/"))
        .collect()
}

/// Returns the output of a command that must find damage.
#[track_caller]
fn finds_damage(world: &World, args: &[&str]) -> String {
    let ran = world.run(args);
    assert_eq!(ran.code, Some(21), "{args:?}: {ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn a_full_pack_with_100_flipped_bits_and_a_hole_is_repaired_without_a_password() {
    let mut world = with_parity();
    let image = world.write("disk.img", &noise(7, 40 << 20));
    world.backup(&[&image]);
    let before = all(&world);
    let packs = before.iter().filter(|(path, bytes)| {
        path.to_str().unwrap().contains("/packs/") && bytes.len() > 30 << 20
    });
    let packs: Vec<_> = packs
        .map(|(path, bytes)| (path.clone(), bytes.len()))
        .collect();
    assert!(!packs.is_empty());
    for (path, len) in &packs {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let places = noise(9, 800);
        for place in places.chunks(8) {
            let at = u64::from_le_bytes(place.try_into().unwrap()) % *len as u64;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        }
        file.write_all_at(&vec![0; 64 << 10], 5 << 20).unwrap();
    }
    world
        .environment
        .retain(|(name, _)| name != "CUTTLEBONE_PASSWORD");
    let text = world.fails(&["check", "--keyless"], 21);
    assert!(text.contains("cuttlebone repair parity"), "{text}");
    world.fails(&["repair", "parity"], 21);
    for (path, _) in &packs {
        let damaged = before.iter().find(|(p, _)| p == path).unwrap();
        assert!(
            fs::read(path).unwrap() != damaged.1,
            "repaired without --yes"
        );
    }
    let summary = world.json_one(&["repair", "parity", "--yes"], "repair");
    assert_eq!(summary["repaired"], packs.len());
    assert_eq!(summary["unrepaired"], 0);
    assert!(all(&world) == before);
    let kept = files(&world.repository().join("quarantine"));
    assert_eq!(kept.len(), packs.len());
    world.ok(&["check", "--keyless"]);
    world.ok(&["repair", "parity", "--yes"]);
}

#[test]
fn damage_beyond_the_parity_is_reported_and_nothing_is_changed() {
    let mut world = with_parity();
    let image = world.write("disk.img", &noise(7, 40 << 20));
    let id = world.backup(&[&image])["backup_id"].clone();
    let before = all(&world);
    let is_pack = |path: &Path| path.to_str().unwrap().contains("/packs/");
    let (large, len) = before
        .iter()
        .map(|(path, bytes)| (path, bytes.len()))
        .find(|(path, len)| is_pack(path) && *len > 30 << 20)
        .unwrap();
    // Parity of 5 % cannot restore a hole of 6 %. A second pack can be repaired.
    let file = fs::File::options().write(true).open(large).unwrap();
    file.write_all_at(&vec![0; len / 100 * 6], 1 << 20).unwrap();
    let (small, good) = before
        .iter()
        .find(|(path, bytes)| is_pack(path) && bytes.len() < 30 << 20)
        .unwrap();
    damage(small);
    let damaged = all(&world);
    let lines = json_lines(&finds_damage(&world, &["repair", "parity", "--json"]));
    assert_eq!(lines.last().unwrap()["unrepaired"], 1, "{lines:?}");
    assert!(all(&world) == damaged, "repaired without --yes");
    let with_password = world.environment.clone();
    world
        .environment
        .retain(|(name, _)| name != "CUTTLEBONE_PASSWORD");
    let text = finds_damage(&world, &["repair", "parity", "--yes"]);
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let not_repaired = |line: &str| line.contains("not repaired") && line.contains(&name(large));
    assert!(text.lines().any(not_repaired), "{text}");
    for (path, bytes) in all(&world) {
        let (_, expected) = damaged.iter().find(|(p, _)| *p == path).unwrap();
        let expected = if path == *small { good } else { expected };
        assert!(bytes == *expected, "{}", path.display());
    }
    // The check names only the pack that is still damaged, and the affected backup.
    world.environment = with_password;
    let text = finds_damage(&world, &["check", "--read-data"]);
    assert!(text.contains(&name(large)), "{text}");
    assert!(!text.contains(&name(small)), "{text}");
    let lines = json_lines(&finds_damage(&world, &["check", "--read-data", "--json"]));
    let check = lines.iter().find(|line| line["message_type"] == "check");
    assert_eq!(check.unwrap()["backups_affected"][0], id);
    // A second repair changes nothing.
    let after = all(&world);
    world.fails(&["repair", "parity", "--yes"], 21);
    assert!(all(&world) == after);
}

#[test]
fn parity_is_added_later_and_only_with_a_full_key() {
    let world = World::new();
    let image = world.write("disk.img", &noise(1, 300_000));
    world.backup(&[&image]);
    let pack = world.packs().remove(0);
    damage(&pack);
    let text = world.fails(&["repair", "parity", "--yes"], 21);
    assert!(text.contains("parity cannot repair everything"), "{text}");
    let text = world.fails(&["parity", "set", "5%"], 21);
    assert!(text.contains("because of damage"), "{text}");
    damage(&pack);
    let summary = world.json_one(&["parity", "set", "5%"], "parity");
    assert_eq!(summary["rate"], 5);
    assert_eq!(summary["objects_damaged"], 0);
    damage(&pack);
    world.fails(&["check", "--read-data"], 21);
    world.ok(&["repair", "parity", "--yes"]);
    world.is_clean();
    world.fails(&["parity", "set", "51%"], 2);
    world.ok(&["parity", "set", "0"]);
}

#[test]
fn a_repair_replaces_any_file_in_the_place_of_a_pack_but_no_directory() {
    let world = with_parity();
    let image = world.write("disk.img", &noise(1, 60_000));
    world.backup(&[&image]);
    world.ok(&["head"]);
    let before = all(&world);
    let pack = world.packs().remove(0);
    let record = files(&world.project().join("backups")).remove(0);
    let good = fs::read(&pack).unwrap();
    for way in [
        Way::Fifo,
        Way::Socket,
        Way::Dangling,
        Way::Empty,
        Way::Huge,
        Way::Swapped,
    ] {
        if !matrix::damage(&pack, way) {
            continue;
        }
        let steps = repaired(&world, 0);
        assert_eq!(steps.len(), 1, "{way:?}: {steps:?}");
        assert!(all(&world) == before, "{way:?}");
    }
    // A directory is not replaced, since it may have content. Other damaged objects are repaired.
    assert!(matrix::damage(&pack, Way::Directory));
    damage(&record);
    let steps = repaired(&world, 21);
    let of_pack = |step: &&Value| step["item"].as_str().unwrap().starts_with("pack ");
    let (failed, done): (Vec<_>, Vec<_>) = steps.iter().partition(of_pack);
    assert_eq!((failed.len(), done.len()), (1, 1), "{steps:?}");
    assert_eq!(
        (&failed[0]["done"], &done[0]["done"]),
        (&false.into(), &true.into())
    );
    fs::remove_dir(&pack).unwrap();
    fs::write(&pack, good).unwrap();
    assert!(all(&world) == before);
    world.is_clean();
}

/// Runs `repair parity`, which must exit with this code. Returns its steps.
#[track_caller]
fn repaired(world: &World, code: i32) -> Vec<Value> {
    let ran = world.run(&["repair", "parity", "--yes", "--json"]);
    assert_eq!(ran.code, Some(code), "{ran:?}");
    let mut lines = json_lines(&String::from_utf8(ran.stdout).unwrap());
    lines.retain(|line| line["message_type"] == "repair_step");
    lines
}

#[test]
fn a_file_that_is_longer_than_any_object_is_damaged_and_its_length_is_not_allocated() {
    let world = World::new();
    let image = world.write("disk.img", &noise(1, 300_000));
    world.backup(&[&image]);
    let pack = world.packs().remove(0);
    let file = fs::File::options().write(true).open(&pack).unwrap();
    file.set_len(1 << 43).unwrap();
    let text = world.fails(&["parity", "set", "5%"], 21);
    assert!(
        text.contains("could not add parity to 1 object because of damage"),
        "{text}"
    );
}

#[test]
fn parity_restores_a_missing_pack_even_if_the_log_has_no_entry_or_a_damaged_one() {
    let world = with_parity();
    let image = world.write("disk.img", &noise(1, 60_000));
    world.backup(&[&image]);
    let pack = world.packs().remove(0);
    let before = all(&world);
    fs::remove_file(&pack).unwrap();
    repaired(&world, 0);
    assert!(all(&world) == before);
    world.ok(&["head"]);
    let before = all(&world);
    let entry = files(&world.project().join("log")).remove(0);
    damage(&entry);
    fs::remove_file(&pack).unwrap();
    // The damaged entry names the pack. So the first repair may restore only the entry.
    let ran = world.run(&["repair", "parity", "--yes"]);
    if ran.code != Some(0) {
        assert_eq!(ran.code, Some(21), "{ran:?}");
        repaired(&world, 0);
    }
    assert!(all(&world) == before);
}

#[test]
fn a_repair_restores_a_missing_key_slot_and_reports_the_remains_of_a_removed_one() {
    let world = with_parity();
    let image = world.write("disk.img", &noise(1, 60_000));
    world.backup(&[&image]);
    world.ok(&["head"]);
    let before = all(&world);
    let mut slots = files(&world.repository().join("keys"));
    slots.sort();
    assert_eq!(slots.len(), 2);
    for slot in &slots {
        fs::remove_file(slot).unwrap();
    }
    let text = finds_damage(&world, &["repair", "parity"]);
    let next = "Was this key removed? Then delete the file parity/";
    assert!(text.contains(next), "{text}");
    world.ok(&["repair", "parity", "--yes"]);
    assert!(all(&world) == before);
    world.ok(&["repair", "parity"]);
    world.ok(&["list"]);

    // `key remove` deletes the parity first, then one copy after the other.
    let hash = slots[0].file_name().unwrap().to_str().unwrap();
    let mut parity = files(&world.repository().join("parity"));
    parity.retain(|path| path.to_str().unwrap().contains(hash));
    assert_eq!(parity.len(), 1);
    fs::remove_file(&parity[0]).unwrap();
    fs::remove_file(&slots[0]).unwrap();
    for what in ["copies", "parity"] {
        let text = finds_damage(&world, &["repair", what]);
        let next = "Was this key removed? Then run “key remove” again";
        assert!(text.contains(next), "{text}");
    }
}

#[test]
fn a_repair_never_deletes_the_last_file_of_a_key_slot() {
    for parity in ["0", "5%"] {
        for lost in ["", ".copy"] {
            let world = World::empty();
            world.ok(&[&["init", "--parity", parity][..], &CHEAP_KEY].concat());
            let slots = files(&world.repository().join("keys"));
            let first = slots.iter().find(|path| path.extension().is_none());
            let first = first.unwrap().to_str().unwrap().to_owned();
            let other = if lost.is_empty() { ".copy" } else { "" };
            // A repair cannot replace a directory.
            let blocked = PathBuf::from(format!("{first}{lost}"));
            fs::remove_file(&blocked).unwrap();
            fs::create_dir(&blocked).unwrap();
            for command in ["copies", "parity"] {
                world.run(&["repair", command, "--yes"]);
                let kept = PathBuf::from(format!("{first}{other}"));
                assert!(
                    kept.is_file(),
                    "parity {parity}, {lost:?}: repair {command}"
                );
                world.ok(&["list"]);
            }
        }
    }
}

#[test]
fn a_repair_stores_one_file_of_a_key_slot_if_it_cannot_store_the_other() {
    let world = with_parity();
    let slots = files(&world.repository().join("keys"));
    let first = slots.iter().find(|path| path.extension().is_none());
    let first = first.unwrap().clone();
    let copy = PathBuf::from(format!("{}.copy", first.display()));
    let bytes = fs::read(&copy).unwrap();
    fs::remove_file(&first).unwrap();
    fs::remove_file(&copy).unwrap();
    fs::create_dir(&first).unwrap();
    world.fails(&["repair", "parity", "--yes"], 21);
    assert!(fs::read(&copy).unwrap() == bytes);
    world.ok(&["list"]);
}
