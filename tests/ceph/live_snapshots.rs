//! Which snapshots of images backups remove, and which they keep for other runs.

use std::fs;

use serde_json::Value;

use super::live::{Live, data, image, summary};
use crate::support::program::{CHEAP_KEY, until, wait};

const MIB: u64 = 1 << 20;

#[test]
fn snapshots_that_a_running_backup_has_made_or_builds_on_are_not_removed() {
    let Some(live) = Live::with_pool("keep-run") else {
        return;
    };
    let (a, b) = ("keep-run/a", "keep-run/b");
    image(&live.cluster, a, &[]);
    let mut img = image(&live.cluster, b, &[]);
    let (first, _) = live.backs_up(b, &[]);
    let base = live.tracking(b);
    img.change(8 * MIB, vec![data(MIB, 3)]);
    // The run makes both snapshots, and then waits in the backup of the first image.
    let (ready, go) = (live.world.at("ready"), live.world.at("go"));
    let script = format!(
        "case \"$*\" in *export-diff*--image=a*)
         touch {ready}; while [ ! -e {go} ]; do sleep 0.1; done;; esac"
    );
    let program = live.rbd_script(&script);
    let sources = ["rbd:keep-run/a", "rbd:keep-run/b"];
    let options = ["--together", "--rbd-command", &program];
    let mut group = live
        .world
        .start(&[&["backup"][..], &sources, &options].concat());
    until(&mut group, || fs::exists(&ready).unwrap());
    let waiting = live.snapshots(b);
    assert_eq!((waiting.len(), &waiting[0]), (2, &base));
    let expected = live.cluster.digest(&format!("{b}@{}", waiting[1]));
    // Meanwhile, another run backs up the second image.
    img.change(8 * MIB, vec![data(2 * MIB, 4)]);
    live.world.ok(&["backup", "rbd:keep-run/b"]);
    let after = live.snapshots(b);
    assert_eq!((after.len(), &after[..2]), (3, &waiting[..]));
    fs::write(&go, "").unwrap();
    assert_eq!(wait(&mut group), Some(0));
    let of_group = format!("{b}@{}", waiting[1]);
    assert_eq!(live.restored(&of_group), expected);
    let shown = live.world.json_one(&["show", &of_group], "backup");
    assert_eq!(shown["base"], first["backup_id"], "{shown}");
    assert_eq!(shown["source"]["from_snapshot"], base.as_str(), "{shown}");
    // The next run removes all older snapshots.
    img.change(8 * MIB, vec![data(3 * MIB, 5)]);
    live.backs_up(b, &[]);
    live.tracking(a);
    live.world.is_clean();
}

#[test]
fn a_backup_with_a_write_key_keeps_the_snapshot_for_the_next_backup_with_a_full_key() {
    let Some(mut live) = Live::with_pool("keep-key") else {
        return;
    };
    let name = "keep-key/img";
    let password = live.world.write("write.pw", b"a write key\n");
    let add = ["key", "add", "--role", "write", "--new-password-file"];
    live.world
        .ok(&[&add[..], &[&password], &CHEAP_KEY].concat());
    let cluster = std::sync::Arc::clone(&live.cluster);
    let mut img = image(&cluster, name, &[]);
    let full = live.world.environment.clone();
    let back_up = |live: &Live| -> Value {
        let args = ["backup", "rbd:keep-key/img", "--json"];
        summary(&live.world.run(&args), &args)
    };
    let first = back_up(&live);
    let needed = live.tracking(name);
    for round in 0..2 {
        img.change(8 * MIB, vec![data(MIB, round)]);
        live.world.set("CUTTLEBONE_PASSWORD", "a write key");
        back_up(&live);
        // The snapshot of the write key's last backup is there, too.
        let snapshots = live.snapshots(name);
        assert_eq!((snapshots.len(), &snapshots[0]), (2, &needed));
        if round == 1 {
            let args = ["backup", "rbd:keep-key/img", "--json", "--no-retain"];
            summary(&live.world.run(&args), &args);
            assert_eq!(live.snapshots(name), std::slice::from_ref(&needed));
        }
    }
    live.world.environment.clone_from(&full);
    img.change(8 * MIB, vec![data(2 * MIB, 4)]);
    let next = back_up(&live);
    assert_eq!(next["base"], first["backup_id"], "{next}");
    assert_ne!(live.tracking(name), needed);
    live.world.is_clean();
}
