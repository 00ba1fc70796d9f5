//! Hosts remember repositories. They notice if backups vanish or a repository is replaced, and do
//! not report ordinary changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::failures::assert_error;
use crate::support::program::{World, damage, files, json_lines};
use crate::support::{modes_apply, noise};

/// A world with three backups of a volume “v”, and their ids, oldest first.
fn three_backups() -> (World, Vec<String>) {
    let world = World::new();
    let ids = (0..3).map(|day| back_up(&world, day)).collect();
    (world, ids)
}

fn back_up(world: &World, day: u64) -> String {
    let source = world.write("source", &noise(day, 300_000));
    let summary = world.backup(&[&source, "--volume", "v"]);
    summary["backup_id"].as_str().unwrap().to_owned()
}

/// Returns the path of the file of a record.
fn record(world: &World, id: &str) -> PathBuf {
    let records = files(&world.project().join("backups")).into_iter();
    let mut found = records.filter(|path| path.file_name().unwrap() == id);
    found.next().unwrap()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// Makes the world use another home directory, as another host does.
fn at_home(world: &mut World, home: &str) {
    let home = world.at(home);
    world.set("HOME", home);
}

/// Returns the files in which the host remembers repositories.
fn memory(world: &World) -> Vec<PathBuf> {
    files(&world.path("home/.local/state/cuttlebone/locations"))
}

/// Runs a command that must succeed. Returns its notices.
#[track_caller]
fn notices(world: &World, args: &[&str]) -> String {
    let ran = world.run(args);
    assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
    ran.stderr
}

#[track_caller]
fn check_is_clean(world: &World) {
    let check = world.json_one(&["check"], "check");
    assert_eq!(check["errors"], 0, "{check}");
}

#[test]
fn a_check_that_finds_a_loss_and_damage_names_both() {
    let (world, ids) = three_backups();
    let loss = "has lost objects that this host saw there";
    fs::remove_file(record(&world, &ids[2])).unwrap();
    let error = world.fails(&["check"], 23);
    assert!(error.contains(loss) && !error.contains("damage"), "{error}");
    for pack in files(&world.project().join("packs")) {
        damage(&pack);
    }
    let error = world.fails(&["check", "--read-data"], 23);
    let (_, last) = error.rsplit_once("error: ").unwrap();
    let damage = "There is also damage, which affects 2 backups\n";
    let named = format!("backup {} of volume “v”", &ids[2][..8]);
    for part in [loss, damage, &named, "--accept-history", "repair packs"] {
        assert!(last.contains(part), "{part}: {error}");
    }
}

#[test]
fn the_loss_of_the_newest_backup_is_noticed() {
    let (world, ids) = three_backups();
    fs::remove_file(record(&world, &ids[2])).unwrap();
    let stored = files(&world.repository());
    let named = format!("backup {} of volume “v”", &ids[2][..8]);
    let next = "check --accept-history";

    assert_error(&world.fails(&["check"], 23), &[&named, next]);
    for args in [
        &["backup", "source", "--volume", "v"][..],
        &["prune"],
        &["forget", "--keep-last", "1"],
        &["head"],
    ] {
        assert_error(&world.fails(args, 23), &[&named, next]);
    }
    assert_eq!(
        files(&world.repository()),
        stored,
        "a command changed the repository"
    );
    for args in [&["list"][..], &["restore", &ids[1], "out"], &["show", "v"]] {
        let notice = notices(&world, args);
        assert!(notice.contains(&named), "{args:?}: {notice}");
    }
    // The host still remembers the lost backup after commands that only print a notice.
    assert_error(&world.fails(&["check"], 23), &[&named, next]);

    let accepted = notices(&world, &["check", "--accept-history"]);
    assert!(
        accepted.contains(&format!("accepted: {named}")),
        "{accepted}"
    );
    check_is_clean(&world);
    back_up(&world, 3);
    assert_eq!(notices(&world, &["list", "-q"]), "");
}

#[test]
fn a_restore_by_volume_does_not_select_an_older_backup_than_the_lost_one() {
    let (world, ids) = three_backups();
    fs::remove_file(record(&world, &ids[2])).unwrap();
    for (selector, found) in [("v", &ids[1]), ("v~1", &ids[0])] {
        let error = world.fails(&["restore", selector, "out"], 23);
        assert_error(&error, &["not certain", &ids[2], &found[..8]]);
    }
    assert!(!world.path("out").exists());
    world.ok(&["restore", &ids[1], "out"]);
}

#[test]
fn a_prune_that_accepts_one_loss_does_not_accept_another() {
    let (world, ids) = three_backups();
    world.ok(&["prune", "--grace", "0"]);
    let newest = back_up(&world, 3);
    for id in [&ids[1], &newest] {
        fs::remove_file(record(&world, id)).unwrap();
    }
    let packs = world.packs();
    let accept = ["prune", "--grace", "0", "--accept-loss", &ids[1]];
    assert_error(&world.fails(&accept, 23), &[&newest[..8]]);
    assert_eq!(world.packs(), packs);
}

#[test]
fn a_backup_that_was_made_during_another_command_stays_remembered() {
    let (world, _) = three_backups();
    let newest = back_up(&world, 3);
    // The other command does not see the record, as if it were stored after the command listed the
    // records.
    let (file, aside) = (record(&world, &newest), world.path("aside"));
    fs::rename(&file, &aside).unwrap();
    world.ok(&["list"]);
    fs::rename(&aside, &file).unwrap();
    world.ok(&["list"]);
    fs::remove_file(&file).unwrap();
    assert_error(&world.fails(&["check"], 23), &[&newest[..8]]);
}

#[test]
fn json_names_the_lost_backup() {
    let (world, ids) = three_backups();
    fs::remove_file(record(&world, &ids[2])).unwrap();
    let ran = world.run(&["check", "--json"]);
    assert_eq!(ran.code, Some(23), "{ran:?}");
    let lines = json_lines(&String::from_utf8(ran.stdout).unwrap());
    let is_named = |line: &Value| {
        line["message_type"] == "error" && line["message"].to_string().contains(&ids[2][..8])
    };
    assert!(lines.iter().any(is_named), "{lines:?}");
    let check = lines.iter().find(|line| line["message_type"] == "check");
    assert_eq!(check.unwrap()["errors"], 1);
}

#[test]
fn a_prune_that_accepts_every_loss_accepts_records_that_only_this_host_saw() {
    let (world, ids) = three_backups();
    for id in &ids {
        fs::remove_file(record(&world, id)).unwrap();
    }
    world.fails(&["prune", "--grace", "0"], 23);
    world.ok(&["prune", "--grace", "0", "--accept-loss", "all"]);
    check_is_clean(&world);
    back_up(&world, 3);
}

#[test]
fn a_repository_that_was_replaced_by_an_older_state_is_noticed() {
    let (world, _) = three_backups();
    let older = world.path("older");
    copy(&world.repository(), &older);
    let newest = back_up(&world, 3);
    world.ok(&["cache", "clear"]);
    fs::remove_dir_all(world.repository()).unwrap();
    copy(&older, &world.repository());
    let named = format!("backup {}", &newest[..8]);
    assert_error(&world.fails(&["check"], 23), &[&named]);
    assert_error(
        &world.fails(&["backup", "source", "--volume", "v"], 23),
        &[&named],
    );
    fs::remove_dir_all(&older).unwrap();
}

#[test]
fn a_record_that_exists_again_is_no_longer_lost() {
    let (world, ids) = three_backups();
    let (lost, aside) = (record(&world, &ids[2]), world.path("aside"));
    fs::rename(&lost, &aside).unwrap();
    world.fails(&["check"], 23);
    fs::rename(&aside, &lost).unwrap();
    check_is_clean(&world);
    assert_eq!(notices(&world, &["list", "-q"]), "");
    back_up(&world, 3);
}

#[test]
fn the_loss_of_a_damaged_record_is_noticed() {
    let (world, ids) = three_backups();
    let newest = record(&world, &ids[2]);
    damage(&newest);
    world.fails(&["check"], 21);
    world.ok(&["list"]);
    back_up(&world, 3);
    fs::remove_file(newest).unwrap();
    assert_error(&world.fails(&["check"], 23), &[&ids[2][..8]]);
}

#[test]
fn the_loss_of_a_backup_by_a_write_key_is_noticed() {
    let (world, ids) = three_backups();
    let password = world.add_key("of the writer", "write", &[]);
    let source = world.write("source", &noise(3, 300_000));
    let with = ["--password-file", &password];
    let args = [&source, "--volume", "v"];
    let by_writer = world.backup(&[&args[..], &with].concat());
    let by_writer = by_writer["backup_id"].as_str().unwrap();
    world.ok(&["list"]);
    // The new record names the backup before it. But no process relies on a name in a record of a
    // write key, so the host must remember both backups.
    for lost in [by_writer, &ids[2]] {
        let (file, aside) = (record(&world, lost), world.path("aside"));
        fs::rename(&file, &aside).unwrap();
        assert_error(&world.fails(&["check"], 23), &[&lost[..8]]);
        let backup = [&["backup"], &args[..], &with].concat();
        assert_error(&world.fails(&backup, 23), &[&lost[..8]]);
        fs::rename(&aside, &file).unwrap();
    }
    check_is_clean(&world);
}

#[test]
fn the_loss_of_the_newest_entry_of_the_log_is_noticed() {
    let (world, _) = three_backups();
    let logged = || files(&world.project().join("log"));
    let before = logged();
    world.ok(&["head"]);
    world.ok(&["list"]);
    for entry in logged().into_iter().filter(|entry| !before.contains(entry)) {
        fs::remove_file(entry).unwrap();
    }
    assert_error(&world.fails(&["check"], 23), &["of the log is missing"]);
    world.ok(&["check", "--accept-history"]);
    check_is_clean(&world);
}

#[test]
fn backups_that_were_forgotten_on_any_host_do_not_count_as_lost() {
    let (mut world, ids) = three_backups();
    world.ok(&["list"]);
    at_home(&mut world, "other");
    world.ok(&["forget", &ids[2], "--force"]);
    world.ok(&["prune", "--grace", "0"]);
    at_home(&mut world, "home");
    check_is_clean(&world);
    back_up(&world, 3);
    world.ok(&["forget", "--keep-last", "1", "--prune", "--grace", "0"]);
    back_up(&world, 4);
    check_is_clean(&world);
    assert_eq!(notices(&world, &["list", "-q"]), "");
}

#[test]
fn several_hosts_that_use_a_repository_in_turn_report_no_losses() {
    let mut world = World::new();
    for day in 0..6 {
        for home in ["home", "second", "third"] {
            at_home(&mut world, home);
            let args: &[&str] = match day % 3 {
                0 => &["forget", "--keep-last", "2", "--prune", "--grace", "0"],
                1 => &["check"],
                _ => &["list"],
            };
            if day > 0 {
                assert_eq!(
                    notices(&world, &[args, &["-q"]].concat()),
                    "",
                    "{home} {day}"
                );
            }
            back_up(&world, day);
        }
    }
}

#[test]
fn a_home_directory_in_an_older_state_causes_no_losses() {
    let (world, ids) = three_backups();
    copy(&world.path("home"), &world.path("older"));
    world.ok(&["forget", &ids[2], "--force"]);
    back_up(&world, 3);
    fs::remove_dir_all(world.path("home")).unwrap();
    copy(&world.path("older"), &world.path("home"));
    check_is_clean(&world);
    back_up(&world, 4);
}

#[test]
fn a_copy_that_lacks_backups_is_reported_and_works() {
    let (mut world, _) = three_backups();
    let original = world.at("repo");
    copy(Path::new(&original), &world.path("copy"));
    back_up(&world, 3);
    let copied = world.at("copy");
    world.set("CUTTLEBONE_REPOSITORY", copied);
    let behind = format!("at least 1 backup behind {original}");
    for args in [&["list"][..], &["check"], &["restore", "v", "out"]] {
        let notice = notices(&world, args);
        assert!(notice.contains(&behind), "{args:?}: {notice}");
    }
    back_up(&world, 3);
    // A repository that was moved is at a new location, too.
    fs::rename(world.path("repo"), world.path("moved")).unwrap();
    let moved = world.at("moved");
    world.set("CUTTLEBONE_REPOSITORY", moved);
    check_is_clean(&world);
}

#[test]
fn no_second_repository_is_created_on_a_disk_that_is_not_mounted() {
    let (world, _) = three_backups();
    let (place, aside) = (world.repository(), world.path("aside"));
    fs::rename(&place, &aside).unwrap();
    for args in [&["list"][..], &["backup", "source", "--volume", "v"]] {
        let error = world.fails(args, 10);
        assert_error(
            &error,
            &["no repository", "this host saw one", "is mounted"],
        );
    }
    let backup = ["backup", "source", "--volume", "v", "--init"];
    let refused = world.fails(&backup, 23);
    assert_error(&refused, &["although this host saw one there", "mounted"]);
    assert!(!place.exists(), "a repository was created");
    fs::rename(&aside, &place).unwrap();
    world.ok(&backup);

    // After `init`, the host remembers only the new repository.
    fs::rename(&place, &aside).unwrap();
    let notice = notices(&world, &["init"]);
    assert!(notice.contains("saw another repository there"), "{notice}");
    world.ok(&backup);
    check_is_clean(&world);
    let (world, made) = (World::empty(), "note: ");
    assert!(!notices(&world, &["init"]).contains(made));
}

#[test]
fn another_repository_at_a_known_location_is_noticed() {
    let (mut world, _) = three_backups();
    let other = World::new();
    fs::remove_dir_all(world.repository()).unwrap();
    copy(&other.repository(), &world.repository());
    let named = "another repository is there";
    assert_error(&world.fails(&["check"], 23), &[named]);
    assert_error(
        &world.fails(&["backup", "source", "--volume", "v"], 23),
        &[named],
    );
    assert!(notices(&world, &["list"]).contains(named));
    // Other hosts are not affected.
    at_home(&mut world, "other");
    check_is_clean(&world);
    at_home(&mut world, "home");
    world.ok(&["check", "--accept-history"]);
    back_up(&world, 0);
    check_is_clean(&world);
}

#[test]
fn disks_that_are_mounted_in_turn_are_accepted_once_and_each_is_remembered() {
    let (world, ids) = three_backups();
    let (place, first, second) = (
        world.repository(),
        world.path("first"),
        world.path("second"),
    );
    fs::rename(World::new().repository(), &second).unwrap();
    fs::rename(&place, &first).unwrap();
    let mount = |disk: &Path| fs::rename(disk, &place).unwrap();
    let unmount = |disk: &Path| fs::rename(&place, disk).unwrap();
    mount(&second);
    world.fails(&["check"], 23);
    world.ok(&["check", "--accept-history"]);
    back_up(&world, 7);
    unmount(&second);
    for _ in 0..2 {
        for disk in [&first, &second] {
            mount(disk);
            check_is_clean(&world);
            assert!(!notices(&world, &["list"]).contains("note: "));
            unmount(disk);
        }
    }
    // The loss of a backup on either disk is noticed, even if the other one was used last.
    mount(&first);
    fs::remove_file(record(&world, &ids[2])).unwrap();
    assert_error(&world.fails(&["check"], 23), &[&ids[2][..8]]);
}

#[test]
fn a_damaged_or_missing_memory_stops_no_command() {
    let (mut world, ids) = three_backups();
    let [file] = &memory(&world)[..] else {
        panic!("not one file: {:?}", memory(&world));
    };
    assert_eq!(
        fs::metadata(file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    fs::write(file, "rubbish").unwrap();
    let notice = notices(&world, &["list", "-q"]);
    assert!(notice.contains(file.to_str().unwrap()), "{notice}");
    assert!(
        notice.contains("will not notice earlier losses"),
        "{notice}"
    );
    // The next command makes a new file.
    assert_eq!(notices(&world, &["list", "-q"]), "");
    fs::remove_file(record(&world, &ids[2])).unwrap();
    world.fails(&["check"], 23);

    // Without a directory for its state, the host remembers nothing.
    world.environment.retain(|(name, _)| name != "HOME");
    check_is_clean(&world);
    assert_eq!(notices(&world, &["list", "-q"]), "");
}

#[test]
fn a_home_directory_that_cannot_be_written_is_reported_and_stops_nothing() {
    let test = "cli::client_memory::\
        a_home_directory_that_cannot_be_written_is_reported_and_stops_nothing";
    if !modes_apply(test) {
        return;
    }
    let (mut world, _) = three_backups();
    let locked = world.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    at_home(&mut world, "locked");
    let notice = notices(&world, &["list"]);
    assert!(notice.contains("may not notice"), "{notice}");
    assert_eq!(notices(&world, &["list", "-q"]), "");
}

#[test]
fn all_ways_to_write_a_location_lead_to_the_same_memory() {
    let (mut world, ids) = three_backups();
    std::os::unix::fs::symlink(world.repository(), world.path("link")).unwrap();
    fs::remove_file(record(&world, &ids[2])).unwrap();
    for way in ["repo/", "./repo", "link", "repo/../repo"] {
        world.set("CUTTLEBONE_REPOSITORY", way);
        world.fails(&["check"], 23);
    }
}
