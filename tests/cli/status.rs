//! The command `status` for volumes that are not in a cluster.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::order::run_at;
use crate::support::program::{Ran, World, json_lines};
use crate::support::{noise, skip};

/// Returns the lines of the volumes and the summary.
fn status(ran: &Ran) -> (Vec<Value>, Value) {
    let mut lines = json_lines(std::str::from_utf8(&ran.stdout).unwrap());
    let summary = lines.pop().unwrap();
    assert_eq!(summary["message_type"], "summary", "{ran:?}");
    assert!(lines.iter().all(|line| line["message_type"] == "volume"));
    (lines, summary)
}

#[test]
fn a_volume_is_overdue_if_its_newest_backup_is_older_than_the_maximum_age() {
    let world = World::new();
    let (a, b) = (world.write("a", &noise(1, 9000)), world.write("b", b"b"));
    let empty = world.run(&["status", "--max-age", "1h", "--json"]);
    assert_eq!(empty.code, Some(0), "{empty:?}");
    assert_eq!(status(&empty).1["overdue"], Value::Array(vec![]));
    let backup = world.backup(&[&a]);
    world.backup(&[&b]);
    let ran = world.run(&["status", "--max-age", "1h", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let (volumes, summary) = status(&ran);
    assert_eq!(
        (&summary["volumes"], &summary["overdue"]),
        (&2.into(), &Value::Array(vec![]))
    );
    assert_eq!(volumes[0]["volume"], "a");
    assert_eq!(volumes[0]["backup_id"], backup["backup_id"]);
    assert_eq!(volumes[0]["size"], 9000);
    assert_eq!(volumes[0]["overdue"], false);
    assert!(volumes[0]["age"].as_u64() < Some(600), "{}", volumes[0]);
    assert_eq!(volumes[0]["image"], Value::Null);
    // Every backup is older than a maximum age of zero.
    let ran = world.run(&["status", "--max-age", "0h", "b", "--json"]);
    assert_eq!(ran.code, Some(25), "{ran:?}");
    let (volumes, summary) = status(&ran);
    assert_eq!(volumes.len(), 1);
    assert_eq!(summary["overdue"], serde_json::json!(["b"]));
    let error = &json_lines(&ran.stderr)[0];
    assert_eq!(
        (&error["code"], &error["message"]),
        (&25.into(), &"overdue: b".into())
    );
    let text = world.ok(&["status"]);
    assert!(text.starts_with("Volume  Last backup "), "{text}");
    assert!(!text.contains("overdue"), "{text}");
    world.fails(&["status", "nothing*"], 24);
    world.fails(&["status", "--max-age", "soon"], 2);
    // Without volumes of a cluster, `status` does not run the programs of Ceph.
    let ran = world.run(&["status", "--rbd-command", "/nowhere/rbd", "--json"]);
    assert_eq!(status(&ran).1["cluster_problem"], Value::Null);
}

#[test]
fn a_volume_with_the_label_for_retired_ones_is_not_overdue_until_it_is_backed_up_again() {
    let world = World::new();
    let (a, b) = (world.write("a", b"a"), world.write("b", b"b"));
    world.backup(&[&a, "--label", "status=retired"]);
    world.backup(&[&b, "--label", "status=active"]);
    let overdue = |expected: &[&str], code: i32| {
        let ran = world.run(&["status", "--max-age", "0h", "--json"]);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        let (volumes, summary) = status(&ran);
        assert_eq!(summary["overdue"], serde_json::json!(expected), "{ran:?}");
        volumes
    };
    let volumes = overdue(&["b"], 25);
    assert_eq!(
        (&volumes[0]["retired"], &volumes[0]["overdue"]),
        (&true.into(), &false.into())
    );
    assert_eq!(volumes[1]["retired"], Value::Null);
    world.ok(&["label", "b", "status=retired"]);
    overdue(&[], 0);
    let text = world.ok(&["status", "--max-age", "0h"]);
    assert_eq!(text.matches("retired").count(), 2, "{text}");
    // The new backup has no such label.
    world.write("a", b"new");
    world.backup(&[&a]);
    overdue(&["a"], 25);
}

#[test]
fn a_backup_from_the_future_does_not_hide_that_a_volume_is_overdue() {
    if Command::new("faketime").arg("--version").output().is_err() {
        return skip("there is no faketime");
    }
    let world = World::new();
    let image = world.write("disk", b"1");
    let back_up = |clock: &str, content: &[u8]| {
        world.write("disk", content);
        let args = ["backup", &image];
        run_at(&world, Some(clock), &args).ok(&args);
    };
    back_up("-3d", b"old");
    back_up("+300d", b"a clock was ahead");
    let args = ["status", "--max-age", "26h", "--json"];
    let ran = world.run(&args);
    assert_eq!(ran.code, Some(25), "{ran:?}");
    let (volumes, _) = status(&ran);
    assert_eq!(volumes[0]["backups_from_future"], 1);
    let age = volumes[0]["age"].as_u64().unwrap();
    assert!((3 * 86400..4 * 86400).contains(&age), "{age}");
    assert!(ran.stderr.contains("times in the future"), "{}", ran.stderr);
    // If the clock of this host is ten days behind, all backups are from the future.
    let ran = run_at(&world, Some("-10d"), &args);
    assert_eq!(ran.code, Some(25), "{ran:?}");
    assert_eq!(status(&ran).0[0]["age"], Value::Null);
    // A backup that is only a minute ahead does not count as from the future.
    back_up("+60s", b"almost right");
    let ran = world.run(&args);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(status(&ran).0[0]["age"], 0);
    world.is_clean();
}

#[test]
fn a_verify_key_sees_the_status_but_may_not_remove_snapshots() {
    let mut world = World::new();
    world.backup(&[&world.write("disk", b"content")]);
    world.add_key("looks only", "verify", &[]);
    world.set("CUTTLEBONE_PASSWORD", "looks only");
    let ran = world.run(&["status", "--json"]);
    assert_eq!(status(&ran).0.len(), 1);
    world.fails(&["snapshots", "--remove-unneeded"], 22);
}

#[test]
fn a_write_key_cannot_mark_a_volume_as_retired() {
    let mut world = World::new();
    let disk = world.write("disk", b"content");
    world.add_key("only writes", "write", &[]);
    world.set("CUTTLEBONE_PASSWORD", "only writes");
    world.backup(&[&disk, "--label", "status=retired"]);
    let ran = world.run(&["status", "--max-age", "0h", "--json"]);
    assert_eq!(ran.code, Some(25), "{ran:?}");
    assert_eq!(status(&ran).0[0]["overdue"], true, "{ran:?}");
}

#[test]
fn a_missing_record_is_reported_even_if_no_other_record_names_it() {
    for is_known in [true, false] {
        let mut world = World::new();
        let [web, db] = ["web", "db"].map(|name| world.write(name, &noise(1, 1 << 16)));
        world.backup(&[&web]);
        let summary = world.backup(&[&db]);
        world.ok(&["status", "--max-age", "1h"]);
        // If this host does not remember the missing backup, the log must name it.
        if !is_known {
            world.ok(&["head"]);
            world.set("XDG_STATE_HOME", world.at("another host"));
        }
        let id = summary["backup_id"].as_str().unwrap();
        fs::remove_file(world.project().join("backups").join(id)).unwrap();
        let ran = world.run(&["status", "--max-age", "1h"]);
        assert_eq!(ran.code, Some(23), "{ran:?}");
        assert!(ran.stderr.contains(&id[..8]), "{ran:?}");
        let shown = String::from_utf8(ran.stdout).unwrap();
        assert!(shown.contains("web"), "the other volume is shown: {shown}");
    }
}
