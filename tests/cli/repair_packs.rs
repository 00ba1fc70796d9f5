//! `repair packs`: the undamaged data of damaged packs is stored again, and the next backup stores
//! the lost data again.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::failures::assert_error;
use crate::support::noise;
use crate::support::program::{self, CHEAP_KEY, World, damage, files};

const MIB: usize = 1 << 20;
const PLAN: [&str; 2] = ["repair", "packs"];
const REPAIR: [&str; 3] = ["repair", "packs", "--yes"];

/// Runs a command with `--json` that must exit with this code. Returns the lines of its output.
#[track_caller]
fn lines(world: &World, args: &[&str], code: i32) -> Vec<Value> {
    let ran = world.run(&[args, &["--json"]].concat());
    assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
    program::json_lines(&String::from_utf8(ran.stdout).unwrap())
}

fn chunk_packs(world: &World) -> Vec<PathBuf> {
    files(&world.project().join("packs"))
}

/// A world with a backup of 12 MiB, whose only pack of chunks is damaged in the middle.
struct Damaged {
    world: World,
    disk: String,
    id: String,
    pack: PathBuf,
    /// The bytes of the damaged pack.
    bytes: Vec<u8>,
}

impl Damaged {
    fn new() -> Self {
        Self::in_world(World::new())
    }

    fn in_world(world: World) -> Self {
        let disk = world.write("disk", &noise(1, 12 * MIB));
        let summary = world.backup(&[&disk, "--volume", "v"]);
        let [pack] = &chunk_packs(&world)[..] else {
            panic!("there is one pack");
        };
        damage(pack);
        Self {
            disk,
            id: summary["backup_id"].as_str().unwrap().to_owned(),
            bytes: fs::read(pack).unwrap(),
            pack: pack.clone(),
            world,
        }
    }

    /// Runs a check of all data, and returns the lost parts of the backup.
    #[track_caller]
    fn lost(&self) -> Value {
        let found = lines(&self.world, &["check", "--read-data"], 21);
        assert_eq!(found.last().unwrap()["backups_affected"], json!([self.id]));
        of_backup(&found, &self.id)["extents"].clone()
    }

    fn in_quarantine(&self) -> Vec<Vec<u8>> {
        let kept = files(&self.world.repository().join("quarantine"));
        kept.iter().map(|path| fs::read(path).unwrap()).collect()
    }
}

fn of_backup<'a>(found: &'a [Value], id: &str) -> &'a Value {
    let mut found = found.iter();
    found.find(|line| line["backup_id"] == *id).unwrap()
}

/// Returns the only step of a repair.
fn step(found: &[Value]) -> &Value {
    let is_step = |line: &&Value| line["message_type"] == "repair_step";
    let steps: Vec<_> = found.iter().filter(is_step).collect();
    assert_eq!(steps.len(), 1, "{found:?}");
    steps[0]
}

#[test]
fn a_damaged_pack_is_moved_and_the_next_backup_on_any_host_stores_the_lost_data_again() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    // From now on, the log requires all packs.
    world.ok(&["head"]);
    let text = world.ok(&PLAN);
    assert!(text.contains("no pack is known to be damaged"), "{text}");
    let lost = damaged.lost();
    let before = files(&world.repository());
    let found = lines(world, &PLAN, 21);
    let name = damaged.pack.file_name().unwrap().to_str().unwrap();
    assert!(step(&found)["item"].as_str().unwrap().contains(name));
    assert_eq!(
        (
            &step(&found)["action"],
            &step(&found)["done"],
            &step(&found)["dry_run"]
        ),
        (&json!("repack"), &json!(false), &json!(true))
    );
    assert_eq!(of_backup(&found, &damaged.id)["extents"], lost);
    let summary = found.last().unwrap();
    assert_eq!(
        (&summary["what"], &summary["repaired"]),
        (&json!("packs"), &json!(1))
    );
    assert_eq!(files(&world.repository()), before, "a plan changes nothing");

    let found = lines(world, &REPAIR, 21);
    assert_eq!(step(&found)["done"], true);
    assert_eq!(of_backup(&found, &damaged.id)["extents"], lost);
    let summary = found.last().unwrap();
    assert_eq!(
        (&summary["repaired"], &summary["unrepaired"]),
        (&json!(1), &json!(0))
    );
    assert!(!damaged.pack.exists());
    assert_eq!(damaged.in_quarantine(), [&damaged.bytes[..]]);
    assert_eq!(damaged.lost(), lost, "nothing else is lost");
    let found = lines(world, &REPAIR, 21);
    assert_eq!(of_backup(&found, &damaged.id)["extents"], lost);
    let found = lines(world, &["prune", "--grace", "0"], 21);
    assert_eq!(
        found.last().unwrap()["backups_affected"],
        json!([damaged.id])
    );
    assert_eq!(damaged.lost(), lost, "nothing else is lost");

    // A host that knows nothing of the damage backs up the same data.
    fs::remove_dir_all(world.path("cache")).unwrap();
    world.fails(&["backup", &damaged.disk, "--volume", "v", "-q"], 21);
    world.is_clean();
    world.restores(&damaged.id, &damaged.disk);
    world.fails(&["check", "--keyless"], 21);
    world.ok(&["prune", "--grace", "0"]);
    world.is_clean();
    world.ok(&["check", "--keyless"]);
    world.restores("v", &damaged.disk);
    world.ok(&["backup", &damaged.disk, "--volume", "v"]);
}

#[test]
fn a_repair_of_packs_names_the_backups_that_have_lost_data_and_the_next_step() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    world.fails(&["check", "--read-data"], 21);
    let ran = world.run(&PLAN);
    let text = String::from_utf8(ran.stdout).unwrap();
    for expected in [
        "would be repaired: pack",
        "parts damaged",
        "--yes",
        &damaged.id[..8],
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_error(
        &ran.stderr,
        &["damage found", "the same command with --yes"],
    );
    let error = world.fails(&REPAIR, 21);
    assert_error(
        &error,
        &["1 backup affected", "back up their sources again", "forget"],
    );
}

#[test]
fn a_damaged_pack_whose_data_was_stored_again_is_repaired_without_a_loss() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    damaged.lost();
    world.fails(&["backup", &damaged.disk, "--volume", "v", "-q"], 21);
    let found = lines(world, &REPAIR, 0);
    assert_eq!(step(&found)["done"], true);
    assert!(!damaged.pack.exists());
    assert_eq!(damaged.in_quarantine(), [&damaged.bytes[..]]);
    world.is_clean();
    world.ok(&["prune", "--grace", "0"]);
    world.is_clean();
    world.restores(&damaged.id, &damaged.disk);
}

#[test]
fn a_repair_that_finds_more_damage_asks_to_run_it_again() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    damaged.lost();
    world.fails(&["backup", &damaged.disk, "--volume", "v", "-q"], 21);
    let copies = chunk_packs(world);
    let copies: Vec<_> = copies
        .iter()
        .filter(|path| **path != damaged.pack)
        .collect();
    assert_eq!(copies.len(), 1);
    damage(copies[0]);
    let ran = world.run(&REPAIR);
    assert_eq!(ran.code, Some(21), "{ran:?}");
    assert_error(
        &ran.stderr,
        &["more damage was found", "run the same command again"],
    );
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.contains(&damaged.id[..8]), "{text}");
    assert!(!damaged.pack.exists() && copies[0].exists());
    for _ in 0..2 {
        let found = lines(world, &REPAIR, 21);
        of_backup(&found, &damaged.id);
        assert_eq!(found.last().unwrap()["unrepaired"], 0);
        assert!(!copies[0].exists());
    }
    world.fails(&["backup", &damaged.disk, "--volume", "v", "-q"], 21);
    world.ok(&REPAIR);
    world.is_clean();
    world.restores(&damaged.id, &damaged.disk);
}

#[test]
fn a_pack_that_is_whole_again_is_not_moved() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    damaged.lost();
    damage(&damaged.pack);
    world.ok(&REPAIR);
    assert!(damaged.pack.exists());
    assert_eq!(damaged.in_quarantine().len(), 0);
    world.is_clean();
}

#[test]
fn a_pack_that_was_cut_short_is_repaired_without_a_check_before() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    let len = damaged.bytes.len();
    fs::write(&damaged.pack, &damaged.bytes[..len - len / 4]).unwrap();
    let found = lines(world, &REPAIR, 21);
    assert_eq!(step(&found)["done"], true);
    let extents = of_backup(&found, &damaged.id)["extents"].clone();
    assert_eq!(damaged.lost(), extents);
    world.fails(&["backup", &damaged.disk, "--volume", "v", "-q"], 21);
    world.is_clean();
    world.restores(&damaged.id, &damaged.disk);
}

#[test]
fn a_pack_that_parity_can_restore_is_not_moved() {
    let world = World::empty();
    world.ok(&[&["init", "--parity", "5%"][..], &CHEAP_KEY].concat());
    let damaged = Damaged::in_world(world);
    let world = &damaged.world;
    damaged.lost();
    for args in [&PLAN[..], &REPAIR] {
        let found = lines(world, args, 21);
        assert_eq!(step(&found)["action"], "none");
        let message = step(&found)["message"].as_str().unwrap();
        assert!(message.contains("repair parity --yes"), "{message}");
        assert_eq!(found.last().unwrap()["unrepaired"], 1);
    }
    assert_eq!(fs::read(&damaged.pack).unwrap(), damaged.bytes);
    world.ok(&["repair", "parity", "--yes"]);
    world.ok(&REPAIR);
    world.is_clean();
}

#[test]
fn a_repair_of_packs_needs_a_full_key() {
    let damaged = Damaged::new();
    let world = &damaged.world;
    damaged.lost();
    let key = world.write("key", b"of the writer");
    let add = ["key", "add", "--role", "write", "--new-password-file", &key];
    world.ok(&[&add[..], &CHEAP_KEY].concat());
    for args in [&PLAN[..], &REPAIR] {
        let error = world.fails(&[args, &["--password-file", &key]].concat(), 22);
        assert_error(&error, &["may not repair packs"]);
    }
    assert!(damaged.pack.exists());
}
