//! Tests with damaged repositories. Data that a host has found damaged does not count as present:
//! the next backup of the same data stores it again, and a prune removes the damaged data. The
//! tests follow the steps in `docs/check.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::failures::assert_error;
use crate::support::noise;
use crate::support::program::{self, World, damage, files};

const MIB: usize = 1 << 20;
const PRUNE: [&str; 5] = ["prune", "--grace", "0", "--max-unused", "0"];

/// Returns the only file in a directory of the project.
#[track_caller]
fn only_file(world: &World, directory: &str) -> PathBuf {
    let mut found = files(&world.project().join(directory));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Runs a command with `--json`. It must exit with this code. Returns the lines of its standard
/// output, and its standard error.
#[track_caller]
fn lines(world: &World, args: &[&str], code: i32) -> (Vec<Value>, String) {
    let ran = world.run(&[args, &["--json"]].concat());
    assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
    let output = program::json_lines(&String::from_utf8(ran.stdout).unwrap());
    (output, ran.stderr)
}

/// Backs up a file to volume `v`. The command must exit with this code. Returns the summary.
#[track_caller]
fn back_up(world: &World, disk: &str, code: i32) -> Value {
    let (lines, _) = lines(world, &["backup", disk, "--volume", "v"], code);
    let mut lines = lines.into_iter();
    lines
        .find(|line| line["message_type"] == "summary")
        .unwrap()
}

/// A world with one backup, whose only pack of chunks is damaged.
struct Damaged {
    world: World,
    disk: String,
    id: String,
    pack: PathBuf,
    /// The bytes of the pack before it was damaged.
    whole: Vec<u8>,
}

impl Damaged {
    fn new() -> Self {
        let world = World::new();
        let disk = world.write("disk", &noise(1, 6 * MIB));
        let summary = back_up(&world, &disk, 0);
        let pack = only_file(&world, "packs");
        let whole = fs::read(&pack).unwrap();
        damage(&pack);
        Self {
            id: summary["backup_id"].as_str().unwrap().to_owned(),
            world,
            disk,
            pack,
            whole,
        }
    }

    /// Backs up the undamaged source again, and asserts that the lost data is stored again.
    #[track_caller]
    fn is_stored_again(&self) {
        let summary = back_up(&self.world, &self.disk, 21);
        assert_eq!(summary["damage"]["packs_damaged"], 1, "{summary}");
        assert_eq!(summary["damage"]["packs_missing"], 0, "{summary}");
        assert_eq!(summary["damage"]["base"]["backup_id"], *self.id);
        let new = summary["bytes_new"].as_u64().unwrap();
        assert!(
            (1..6 << 20).contains(&new),
            "stored {new} bytes instead of only the damaged parts"
        );
        self.world.restores(&self.id, &self.disk);
    }
}

fn cache(world: &World) -> PathBuf {
    world.path("cache")
}

#[test]
fn data_that_a_check_found_damaged_is_stored_again_by_the_next_backup_and_removed_by_a_prune() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    world.ok(&["check"]);
    world.fails(&["check", "--read-data"], 21);
    // This host now knows of the damage. So a check reports it even without --read-data.
    let (found, _) = lines(world, &["check"], 21);
    assert_eq!(
        found.last().unwrap()["backups_affected"],
        json!([damaged.id])
    );
    damaged.is_stored_again();

    // No backup needs the damaged data now, and the next backup need not read the source again.
    for args in [&["check"][..], &["check", "--read-data"]] {
        let (_, notes) = lines(world, args, 0);
        assert!(notes.contains("no backup needs"), "{args:?}: {notes}");
    }
    let summary = back_up(world, &damaged.disk, 0);
    assert_eq!(summary["damage"], Value::Null);
    assert_eq!(summary["bytes_new"], 0);
    world.ok(&["prune", "--grace", "0"]);
    assert!(!damaged.pack.exists());
    let (_, notes) = lines(world, &["check", "--read-data"], 0);
    assert!(!notes.contains("no backup needs"), "{notes}");
    world.restores(&damaged.id, &damaged.disk);
}

#[test]
fn data_that_a_restore_found_damaged_is_stored_again_by_the_next_backup() {
    let damaged = Damaged::new();
    let target = damaged.world.at("out");
    damaged.world.fails(&["restore", "v", &target], 21);
    damaged.is_stored_again();
}

#[test]
fn a_backup_with_reread_stores_data_again_that_is_known_to_be_damaged() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    world.fails(&["check", "--read-data"], 21);
    let args = ["backup", &damaged.disk, "--volume", "v", "--reread"];
    let error = world.fails(&args, 21);
    assert_error(&error, &[&damaged.id[..8]]);
    world.restores("v", &damaged.disk);
}

#[test]
fn a_pack_that_was_copied_over_a_damaged_one_is_not_stored_again() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    world.fails(&["check", "--read-data"], 21);
    fs::write(&damaged.pack, &damaged.whole).unwrap();
    let summary = back_up(world, &damaged.disk, 0);
    assert_eq!(summary["bytes_new"], 0);
    assert_eq!(summary["damage"], Value::Null);
    world.is_clean();
}

#[test]
fn data_that_the_source_no_longer_has_stays_damaged_and_is_not_deleted() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    world.fails(&["check", "--read-data"], 21);
    fs::write(&damaged.disk, noise(2, 6 * MIB)).unwrap();
    back_up(world, &damaged.disk, 21);
    for _ in 0..2 {
        // Each prune names the damaged pack.
        let (summary, notes) = lines(world, &PRUNE, 21);
        assert_eq!(summary.last().unwrap()["packs_damaged"], 1, "{summary:?}");
        let pack = damaged.pack.file_name().unwrap().to_str().unwrap();
        let stays = format!("pack {pack} is damaged; the pack stays");
        assert!(notes.contains(&stays), "{notes}");
        let (_, notes) = lines(world, &[&PRUNE[..], &["--dry-run"]].concat(), 21);
        assert!(notes.contains(&stays), "{notes}");
        let (found, _) = lines(world, &["check", "--read-data"], 21);
        assert_eq!(
            found.last().unwrap()["backups_affected"],
            json!([damaged.id])
        );
    }
    let target = world.at("out");
    let args = ["restore", &damaged.id, &target, "--keep-going"];
    world.fails(&args, 21);
    let restored = fs::read(&target).unwrap();
    let source = noise(1, 6 * MIB);
    let chunks = restored.chunks(1 << 16).zip(source.chunks(1 << 16));
    let whole = chunks.filter(|(a, b)| a == b).count();
    assert!((1..6 * 16).contains(&whole), "{whole}");
    world.restores("v", &damaged.disk);
    // After the damaged backup is forgotten, a prune deletes the damaged pack.
    world.ok(&["forget", &damaged.id]);
    world.ok(&["prune", "--grace", "0"]);
    world.is_clean();
    assert!(!damaged.pack.exists());
}

/// Here, the prune runs on a host that does not know of the damage. The times of files may be
/// wrong, as after `cp -r`.
#[test]
fn a_prune_deletes_no_copy_of_data_before_it_has_read_the_other_one() {
    for (hours, options) in [(0, &PRUNE[..]), (48, &PRUNE), (0, &PRUNE[..3])] {
        let damaged = Damaged::new();
        let world = &damaged.world;
        world.fails(&["check", "--read-data"], 21);
        damaged.is_stored_again();
        fs::remove_dir_all(cache(world)).unwrap();
        let new = SystemTime::now() + Duration::from_hours(hours);
        let pack = fs::File::options()
            .append(true)
            .open(&damaged.pack)
            .unwrap();
        pack.set_modified(new).unwrap();
        world.ok(&["prune", "--dry-run", "--grace", "0"]);
        world.ok(options);
        world.ok(&["check", "--read-data"]);
        world.restores(&damaged.id, &damaged.disk);
        world.restores("v", &damaged.disk);
        pack.set_modified(SystemTime::now() - Duration::from_hours(1))
            .unwrap();
        world.ok(options);
        assert!(!damaged.pack.exists());
        world.is_clean();
        world.restores(&damaged.id, &damaged.disk);
    }
}

/// Here, the prune runs on a host that does not know of the damage.
#[test]
fn a_prune_keeps_the_newer_copy_of_data_that_was_stored_again() {
    for _ in 0..4 {
        let damaged = Damaged::new();
        let world = &damaged.world;
        world.fails(&["check", "--read-data"], 21);
        damaged.is_stored_again();
        fs::remove_dir_all(cache(world)).unwrap();
        world.ok(&["prune", "--grace", "0", "--max-unused", "0"]);
        world.ok(&["check", "--read-data"]);
        world.restores(&damaged.id, &damaged.disk);
    }
}

#[test]
fn a_damaged_pack_of_nodes_is_replaced_by_a_prune() {
    let world = World::new();
    let disk = world.write("disk", &noise(1, 6 * MIB));
    back_up(&world, &disk, 0);
    let trees = files(&world.project().join("trees"));
    damage(&trees[0]);
    let (found, _) = lines(&world, &["check", "--read-data"], 21);
    assert_eq!(found.last().unwrap()["backups_affected"], json!([]));
    world.ok(&["prune", "--grace", "0"]);
    assert!(!trees[0].exists());
    world.is_clean();
    world.restores("v", &disk);
}

#[test]
fn a_damaged_index_segment_is_replaced_by_a_prune() {
    let world = World::new();
    let disk = world.write("disk", &noise(1, 6 * MIB));
    back_up(&world, &disk, 0);
    let segment = only_file(&world, "index");
    damage(&segment);
    world.fails(&["check"], 21);
    // The prune stores a segment that replaces the damaged one, which stays until the grace period
    // is over.
    world.ok(&["prune"]);
    assert!(segment.exists());
    world.is_clean();
    let summary = back_up(&world, &disk, 0);
    assert_eq!(summary["bytes_new"], 0);
    world.ok(&["prune", "--grace", "0"]);
    assert!(!Path::new(&segment).exists());
    world.is_clean();
}

#[test]
fn a_copy_of_a_repository_has_a_cache_of_its_own() {
    let Damaged {
        mut world,
        disk,
        pack,
        whole,
        ..
    } = Damaged::new();
    fs::write(&pack, whole).unwrap();
    let original = world.at("repo");
    let copied = Command::new("cp")
        .arg("-a")
        .arg(&original)
        .arg(world.path("copy"))
        .status();
    assert!(copied.unwrap().success());
    let copy = world.at("copy");
    world.set("CUTTLEBONE_REPOSITORY", &copy);
    damage(&files(&world.project().join("packs"))[0]);
    world.fails(&["check", "--read-data"], 21);
    for _ in 0..2 {
        // The original repository changes, and its copy does not.
        world.set("CUTTLEBONE_REPOSITORY", &original);
        let mut content = fs::read(&disk).unwrap();
        content[..1 << 16].reverse();
        content[0] ^= 1;
        fs::write(&disk, content).unwrap();
        let (_, notes) = lines(&world, &["backup", &disk, "--volume", "v"], 0);
        assert!(
            !notes.contains("rebuil") && !notes.contains("damaged"),
            "{notes}"
        );
        world.ok(&["prune", "--grace", "0", "--max-unused", "0"]);
        world.is_clean();
        world.set("CUTTLEBONE_REPOSITORY", &copy);
        // The host still knows of the damage in the copy.
        let (_, notes) = lines(&world, &["check"], 21);
        assert!(!notes.contains("rebuil"), "{notes}");
    }
}
