//! Hosts and keys that learn that the cluster did not list all changes of an image. Their next
//! backups read all data.

use std::sync::Arc;

use serde_json::Value;

use super::live::{Live, data, image, summary};
use super::live_full::{last, next};
use crate::support::program::{Ran, json_lines};

const MIB: u64 = 1 << 20;

/// Part of a script for [`Live::rbd_script`]: the list of changes is empty.
const EMPTY_LIST: &str = "case \"$*\" in *' diff '*) echo '[]'; exit 0;; esac";

impl Live {
    /// Makes a backup that lacks a change, and then a full one that finds this change.
    fn loses_trust(&self, img: &mut super::image::Image<'_>) {
        let name = img.name;
        self.backs_up(name, &[]);
        img.change(8 * MIB, vec![data(MIB, 3)]);
        self.backs_up_without_changes(name);
        let (found, _) = self.backs_up_and_ends_with(21, name, &["--full"]);
        assert_eq!(found["bytes_missed"], 64 << 10, "{found}");
    }

    /// Backs up an image. Returns the summary and the notes. Unlike for
    /// [`backs_up`](Self::backs_up), cuttlebone may keep several snapshots of the image.
    #[track_caller]
    fn makes_backup(&self, image: &str) -> (Value, String) {
        let source = format!("rbd:{image}");
        let args = ["backup", &source, "--json"];
        let ran = self.world.run(&args);
        (summary(&ran, &args), ran.stderr)
    }
}

/// Returns the summaries of all backups of a run, and its last error.
fn results(ran: &Ran) -> (Vec<Value>, Value) {
    let mut summaries = json_lines(&String::from_utf8_lossy(&ran.stdout));
    summaries.retain(|line| line["message_type"] == "summary");
    let mut errors = json_lines(&ran.stderr);
    errors.retain(|line| line["message_type"] == "exit_error");
    assert_eq!(errors.len(), 1, "{ran:?}");
    (summaries, errors.remove(0))
}

#[test]
fn a_backup_that_found_missed_changes_does_not_count_as_failed_among_several() {
    let Some(live) = Live::with_pool("full-many") else {
        return;
    };
    let mut a = image(&live.cluster, "full-many/a", &[]);
    image(&live.cluster, "full-many/b", &[]);
    live.world.ok(&["backup", "rbd:full-many/*"]);
    let missed = "earlier backups of rbd:full-many/a are damaged or may lack changes";
    for (seed, options) in [&[][..], &["--jobs", "2"], &["--together"]]
        .into_iter()
        .enumerate()
    {
        let program = live.rbd_script(EMPTY_LIST);
        let plain = ["backup", "rbd:full-many/*", "--full", "--json"];
        let back_up = |program: &str| {
            let args = [&plain[..], options, &["--rbd-command", program]].concat();
            live.world.run(&args)
        };
        let seed = 10 * seed as u64;
        a.change(8 * MIB, vec![data(MIB, seed + 10)]);
        let ran = back_up(&program);
        assert_eq!(ran.code, Some(21), "{options:?}: {ran:?}");
        let (summaries, error) = results(&ran);
        assert_eq!(summaries.len(), 2, "{ran:?}");
        assert_eq!(
            (&error["code"], &error["message"]),
            (&21.into(), &missed.into())
        );
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.starts_with("all new backups are done"), "{hint}");
        // Now the backup of image b fails.
        let fail = "case \"$*\" in *export-diff*'--image=b '*) exit 5;; esac";
        let program = live.rbd_script(&format!("{EMPTY_LIST}; {fail}"));
        a.change(8 * MIB, vec![data(MIB, seed + 11)]);
        let ran = back_up(&program);
        assert_eq!(ran.code, Some(3), "{options:?}: {ran:?}");
        let (summaries, error) = results(&ran);
        assert_eq!(summaries.len(), 1, "{ran:?}");
        let message = error["message"].as_str().unwrap();
        let failed = "1 of 2 backups failed: rbd:full-many/b. ";
        assert!(message.starts_with(failed), "{message}");
        assert!(message.to_lowercase().ends_with(missed), "{message}");
    }
    live.world.is_clean();
}

#[test]
fn a_full_reading_of_a_given_snapshot_replaces_a_backup_of_it_that_lacks_changes() {
    let Some(live) = Live::with_pool("full-given") else {
        return;
    };
    let (world, name, given) = (&live.world, "full-given/img", "full-given/img@mine");
    let mut img = image(&live.cluster, name, &[]);
    live.backs_up(name, &[]);
    img.change(8 * MIB, vec![data(MIB, 3)]);
    let content = img.snapshot("mine");
    let wrong = live.backs_up_without_changes(given);
    let wrong = wrong["backup_id"].as_str().unwrap();
    assert_ne!(live.restored(wrong), content);
    // Without --full, the snapshot is not read again. A dry run stores nothing.
    let source = format!("rbd:{given}");
    assert_eq!(world.backup(&[&source])["backup_id"], wrong);
    world.ok(&["backup", &source, "--full", "--dry-run"]);
    assert_eq!(live.backups(), 2);
    let full = ["backup", &source, "--full", "--json"];
    let ran = world.run(&full);
    assert_eq!(ran.code, Some(21), "{ran:?}");
    let found = results(&ran).0.remove(0);
    assert_eq!(found["bytes_missed"], 64 << 10, "{found}");
    let warning = format!(
        "it did not name 64.0 KiB that differ from backup {}",
        &wrong[..8]
    );
    assert!(ran.stderr.contains(&warning), "{}", ran.stderr);
    // The name of the snapshot now selects the right backup.
    assert_eq!(live.restored(given), content);
    assert_eq!(last(&live, given)["backup_id"], found["backup_id"]);
    let source_of = live.source_of(&found);
    assert_eq!(source_of["change_list"], "distrusted", "{source_of}");
    assert_eq!(next(&live).0, "everything");
    let file = world.at("restored");
    for (backup, warns) in [(wrong, true), (given, false)] {
        let args = ["restore", backup, &file, "--force"];
        let ran = world.run(&args);
        ran.ok(&args);
        assert_eq!(ran.stderr.contains("may lack changes"), warns, "{ran:?}");
    }
    // A further full reading finds the same content.
    let again = world.backup(&[&source, "--full"]);
    assert_eq!(again["backup_id"], found["backup_id"]);
    // A full reading with other content than the previous one is refused.
    let other = live.rbd_script("case \"$*\" in *export-diff*) rbd \"$@\" | tr Z Y; exit 0;; esac");
    let error = world.fails(&[&full[..], &["--rbd-command", &other]].concat(), 20);
    assert!(error.contains("with different content"), "{error}");
    assert_eq!(live.backups(), 3);
    // Of the two backups of this snapshot, a series has only the newer one.
    let again = "full-given/again";
    let series = ["restore", name, &format!("rbd:{again}"), "--series"];
    let ran = world.run(&series);
    ran.ok(&series);
    let right = found["backup_id"].as_str().unwrap();
    let notice = format!(
        "two backups of the snapshot mine: {} is restored to {again}, and the older one, {}, is \
         left out",
        &right[..8],
        &wrong[..8]
    );
    assert!(ran.stderr.contains(&notice), "{}", ran.stderr);
    assert_eq!(live.snapshots(again).len(), 2);
    assert_eq!(live.cluster.digest("full-given/again@mine"), content);
    assert_eq!(live.cluster.digest(again), content);
    // The next backup reads all data, and compares the changes since the given snapshot with the
    // cluster's list.
    img.change(8 * MIB, vec![data(3 * MIB, 5)]);
    let (agreed, _) = live.backs_up(name, &[]);
    assert_eq!(agreed["bytes_missed"], 0, "{agreed}");
    assert_eq!(next(&live).0, "changes");
    world.is_clean();
}

#[test]
fn a_write_key_knows_that_lists_are_incomplete_and_cannot_say_that_they_are_complete_again() {
    let Some(mut live) = Live::with_pool("full-write") else {
        return;
    };
    let name = "full-write/img";
    let cluster = Arc::clone(&live.cluster);
    let mut img = image(&cluster, name, &[]);
    live.world.add_key("a write key", "write", &[]);
    live.loses_trust(&mut img);
    let full = live.world.environment.clone();
    img.change(8 * MIB, vec![data(2 * MIB, 4)]);
    live.world.set("CUTTLEBONE_PASSWORD", "a write key");
    let (by_write_key, notes) = live.makes_backup(name);
    assert!(notes.contains("not tested whether"), "{notes}");
    assert_eq!(by_write_key["bytes_missed"], Value::Null);
    live.world.environment.clone_from(&full);
    let source = live.source_of(&by_write_key);
    assert_eq!(source["change_list"], "distrusted", "{source}");
    let (reads, reason) = next(&live);
    assert_eq!(reads, "everything", "{reason}");
    // A backup with the full key tests the list. After that, a backup with the write key does not
    // call the lists incomplete.
    let (agreed, notes) = live.makes_backup(name);
    assert!(notes.contains("rely on the lists again"), "{notes}");
    assert_eq!(agreed["bytes_missed"], 0, "{agreed}");
    live.world.set("CUTTLEBONE_PASSWORD", "a write key");
    let (by_write_key, _) = live.makes_backup(name);
    live.world.environment.clone_from(&full);
    assert_eq!(live.source_of(&by_write_key)["change_list"], Value::Null);
    assert_eq!(next(&live).0, "changes");
    live.world.is_clean();
}

#[test]
fn another_host_with_another_full_key_knows_that_lists_are_incomplete_or_complete_again() {
    let Some(mut live) = Live::with_pool("full-host") else {
        return;
    };
    let name = "full-host/img";
    let cluster = Arc::clone(&live.cluster);
    let mut img = image(&cluster, name, &[]);
    live.world.add_key("of the other host", "full", &[]);
    live.loses_trust(&mut img);
    let here = live.world.environment.clone();
    for (variable, name) in [("HOME", "there"), ("CUTTLEBONE_CACHE_DIR", "there-cache")] {
        let path = live.world.at(name);
        live.world.set(variable, path);
    }
    live.world.set("CUTTLEBONE_PASSWORD", "of the other host");
    let (reads, reason) = next(&live);
    assert_eq!(reads, "everything", "{reason}");
    assert!(reason.contains("did not list all its changes"), "{reason}");
    img.change(8 * MIB, vec![data(2 * MIB, 4)]);
    let (agreed, notes) = live.backs_up(name, &[]);
    assert!(notes.contains("rely on the lists again"), "{notes}");
    live.world.environment.clone_from(&here);
    assert_eq!(next(&live).0, "changes");
    img.change(8 * MIB, vec![data(3 * MIB, 5)]);
    let (changes, notes) = live.backs_up(name, &[]);
    assert!(!notes.contains("reading all data"), "{notes}");
    assert_eq!(changes["base"], agreed["backup_id"]);
    live.world.is_clean();
}

#[test]
fn a_clone_of_an_image_with_incomplete_lists_has_lists_of_its_own() {
    let Some(live) = Live::with_pool("full-clone") else {
        return;
    };
    let (cluster, name, clone) = (&live.cluster, "full-clone/img", "full-clone/clone");
    let mut img = image(cluster, name, &[]);
    live.loses_trust(&mut img);
    img.snapshot("golden");
    cluster.rbd(&["snap", "protect", "full-clone/img@golden"]);
    cluster.rbd(&["clone", "full-clone/img@golden", clone]);
    let (first, notes) = live.backs_up(clone, &[]);
    assert!(notes.contains("this is its first backup"), "{notes}");
    assert_eq!(live.source_of(&first)["change_list"], Value::Null);
    let (second, notes) = live.backs_up(clone, &[]);
    assert!(!notes.contains("reading all data"), "{notes}");
    assert_eq!(second["base"], first["backup_id"]);
    // Backups still do not rely on the lists of the parent.
    let (_, notes) = live.backs_up(name, &[]);
    assert!(notes.contains("the cluster did not list"), "{notes}");
    live.world.is_clean();
}
