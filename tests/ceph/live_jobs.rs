//! Backups of several images at the same time: `backup --jobs N`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use cuttlebone::format::{Extent, ExtentKind};
use serde_json::Value;

use super::image::Image;
use super::live::{Live, data, image};
use super::live_faults::settle;
use crate::support::program::{PASSWORD, Ran, files, finish, json_lines, make_repository, until};
use crate::support::{SmallDisk, noise};

const MIB: u64 = 1 << 20;

/// Returns a script that waits in each export until three exports have begun. So the run fails
/// unless three exports run at the same time.
fn three_at_once(live: &Live) -> String {
    let begun = live.world.at("begun");
    format!(
        "case \"$*\" in *export-diff*)
             echo x >>{begun}
             for i in $(seq 600); do
                 [ $(wc -l <{begun}) -ge 3 ] && break
                 sleep 0.1
             done
             [ $(wc -l <{begun}) -ge 3 ] || exit 5;;
         esac"
    )
}

fn images<'a>(live: &'a Live, names: &[&'static str]) -> Vec<Image<'a>> {
    let make = |name: &&'static str| image(&live.cluster, name, &[]);
    names.iter().map(make).collect()
}

fn change(images: &mut [Image<'_>], seed: u64) {
    for (image, seed) in images.iter_mut().zip(seed..) {
        image.change(8 * MIB, vec![data(MIB, seed), data(6 * MIB, seed + 50)]);
    }
}

/// Asserts that cuttlebone keeps exactly one snapshot of each image, and that the newest backup of
/// the image names this snapshot and has its content.
#[track_caller]
fn assert_backed_up(live: &Live, names: &[&str]) {
    for name in names {
        let snapshot = live.tracking(name);
        let detail = live.world.json_one(&["show", name], "backup");
        assert_eq!(detail["source"]["snapshot"], snapshot.as_str(), "{name}");
        let exported = live.cluster.digest(&format!("{name}@{snapshot}"));
        assert_eq!(live.restored(name), exported, "{name}");
    }
}

fn summaries(ran: &Ran) -> Vec<Value> {
    let lines = json_lines(&String::from_utf8_lossy(&ran.stdout));
    let summaries = lines.into_iter();
    summaries
        .filter(|line| line["message_type"] == "summary")
        .collect()
}

#[test]
fn images_are_backed_up_at_the_same_time_with_one_backup_and_one_snapshot_each() {
    let Some(live) = Live::with_pool("jobs-ok") else {
        return;
    };
    let names = [
        "jobs-ok/a",
        "jobs-ok/b",
        "jobs-ok/c",
        "jobs-ok/d",
        "jobs-ok/e",
    ];
    let mut images = images(&live, &names);
    let program = live.rbd_script(&three_at_once(&live));
    let args = ["backup", "rbd:jobs-ok/*", "--jobs", "3", "--json"];
    let args = [&args[..], &["--rbd-command", &program]].concat();
    for round in 1..=2 {
        change(&mut images, round * 10);
        let _ = fs::remove_file(live.world.path("begun"));
        let ran = live.world.run(&args);
        ran.ok(&args);
        let summaries = summaries(&ran);
        let mut volumes: Vec<_> = summaries.iter().map(|s| s["volume"].as_str()).collect();
        volumes.sort_unstable();
        assert_eq!(volumes, names.map(Some));
        // The second backups build on the first ones.
        let on_base = summaries.iter().filter(|s| s["base"].is_string()).count();
        assert_eq!(on_base, if round == 1 { 0 } else { 5 }, "{summaries:?}");
        assert_eq!(live.backups(), 5 * usize::try_from(round).unwrap());
        assert_backed_up(&live, &names);
    }
    // Without the option, only one export runs at a time.
    let _ = fs::remove_file(live.world.path("begun"));
    let alone = format!(
        "case \"$*\" in *export-diff*) mkdir {0} || exit 5; sleep 0.2; rbd \"$@\"; rmdir {0}; \
         exit 0;; esac",
        live.world.at("alone")
    );
    let program = live.rbd_script(&alone);
    live.world
        .ok(&["backup", "rbd:jobs-ok/*", "--rbd-command", &program]);
    live.world.is_clean();
}

#[test]
fn an_image_that_fails_does_not_stop_those_that_are_backed_up_at_the_same_time() {
    let Some(live) = Live::with_pool("jobs-bad") else {
        return;
    };
    let names = ["jobs-bad/a", "jobs-bad/b", "jobs-bad/c", "jobs-bad/d"];
    let _images = images(&live, &names);
    let script = format!(
        "{}; case \"$* \" in *export-diff*'--image=b '*)
             echo 'rbd: disk on fire' >&2; exit 5;; esac",
        three_at_once(&live)
    );
    let program = live.rbd_script(&script);
    let args = ["backup", "rbd:jobs-bad/*", "--jobs", "3", "--json"];
    let args = [&args[..], &["--rbd-command", &program]].concat();
    let ran = live.world.run(&args);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stderr.contains("disk on fire"), "{}", ran.stderr);
    let expected = "1 of 4 backups failed: rbd:jobs-bad/b";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    assert_eq!(summaries(&ran).len(), 3);
    let good = ["jobs-bad/a", "jobs-bad/c", "jobs-bad/d"];
    assert_backed_up(&live, &good);
    assert_eq!(live.backups(), 3);
    assert_eq!(live.snapshots("jobs-bad/b"), Vec::<String>::new());
    // The next run backs up all of them.
    live.world.ok(&["backup", "rbd:jobs-bad/*", "--jobs", "4"]);
    assert_backed_up(&live, &names);
    live.world.is_clean();
}

#[test]
fn a_run_of_several_images_that_is_killed_is_followed_by_right_backups_and_one_snapshot_each() {
    let Some(live) = Live::with_pool("jobs-kill") else {
        return;
    };
    let names = ["jobs-kill/a", "jobs-kill/b", "jobs-kill/c", "jobs-kill/d"];
    let mut images = images(&live, &names);
    live.world.ok(&["backup", "rbd:jobs-kill/*", "--jobs", "4"]);
    let plain = ["backup", "rbd:jobs-kill/*", "--jobs", "3"];
    for (round, kill) in [
        // All exports run, and none has ended.
        format!(
            "{}; case \"$*\" in *export-diff*) sleep 1; kill -9 $PPID; exit 1;; esac",
            three_at_once(&live)
        ),
        // Some backups are committed, and their old snapshots are about to be removed.
        "case \"$*\" in *'snap rm'*) kill -9 $PPID; exit 1;; esac".to_owned(),
        // Some snapshots are made.
        "case \"$*\" in *'snap create'*) rbd \"$@\"; kill -9 $PPID; exit 1;; esac".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        change(&mut images, 20 + round as u64 * 10);
        let _ = fs::remove_file(live.world.path("begun"));
        let program = live.rbd_script(kill);
        let args = [&plain[..], &["--rbd-command", &program]].concat();
        let ran = live.world.run(&args);
        assert_eq!(ran.code, None, "{kill}: {ran:?}");
        settle("jobs-kill");
        change(&mut images, 21 + round as u64 * 10);
        live.world.ok(&plain);
        assert_backed_up(&live, &names);
    }
    live.world.is_clean();
}

#[test]
fn an_interrupted_run_ends_all_exports_and_removes_all_its_snapshots() {
    let Some(live) = Live::with_pool("jobs-int") else {
        return;
    };
    let names = ["jobs-int/a", "jobs-int/b", "jobs-int/c", "jobs-int/d"];
    let _images = images(&live, &names);
    // Each export hangs.
    let begun = live.world.at("begun");
    let hang = format!("case \"$*\" in *export-diff*) echo $$ >>{begun}; exec sleep 300;; esac");
    let program = live.rbd_script(&hang);
    let args = ["backup", "rbd:jobs-int/*", "--jobs", "3"];
    let args = [&args[..], &["--rbd-command", &program]].concat();
    let mut child = live.world.start(&args);
    let exports = || fs::read_to_string(&begun).unwrap_or_default();
    until(&mut child, || exports().lines().count() == 3);
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let ran = finish(child, &args);
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.took < Duration::from_mins(2), "{ran:?}");
    // The fourth export was not started, and the others have ended.
    let exports = exports();
    assert_eq!(exports.lines().count(), 3);
    for pid in exports.lines() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        assert!(stat.is_err(), "{pid}: {stat:?}");
    }
    for name in names {
        assert_eq!(live.snapshots(name), Vec::<String>::new(), "{name}");
    }
    assert_eq!(live.backups(), 0);
}

#[test]
fn a_full_repository_fails_each_image_by_name_and_leaves_no_snapshot_and_no_lease() {
    let Some(mut live) = Live::with_pool("jobs-full") else {
        return;
    };
    let Some(disk) = SmallDisk::mount(24 << 10) else {
        return;
    };
    let repository = disk.path().join("repo");
    live.world.set("CUTTLEBONE_REPOSITORY", &repository);
    make_repository(&repository, PASSWORD);
    let names = ["jobs-full/a", "jobs-full/b", "jobs-full/c"];
    for (name, seed) in names.into_iter().zip(1..) {
        let mut image = image(&live.cluster, name, &[]);
        let (length, kind) = (32 * MIB, ExtentKind::Data);
        let offset = 0;
        let all = Extent {
            offset,
            length,
            kind,
        };
        let content = noise(seed, usize::try_from(length).unwrap());
        image.change(length, vec![(all, content)]);
    }
    let args = ["backup", "rbd:jobs-full/*", "--jobs", "3"];
    let failed = live.world.fails(&args, 1);
    for expected in ["all 3 backups failed", "free some space"] {
        assert!(failed.contains(expected), "{failed}");
    }
    for name in names {
        assert!(failed.contains(&format!("rbd:{name}")), "{failed}");
        let own = format!("error: {name}: could not store");
        assert!(failed.contains(&own), "{failed}");
        assert_eq!(live.snapshots(name), Vec::<String>::new(), "{name}");
    }
    assert_eq!(live.backups(), 0);
    let leases = files(&live.world.project().join("leases"));
    assert!(leases.is_empty(), "{leases:?}");
    live.world.is_clean();
    disk.resize(200 << 10);
    live.world.ok(&args);
    assert_backed_up(&live, &names);
    live.world.is_clean();
}

#[test]
fn an_image_that_is_named_twice_is_backed_up_twice_one_after_the_other() {
    let Some(live) = Live::with_pool("jobs-two") else {
        return;
    };
    let _images = images(&live, &["jobs-two/a"]);
    let twice = ["backup", "rbd:jobs-two/a", "rbd:jobs-two/a", "--jobs", "2"];
    for _ in 0..2 {
        let ran = live.world.run(&[&twice[..], &["--json"]].concat());
        ran.ok(&twice);
        assert_eq!(summaries(&ran).len(), 2);
        assert_backed_up(&live, &["jobs-two/a"]);
    }
    for wrong in [
        &["backup", "/etc/hostname", "--jobs", "2"][..],
        &["backup", "rbd:jobs-two/a", "--jobs", "0"],
        &["backup", "rbd:jobs-two/a", "--jobs", "17"],
        &["backup", "--together", "rbd:jobs-two/*", "--jobs", "2"],
    ] {
        live.world.fails(wrong, 2);
    }
    live.world.is_clean();
}

#[test]
fn an_interrupted_run_removes_no_more_snapshots_if_the_cluster_does_not_answer() {
    let Some(live) = Live::with_pool("jobs-deaf") else {
        return;
    };
    let names = ["jobs-deaf/a", "jobs-deaf/b", "jobs-deaf/c"];
    let _images = images(&live, &names);
    for jobs in ["--jobs=3", "--together"] {
        let (begun, removed) = (live.world.at("begun"), live.world.at("removed"));
        let _ = (fs::remove_file(&begun), fs::remove_file(&removed));
        // 110 is the exit code of `rbd` if the cluster does not answer.
        let script = format!(
            "case \"$*\" in
                 *export-diff*) echo x >>{begun}; exec sleep 300;;
                 *'snap rm'*) echo x >>{removed}; exit 110;;
             esac"
        );
        let program = live.rbd_script(&script);
        let args = ["backup", "rbd:jobs-deaf/*", jobs, "--rbd-command", &program];
        let mut child = live.world.start(&args);
        let lines = |path: &str| fs::read_to_string(path).unwrap_or_default().lines().count();
        let exports = if jobs == "--together" { 1 } else { 3 };
        until(&mut child, || lines(&begun) == exports);
        let sent = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let ran = finish(child, &args);
        assert_eq!(ran.code, Some(130), "{jobs}: {ran:?}");
        assert_eq!(lines(&removed), 1, "{jobs}: {ran:?}");
        let stay = ran.stderr.matches("is no longer needed, but stays").count();
        assert_eq!(stay, 3, "{jobs}: {ran:?}");
    }
    // The next run removes all of them.
    live.world.ok(&["backup", "rbd:jobs-deaf/*"]);
    assert_backed_up(&live, &names);
}
