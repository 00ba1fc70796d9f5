//! `repair packs`: the undamaged data of damaged packs is stored again, and the next backup stores
//! the lost data again.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::failures::assert_error;
use super::kill::each_killed;
use crate::support::program::{self, CHEAP_KEY, World, damage, files};
use crate::support::{SmallDisk, bad_range, noise};

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
            panic!("there is not exactly one pack");
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
    // From now on, the log names all packs, so a pack may be missing only if the log removes it.
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
    assert_eq!(
        found.last().unwrap()["backups_affected"],
        json!([damaged.id])
    );
    let text = String::from_utf8(world.run(&REPAIR).stdout).unwrap();
    assert!(text.contains("the lost data is in no pack"), "{text}");
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
    // The same bit is flipped a second time.
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

/// Returns the number of bytes in these parts of a backup.
fn bytes(extents: &Value) -> u64 {
    let extents = extents.as_array().unwrap().iter();
    extents.map(|e| e["length"].as_u64().unwrap()).sum()
}

#[test]
fn a_pack_that_cannot_be_read_completely_stays_and_its_other_data_is_stored_again() {
    let mut world = World::new();
    let disk = world.write("disk", &noise(1, 12 * MIB));
    let summary = world.backup(&[&disk, "--volume", "v"]);
    let id = summary["backup_id"].as_str().unwrap();
    let pack = chunk_packs(&world).remove(0);
    let content = fs::read(&pack).unwrap();
    let middle = content.len() as u64 / 2;
    for (name, value) in bad_range(&pack, &(middle..middle + 512)) {
        world.set(name, value);
    }
    world.fails(&["check", "--read-data"], 21);
    let found = lines(&world, &PLAN, 21);
    let lost = of_backup(&found, id)["extents"].clone();
    assert!(bytes(&lost) > 0 && bytes(&lost) <= 4 * MIB as u64, "{lost}");
    for _ in 0..2 {
        let found = lines(&world, &REPAIR, 21);
        assert_eq!(step(&found)["action"], "none");
        assert_eq!(of_backup(&found, id)["extents"], lost);
        assert_eq!(found.last().unwrap()["unrepaired"], 1);
        assert!(fs::read(&pack).unwrap() == content, "the pack stays");
    }
    assert_eq!(files(&world.repository().join("quarantine")).len(), 0);
    let error = world.fails(&REPAIR, 21);
    assert_error(&error, &["cannot be read", "ddrescue", "delete the files"]);

    // Later, the disk can read the whole pack.
    world.set("BAD_SECTORS", "none");
    world.is_clean();
    world.ok(&REPAIR);
    world.restores(id, &disk);

    // If the user deletes the pack, no other data is lost.
    fs::remove_file(&pack).unwrap();
    let found = lines(&world, &["check", "--read-data"], 21);
    assert_eq!(of_backup(&found, id)["extents"], lost);
    fs::remove_dir_all(world.path("cache")).unwrap();
    world.fails(&["backup", &disk, "--volume", "v", "-q"], 21);
    world.is_clean();
    world.restores(id, &disk);
}

#[test]
fn a_pack_whose_list_of_contents_cannot_be_read_stays_and_loses_no_data() {
    let mut world = World::new();
    let disk = world.write("disk", &noise(1, 12 * MIB));
    let id = world.backup(&[&disk, "--volume", "v"])["backup_id"].clone();
    let pack = chunk_packs(&world).remove(0);
    let content = fs::read(&pack).unwrap();
    let end = content.len() as u64;
    for (name, value) in bad_range(&pack, &(end - 100..end)) {
        world.set(name, value);
    }
    for args in [&["check", "--read-data"][..], &["check"]] {
        let found = lines(&world, args, 21);
        assert_eq!(found.last().unwrap()["packs_damaged"], 1, "{args:?}");
    }
    for args in [&PLAN[..], &REPAIR] {
        let found = lines(&world, args, 21);
        assert_eq!(step(&found)["action"], "none");
        let summary = found.last().unwrap();
        assert_eq!(
            (&summary["unrepaired"], &summary["backups_affected"]),
            (&json!(1), &json!([]))
        );
    }
    assert!(fs::read(&pack).unwrap() == content, "the pack stays");
    // If the user deletes the pack, nothing is lost.
    fs::remove_file(&pack).unwrap();
    world.is_clean();
    world.restores(id.as_str().unwrap(), &disk);
}

#[test]
fn damage_that_only_a_check_of_the_hashes_found_is_repaired() {
    let world = World::new();
    let disk = world.write("disk", &noise(1, 3 * MIB));
    let id = world.backup(&[&disk, "--volume", "v"])["backup_id"].clone();
    damage_list(&chunk_packs(&world).remove(0));
    let key = world.add_key("of the auditor", "verify", &[]);
    world.fails(&["check", "--read-data", "--password-file", &key], 21);
    let found = lines(&world, &REPAIR, 0);
    assert_eq!(step(&found)["done"], true);
    world.is_clean();
    world.restores(id.as_str().unwrap(), &disk);
}

/// Flips a bit of the list of the contents of a pack. The data in the pack stays whole.
fn damage_list(pack: &Path) {
    let mut content = fs::read(pack).unwrap();
    let at = content.len() - 50;
    content[at] ^= 1;
    fs::write(pack, content).unwrap();
}

fn append(pack: &Path) {
    let mut file = fs::File::options().append(true).open(pack).unwrap();
    file.write_all(&[0; 100]).unwrap();
}

fn cut(pack: &Path) {
    let file = fs::File::options().write(true).open(pack).unwrap();
    file.set_len(file.metadata().unwrap().len() - 10).unwrap();
}

#[test]
fn a_pack_that_is_damaged_only_outside_of_its_parts_is_replaced_without_a_loss() {
    for harm in [damage_list, append, cut] {
        let world = World::new();
        let disk = world.write("disk", &noise(1, 3 * MIB));
        let id = world.backup(&[&disk, "--volume", "v"])["backup_id"].clone();
        let pack = chunk_packs(&world).remove(0);
        harm(&pack);
        for args in [&["check", "--read-data"][..], &["check"]] {
            let ran = world.run(args);
            assert_eq!(ran.code, Some(21), "{ran:?}");
            let text = String::from_utf8(ran.stdout).unwrap();
            assert!(text.contains("cuttlebone repair packs --yes"), "{text}");
        }
        let found = lines(&world, &PLAN, 21);
        assert_eq!(step(&found)["action"], "repack");
        assert_eq!(found.last().unwrap()["backups_affected"], json!([]));
        let found = lines(&world, &REPAIR, 0);
        assert_eq!(step(&found)["done"], true);
        assert!(!pack.exists());
        assert_eq!(files(&world.repository().join("quarantine")).len(), 1);
        world.is_clean();
        world.restores(id.as_str().unwrap(), &disk);
        world.ok(&REPAIR);
        world.ok(&["prune", "--grace", "0"]);
        world.is_clean();
    }
}

#[test]
fn a_prune_replaces_packs_that_are_damaged_only_outside_of_their_parts() {
    for directory in ["packs", "trees"] {
        for harm in [damage_list, append, cut] {
            let world = World::new();
            let disk = world.write("disk", &noise(1, 3 * MIB));
            world.backup(&[&disk, "--volume", "v"]);
            let pack = files(&world.project().join(directory)).remove(0);
            harm(&pack);
            let ran = world.run(&["check", "--read-data"]);
            assert_eq!(ran.code, Some(21), "{ran:?}");
            let text = String::from_utf8(ran.stdout).unwrap();
            assert!(text.contains("cuttlebone prune"), "{text}");
            world.ok(&["prune", "--grace", "0"]);
            assert!(!pack.exists());
            world.is_clean();
            world.restores("v", &disk);
        }
    }
}

#[test]
fn a_repair_of_packs_on_a_full_disk_fails_and_succeeds_when_there_is_space() {
    let Some(disk) = SmallDisk::mount(64 << 10) else {
        return;
    };
    let mut world = World::empty();
    world.set("CUTTLEBONE_REPOSITORY", disk.path().join("repo"));
    world.ok(&[&["init"][..], &CHEAP_KEY].concat());
    let file = world.write("disk", &noise(1, 12 * MIB));
    let id = world.backup(&[&file, "--volume", "v"])["backup_id"].clone();
    let packs = disk.path().join("repo/projects");
    let mut packs = files(&packs);
    packs.retain(|path| path.components().any(|part| part.as_os_str() == "packs"));
    let [pack] = &packs[..] else {
        panic!("there is not exactly one pack");
    };
    damage(pack);
    let bytes = fs::read(pack).unwrap();
    let found = lines(&world, &["check", "--read-data"], 21);
    let lost = of_backup(&found, id.as_str().unwrap())["extents"].clone();
    // The free space is enough for no pack, or only for the copy of the pack in quarantine.
    for free in [64 << 10, 14 << 20] {
        let full = disk.fill(free);
        let error = world.fails(&REPAIR, 1);
        assert_error(&error, &["could not store", "free some space"]);
        assert!(fs::read(pack).unwrap() == bytes, "{free}: the pack stays");
        drop(full);
        let found = lines(&world, &["check", "--read-data"], 21);
        assert_eq!(of_backup(&found, id.as_str().unwrap())["extents"], lost);
    }
    let found = lines(&world, &REPAIR, 21);
    assert_eq!(step(&found)["done"], true);
    assert_eq!(of_backup(&found, id.as_str().unwrap())["extents"], lost);
    world.fails(&["backup", &file, "--volume", "v", "-q"], 21);
    world.is_clean();
    world.restores("v", &file);
}

#[test]
fn a_repair_of_packs_that_is_killed_loses_nothing_and_can_be_repeated() {
    let damaged = Damaged::new();
    let lost = damaged.lost();
    let find = |world: &World| {
        world.fails(&["check", "--read-data"], 21);
    };
    each_killed(&damaged.world, &REPAIR, find, |world| {
        for args in [&REPAIR[..], &["check", "--read-data"]] {
            let found = lines(world, args, 21);
            assert_eq!(of_backup(&found, &damaged.id)["extents"], lost);
        }
        world.fails(&["backup", &damaged.disk, "--volume", "v", "-q"], 21);
        world.is_clean();
        world.restores(&damaged.id, &damaged.disk);
    });
}
