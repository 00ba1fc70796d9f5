//! `status` and `snapshots` for images in the cluster.

use std::fs;

use serde_json::Value;

use super::live::{Live, data, image};
use crate::support::program::{Ran, World, files, json_lines};

const MIB: u64 = 1 << 20;

/// Returns the only volume of `status`, and the summary.
fn status(live: &Live, args: &[&str]) -> (Value, Value) {
    let mut lines = live.world.json(&[&["status"], args].concat());
    let summary = lines.pop().unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    (lines.remove(0), summary)
}

/// Returns the snapshots that a command shows, as `IMAGE@SNAPSHOT`, each with its `need`: a word
/// for why it is needed or not needed.
fn needs(ran: &Ran) -> Vec<(String, String)> {
    let lines = json_lines(std::str::from_utf8(&ran.stdout).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines
        .iter()
        .filter(|line| line["message_type"] == "snapshot")
        .map(|line| {
            let name = format!("{}@{}", text(&line["image"]), text(&line["snapshot"]));
            (name, text(&line["need"]))
        })
        .collect()
}

#[test]
fn the_status_says_what_the_next_backup_of_an_image_reads_and_why() {
    let Some(live) = Live::with_pool("stat-next") else {
        return;
    };
    let (cluster, name) = (&live.cluster, "stat-next/img");
    let mut img = image(cluster, name, &[]);
    let (first, _) = live.backs_up(name, &[]);
    let (volume, summary) = status(&live, &["--max-age", "1h"]);
    assert_eq!(
        (&volume["volume"], &volume["overdue"]),
        (&name.into(), &false.into())
    );
    let of = &volume["image"];
    assert_eq!(
        (&of["name"], &of["state"]),
        (&name.into(), &"present".into())
    );
    assert_eq!(
        (&of["next"], &of["base"]),
        (&"changes".into(), &first["backup_id"])
    );
    assert_eq!(of["base_snapshot"], live.tracking(name).as_str());
    assert_eq!((&of["snapshots"], &of["reason"]), (&1.into(), &Value::Null));
    assert_eq!(summary["unneeded_snapshots"], serde_json::json!([]));
    assert_eq!(summary["cluster_problem"], Value::Null);
    // The forecast is right.
    img.change(8 * MIB, vec![data(MIB, 9)]);
    let (next, _) = live.backs_up(name, &[]);
    assert_eq!(next["base"], first["backup_id"]);
    // After the image is renamed, it is found by its id.
    cluster.rbd(&["mv", name, "stat-next/new"]);
    let (volume, _) = status(&live, &[]);
    assert_eq!(volume["image"]["name"], "stat-next/new");
    assert_eq!(volume["image"]["next"], "changes");
    // After the snapshot of the newest backup is removed, the next backup reads everything.
    let snapshot = format!("stat-next/new@{}", live.tracking("stat-next/new"));
    cluster.rbd(&["snap", "rm", "--no-progress", &snapshot]);
    let (volume, _) = status(&live, &[]);
    assert_eq!(volume["image"]["next"], "everything");
    let reason = volume["image"]["reason"].as_str().unwrap();
    assert!(reason.contains("no longer exists"), "{reason}");
    let text = live.world.ok(&["status"]);
    assert!(
        text.contains("all data: the snapshot of its newest"),
        "{text}"
    );
    // Without the cluster, the age is still shown.
    for args in [
        ["--offline", "--max-age", "1h"],
        ["--ceph-command=/nowhere", "--max-age", "1h"],
        ["--ceph-conf=/nowhere", "--max-age", "1h"],
    ] {
        let (volume, summary) = status(&live, &args);
        assert_eq!(
            (&volume["overdue"], &volume["image"]["state"]),
            (&false.into(), &"unknown".into())
        );
        let problem = summary["cluster_problem"].as_str().unwrap_or_default();
        assert_eq!(
            problem.is_empty(),
            args[0] == "--offline",
            "{args:?}: {summary}"
        );
    }
    cluster.rbd(&["trash", "mv", "stat-next/new"]);
    assert_eq!(status(&live, &[]).0["image"]["state"], "in_trash");
    let id_in_trash = || {
        let trash = cluster.rbd(&["trash", "ls", "--format", "json", "stat-next"]);
        let trash: Value = serde_json::from_slice(&trash).unwrap();
        trash[0]["id"].as_str().unwrap().to_owned()
    };
    cluster.rbd(&[
        "trash",
        "rm",
        "--no-progress",
        "--pool",
        "stat-next",
        "--image-id",
        &id_in_trash(),
    ]);
    // An image without backups is not opened, even if it is in the trash.
    image(cluster, "stat-next/other", &[]);
    cluster.rbd(&["trash", "mv", "stat-next/other"]);
    let program = live.rbd_script(&format!(
        "case \"$*\" in *{}*) exit 1;; esac",
        id_in_trash()
    ));
    let (volume, summary) = status(&live, &["--rbd-command", &program]);
    assert_eq!(volume["image"]["state"], "missing");
    assert_eq!(summary["cluster_problem"], Value::Null);
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "the images of all kinds are in the same cluster and tested together"
)]
fn only_snapshots_of_this_project_that_nothing_needs_are_removed() {
    let Some(live) = Live::with_pool("stat-snap") else {
        return;
    };
    let cluster = &live.cluster;
    for name in [
        "stat-snap/a",
        "stat-snap/b",
        "stat-snap/gone",
        "stat-snap/never",
    ] {
        image(cluster, name, &[]);
    }
    live.backs_up("stat-snap/a", &[]);
    let older = live.tracking("stat-snap/a");
    let args = ["backup", "rbd:stat-snap/a", "--keep-snapshots", "2"];
    live.world.ok(&args);
    let mut names = live.snapshots("stat-snap/a");
    names.retain(|name| *name != older);
    let newest = names.remove(0);
    live.backs_up("stat-snap/gone", &[]);
    let in_trash = live.tracking("stat-snap/gone");
    // Another project backs up the same image, and a user has a snapshot.
    let mut other = World::new();
    other.set("CUTTLEBONE_CEPH_CONF", cluster.conf());
    other.ok(&["backup", "rbd:stat-snap/a"]);
    let mut of_other = live.snapshots("stat-snap/a");
    of_other.retain(|name| *name != older && *name != newest);
    let of_other = of_other.remove(0);
    let make = |at: &str| cluster.rbd(&["snap", "create", "--no-progress", at]);
    make("stat-snap/a@mine");
    make("stat-snap/b@given");
    live.world.ok(&["backup", "rbd:stat-snap/b@given"]);
    // Runs of this project that were killed left snapshots of an image without any backup.
    let suffix = &older[older.len() - 9..];
    let left = format!("cuttlebone-20200101T000000Z{suffix}");
    let protected = format!("cuttlebone-20200102T000000Z{suffix}");
    for snapshot in [&left, &protected] {
        make(&format!("stat-snap/never@{snapshot}"));
    }
    cluster.rbd(&["snap", "protect", &format!("stat-snap/never@{protected}")]);
    cluster.rbd(&["trash", "mv", "stat-snap/gone"]);
    let expected: Vec<_> = [
        (format!("stat-snap/a@{older}"), "older_backup"),
        (format!("stat-snap/a@{newest}"), "next_backup"),
        (format!("stat-snap/a@{of_other}"), "other_project"),
        ("stat-snap/b@given".to_owned(), "next_backup"),
        (format!("stat-snap/gone@{in_trash}"), "image_in_trash"),
        (format!("stat-snap/never@{left}"), "no_backup"),
        (format!("stat-snap/never@{protected}"), "no_backup"),
    ]
    .into_iter()
    .map(|(name, need)| (name, need.to_owned()))
    .collect();
    let show = ["snapshots", "--json"];
    let ran = live.world.run(&show);
    assert_eq!(needs(&ran), expected);
    let (_, summary) = {
        let mut lines = live.world.json(&["status"]);
        let summary = lines.pop().unwrap();
        (lines, summary)
    };
    let text = live.world.ok(&["status", "--id", "admin"]);
    let command = format!(
        "“cuttlebone snapshots --ceph-conf {} --id admin --remove-unneeded”",
        cluster.conf().display()
    );
    assert!(text.replace('\n', " ").contains(&command), "{text}");
    let unneeded = summary["unneeded_snapshots"].as_array().unwrap();
    let trashed = format!("stat-snap/gone@{in_trash} (in the trash)");
    assert!(unneeded.contains(&trashed.into()), "{summary}");
    // A pattern limits the images that are shown.
    let ran = live
        .world
        .run(&["snapshots", "rbd:stat-snap/ne*", "--json"]);
    assert_eq!(needs(&ran), expected[5..]);
    // While a backup runs, a snapshot without a backup may belong to this run.
    let (fifo, ready) = (live.world.at("fifo"), live.world.at("ready"));
    let piped = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(piped.unwrap().success());
    let command = format!("echo >{ready}; cat {fifo}");
    let mut running = live
        .world
        .start(&["backup", "--command", &command, "--volume", "slow"]);
    crate::support::program::until(&mut running, || fs::exists(&ready).unwrap());
    let ran = live
        .world
        .run(&["snapshots", "--remove-unneeded", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let of_never = needs(&ran)
        .into_iter()
        .filter(|(name, _)| name.contains("never"));
    assert!(
        of_never
            .into_iter()
            .all(|(_, need)| need == "maybe_running")
    );
    assert_eq!(live.snapshots("stat-snap/never").len(), 2);
    fs::write(&fifo, b"the content").unwrap();
    assert_eq!(crate::support::program::wait(&mut running), Some(0));
    // With a damaged record, it is unknown which snapshots are needed.
    let record = files(&live.world.project().join("backups")).remove(0);
    let bytes = fs::read(&record).unwrap();
    fs::write(&record, b"damaged").unwrap();
    live.world.fails(&["snapshots", "--remove-unneeded"], 21);
    assert_eq!(live.snapshots("stat-snap/never").len(), 2);
    fs::write(&record, bytes).unwrap();
    // Now the unneeded snapshots are removed.
    let ran = live
        .world
        .run(&["snapshots", "--remove-unneeded", "--json"]);
    let lines = json_lines(&ran.ok(&["snapshots"]));
    let removed: Vec<_> = lines
        .iter()
        .filter(|line| line["removed"] == true)
        .map(|line| line["snapshot"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(lines.last().unwrap()["unneeded"], 1, "{lines:?}");
    assert!(removed.contains(&left), "{lines:?}");
    assert!(!removed.contains(&protected), "{lines:?}");
    assert_eq!(live.snapshots("stat-snap/never"), [protected]);
    let mut stay = live.snapshots("stat-snap/a");
    stay.sort();
    let mut all = vec![older, newest, of_other, "mine".to_owned()];
    all.sort();
    assert_eq!(stay, all);
    // The image in the trash has no snapshot left, so it can be removed.
    let trash = cluster.rbd(&["trash", "ls", "--format", "json", "stat-snap"]);
    let trash: Value = serde_json::from_slice(&trash).unwrap();
    let id = trash[0]["id"].as_str().unwrap();
    cluster.rbd(&[
        "trash",
        "rm",
        "--no-progress",
        "--pool",
        "stat-snap",
        "--image-id",
        id,
    ]);
    // The next backups still build on the snapshots that stayed.
    let next = live.world.backup(&["rbd:stat-snap/a"]);
    assert!(next["base"].is_string(), "{next}");
    live.world.is_clean();
}

#[test]
fn remove_all_removes_every_snapshot_of_this_project_on_this_image_and_no_others() {
    let Some(live) = Live::with_pool("stat-all") else {
        return;
    };
    let (cluster, name) = (&live.cluster, "stat-all/img");
    for name in [name, "stat-all/other"] {
        image(cluster, name, &[]);
        live.backs_up(name, &[]);
    }
    let ours = live.snapshots(name);
    let mut other = World::new();
    other.set("CUTTLEBONE_CEPH_CONF", cluster.conf());
    other.ok(&["backup", "rbd:stat-all/img"]);
    cluster.rbd(&["snap", "create", "--no-progress", "stat-all/img@mine"]);
    let all = live.snapshots(name);
    live.world.fails(&["snapshots", "--remove-all"], 2);
    let both = ["--remove-all", "--remove-unneeded"];
    live.world
        .fails(&[&["snapshots", name][..], &both].concat(), 2);
    let error = live.world.fails(&["snapshots", "stat-all/none*"], 1);
    assert!(error.contains("no image matches"), "{error}");
    live.world
        .fails(&["snapshots", "stat-all/none", "--remove-all"], 1);
    // A backup that runs may need one of the snapshots.
    let (fifo, ready) = (live.world.at("fifo"), live.world.at("ready"));
    let piped = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(piped.unwrap().success());
    let command = format!("echo >{ready}; cat {fifo}");
    let mut running = live
        .world
        .start(&["backup", "--command", &command, "--volume", "slow"]);
    crate::support::program::until(&mut running, || fs::exists(&ready).unwrap());
    let remove = ["snapshots", name, "--remove-all"];
    let error = live.world.fails(&remove, 11);
    assert!(error.contains("no snapshot was removed"), "{error}");
    assert_eq!(live.snapshots(name), all);
    fs::write(&fifo, b"the content").unwrap();
    assert_eq!(crate::support::program::wait(&mut running), Some(0));
    // Only the snapshots of this project are removed, and only on this image.
    let summary = live.world.json_one(&remove, "summary");
    assert_eq!(summary["removed"], 1, "{summary}");
    let mut expected = all.clone();
    expected.retain(|snapshot| !ours.contains(snapshot));
    assert_eq!(live.snapshots(name), expected);
    live.tracking("stat-all/other");
    // The next backup reads everything.
    let (_, notes) = {
        let args = ["backup", "rbd:stat-all/img", "--json"];
        let ran = live.world.run(&args);
        (super::live::summary(&ran, &args), ran.stderr)
    };
    assert!(notes.contains("no longer exists"), "{notes}");
    live.world.ok(&remove);
    other.ok(&remove);
    cluster.rbd(&["snap", "rm", "--no-progress", "stat-all/img@mine"]);
    cluster.rbd(&["rm", "--no-progress", name]);
}
