//! Repositories that have lost records or packs. A restore never takes an older backup instead of a
//! lost one. A backup does not rely on missing packs. A check names lost data.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::failures::assert_error;
use crate::support::noise;
use crate::support::program::{self, World, damage, files};

const MIB: usize = 1 << 20;

/// Backs up a file to a volume. Returns the id of the backup.
#[track_caller]
fn back_up(world: &World, image: &str, volume: &str) -> String {
    let summary = world.backup(&[image, "--volume", volume]);
    summary["backup_id"].as_str().unwrap().to_owned()
}

fn record(world: &World, id: &str) -> PathBuf {
    world.project().join("backups").join(id)
}

/// Returns the packs of chunks, the largest first.
fn chunk_packs(world: &World) -> Vec<PathBuf> {
    let mut packs = files(&world.project().join("packs"));
    packs.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    packs
}

/// Runs a command with `--json` that must exit with this code. Returns the lines of its output.
#[track_caller]
fn lines(world: &World, args: &[&str], code: i32) -> Vec<Value> {
    let ran = world.run(&[args, &["--json"]].concat());
    assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
    program::json_lines(&String::from_utf8(ran.stdout).unwrap())
}

/// Returns the result of a check, which must exit with this code.
#[track_caller]
fn check(world: &World, code: i32) -> Value {
    lines(world, &["check"], code).pop().unwrap()
}

/// Returns a world with an older and a newer backup of volume `v`, the ids of both, and the path of
/// the image of the older backup. The newer record is damaged.
fn newest_damaged() -> (World, [String; 2], String) {
    let world = World::new();
    let old = world.write("old", &noise(1, MIB));
    let new = world.write("new", &noise(2, MIB));
    let ids = [back_up(&world, &old, "v"), back_up(&world, &new, "v")];
    damage(&record(&world, &ids[1]));
    (world, ids, old)
}

#[test]
fn a_restore_takes_no_older_backup_in_the_place_of_one_whose_record_is_damaged() {
    let (world, [older, newer], old) = newest_damaged();
    let target = world.at("out");
    for args in [
        &["restore", "v", &target][..],
        &["restore", "v~0", &target],
        &["diff", "export", "v", "-o", &target],
    ] {
        let error = world.fails(args, 21);
        assert_error(
            &error,
            &["not certain", &newer, "cannot be read", &older[..8]],
        );
        assert!(!world.path("out").exists(), "{args:?}");
    }
    // A backup can be restored by its id.
    world.restores(&older, &old);
    world.restores(&older[..8], &old);
    // The volume of the damaged record is unknown, so it could be `w`, too.
    assert_error(
        &world.fails(&["restore", "w", &target], 21),
        &["not certain"],
    );
    assert_error(&world.fails(&["restore", &newer, &target], 21), &[&newer]);
}

#[test]
fn a_volume_whose_newest_backup_saw_the_lost_record_restores_by_name() {
    let (world, [older, newer], old) = newest_damaged();
    // The backup of volume `w` was made when the damaged record could not be read. So the record
    // may be of an older or a newer backup of `w`.
    let other = world.write("other", &noise(3, MIB));
    back_up(&world, &other, "w");
    world.fails(&["restore", "w", &world.at("out")], 21);

    let world = World::new();
    let old = world.write("old", &fs::read(old).unwrap());
    let other = world.write("other", &noise(3, MIB));
    let older_again = back_up(&world, &old, "v");
    let lost = back_up(&world, &other, "v");
    back_up(&world, &other, "w");
    assert_ne!((&older_again, &lost), (&older, &newer));
    fs::remove_file(record(&world, &lost)).unwrap();
    world.restores("w", &other);
    let error = world.fails(&["restore", "v", &world.at("out")], 23);
    assert_error(
        &error,
        &["not certain", &lost, "is missing", &older_again[..8]],
    );
    world.restores(&older_again, &old);
    // Another host, which does not remember the lost record, makes a later backup. The record of
    // `w` names the lost record, so this host knows that it existed.
    let latest = world.write("last", &noise(4, MIB));
    fs::remove_dir_all(world.path("home")).unwrap();
    back_up(&world, &latest, "v");
    world.restores("v", &latest);
    // Without the lost record, `v~1` would select a backup that is too old.
    world.fails(&["restore", "v~1", &world.at("out")], 23);
    let listed = world.run(&["list"]);
    assert_eq!(listed.code, Some(0));
    assert!(listed.stderr.contains(&lost), "{}", listed.stderr);
}

#[test]
fn a_check_counts_backups_whose_records_are_lost_as_affected() {
    let (world, [_, newer], _) = newest_damaged();
    assert_eq!(check(&world, 21)["backups_affected"], json!([newer]));
    let error = world.fails(&["check"], 21);
    assert_error(&error, &["1 backup affected", "another copy"]);
    assert!(!error.contains("delete"), "{error}");

    let world = World::new();
    let disk = world.write("disk", &noise(1, MIB));
    let lost = back_up(&world, &disk, "v");
    back_up(&world, &disk, "v");
    fs::remove_file(record(&world, &lost)).unwrap();
    let found = lines(&world, &["check"], 23);
    assert_eq!(found.last().unwrap()["backups_affected"], json!([lost]));
    let item = found[0]["item"].as_str().unwrap();
    assert!(item.ends_with(&format!("{lost} of volume “v”")), "{item}");
}

#[test]
fn a_check_names_the_volume_the_time_and_the_bytes_that_are_lost() {
    let world = World::new();
    let mut content = noise(1, 9 * MIB);
    content[..4 * MIB].fill(0);
    content[8 * MIB..].fill(0);
    let disk = world.write("disk", &content);
    let id = back_up(&world, &disk, "web1");
    fs::remove_file(&chunk_packs(&world)[0]).unwrap();
    let found = lines(&world, &["check"], 21);
    let backup = found.iter().find(|line| line["backup_id"] == *id).unwrap();
    assert_eq!(backup["volume"], "web1");
    assert_eq!(backup["size"], 9 * MIB);
    let lost = json!([{"offset": 4 * MIB, "length": 4 * MIB}]);
    assert_eq!(backup["extents"], lost, "{backup}");
    let time = world.json_one(&["show", "web1"], "backup")["time"].clone();
    assert_eq!(backup["time"], time);
    let ran = world.run(&["check"]);
    let text = String::from_utf8(ran.stdout).unwrap();
    let day = &time.as_str().unwrap()[..10];
    assert!(text.contains(&format!("web1 of {day} ")), "{text}");
    let rest = format!(
        "({}): bytes 4 MiB to 8 MiB of 9 MiB cannot be restored\n",
        &id[..8]
    );
    assert!(text.contains(&rest), "{text}");
    assert!(
        !(text + &ran.stderr)
            .to_lowercase()
            .contains("delete the damaged")
    );
}

#[test]
fn a_backup_after_a_pack_was_lost_stores_its_data_again_and_exits_with_21_once() {
    let world = World::new();
    let disk = world.write("disk", &noise(1, 6 * MIB));
    let first = back_up(&world, &disk, "v");
    for pack in chunk_packs(&world) {
        fs::remove_file(pack).unwrap();
    }
    // The file was not changed, so the backup would not read it if the pack were not lost.
    let args = ["backup", &disk, "--volume", "v"];
    let ran = world.run(&[&args[..], &["--json"]].concat());
    assert_eq!(ran.code, Some(21), "{ran:?}");
    let output = program::json_lines(&String::from_utf8(ran.stdout).unwrap());
    let summary = output.iter().find(|line| line["message_type"] == "summary");
    let summary = summary.unwrap();
    assert_eq!(summary["damage"]["packs_missing"], 1, "{summary}");
    assert_eq!(summary["damage"]["base"]["backup_id"], *first);
    assert_eq!(summary["damage"]["extents"], json!([]));
    assert!(
        summary["bytes_new"].as_u64().unwrap() >= 6 << 20,
        "{summary}"
    );
    assert!(ran.stderr.contains(&first[..8]), "{}", ran.stderr);
    world.restores("v", &disk);
    // The lost data was stored again, so the older backup can be restored, too.
    world.restores(&first, &disk);
    assert_eq!(check(&world, 0)["errors"], 0);
    world.ok(&args);
    world.is_clean();
    world.ok(&["prune", "--grace", "0"]);
    world.is_clean();
    let quiet = world.run(&args);
    assert!(!quiet.stderr.contains("missing"), "{}", quiet.stderr);
}

#[test]
fn a_backup_that_builds_on_lost_data_says_which_bytes_it_lacks() {
    let world = World::new();
    let disk = world.write("disk", &noise(1, 8 * MIB));
    let first = back_up(&world, &disk, "v");
    for pack in chunk_packs(&world) {
        fs::remove_file(pack).unwrap();
    }
    let list = world.write(
        "list",
        br#"[{"offset":0,"length":4194304,"exists":"true"}]"#,
    );
    let args = [
        "backup",
        &disk,
        "--volume",
        "v",
        "--base",
        &first,
        "--extents",
        &list,
        "--verify-sample",
        "0",
    ];
    let error = world.fails(&args, 21);
    assert_error(
        &error,
        &[
            "is stored",
            "bytes 4 MiB to 8 MiB of 8 MiB",
            "back up the whole image",
        ],
    );
    // The backup has stored the first half again.
    let found = lines(&world, &["check"], 21);
    let affected = found.last().unwrap()["backups_affected"].clone();
    assert_eq!(affected.as_array().unwrap().len(), 2);
    world.fails(&["backup", &disk, "--volume", "v", "-q"], 21);
    assert_eq!(check(&world, 0)["errors"], 0);
    world.restores("v", &disk);
    world.restores(&first, &disk);
}

#[test]
fn check_reports_a_tree_that_lost_one_of_its_two_copies_until_it_is_stored_again() {
    let world = World::new();
    let disk = world.write("disk", &noise(1, MIB));
    back_up(&world, &disk, "v");
    let trees = files(&world.project().join("trees"));
    assert_eq!(trees.len(), 2);
    fs::remove_file(&trees[0]).unwrap();
    assert_eq!(check(&world, 21)["backups_affected"], json!([]));
    // All backups can be read, so this backup succeeds. It also stores the second copy.
    world.ok(&["backup", &disk, "--volume", "v"]);
    assert_eq!(check(&world, 0)["errors"], 0);
    assert_eq!(files(&world.project().join("trees")).len(), 3);
}

#[test]
fn a_prune_goes_on_after_a_pack_was_lost_and_names_the_backups_that_lack_its_data() {
    let world = World::new();
    let disk = world.write("disk", &noise(1, MIB));
    let first = back_up(&world, &disk, "v");
    let lost = chunk_packs(&world);
    let unused = disk_of(&world, 2);
    let unused = back_up(&world, &unused, "unused");
    world.ok(&["forget", &unused]);
    let before = chunk_packs(&world).len();
    for pack in &lost {
        fs::remove_file(pack).unwrap();
    }
    let prune = ["prune", "--grace", "0"];
    let planned = lines(&world, &[&prune[..], &["--dry-run"]].concat(), 21);
    for found in [planned, lines(&world, &prune, 21)] {
        let backup = found
            .iter()
            .find(|line| line["backup_id"] == *first)
            .unwrap();
        assert_eq!(
            backup["extents"],
            json!([{"offset": 0, "length": MIB}]),
            "{backup}"
        );
        assert_eq!(found.last().unwrap()["backups_affected"], json!([first]));
        assert_eq!(found.last().unwrap()["packs_damaged"], 0);
    }
    assert_eq!(
        chunk_packs(&world).len(),
        before - 2,
        "unused packs are deleted"
    );
    let error = world.fails(&prune, 21);
    assert_error(
        &error,
        &["1 backup lacks data", "back up their sources again"],
    );
    // A host without a cache notices the loss, too.
    fs::remove_dir_all(world.path("cache")).unwrap();
    world.fails(&["backup", &disk, "--volume", "v", "-q"], 21);
    world.ok(&prune);
    world.is_clean();
    world.restores(&first, &disk);
}

#[test]
fn a_missing_pack_that_no_backup_needs_is_no_damage() {
    let world = World::new();
    let disk = world.write("disk", &noise(1, MIB));
    let first = back_up(&world, &disk, "v");
    let gone = chunk_packs(&world);
    let other = world.write("other", &noise(2, MIB));
    back_up(&world, &other, "v");
    world.ok(&["forget", &first]);
    for pack in gone {
        fs::remove_file(pack).unwrap();
    }
    let ran = world.run(&["check"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("no backup needs"), "{}", ran.stderr);
}

#[test]
fn a_damaged_repository_file_is_repaired_by_copying_its_second_copy_over_it() {
    let world = World::new();
    let disk = world.write("disk", &noise(1, MIB));
    back_up(&world, &disk, "v");
    let file = world.repository().join("cuttlebone");
    damage(&file);
    let error = world.fails(&["check"], 21);
    assert_error(&error, &["0 backups affected", "copy NAME.copy over it"]);
    assert!(!error.contains("prune"), "{error}");
    fs::remove_file(&file).unwrap();
    fs::copy(world.repository().join("cuttlebone.copy"), &file).unwrap();
    world.is_clean();
}

/// A prune has deleted the data of the backup. Anyone who can write to the repository can store the
/// record again, without a key.
#[test]
fn a_forgotten_backup_that_is_stored_again_is_no_base() {
    let world = World::new();
    let disk = world.write("disk", &noise(1, MIB));
    let first = back_up(&world, &disk, "v");
    fs::write(&disk, noise(2, MIB)).unwrap();
    let second = back_up(&world, &disk, "v");
    let (file, aside) = (record(&world, &second), world.path("aside"));
    fs::copy(&file, &aside).unwrap();
    world.ok(&["forget", &second, "--force"]);
    world.ok(&["prune", "--grace", "0"]);
    fs::copy(&aside, &file).unwrap();

    let error = world.fails(&["label", &second, "a=b"], 20);
    assert_error(&error, &["forgotten"]);
    let named = ["backup", &disk, "--volume", "v", "--base", &second];
    assert_error(&world.fails(&named, 20), &["forgotten"]);
    let third = back_up(&world, &disk, "v");
    world.restores(&third, &disk);
    assert_ne!(first, third);
    world.ok(&["prune", "--grace", "0"]);
    world.is_clean();
    world.restores("v", &disk);
}

/// Anyone who can write to the repository can create such a file or directory, without a key.
#[test]
fn a_file_or_directory_in_the_place_of_a_record_stops_commands_until_its_loss_is_accepted() {
    for is_directory in [false, true] {
        let world = World::new();
        let disk = world.write("disk", &noise(1, MIB));
        let id = back_up(&world, &disk, "v");
        let name = "ab".repeat(32);
        let made_up = record(&world, &name);
        if is_directory {
            fs::create_dir(&made_up).unwrap();
        } else {
            fs::write(&made_up, b"no record").unwrap();
        }
        let error = world.fails(&["check"], 21);
        assert_error(&error, &["--accept-loss NAME"]);
        let error = world.fails(&["prune"], 21);
        assert_error(&error, &[&name, "--accept-loss NAME"]);
        let error = world.fails(&["restore", "v", &world.at("out")], 21);
        assert_error(&error, &["not certain", &name, &id[..8]]);
        world.restores(&id[..8], &disk);
        // The program cannot read a directory, as it cannot read a record of another user. `all`
        // does not accept the loss of such a record, so the user must give its name.
        let all = ["prune", "--accept-loss", "all"];
        if is_directory {
            world.fails(&all, 21);
            world.ok(&["prune", "--accept-loss", &name]);
        } else {
            world.ok(&all);
        }
        assert_eq!(made_up.exists(), is_directory, "prune deletes only files");
        let checked = world.run(&["check"]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert_eq!(checked.stderr.contains(&name), is_directory, "{checked:?}");
        world.restores("v", &disk);
        world.ok(&["prune"]);
    }
}

#[test]
fn a_damaged_entry_of_the_log_stops_prune_and_forget_until_its_loss_is_accepted() {
    let world = World::new();
    let disk = world.write("disk", &noise(1, MIB));
    let id = back_up(&world, &disk, "v");
    // The prune writes a log entry that adds the record.
    world.ok(&["prune"]);
    let entries = files(&world.project().join("log"));
    let [entry] = &entries[..] else {
        panic!("{entries:?}")
    };
    let name = entry.file_name().unwrap().to_str().unwrap();
    damage(entry);
    for args in [&["prune"][..], &["forget", "--keep-last", "1"]] {
        let error = world.fails(args, 21);
        assert_error(&error, &[name, "damaged", "--accept-loss NAME"]);
    }
    world.fails(&["check"], 21);
    world.restores("v", &disk);
    world.ok(&["forget", "--keep-last", "1", "--accept-loss", name]);
    world.ok(&["prune"]);
    world.is_clean();
    world.restores(&id[..8], &disk);
}

#[test]
fn a_check_without_a_key_does_not_report_a_record_whose_loss_was_accepted() {
    let world = World::new();
    let disk = world.write("disk", &noise(1, MIB));
    let first = back_up(&world, &disk, "v");
    fs::write(&disk, noise(2, MIB)).unwrap();
    let second = back_up(&world, &disk, "v");
    let statement = world.json_one(&["head"], "head")["qr_content"].clone();
    let statement = statement.as_str().unwrap();
    fs::remove_file(record(&world, &second)).unwrap();
    let keyless = ["check", "--keyless"];
    let with_statement = ["check", "--keyless", "--statement", statement];
    world.fails(&keyless, 23);
    world.fails(&with_statement, 23);

    world.ok(&["prune", "--accept-loss", &second]);
    world.ok(&keyless);
    world.ok(&with_statement);
    world.restores(&first, &disk_of(&world, 1));
    // Now the other backup is lost, too. A prune that accepts this must not delete all data.
    fs::remove_file(record(&world, &first)).unwrap();
    world.ok(&["prune", "--accept-loss", &first, "--dry-run"]);
    let error = world.fails(&["prune", "--accept-loss", &first, "--grace", "0"], 23);
    assert_error(&error, &["no backup"]);
}

/// Writes the content of a disk with this seed to the file `expected`. Returns its path.
fn disk_of(world: &World, seed: u64) -> String {
    world.write("expected", &noise(seed, MIB))
}
