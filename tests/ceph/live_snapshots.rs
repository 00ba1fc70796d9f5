//! The snapshots of an image that a backup removes, and those that it keeps for other runs.

use std::fs;

use serde_json::Value;

use super::live::{Live, data, image, summary};
use crate::support::program::{CHEAP_KEY, until, wait as wait_for};

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
    assert_eq!(wait_for(&mut group), Some(0));
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
fn a_snapshot_that_another_run_makes_during_the_commit_keeps_the_one_on_which_that_run_builds() {
    let Some(live) = Live::with_pool("keep-late") else {
        return;
    };
    let name = "keep-late/img";
    let mut img = image(&live.cluster, name, &[]);
    let (first, _) = live.backs_up(name, &[]);
    let base = live.tracking(name);
    img.change(8 * MIB, vec![data(MIB, 3)]);
    // Each run waits for a file. The first one waits when it has listed the snapshots after its
    // export. The second one waits before its export.
    let wait = |at: &str| {
        let (ready, go) = (live.world.at(&format!("{at}-ready")), live.world.at(at));
        format!("touch {ready}; while [ ! -e {go} ]; do sleep 0.1; done")
    };
    let exported = live.world.at("exported");
    let first_run = live.rbd_script(&format!(
        "case \"$*\" in
             *export-diff*) rbd \"$@\"; touch {exported}; exit 0;;
             *'snap ls'*) if [ -e {exported} ] && [ ! -e {exported}-listed ]; then
                 touch {exported}-listed; list=$(rbd \"$@\"); {}; echo \"$list\"; exit 0; fi;;
         esac",
        wait("one")
    ));
    let second_run = live.rbd_script(&format!(
        "case \"$*\" in *export-diff*) {};; esac",
        wait("two")
    ));
    let start = |program: &str| {
        let args = ["backup", "rbd:keep-late/img", "--rbd-command", program];
        live.world.start(&args)
    };
    let is_there = |name: &str| fs::exists(live.world.path(name)).unwrap();
    let mut one = start(&first_run);
    until(&mut one, || is_there("one-ready"));
    img.change(8 * MIB, vec![data(2 * MIB, 4)]);
    let mut two = start(&second_run);
    until(&mut two, || is_there("two-ready"));
    // The first run commits, and the snapshot on which the second one builds stays.
    fs::write(live.world.path("one"), "").unwrap();
    assert_eq!(wait_for(&mut one), Some(0));
    let snapshots = live.snapshots(name);
    assert_eq!((snapshots.len(), &snapshots[0]), (3, &base));
    fs::write(live.world.path("two"), "").unwrap();
    assert_eq!(wait_for(&mut two), Some(0));
    let of_two = format!("{name}@{}", snapshots[2]);
    let shown = live.world.json_one(&["show", &of_two], "backup");
    assert_eq!(shown["base"], first["backup_id"], "{shown}");
    assert_eq!(live.restored(&of_two), live.cluster.digest(&of_two));
    // At the end of the second run, no other run existed. So it removed all older snapshots.
    live.tracking(name);
    live.world.is_clean();
}

#[test]
fn a_run_that_has_not_made_its_snapshot_yet_keeps_the_one_on_which_it_will_build() {
    let Some(live) = Live::with_pool("keep-soon") else {
        return;
    };
    let name = "keep-soon/img";
    let mut img = image(&live.cluster, name, &[]);
    let (first, _) = live.backs_up(name, &[]);
    let base = live.tracking(name);
    let (ready, go) = (live.world.at("ready"), live.world.at("go"));
    let program = live.rbd_script(&format!(
        "case \"$*\" in *'snap create'*)
         touch {ready}; while [ ! -e {go} ]; do sleep 0.1; done;; esac"
    ));
    let args = ["backup", "rbd:keep-soon/img", "--rbd-command", &program];
    let mut waiting = live.world.start(&args);
    until(&mut waiting, || fs::exists(&ready).unwrap());
    // Meanwhile, another run makes a backup that the first one does not know.
    img.change(8 * MIB, vec![data(MIB, 3)]);
    live.world.ok(&["backup", "rbd:keep-soon/img"]);
    let snapshots = live.snapshots(name);
    assert_eq!((snapshots.len(), &snapshots[0]), (2, &base));
    img.change(8 * MIB, vec![data(2 * MIB, 4)]);
    fs::write(&go, "").unwrap();
    assert_eq!(wait_for(&mut waiting), Some(0));
    let made = live.tracking(name);
    let shown = live
        .world
        .json_one(&["show", &format!("{name}@{made}")], "backup");
    assert_eq!(shown["base"], first["backup_id"], "{shown}");
    assert_eq!(shown["source"]["from_snapshot"], base.as_str(), "{shown}");
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

#[test]
fn a_removal_without_an_answer_does_not_stop_the_removals_for_other_images() {
    let Some(live) = Live::with_pool("keep-silent") else {
        return;
    };
    let (a, b) = ("keep-silent/a", "keep-silent/b");
    for name in [a, b] {
        live.cluster.rbd(&["create", name, "--size", "1M"]);
    }
    let back_up = ["backup", "rbd:keep-silent/*", "--json"];
    for _ in 0..3 {
        live.world
            .ok(&[&back_up[..], &["--keep-snapshots", "3"]].concat());
    }
    // 110 is the exit code of `rbd` if the cluster does not answer.
    let program = live.rbd_script("case \"$*\" in *'snap rm'*image=a*) exit 110;; esac");
    let args = [&back_up[..], &["--rbd-command", &program]].concat();
    let ran = live.world.run(&args);
    ran.ok(&args);
    let not_tried = "not tried, since the cluster did not answer the request before";
    assert_eq!(ran.stderr.matches(not_tried).count(), 2, "{ran:?}");
    assert_eq!((live.snapshots(a).len(), live.snapshots(b).len()), (4, 1));
    live.world.is_clean();
}
