//! `copy` to another repository with another password, on a disk or a server, and its failures.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::failures::assert_error;
use crate::support::program::{
    CHEAP_KEY, World, files, finish, json_lines, make_repository, until,
};
use crate::support::{SmallDisk, Sshd, noise};

const MIB: usize = 1 << 20;
const NEW_PASSWORD: &str = "battery staple";

/// Returns a world with three backups of two volumes, and the location of an empty target
/// repository. The environment has the target's password.
fn with_target() -> (World, String) {
    let mut world = World::new();
    world.set("CUTTLEBONE_TO_PASSWORD", NEW_PASSWORD);
    for seed in [1, 2] {
        let mut content = noise(9, 5 * MIB);
        content[MIB..2 * MIB].copy_from_slice(&noise(seed, MIB));
        let disk = world.write(&format!("web{seed}.img"), &content);
        world.backup(&[&disk, "--volume", "web", "--label", &format!("n={seed}")]);
    }
    let other = world.write("db.img", &noise(3, MIB));
    world.backup(&[&other, "--volume", "db"]);
    make_repository(&world.path("new"), NEW_PASSWORD);
    let target = world.at("new");
    (world, target)
}

/// Returns a world that uses the target as its repository.
fn in_target(world: &World, target: &str) -> World {
    let mut there = World::empty();
    there.set("CUTTLEBONE_REPOSITORY", target);
    there.set("CUTTLEBONE_PASSWORD", NEW_PASSWORD);
    there.set("CUTTLEBONE_CACHE_DIR", world.at("another cache"));
    there
}

fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let lines = lines.iter();
    lines.filter(|line| line["message_type"] == kind).collect()
}

#[test]
fn all_backups_are_copied_and_restored_with_the_other_password() {
    let (world, target) = with_target();
    let lines = world.json(&["copy", "--all", "--to", &target]);
    let copied = of(&lines, "copied");
    assert_eq!(copied.len(), 3, "{lines:?}");
    let summary = of(&lines, "summary")[0];
    assert_eq!(summary["backups_copied"], 3);
    assert_eq!(
        (&summary["backups_existing"], &summary["backups_failed"]),
        (&0.into(), &0.into())
    );
    assert_eq!(
        (&summary["target"], &summary["project"]),
        (&target.clone().into(), &"default".into())
    );
    let list = world.json(&["list"]);
    for (copied, backup) in copied.iter().zip(["db", "web", "web"]) {
        assert_eq!(copied["volume"], backup);
        assert_eq!(copied["existing"], false);
        let source = list
            .iter()
            .find(|entry| entry["backup_id"] == copied["source_id"]);
        assert_eq!(source.unwrap()["time"], copied["time"]);
    }
    // The second backup of the volume differs from the first in 1 MiB.
    assert_eq!(copied[2]["bytes_read"], MIB);
    assert_eq!(copied[2]["base"], copied[1]["backup_id"]);

    let there = in_target(&world, &target);
    there.is_clean();
    there.restores("web", &world.at("web2.img"));
    there.restores("web~1", &world.at("web1.img"));
    there.restores("db", &world.at("db.img"));
    let detail = there.json_one(&["show", "web"], "backup");
    assert_eq!(detail["original"], copied[2]["source_id"]);
    assert_eq!(detail["labels"]["n"], "2");
    let shown = there.ok(&["show", "web"]);
    assert!(
        shown.contains(copied[2]["source_id"].as_str().unwrap()),
        "{shown}"
    );
    there.fails(
        &[
            "list",
            "--password-file",
            &world.write("old", b"correct horse"),
        ],
        12,
    );
    // A backup of the same file finds its base in the target.
    let next = there.backup(&[&world.at("web2.img"), "--volume", "web"]);
    assert_eq!(
        (&next["bytes_new"], &next["base"]),
        (&0.into(), &copied[2]["backup_id"])
    );
}

#[test]
fn a_backup_that_is_there_already_is_not_copied_again() {
    let (world, target) = with_target();
    let text = world.ok(&["copy", "web~1", "--to", &target]);
    assert!(
        text.starts_with("copied ") && text.contains("copied 1 backup to"),
        "{text}"
    );
    let before = files(Path::new(&target));
    let dry = world.json(&["copy", "--all", "--to", &target, "--dry-run"]);
    let summary = of(&dry, "summary")[0];
    assert_eq!(
        (&summary["backups_copied"], &summary["backups_existing"]),
        (&2.into(), &1.into())
    );
    assert_eq!(files(Path::new(&target)), before);
    let text = world.ok(&["copy", "--all", "--to", &target, "--dry-run"]);
    assert!(text.contains("would copy 2 backups"), "{text}");
    assert_eq!(
        world.ok(&["copy", "--volume", "web", "--to", &target, "-q"]),
        ""
    );
    let before = files(Path::new(&target));
    let text = world.ok(&["copy", "--volume", "web", "--to", &target]);
    assert!(
        text.contains("copied 0 backups") && text.contains("2 there already"),
        "{text}"
    );
    assert_eq!(files(Path::new(&target)), before);
    in_target(&world, &target).is_clean();
}

#[test]
fn the_password_of_the_target_comes_from_its_own_options_and_variables() {
    let (mut world, target) = with_target();
    world.set("CUTTLEBONE_TO_PASSWORD", "");
    let args = ["copy", "db", "--to", &target];
    let failed = world.fails(&args, 1);
    assert_error(
        &failed,
        &[
            "no password given",
            "--to-password-file",
            "CUTTLEBONE_TO_PASSWORD_FD",
        ],
    );
    let file = world.write("new.pw", format!("{NEW_PASSWORD}\n").as_bytes());
    let command = format!("cat {file}");
    world.ok(&[&args[..], &["--to-password-file", &file]].concat());
    world.ok(&[&args[..], &["--to-password-command", &command]].concat());
    for (name, value) in [
        ("CUTTLEBONE_TO_PASSWORD_FILE", &file),
        ("CUTTLEBONE_TO_PASSWORD_COMMAND", &command),
    ] {
        world.set(name, value);
        world.ok(&args);
        world.set(name, "");
    }
    let wrong = world.write("wrong", b"wrong");
    let failed = world.fails(&[&args[..], &["--to-password-file", &wrong]].concat(), 12);
    assert_error(&failed, &[&target, "no key", "wrong"]);
    world.set("CUTTLEBONE_TO_PASSWORD", "wrong, too");
    let failed = world.fails(&args, 12);
    assert_error(&failed, &[&target, "CUTTLEBONE_TO_PASSWORD"]);
    // The program that connects to a server sees neither password.
    let seen = world.at("seen");
    let ssh = format!("sh -c 'env > {seen}; exit 1'");
    world.set("CUTTLEBONE_TO_PASSWORD", NEW_PASSWORD);
    let remote = [
        "copy",
        "db",
        "--to",
        "sftp:host:x",
        "--ssh-command",
        &ssh,
        "--timeout",
        "5",
    ];
    world.fails(&remote, 1);
    let seen = fs::read_to_string(seen).unwrap();
    assert!(
        !seen.contains("PASSWORD") && seen.contains("HOME="),
        "{seen}"
    );
}

#[test]
fn a_target_without_a_repository_is_refused_with_the_command_that_makes_one() {
    let (world, target) = with_target();
    let missing = world.at("not there");
    let failed = world.fails(&["copy", "--all", "--to", &missing], 10);
    assert_error(&failed, &["no repository", "init", "'"]);
    let expected = format!("cuttlebone -r '{missing}' init");
    assert!(failed.contains(&expected), "{failed}");
    assert!(!world.path("not there").exists());
    let failed = world.fails(
        &["copy", "--all", "--to", &target, "--to-project", "other"],
        24,
    );
    assert_error(&failed, &["other", "default"]);
}

#[test]
fn wrong_requests_are_refused() {
    let (world, target) = with_target();
    let own = world.repository().to_str().unwrap().to_owned();
    for args in [
        &["copy", "--all"][..],
        &["copy", "--to", &target],
        &["copy", "--all", "web", "--to", &target],
        &["copy", "--all", "--to", &own],
        &["copy", "--all", "--to", &target, "--to-volume", "all"],
        &["copy", "db", "--to", &target, "--to-volume", "a@b"],
        &[
            "copy",
            "db",
            "--to",
            &target,
            "--password-file",
            "-",
            "--to-password-file",
            "-",
        ],
    ] {
        world.fails(args, 2);
    }
    for args in [
        &["copy", "nothing", "--to", &target][..],
        &["copy", "web~7", "--to", &target],
        &["copy", "--volume", "nothing", "--to", &target],
    ] {
        world.fails(args, 24);
    }
    // A replica has the same keys, so `copy` refuses it as a target.
    let replica = world.at("replica");
    world.ok(&["replicate", &replica]);
    let file = world.write("own password", b"correct horse");
    let args = ["copy", "db", "--to", &replica, "--to-password-file", &file];
    let failed = world.fails(&args, 2);
    assert_error(&failed, &["same project", "replicate"]);
    assert_eq!(in_target(&world, &target).json(&["list"]).len(), 0);
}

#[test]
fn a_write_key_reads_no_backup_and_stores_copies() {
    let (world, target) = with_target();
    let there = in_target(&world, &target);
    let reader = world.add_key("reader", "write", &[]);
    let all = ["copy", "--all", "--to", &target];
    let failed = world.fails(&[&all[..], &["--password-file", &reader]].concat(), 22);
    assert_error(&failed, &["“write”", "copy backups"]);
    let auditor = there.add_key("auditor", "verify", &[]);
    let failed = world.fails(&[&all[..], &["--to-password-file", &auditor]].concat(), 22);
    assert_error(&failed, &["“verify”", "store copies"]);
    let narrow = there.add_key("narrow", "write", &["--volumes", "db*"]);
    world.fails(&[&all[..], &["--to-password-file", &narrow]].concat(), 22);
    assert_eq!(there.json(&["list"]).len(), 0);
    world.ok(&["copy", "db", "--to", &target, "--to-password-file", &narrow]);
    there.restores("db", &world.at("db.img"));
    there.is_clean();
}

#[test]
fn backups_of_write_keys_are_named_and_copied_only_if_the_user_accepts_them() {
    let (world, target) = with_target();
    let file = world.add_key("of the writer", "write", &[]);
    let disk = world.write("by writer.img", &noise(5, MIB));
    let made = world.backup(&[&disk, "--volume", "alpha", "--password-file", &file]);
    let id = made["backup_id"].as_str().unwrap();
    let all = ["copy", "--all", "--to", &target];
    let failed = world.fails(&all, 3);
    let named = [id, "“alpha”", "write key", "1 of 4 backups failed"];
    assert_error(&failed, &named);
    assert!(failed.contains("--accept-write-keys"), "{failed}");
    let there = in_target(&world, &target);
    assert_eq!(there.json(&["list"]).len(), 3);
    let failed = world.fails(&["copy", "alpha", "--to", &target], 1);
    assert_error(&failed, &[id, "--accept-write-keys"]);
    let text = world.ok(&[&all[..], &["--accept-write-keys"]].concat());
    assert!(text.contains("copied 1 backup to"), "{text}");
    there.restores("alpha", &disk);
    world.ok(&all);
    there.is_clean();
}

/// Zeroes bytes in the middle of each of these files.
fn damage(paths: &[std::path::PathBuf]) {
    for path in paths {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 1000].fill(0);
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn copy_exits_with_21_if_all_backups_are_damaged_and_with_3_if_only_some_are() {
    let (world, target) = with_target();
    let before = world.packs();
    let disk = world.write("bad.img", &noise(70, 2 * MIB));
    let bad = world.backup(&[&disk, "--volume", "bad"]);
    let id = bad["backup_id"].as_str().unwrap();
    world.backup(&[&disk, "--volume", "bad2"]);
    let mut new = world.packs();
    new.retain(|path| !before.contains(path) && path.to_str().unwrap().contains("/packs/"));
    damage(&new);
    let failed = world.fails(&["copy", "bad", "--to", &target], 21);
    assert_error(&failed, &[id, "“bad”", "bytes ", "was not copied"]);
    let args = ["copy", "--all", "--to", &target, "--json"];
    let ran = world.run(&args);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let lines = json_lines(&String::from_utf8(ran.stdout).unwrap());
    let summary = of(&lines, "summary")[0];
    assert_eq!(
        (&summary["backups_copied"], &summary["backups_failed"]),
        (&3.into(), &2.into())
    );
    let errors = json_lines(&ran.stderr);
    let error = of(&errors, "error")[0];
    assert_eq!(error["code"], 21, "{errors:?}");
    assert!(error["message"].as_str().unwrap().contains(id), "{error}");
    assert_eq!(of(&errors, "exit_error")[0]["code"], 3);
    let there = in_target(&world, &target);
    there.is_clean();
    assert_eq!(there.json(&["list"]).len(), 3);
    // All requested backups are damaged.
    let both = ["copy", "bad", "bad2", "--to", &target];
    let failed = world.fails(&both, 21);
    assert_error(&failed, &["all 2 backups failed", "bad2"]);
}

#[test]
fn a_record_that_cannot_be_read_is_reported_if_all_backups_were_asked_for() {
    let (world, target) = with_target();
    let records = files(&world.project().join("backups"));
    damage_record(&records[0]);
    let failed = world.fails(&["copy", "--all", "--to", &target], 21);
    assert_error(&failed, &["1 record cannot be read"]);
    assert_eq!(in_target(&world, &target).json(&["list"]).len(), 2);
}

#[test]
fn a_missing_certificate_gives_exit_code_21_if_all_backups_or_whole_volumes_were_asked_for() {
    let (world, target) = with_target();
    let writer = world.add_key("of the writer", "write", &[]);
    let disk = world.write("by writer.img", &noise(5, MIB));
    world.backup(&[&disk, "--volume", "alpha", "--password-file", &writer]);
    let writers = world.project().join("writers");
    let aside = world.path("aside");
    fs::rename(&writers, &aside).unwrap();
    for selection in [&["--all"][..], &["--volume", "web", "--volume", "db"]] {
        let args = [&["copy", "--to", &target], selection].concat();
        let failed = world.fails(&args, 21);
        assert_error(&failed, &["certificate", "projects/*/writers"]);
    }
    // All other backups are copied.
    let there = in_target(&world, &target);
    assert_eq!(there.json(&["list"]).len(), 3);
    world.ok(&["copy", "web", "--to", &target]);
    fs::rename(&aside, &writers).unwrap();
    let args = ["copy", "--all", "--to", &target, "--accept-write-keys"];
    world.ok(&args);
    there.restores("alpha", &disk);
    there.is_clean();
}

fn damage_record(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_copy_that_is_killed_or_interrupted_continues_where_it_was() {
    const SIZE: usize = 160 * MIB;
    for signal in [Signal::KILL, Signal::INT] {
        let (world, target) = with_target();
        let disk = world.write("large.img", &noise(80, SIZE));
        world.backup(&[&disk, "--volume", "large"]);
        let args = ["copy", "large", "--to", &target];
        let mut child = world.start(&args);
        let packs = || {
            let files = files(Path::new(&target));
            let is_pack = |path: &&std::path::PathBuf| {
                let path = path.to_str().unwrap();
                path.contains("/packs/") && !path.rsplit('/').next().unwrap().starts_with('.')
            };
            files.iter().filter(is_pack).count()
        };
        until(&mut child, || packs() >= 2);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let ran = finish(child, &args);
        if signal == Signal::INT {
            assert_eq!(ran.code, Some(130), "{ran:?}");
        }
        let there = in_target(&world, &target);
        assert_eq!(there.json(&["list"]).len(), 0);
        let lines = world.json(&args);
        let new = of(&lines, "copied")[0]["bytes_new"].as_u64().unwrap();
        assert!(new <= (SIZE - 48 * MIB) as u64, "{signal:?}: {new}");
        there.restores("large", &disk);
        there.is_clean();
    }
}

#[test]
fn a_copy_to_a_full_target_fails_and_continues_when_there_is_space() {
    let Some(disk) = SmallDisk::mount(40 << 10) else {
        return;
    };
    let (world, _) = with_target();
    let target = disk.path().join("new");
    make_repository(&target, NEW_PASSWORD);
    let target = target.to_str().unwrap();
    let there = in_target(&world, target);
    // The first backup fits, but not the second one.
    let filler = disk.fill(3 * MIB as u64);
    let failed = world.fails(&["copy", "--all", "--to", target], 1);
    assert_error(&failed, &["could not store", target, "free some space"]);
    there.is_clean();
    assert_eq!(there.json(&["list"]).len(), 1);
    there.restores("db", &world.at("db.img"));
    drop(filler);
    let lines = world.json(&["copy", "--all", "--to", target]);
    let summary = of(&lines, "summary")[0];
    assert_eq!(
        (&summary["backups_copied"], &summary["backups_existing"]),
        (&2.into(), &1.into())
    );
    there.restores("web", &world.at("web2.img"));
    there.is_clean();
}

#[test]
fn connections_that_hang_are_replaced_and_the_copy_is_completed() {
    let Some(server) = Sshd::start() else { return };
    let mut world = World::new();
    let (ssh, target) = (server.ssh_command(), server.location("new"));
    make_repository(&server.store().join("new"), NEW_PASSWORD);
    world.set("CUTTLEBONE_SSH_COMMAND", &ssh);
    world.set("CUTTLEBONE_TO_PASSWORD", NEW_PASSWORD);
    let disk = world.write("disk.img", &noise(1, 80 * MIB));
    world.backup(&[&disk, "--volume", "web"]);
    let args = ["copy", "--all", "--to", &target, "--timeout", "1"];
    let mut child = world.start(&args);
    let packs = || {
        let mut files = files(&server.store().join("new"));
        files.retain(|path| path.to_str().unwrap().contains("/packs/"));
        files.len()
    };
    until(&mut child, || packs() > 0);
    server.signal(Signal::STOP);
    let ran = finish(child, &args);
    server.signal(Signal::CONT);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut there = in_target(&world, &target);
    there.set("CUTTLEBONE_SSH_COMMAND", &ssh);
    there.restores("web", &disk);
    there.is_clean();
}

#[test]
fn backups_are_copied_from_one_server_directory_to_another() {
    let Some(server) = Sshd::start() else { return };
    let mut world = World::empty();
    let ssh = server.ssh_command();
    world.set("CUTTLEBONE_REPOSITORY", server.location("old"));
    world.set("CUTTLEBONE_SSH_COMMAND", &ssh);
    world.ok(&[&["init", "-q"][..], &CHEAP_KEY].concat());
    let disk = world.write("disk.img", &noise(1, 5 * MIB));
    world.backup(&[&disk, "--volume", "web"]);
    let mut there = World::empty();
    let target = server.location("new");
    there.set("CUTTLEBONE_REPOSITORY", &target);
    there.set("CUTTLEBONE_SSH_COMMAND", &ssh);
    there.set("CUTTLEBONE_PASSWORD", NEW_PASSWORD);
    there.ok(&[&["init", "-q"][..], &CHEAP_KEY].concat());
    world.set("CUTTLEBONE_TO_PASSWORD", NEW_PASSWORD);
    let lines = world.json(&["copy", "--all", "--to", &target]);
    assert_eq!(of(&lines, "summary")[0]["backups_copied"], 1);
    let lines = world.json(&["copy", "--all", "--to", &target]);
    assert_eq!(of(&lines, "summary")[0]["backups_existing"], 1);
    there.restores("web", &disk);
    there.is_clean();
}

#[test]
fn a_host_remembers_a_copy_with_the_time_of_the_original() {
    let (world, target) = with_target();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    world.ok(&["copy", "db", "--to", &target]);
    let copy = in_target(&world, &target).json(&["list"]).remove(0);
    let memories = files(&world.path("home/.local/state/cuttlebone/locations")).into_iter();
    let memories = memories.map(|file| fs::read_to_string(file).unwrap());
    let memories = memories.map(|text| serde_json::from_str::<Value>(&text).unwrap());
    let mut of_target = memories.filter(|memory| memory["location"] == target.as_str());
    let seen = of_target.next().unwrap();
    let backups = seen["projects"]["default"]["backups"].as_array();
    let seen = backups
        .unwrap()
        .iter()
        .find(|b| b["id"] == copy["backup_id"]);
    assert_eq!(seen.unwrap()["time"], copy["time"]);
}
