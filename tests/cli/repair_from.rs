//! `repair copies`, and repairs with `--from` another copy of the repository.

use std::fs;
use std::path::{Path, PathBuf};

use super::replicate::{copied, is_clean, names, with_backups};
use crate::support::program::{World, damage, files};

/// Runs a repair without a password. Returns its exit code, and its output with its errors.
fn repair(world: &World, args: &[&str]) -> (i32, String) {
    let args = [&["repair"], args].concat();
    let mut command = world.command(&args);
    command.env_remove("CUTTLEBONE_PASSWORD");
    let ran = crate::support::program::finish(command.spawn().unwrap(), &args);
    let text = String::from_utf8(ran.stdout).unwrap();
    (ran.code.unwrap(), text + &ran.stderr)
}

fn read_all(repository: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |name: PathBuf| {
        let bytes = fs::read(repository.join(&name)).unwrap();
        (name, bytes)
    };
    let mut names = names(repository);
    names.retain(|name| !name.starts_with("quarantine"));
    names.into_iter().map(read).collect()
}

#[test]
fn damaged_and_missing_objects_are_repaired_from_a_replica_and_damaged_files_are_kept() {
    let world = with_backups();
    world.ok(&["head"]);
    let replica = world.at("replica");
    copied(&world, &[&replica]);
    let whole = read_all(&world.repository());
    let pack = &world.packs()[0];
    damage(pack);
    let damaged = fs::read(pack).unwrap();
    let segment = &files(&world.project().join("index"))[0];
    fs::write(segment, &fs::read(segment).unwrap()[1..]).unwrap();
    fs::remove_file(&files(&world.project().join("backups"))[0]).unwrap();
    for name in ["cuttlebone", "cuttlebone.copy"] {
        fs::write(world.repository().join(name), b"CTLB").unwrap();
    }
    let before = read_all(&world.repository());

    for what in ["copies", "parity"] {
        let (code, text) = repair(&world, &[what, "--from", &replica]);
        assert_eq!(code, 21, "{text}");
        assert_eq!(text.matches("would be repaired").count(), 5, "{text}");
        assert!(text.contains("--yes"), "{text}");
    }
    assert_eq!(read_all(&world.repository()), before);
    let (code, text) = repair(&world, &["copies", "--from", &replica, "--yes"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(read_all(&world.repository()), whole);
    let kept = files(&world.repository().join("quarantine"));
    assert!(kept.iter().any(|path| fs::read(path).unwrap() == damaged));
    is_clean(&world, &world.at("repo"));
    let (code, text) = repair(&world, &["copies", "--from", &replica]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("no damage found"), "{text}");
}

#[test]
fn a_repair_takes_no_damaged_objects_from_a_replica_and_none_of_another_repository() {
    let world = with_backups();
    let replica = world.at("replica");
    copied(&world, &[&replica]);
    let other = with_backups();
    let pack = &world.packs()[0];
    let there = pack.strip_prefix(world.repository()).unwrap();
    let there = Path::new(&replica).join(there);
    let mut bytes = fs::read(pack).unwrap();
    bytes[77] ^= 1;
    fs::remove_file(&there).unwrap();
    fs::write(&there, bytes).unwrap();
    damage(pack);
    let before = read_all(&world.repository());
    let (code, text) = repair(&world, &["copies", "--from", &replica, "--yes"]);
    assert_eq!(code, 21, "{text}");
    assert!(text.contains("no other copy of it is whole"), "{text}");
    let (code, text) = repair(&world, &["copies", "--from", &other.at("repo"), "--yes"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("holds another repository"), "{text}");
    let (code, text) = repair(&world, &["copies", "--from", &world.at("repo")]);
    assert_eq!(code, 2, "{text}");
    assert_eq!(read_all(&world.repository()), before);
}

#[test]
fn second_copies_repair_each_other_and_packs_are_not_read() {
    let world = with_backups();
    let whole = read_all(&world.repository());
    let slot = files(&world.repository().join("keys")).remove(0);
    fs::remove_file(slot).unwrap();
    let settings = files(&world.project().join("settings")).remove(0);
    fs::write(&settings, b"damaged").unwrap();
    fs::write(world.repository().join("cuttlebone"), b"CTLB").unwrap();
    damage(&world.packs()[0]);
    let (code, text) = repair(&world, &["copies", "--yes"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("repaired 3 objects"), "{text}");
    let mut now = read_all(&world.repository());
    let damaged = world.packs()[0].clone();
    let is_pack = |name: &Path| world.repository().join(name) == damaged;
    now.retain(|(name, _)| !is_pack(name));
    let mut whole = whole;
    whole.retain(|(name, _)| !is_pack(name));
    assert_eq!(now, whole);
    // Both copies are damaged: nothing is changed.
    for name in ["cuttlebone", "cuttlebone.copy"] {
        fs::write(world.repository().join(name), b"CTLB").unwrap();
    }
    let (code, text) = repair(&world, &["copies", "--yes"]);
    assert_eq!(code, 21, "{text}");
    assert!(text.contains("--from"), "{text}");
    assert_eq!(
        fs::read(world.repository().join("cuttlebone")).unwrap(),
        b"CTLB"
    );
}

#[test]
fn a_missing_pack_is_taken_from_a_replica_before_the_log_has_an_entry() {
    let world = with_backups();
    let replica = world.at("replica");
    copied(&world, &[&replica]);
    let whole = read_all(&world.repository());
    fs::remove_file(&world.packs()[0]).unwrap();
    let (code, text) = repair(&world, &["copies", "--from", &replica, "--yes"]);
    assert_eq!(code, 0, "{text}");
    assert!(read_all(&world.repository()) == whole, "{text}");
}
