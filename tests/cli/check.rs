//! `check`, `list` and `stats` on a repository with damaged or missing objects.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::failures::assert_error;
use crate::support::noise;
use crate::support::program::{self, World, damage, files};

const MIB: usize = 1 << 20;

/// Returns the path of the largest pack, which contains chunks.
fn largest(world: &World) -> std::path::PathBuf {
    let len = |path: &std::path::PathBuf| fs::metadata(path).unwrap().len();
    world.packs().into_iter().max_by_key(len).unwrap()
}

fn two_backups() -> (World, String, String) {
    let world = World::new();
    let a = world.write("a", &noise(14, 3 * MIB));
    let b = world.write("b", &noise(15, MIB));
    world.backup(&[&a]);
    world.backup(&[&b]);
    (world, a, b)
}

#[track_caller]
fn checked(world: &World, args: &[&str], code: i32) -> Vec<Value> {
    let ran = world.run(&[args, &["--json"]].concat());
    assert_eq!(ran.code, Some(code), "{ran:?}");
    program::json_lines(&String::from_utf8(ran.stdout).unwrap())
}

#[test]
fn check_finds_damage_and_names_the_affected_backups() {
    let (world, a, b) = two_backups();
    let id = |volume| world.json_one(&["show", volume], "backup")["backup_id"].clone();
    damage(&largest(&world));
    world.ok(&["check"]);
    let lines = checked(&world, &["check", "--read-data"], 21);
    assert!(
        lines.iter().any(|line| line["message_type"] == "error"),
        "{lines:?}"
    );
    let check = lines.last().unwrap();
    assert_eq!(
        (&check["message_type"], &check["packs_damaged"]),
        (&"check".into(), &1.into())
    );
    assert_eq!(check["backups_affected"], Value::Array(vec![id("a")]));
    let output = world.fails(&["check", "--read-data"], 21);
    assert_error(&output, &["damage found", "1 backup affected", "--reread"]);

    assert_error(
        &world.fails(&["restore", "a", &world.at("out")], 21),
        &["damaged", "check"],
    );
    assert!(!world.path("out").exists());
    world.restores("b", &b);

    fs::remove_file(largest(&world)).unwrap();
    let check = checked(&world, &["check"], 21).pop().unwrap();
    assert_eq!(check["backups_affected"], Value::Array(vec![id("a")]));
    world.fails(&["restore", "a", &world.at("out")], 21);
    assert!(Path::new(&a).exists());
}

#[test]
fn check_exits_with_23_when_history_has_vanished() {
    let (world, _, b) = two_backups();
    let id = world.json_one(&["show", "a"], "backup")["backup_id"].clone();
    let record = world.project().join("backups").join(id.as_str().unwrap());
    fs::remove_file(record).unwrap();
    let lines = checked(&world, &["check"], 23);
    let mut errors = lines.iter().filter(|line| line["message_type"] == "error");
    assert!(
        errors.any(|line| line.to_string().contains(id.as_str().unwrap())),
        "{lines:?}"
    );
    assert_error(&world.fails(&["check"], 23), &["vanished"]);
    world.restores("b", &b);
}

#[test]
fn list_reports_a_damaged_record_and_lists_the_others() {
    let (world, _, b) = two_backups();
    let id = world.json_one(&["show", "a"], "backup")["backup_id"].clone();
    damage(&world.project().join("backups").join(id.as_str().unwrap()));
    let ran = world.run(&["list"]);
    assert_eq!(
        (
            ran.code,
            String::from_utf8(ran.stdout).unwrap().lines().count()
        ),
        (Some(0), 2)
    );
    assert!(ran.stderr.contains("check"), "{}", ran.stderr);
    world.fails(&["check"], 21);
    world.restores("b", &b);
}

#[test]
fn stats_name_unreadable_objects_and_exit_with_21() {
    let (world, ..) = two_backups();
    let listed = world.json(&["list"]);
    let second = listed[1]["backup_id"].as_str().unwrap().to_owned();
    let first = listed[0]["volume"].as_str().unwrap().to_owned();
    let counts = |world: &World, code: i32| {
        let ran = world.run(&["stats", "--json"]);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        let lines = program::json_lines(&String::from_utf8(ran.stdout).unwrap());
        (lines[0].clone(), ran.stderr)
    };
    assert_eq!(counts(&world, 0).0["unreadable"], 0);
    let record = world.project().join("backups").join(&second);
    let bytes = fs::read(&record).unwrap();
    damage(&record);
    let (stats, errors) = counts(&world, 21);
    assert_eq!(stats["unreadable"], 1, "{stats}");
    assert_eq!(stats["backups"], 1);
    assert!(errors.contains(&second), "{errors}");
    world.fails(&["stats", &first], 21);
    fs::write(&record, bytes).unwrap();

    for tree in files(&world.project().join("trees")) {
        damage(&tree);
    }
    let (stats, errors) = counts(&world, 21);
    assert!(stats["unreadable"].as_u64().unwrap() > 0, "{stats}");
    assert!(errors.contains("check"), "{errors}");
}

#[test]
fn stats_name_a_missing_pack_and_exit_with_21() {
    let (world, ..) = two_backups();
    let before = world.json_one(&["stats"], "stats");
    let pack = largest(&world);
    fs::remove_file(&pack).unwrap();
    let error = world.fails(&["stats"], 21);
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(error.contains(name), "{error}");
    let volume = world.json(&["list"])[0]["volume"].clone();
    let error = world.fails(&["stats", volume.as_str().unwrap()], 21);
    assert!(error.contains(name), "{error}");
    // The chunks of this pack do not count.
    let ran = world.run(&["stats", "--json"]);
    let after = program::json_lines(&String::from_utf8(ran.stdout).unwrap()).remove(0);
    for figure in [
        "chunks",
        "bytes_unique",
        "bytes_used",
        "bytes_stored",
        "packs",
    ] {
        let [before, after] = [&before, &after].map(|stats| stats[figure].as_u64().unwrap());
        assert!(after < before, "{figure}: {before}, {after}");
    }
}
