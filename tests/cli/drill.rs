//! `drill`, which restores random backups as a test.

use std::fs;

use serde_json::Value;

use crate::support::noise;
use crate::support::program::{self, World, damage, files};

const MIB: usize = 1 << 20;

fn two_backups() -> World {
    let world = World::new();
    for (name, seed, size) in [("small", 1, MIB), ("large", 2, 3 * MIB)] {
        let disk = world.write(name, &noise(seed, size));
        world.backup(&[&disk]);
    }
    world
}

/// Returns the drills in the ledger.
fn noted(world: &World) -> Vec<Value> {
    let mut lines = world.json(&["audit", "list"]);
    lines.retain(|line| line["message_type"] == "drill");
    lines
}

fn volumes(drills: &[Value]) -> Vec<&str> {
    let mut volumes: Vec<_> = drills
        .iter()
        .map(|d| d["volume"].as_str().unwrap())
        .collect();
    volumes.sort_unstable();
    volumes
}

/// Runs drills that must succeed. Returns a JSON line for each.
fn drill(world: &World, args: &[&str]) -> Vec<Value> {
    let mut lines = world.json(&[&["drill"], args].concat());
    lines.retain(|line| line["message_type"] == "drill");
    lines
}

#[test]
fn a_drill_restores_random_backups_and_notes_the_outcome() {
    let world = two_backups();
    let drills = drill(&world, &["--sample", "5"]);
    assert_eq!(volumes(&drills), ["large", "small"]);
    assert!(
        drills.iter().all(|drill| drill["success"] == true),
        "{drills:?}"
    );
    assert_eq!(volumes(&noted(&world)), ["large", "small"]);
    let limited = drill(&world, &["--sample", "5", "--max-bytes", "2M"]);
    assert_eq!(volumes(&limited), ["small"]);
    let text = world.fails(&["drill", "--max-bytes", "1K"], 24);
    assert!(text.contains("larger than --max-bytes"), "{text}");
    assert_eq!(noted(&world).len(), 3);
    let text = world.ok(&["drill"]);
    assert!(text.contains("good: "), "{text}");
    assert_eq!(world.ok(&["drill", "-q"]), "");
    let text = world.ok(&["audit", "list"]);
    assert!(text.contains("Drill") && text.contains("large"), "{text}");
    // Each backup is chosen sooner or later.
    let mut chosen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let drill = &drill(&world, &[])[0];
        chosen.insert(drill["volume"].as_str().unwrap().to_owned());
        if chosen.len() == 2 {
            break;
        }
    }
    assert_eq!(chosen.len(), 2);
}

#[test]
fn the_command_of_a_drill_gets_the_restored_file_which_is_deleted_afterwards() {
    let world = two_backups();
    let scratch = world.path("scratch");
    fs::create_dir(&scratch).unwrap();
    let scratch = scratch.to_str().unwrap();
    let large = world.at("large");
    let run = |command: &str| {
        let args = ["drill", "--sample", "9", "--json", "--scratch", scratch];
        let ran = world.run(&[&args[..], &["--command", command]].concat());
        assert_eq!(files(&world.path("scratch")).len(), 0);
        let mut lines = program::json_lines(&String::from_utf8(ran.stdout).unwrap());
        lines.retain(|line| line["message_type"] == "drill");
        (ran.code, lines, ran.stderr)
    };
    let (code, drills, errors) = run("test -s");
    assert_eq!((code, drills.len()), (Some(0), 2), "{errors}");
    let (code, drills, errors) = run(&format!("cmp {large}"));
    assert_eq!(code, Some(1), "{errors}");
    for drill in &drills {
        let is_large = drill["volume"] == "large";
        assert_eq!(drill["success"], is_large, "{drill}");
        if !is_large {
            let problem = drill["problem"].as_str().unwrap();
            assert!(
                problem.contains("exit status: 1") && problem.contains("differ"),
                "{problem}"
            );
        }
    }
    assert!(errors.contains("1 of 2 backups"), "{errors}");
    assert_eq!(noted(&world).len(), 4);
    let environment = run("env | grep -q CUTTLEBONE_PASSWORD && exit 7; test -s");
    assert_eq!(environment.0, Some(0), "the command sees the password");
    world.fails(
        &["drill", "--command", "true", "--scratch", "/nonexistent"],
        1,
    );
}

#[test]
fn a_drill_of_a_damaged_backup_fails_with_21_and_is_noted() {
    let world = two_backups();
    for pack in files(&world.project().join("packs")) {
        damage(&pack);
    }
    let ran = world.run(&["drill", "--sample", "2", "--json"]);
    assert_eq!(ran.code, Some(21), "{ran:?}");
    let noted = noted(&world);
    assert_eq!(noted.len(), 2);
    for drill in noted {
        assert_eq!(drill["success"], false);
        assert!(
            drill["problem"].as_str().is_some_and(|why| !why.is_empty()),
            "{drill}"
        );
    }
}
