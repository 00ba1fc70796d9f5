//! The order of backups if clocks are wrong, or if copies of a repository were used separately and
//! then merged.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::program::{Ran, World, finish};
use crate::support::{noise, skip};

/// Runs a command, which must succeed, with the clock at a time in the form of `faketime`. `None`
/// is the real clock. Returns the standard output.
fn at(world: &World, time: Option<&str>, args: &[&str]) -> String {
    run_at(world, time, args).ok(args)
}

/// Runs a command like [`at`], with any exit code.
pub(super) fn run_at(world: &World, time: Option<&str>, args: &[&str]) -> Ran {
    let mut command = world.command(args);
    if let Some(time) = time {
        let mut faked = Command::new("faketime");
        faked.args(["--exclude-monotonic", "-f", time]);
        faked.arg(command.get_program()).args(command.get_args());
        faked.env_clear();
        for (name, value) in command.get_envs() {
            faked.env(name, value.unwrap_or_default());
        }
        // The times of files stay real, as if the clock of the store were right.
        faked.env("NO_FAKE_STAT", "1");
        faked.current_dir(world.path(""));
        faked.stdin(std::process::Stdio::null());
        faked.stdout(std::process::Stdio::piped());
        faked.stderr(std::process::Stdio::piped());
        command = faked;
    }
    finish(command.spawn().unwrap(), args)
}

fn listed(world: &World) -> Vec<String> {
    let lines = world.json(&["list"]);
    let id = |line: &Value| line["backup_id"].as_str().unwrap().to_owned();
    lines.iter().map(id).collect()
}

#[test]
fn the_newest_backup_is_the_one_made_last_even_if_clocks_are_wrong() {
    if Command::new("faketime").arg("--version").output().is_err() {
        return skip("there is no faketime");
    }
    let mut world = World::new();
    world.set("TZ", "CET-1CEST,M3.5.0,M10.5.0/3");
    let clocks = [
        None,
        Some("+2d"),
        None,
        Some("-365d"),
        Some("@1970-01-02 00:00:00"),
        // On this night, summer time ends: the clock shows the hour from 2 to 3 twice.
        Some("@2026-10-25 02:59:59"),
        Some("@2026-10-25 02:00:01"),
        None,
    ];
    let (mut ids, mut before) = (Vec::new(), None);
    for (number, clock) in (0..).zip(clocks) {
        let name = format!("disk{number}.img");
        let image = world.write(&name, &noise(number, 100 << 10));
        at(&world, clock, &["backup", &image, "--volume", "v"]);
        let all = listed(&world);
        let newest = all.last().unwrap().clone();
        assert!(!ids.contains(&newest), "{clock:?}");
        ids.push(newest);
        assert_eq!(all, ids, "{clock:?}");
        world.restores("v", &image);
        if let Some(before) = before.replace(image) {
            world.restores("v~1", &before);
        }
    }
    let plan = world.json_one(&["forget", "--keep-last", "1", "--dry-run"], "forget");
    let named: Vec<_> = plan["uncounted"].as_array().unwrap().iter().collect();
    assert!(
        named.contains(&&Value::from(&*ids[1])),
        "the backup of a clock two days ahead is not counted: {plan}"
    );
    assert!(
        named.contains(&&Value::from(&*ids[4])),
        "the backup of a clock in 1970 is not counted: {plan}"
    );
    assert!(!named.contains(&&Value::from(&*ids[0])), "{plan}");
    let text = world.ok(&["forget", "--keep-last", "1", "--dry-run"]);
    let expected = format!("v: {} backups kept and not counted: ", named.len());
    assert!(text.contains(&expected), "{text}");
    world.is_clean();
}

/// Copies a repository, makes one more backup of the volume `v` in each of the two, and merges them
/// file by file. Returns the world, the images of the two backups, and their ids.
fn merged() -> (World, [String; 2], [String; 2]) {
    let mut world = World::new();
    let image = world.write("disk.img", &noise(1, 300 << 10));
    world.backup(&[&image, "--volume", "v"]);
    let first = listed(&world)[0].clone();
    let (one, other) = (world.repository(), world.path("copy"));
    let copy = |from: &str, to: &str| {
        let status = Command::new("cp").args(["-R", "-n", from, to]).status();
        assert!(status.unwrap().success());
    };
    copy(one.to_str().unwrap(), other.to_str().unwrap());
    let images = [2, 3].map(|n| world.write(&format!("disk{n}.img"), &noise(n, 300 << 10)));
    world.backup(&[&images[0], "--volume", "v", "--to-snapshot", "one"]);
    world.set("CUTTLEBONE_REPOSITORY", &other);
    world.set("CUTTLEBONE_CACHE_DIR", world.path("cache of the copy"));
    world.backup(&[&images[1], "--volume", "v", "--to-snapshot", "two"]);
    world.set("CUTTLEBONE_REPOSITORY", &one);
    world.set("CUTTLEBONE_CACHE_DIR", world.path("cache"));
    copy(&format!("{}/.", other.display()), one.to_str().unwrap());
    let all = listed(&world);
    assert_eq!(all.len(), 3);
    assert_eq!(all[0], first);
    (world, images, [all[1].clone(), all[2].clone()])
}

#[test]
fn both_lines_of_backups_are_shown_after_two_copies_of_a_repository_were_merged() {
    let (world, images, ids) = merged();
    let [first, second] = ids.each_ref().map(|id| &id[..8]);
    let ran = world.run(&["list"]);
    let expected = format!(
        "volume “v” has 2 separate lines of backups. Their newest backups are {second}, {first}; \
         the first of these counts as the newest of the volume"
    );
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    world.restores("v", &images[1]);
    world.restores("v~1", &images[0]);
    let ran = world.run(&["restore", "v", &world.at("restored")]);
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    let text = world.ok(&["forget", "--keep-last", "1", "--dry-run"]);
    let expected = format!("v: 2 separate lines of backups, the newest: {second}, {first}\n");
    assert!(text.contains(&expected), "{text}");
    assert!(text.contains("v: would keep 2 backups\n"), "{text}");
    world.is_clean();
}

#[test]
fn a_list_of_extents_asks_which_of_two_newest_backups_it_starts_from() {
    let (world, images, ids) = merged();
    let list = world.write("list", b"[]");
    let args = ["backup", &images[0], "--volume", "v", "--extents", &list];
    let from = |snapshot| [&args[..], &["--from-snapshot", snapshot]].concat();
    let output = world.fails(&from("one"), 20);
    for expected in [
        "volume “v” has two newest backups with different content: ",
        &ids[0],
        &ids[1],
        "--base ",
    ] {
        assert!(output.contains(expected), "{output}");
    }
    assert_eq!(listed(&world).len(), 3);
    let base = ["--base", &ids[0], "--to-snapshot", "three"];
    world.ok(&[&args[..], &base].concat());
    world.restores("v", &images[0]);
    // The new backup follows both of the newest backups, so it is now the only newest backup.
    world.ok(&from("three"));
    assert!(!world.run(&["list"]).stderr.contains("lines"));
    assert_eq!(listed(&world).len(), 5);
    world.is_clean();
}

#[test]
fn two_newest_backups_with_the_same_content_need_no_choice() {
    let (world, images, ids) = merged();
    world.ok(&["forget", &ids[1]]);
    let list = world.write("list", b"[]");
    let args = ["backup", &images[0], "--volume", "v", "--extents", &list];
    world.ok(&[&args[..], &["--from-snapshot", "one"]].concat());
    world.restores("v", &images[0]);
}

#[test]
fn a_list_of_extents_exits_with_23_if_a_followed_backup_has_vanished() {
    let world = World::new();
    let image = world.write("disk.img", &noise(1, 300 << 10));
    for snapshot in ["one", "two", "three"] {
        world.backup(&[
            &image,
            "--volume",
            "v",
            "--reread",
            "--to-snapshot",
            snapshot,
        ]);
    }
    let all = listed(&world);
    fs::remove_file(world.project().join("backups").join(&all[1])).unwrap();
    let list = world.write("list", b"[]");
    let args = ["backup", &image, "--volume", "v", "--extents", &list];
    let output = world.fails(&[&args[..], &["--from-snapshot", "three"]].concat(), 23);
    let expected = format!(
        "a backup of volume “v” follows backup {}, which has vanished",
        all[1]
    );
    assert!(output.contains(&expected), "{output}");
    world.ok(&[&args[..], &["--base", "v"]].concat());
}
