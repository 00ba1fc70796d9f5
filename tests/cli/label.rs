//! `label` changes the labels of backups that exist.

use std::fs;

use serde_json::{Value, json};

use super::failures::assert_error;
use crate::support::noise;
use crate::support::program::World;

/// A world with three backups of a volume “v”, each with different content, and their files.
fn world() -> (World, Vec<String>) {
    let world = World::new();
    let files: Vec<_> = (0..3)
        .map(|n| {
            let file = world.write(&format!("file{n}"), &noise(n, 100_000));
            world.backup(&[&file, "--volume", "v", "--label", &format!("n={n}")]);
            file
        })
        .collect();
    (world, files)
}

fn labels(world: &World) -> Vec<Value> {
    let lines = world.json(&["list"]);
    lines.iter().map(|line| line["labels"].clone()).collect()
}

#[test]
fn labels_are_added_changed_and_removed_and_the_order_stays() {
    let (world, files) = world();
    let before = world.json(&["list"]);
    let summary = world.json_one(&["label", "v~1", "protected=yes", "n=9"], "summary");
    assert_eq!(summary["replaces"], before[1]["backup_id"]);
    assert_ne!(summary["backup_id"], before[1]["backup_id"]);
    assert_eq!(
        labels(&world),
        [
            json!({"n": "0"}),
            json!({"n": "9", "protected": "yes"}),
            json!({"n": "2"})
        ]
    );
    let after = world.json(&["list"]);
    for (before, after) in before.iter().zip(&after) {
        for same in ["volume", "time", "size", "host"] {
            assert_eq!(before[same], after[same]);
        }
    }
    for (selector, file) in ["v~2", "v~1", "v"].iter().zip(&files) {
        world.restores(selector, file);
    }
    world.is_clean();

    // The label `protected` keeps the backup.
    world.ok(&["forget", "--keep-last", "1", "--prune", "--grace", "0"]);
    assert_eq!(world.json(&["list"]).len(), 2);
    world.restores("v~1", &files[1]);
    world.ok(&["label", "v~1", "--remove", "protected"]);
    assert_eq!(labels(&world), [json!({"n": "9"}), json!({"n": "2"})]);
    world.ok(&["forget", "--keep-last", "1", "--prune", "--grace", "0"]);
    assert_eq!(labels(&world), [json!({"n": "2"})]);
    world.is_clean();
    world.restores("v", &files[2]);
}

#[test]
fn a_backup_follows_one_whose_labels_were_changed() {
    let (world, files) = world();
    world.ok(&["label", "v", "v~2", "why=hold"]);
    let next = world.write("next", &noise(9, 100_000));
    let made = world.backup(&[&next, "--volume", "v"]);
    let newest = world.json(&["list", "--label", "why=hold", "--latest", "1"]);
    assert_eq!(made["base"], newest[0]["backup_id"]);
    world.restores("v~1", &files[2]);
    world.restores("v~3", &files[0]);
    // The labels of the only backup of a volume can be changed, too.
    world.ok(&["forget", "--keep-last", "1"]);
    world.ok(&["label", "v", "a=b"]);
    assert_eq!(labels(&world), [json!({"a": "b"})]);
    world.restores("v", &next);
    world.is_clean();
}

#[test]
fn label_stores_nothing_if_the_backup_has_these_labels_already() {
    let (world, _) = world();
    let count = || {
        fs::read_dir(world.project().join("backups"))
            .unwrap()
            .count()
    };
    let text = world.ok(&["label", "v", "n=2", "--remove", "other"]);
    assert!(text.contains("has these labels already"), "{text}");
    assert_eq!(count(), 3);
    for args in [
        &["label", "v"][..],
        &["label", "a=b"],
        &["label"],
        &["label", "v", "a=b", "a=c"],
        &["label", "v", "a=b", "--remove", "a"],
        &["label", "v", "=b"],
    ] {
        world.fails(args, 2);
    }
    // If one of several given backups does not exist, no labels are changed.
    world.fails(&["label", "v", "w", "a=b"], 24);
    assert_eq!(labels(&world)[2], json!({"n": "2"}));
}

#[test]
fn labels_of_a_backup_by_a_write_key_cannot_be_changed() {
    let mut world = World::new();
    let disk = world.write("disk", &noise(1, 10_000));
    world.add_key("another", "write", &[]);
    let own = std::mem::take(&mut world.environment);
    world.environment = own.clone();
    world.set("CUTTLEBONE_PASSWORD", "another");
    world.backup(&[&disk, "--volume", "v"]);
    world.fails(&["label", "v", "a=b"], 22);
    world.environment = own;
    let error = world.fails(&["label", "v", "a=b"], 22);
    assert_error(&error, &["a write key signed it", "give the labels when"]);
    world.is_clean();
}
