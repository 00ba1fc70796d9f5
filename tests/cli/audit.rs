//! Checks that read a part of the data, and the ledger that says what was verified.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::noise;
use crate::support::program::{self, World, damage, files};

const MIB: usize = 1 << 20;

/// Makes a repository with three backups, whose data is in different packs.
fn three_backups() -> World {
    let world = World::new();
    for seed in 1..=3 {
        let disk = world.write(&format!("disk{seed}"), &noise(seed, MIB));
        world.backup(&[&disk]);
    }
    world
}

/// Runs a check that finds no damage. Returns its summary.
#[track_caller]
fn checked(world: &World, args: &[&str]) -> Value {
    world.json_one(&[&["check"], args].concat(), "check")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn ledger(world: &World) -> usize {
    files(&world.project().join("ledger")).len()
}

fn coverage(world: &World, level: &str, args: &[&str]) -> Value {
    let lines = world.json(&[&["audit", "list"], args].concat());
    let mut found = lines
        .into_iter()
        .filter(|line| line["message_type"] == "coverage" && line["level"] == level);
    found.next().unwrap()
}

/// Copies all files of a directory. The copies get new modification times.
fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, fs::read(&file).unwrap()).unwrap();
    }
}

#[test]
fn a_check_of_unverified_data_continues_where_the_last_one_ended_on_any_host() {
    let mut world = three_backups();
    let packs = world.packs().len() as u64;
    let fresh = ["--unverified-for", "30d"];
    let nothing = checked(&world, &["--unverified-for", "30d", "--time-limit", "0"]);
    assert_eq!(nothing["packs_chosen"], packs);
    assert_eq!(nothing["packs_verified"], 0);
    assert_eq!(nothing["complete"], false);
    assert_eq!(nothing["bytes_read"], 0);
    assert_eq!(ledger(&world), 0, "nothing was verified");
    let text = world.ok(&["check", "--time-limit", "0"]);
    assert!(text.contains("run the command again"), "{text}");

    let text = world.ok(&["check", "--read-data-subset", "1/1000000"]);
    assert!(
        text.contains("this was a part of the data: 0 of "),
        "{text}"
    );
    let first = checked(&world, &["--read-data-subset", "1"]);
    assert_eq!(first["packs_total"], packs);
    assert_eq!(first["packs_verified"], 1, "{first}");
    let second = checked(&world, &fresh);
    assert_eq!(second["packs_verified"], packs - 1);
    assert_eq!(second["complete"], true);
    assert_ne!(first["seed"], second["seed"]);
    assert_eq!(coverage(&world, "opened", &[])["bytes_never"], 0);

    world.set("CUTTLEBONE_CACHE_DIR", world.at("another cache"));
    assert_eq!(checked(&world, &fresh)["packs_chosen"], 0);
    assert_eq!(
        checked(&world, &["--unverified-for", "0"])["packs_chosen"],
        packs
    );
    let disk = world.write("disk4", &noise(4, MIB));
    world.backup(&[&disk]);
    let new = world.packs().len() as u64 - packs;
    assert_eq!(checked(&world, &fresh)["packs_verified"], new);
    let runs = world.json(&["audit", "list"]);
    let runs = runs.iter().filter(|line| line["message_type"] == "run");
    assert!(runs.clone().all(|run| run["role"] == "full"));
    assert_eq!(runs.count(), 4, "only runs that read packs are listed");
    let text = world.ok(&["audit", "list"]);
    assert!(
        text.contains("decrypted: all ") && text.contains("no damage"),
        "{text}"
    );
}

#[test]
fn the_parts_of_the_data_are_disjoint_and_together_all_of_it() {
    let world = three_backups();
    let packs = world.packs().len() as u64;
    let mut sum = 0;
    for part in ["1/3", "2/3", "3/3"] {
        sum += number(&checked(&world, &["--read-data-subset", part])["packs_verified"]);
    }
    assert_eq!(sum, packs);
    assert_eq!(coverage(&world, "opened", &[])["packs_never"], 0);
    let half = checked(&world, &["--read-data-subset", "50%"]);
    let total: u64 = world
        .packs()
        .iter()
        .map(|pack| fs::metadata(pack).unwrap().len())
        .sum();
    let read = number(&half["bytes_read"]);
    assert!(read > 0 && read <= total / 2 + 1, "{read} of {total}");
    for args in [
        &["--read-data-subset", "0%"][..],
        &["--read-data-subset", "4/3"],
        &["--read-data-subset", "1/3", "--read-data"],
        &["--unverified-for", "soon"],
        &["--keyless", "--time-limit", "1h"],
    ] {
        world.fails(&[&["check"], args].concat(), 2);
    }
}

#[test]
fn a_percentage_is_of_all_data_even_if_only_unverified_packs_are_chosen() {
    let world = three_backups();
    let packs = world.packs().len() as u64;
    // One of the three large packs is at most half of the data. Two of them are less than 70%.
    let half = checked(&world, &["--read-data-subset", "50%"]);
    let left = packs - number(&half["packs_verified"]);
    assert_eq!(left, 2, "{half}");
    let part = ["--unverified-for", "30d", "--read-data-subset", "70%"];
    assert_eq!(checked(&world, &part)["packs_verified"], left);
}

#[test]
fn damage_in_the_part_that_is_read_is_found_and_the_pack_stays_unverified() {
    let world = three_backups();
    world.is_clean();
    let pack = files(&world.project().join("packs")).remove(0);
    let name = pack.file_name().unwrap().to_str().unwrap().to_owned();
    let stored = fs::metadata(&pack).unwrap().modified().unwrap();
    damage(&pack);
    // If a disk damages a file, the file keeps its time.
    let file = fs::File::options().write(true).open(&pack).unwrap();
    file.set_modified(stored).unwrap();
    assert_eq!(
        checked(&world, &["--unverified-for", "30d"])["packs_chosen"],
        0
    );
    let ran = world.run(&["check", "--unverified-for", "0", "--json"]);
    assert_eq!(ran.code, Some(21), "{ran:?}");
    let lines = program::json_lines(&String::from_utf8(ran.stdout).unwrap());
    assert!(
        lines.iter().any(|line| line.to_string().contains(&name)),
        "{lines:?}"
    );
    let check = lines.last().unwrap();
    assert_eq!(check["backups_affected"].as_array().unwrap().len(), 1);
    let run = world.json(&["audit", "list"]);
    let run = run
        .iter()
        .rfind(|line| line["message_type"] == "run")
        .unwrap();
    assert_eq!(run["packs_damaged"], 1, "{run}");
}

#[test]
fn many_runs_do_not_make_the_ledger_grow_without_bound() {
    let world = three_backups();
    for _ in 0..20 {
        checked(&world, &["--read-data-subset", "1"]);
        assert!(ledger(&world) <= 9, "{}", ledger(&world));
    }
    let runs = world.json(&["audit", "list"]);
    let runs = runs.iter().filter(|line| line["message_type"] == "run");
    assert_eq!(runs.count(), 20, "the ledger lost a run");
    world.ok(&["check", "--read-data"]);
    let keyless = world.json_one(&["check", "--keyless"], "check");
    assert_eq!(keyless["errors"], 0);
}

#[test]
fn nothing_counts_as_verified_in_a_copy_of_a_repository() {
    let mut world = three_backups();
    world.is_clean();
    let fresh = ["--unverified-for", "30d"];
    assert_eq!(checked(&world, &fresh)["packs_chosen"], 0);
    let packs = world.packs().len() as u64;
    let target = world.path("vault");
    copy(&world.repository(), &target);
    world.set("CUTTLEBONE_REPOSITORY", target.to_str().unwrap());
    assert_eq!(checked(&world, &fresh)["packs_chosen"], packs);
}

#[test]
fn a_verify_key_compares_hashes_and_its_entries_count_only_for_itself() {
    let world = three_backups();
    let fresh = ["--unverified-for", "30d"];
    let mut keys = Vec::new();
    for role in ["verify", "verify", "write"] {
        keys.push(world.add_key(&format!("key {}", keys.len()), role, &[]));
    }
    let packs = world.packs().len() as u64;
    let with = |key: usize| [&fresh[..], &["--password-file", &keys[key]]].concat();
    let first = checked(&world, &with(0));
    assert_eq!(
        (&first["level"], &first["packs_verified"]),
        (&"hashed".into(), &packs.into())
    );
    assert_eq!(checked(&world, &with(0))["packs_chosen"], 0);
    assert_eq!(
        checked(&world, &with(1))["packs_chosen"],
        packs,
        "the runs of another verify key do not count"
    );
    let refused = world.fails(&[&["check"], &with(2)[..]].concat(), 22);
    assert!(refused.contains("“verify” or “full”"), "{refused}");
    assert_eq!(checked(&world, &fresh)["packs_chosen"], packs, "a full key");
    assert_eq!(checked(&world, &with(1))["packs_chosen"], 0);
    let text = world.ok(&["check", "--read-data", "--password-file", &keys[0]]);
    assert!(text.contains("only a full key can decrypt"), "{text}");
    let verify = ["--password-file", &keys[0]];
    assert_eq!(coverage(&world, "hashed", &verify)["bytes_never"], 0);
    let roles = world.json(&["audit", "list"]);
    assert!(roles.iter().any(|line| line["role"] == "verify"));

    let pack = files(&world.project().join("packs")).remove(0);
    damage(&pack);
    let ran = world.run(&[
        "check",
        "--read-data",
        "--json",
        "--password-file",
        &keys[0],
    ]);
    assert_eq!(ran.code, Some(21), "{ran:?}");
    assert!(ran.stderr.contains("with a full key"), "{}", ran.stderr);
    let lines = program::json_lines(&String::from_utf8(ran.stdout).unwrap());
    let check = lines.last().unwrap();
    assert_eq!(check["packs_damaged"], 1, "{lines:?}");
    assert_eq!(check["backups_affected"].as_array().unwrap().len(), 1);
}
