//! Backups of images in the cluster that fail or are killed at any step.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Cluster;
use super::image::Image;
use super::live::{Live, data, image};
use crate::support::program::Ran;

const MIB: u64 = 1 << 20;

impl Live {
    /// Makes a program that the backup calls in place of `rbd`. In the script, `$count` is the
    /// number of the call, from 1. Calls at the same time have different numbers. `$*` are the
    /// arguments of the call, the first of which names the cluster. After the script, the program
    /// runs `rbd`.
    pub(super) fn rbd_script(&self, script: &str) -> String {
        // Each script has its own files. If a run is killed, a script that it started may go on for
        // a moment, and must not count as a call of the next run.
        let number = self.scripts.fetch_add(1, Ordering::Relaxed) + 1;
        let path = self.world.at(&format!("rbd-script-{number}"));
        let count = self.world.at(&format!("count-{number}"));
        fs::write(&count, "0").unwrap();
        let script = format!(
            "#!/bin/bash\n\
             exec 9>{count}.lock; flock 9\n\
             count=$(($(cat {count}) + 1)); echo $count >{count}\n\
             exec 9>&-\n\
             {script}\n\
             exec rbd \"$@\"\n"
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn run_with(&self, script: &str, image: &str) -> Ran {
        let program = self.rbd_script(script);
        let source = format!("rbd:{image}");
        let args = ["backup", &source, "--rbd-command", &program, "--json"];
        self.world.run(&args)
    }

    /// Creates a user of the cluster with these capabilities. Returns the path of the file with the
    /// user's key.
    pub(super) fn keyring(&self, client: &str, caps: &[&str]) -> String {
        let path = self.world.at(client);
        let mut ceph = Command::new("ceph");
        ceph.args(["auth", "get-or-create", &format!("client.{client}")]);
        ceph.args(caps).args(["-o", &path]);
        let made = ceph.env("CEPH_CONF", self.cluster.conf()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        path
    }

    /// Returns how often the last script was called.
    pub(super) fn calls(&self) -> u32 {
        let number = self.scripts.load(Ordering::Relaxed);
        fs::read_to_string(self.world.path(&format!("count-{number}")))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }
}

/// Waits until no `rbd` process uses this pool. A process that outlives a killed backup may still
/// make or remove a snapshot.
pub(super) fn settle(pool: &str) {
    let begun = Instant::now();
    let running = || {
        let ps = Command::new("pgrep")
            .args(["-f", &format!("rbd .*--pool={pool}")])
            .output();
        ps.is_ok_and(|output| !output.stdout.is_empty())
    };
    while running() {
        assert!(begun.elapsed() < Duration::from_mins(1), "rbd still runs");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_run_that_is_killed_at_any_step_is_followed_by_a_correct_backup_and_one_snapshot() {
    let Some(live) = Live::with_pool("live-kill") else {
        return;
    };
    let name = "live-kill/img";
    let mut img: Image<'_> = image(&live.cluster, name, &[]);
    live.backs_up(name, &[]);
    let mut seed = 10;
    let mut change = |img: &mut Image<'_>| {
        seed += 1;
        img.change(8 * MIB, vec![data(seed % 100 * (64 << 10), seed)]);
    };
    // Kill the backup before each call of `rbd`.
    let mut step = 0;
    loop {
        step += 1;
        change(&mut img);
        let ran = live.run_with(
            &format!("[ $count = {step} ] && {{ kill -9 $PPID; exit 1; }}"),
            name,
        );
        if ran.code == Some(0) {
            break;
        }
        assert_eq!(ran.code, None, "step {step}: {ran:?}");
        change(&mut img);
        live.backs_up(name, &[]);
    }
    // The last run was complete. It made one call fewer than `step`.
    assert_eq!(live.calls() + 1, step);
    assert!(step > 8, "only {step} calls");
    // Kill the backup after each call that changes something, and after the export.
    for call in ["snap create", "snap rm", "export-diff"] {
        change(&mut img);
        let kill = format!("case \"$*\" in *'{call}'*) rbd \"$@\"; kill -9 $PPID; exit 1;; esac");
        let ran = live.run_with(&kill, name);
        assert_eq!(ran.code, None, "{call}: {ran:?}");
        settle("live-kill");
        change(&mut img);
        live.backs_up(name, &[]);
    }
    live.world.is_clean();
}

#[test]
fn an_export_that_fails_or_is_cut_makes_no_backup_and_leaves_no_snapshot() {
    let Some(live) = Live::with_pool("live-cut") else {
        return;
    };
    let name = "live-cut/img";
    let mut img = image(&live.cluster, name, &[]);
    let (first, _) = live.backs_up(name, &[]);
    let before = live.snapshots(name);
    img.change(8 * MIB, vec![data(MIB, 5), data(3 * MIB, 6)]);
    for (script, expected) in [
        // The stream is whole, but `rbd` fails.
        (
            "rbd \"$@\"; echo 'rbd: disk on fire' >&2; exit 5",
            "disk on fire",
        ),
        // Only the end of the stream is missing, and `rbd` seems to succeed.
        ("rbd \"$@\" | head -c -1; exit 0", "damaged"),
        ("rbd \"$@\" | head -c 1000; exit 0", "damaged"),
        // `rbd` writes only a header and fails, as it does if the snapshot does not exist.
        ("rbd \"$@\" | head -c 40; exit 2", "exit status: 2"),
        ("exit 13", "exit status: 13"),
        ("kill -9 $$", "signal: 9"),
        // The stream is an export of another snapshot.
        (
            "rbd \"$1\" export-diff --path=- --no-progress live-cut/img@mine; exit 0",
            "not what was asked for",
        ),
        // During the export, another snapshot with the same name replaces the snapshot.
        (
            "name=$(echo \"$*\" | grep -o 'cuttlebone-[^ ]*' | head -n 1)
             rbd \"$@\"
             rbd \"$1\" snap rm --no-progress live-cut/img@$name
             rbd \"$1\" snap create --no-progress live-cut/img@$name
             exit 0",
            "made again meanwhile",
        ),
    ] {
        if expected == "not what was asked for" {
            img.snapshot("mine");
        }
        let case = format!("case \"$*\" in *export-diff*) {script};; esac");
        let ran = live.run_with(&case, name);
        assert!(matches!(ran.code, Some(1 | 21)), "{script}: {ran:?}");
        assert!(ran.stderr.contains(expected), "{script}: {}", ran.stderr);
        assert_eq!(live.backups(), 1, "{script}");
        let mut left = live.snapshots(name);
        left.retain(|name| name != "mine");
        assert_eq!(left, before, "{script}");
    }
    // The next run still builds on the first backup.
    let (next, notes) = live.backs_up(name, &[]);
    assert_eq!(next["base"], first["backup_id"], "{notes}");
    live.world.is_clean();
}

#[test]
fn a_backup_fails_within_the_time_limit_if_the_cluster_stops_in_the_middle_of_an_export() {
    let Some(cluster) = Cluster::of_one_test() else {
        return;
    };
    let osd = cluster.osd();
    let mut live = Live::on(cluster, "live-stop");
    let name = "live-stop/img";
    let mut img = image(&live.cluster, name, &[]);
    let (first, _) = live.backs_up(name, &[]);
    img.change(8 * MIB, vec![data(MIB, 5), data(3 * MIB, 6)]);
    live.world.set("CUTTLEBONE_CEPH_TIMEOUT", "3");
    // The cluster answers again later, so that the snapshot can be removed. The process that
    // resumes the OSD is in a session of its own, so it is not killed with `rbd`.
    let stop = format!(
        "case \"$*\" in *export-diff*) kill -STOP {osd}; \
         setsid sh -c 'sleep 8; kill -CONT {osd}' >/dev/null 2>&1 </dev/null & sleep 0.2;; esac"
    );
    let ran = live.run_with(&stop, name);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr.contains("no data for 3 seconds"),
        "{}",
        ran.stderr
    );
    assert!(ran.took < Duration::from_mins(2), "{ran:?}");
    assert_eq!(live.backups(), 1);
    assert_eq!(live.snapshots(name), [live.tracking(name)]);
    // The next run makes a correct backup.
    let (next, _) = live.backs_up(name, &[]);
    assert_eq!(next["base"], first["backup_id"]);
    live.world.is_clean();
}

#[test]
fn an_interrupted_run_removes_its_snapshot() {
    let Some(live) = Live::with_pool("live-int") else {
        return;
    };
    let name = "live-int/img";
    image(&live.cluster, name, &[]);
    // The export hangs. The signal comes from the script.
    let case = "case \"$*\" in *export-diff*) kill -INT $PPID; exec sleep 100;; esac";
    let ran = live.run_with(case, name);
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.took < Duration::from_mins(1), "{ran:?}");
    assert_eq!(live.snapshots(name), Vec::<String>::new());
    assert_eq!(live.backups(), 0);
}

#[test]
fn a_missing_image_or_permission_is_named_before_anything_is_done() {
    let Some(mut live) = Live::with_pool("live-deny") else {
        return;
    };
    let name = "live-deny/img";
    image(&live.cluster, name, &[]);
    live.cluster.make_pool("live-other");
    let keyring = |client: &str, caps: &[&str]| live.keyring(client, caps);
    let reads = keyring(
        "reads",
        &["mon", "profile rbd", "osd", "profile rbd-read-only"],
    );
    let other = keyring(
        "other",
        &["mon", "profile rbd", "osd", "profile rbd pool=live-other"],
    );
    let right = keyring(
        "right",
        &["mon", "profile rbd", "osd", "profile rbd pool=live-deny"],
    );
    let wrong = "[client.right]\n\tkey = AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==\n";
    let wrong = live.world.write("wrong", wrong.as_bytes());
    let image = "rbd:live-deny/img";
    for (args, expected) in [
        (
            ["rbd:live-deny/none", "--id", "right", "--keyring", &right],
            "No such file",
        ),
        (
            ["rbd:nowhere/img", "--id", "right", "--keyring", &right],
            "no such pool",
        ),
        (
            [image, "--id", "right", "--keyring", &wrong],
            "could not ask the cluster",
        ),
        (
            [image, "--id", "right", "--keyring", "/nowhere"],
            "there is no keyring at /nowhere",
        ),
        (
            [image, "--id", "nobody", "--keyring", &right],
            "could not ask the cluster",
        ),
        (
            [image, "--id", "other", "--keyring", &other],
            "not permitted",
        ),
        (
            [image, "--id", "reads", "--keyring", &reads],
            "could not make the snapshot",
        ),
        (
            [image, "--ceph-conf", "/nowhere", "--id", "right"],
            "there is no configuration file /nowhere",
        ),
        (
            [image, "--rbd-command", "/nowhere/rbd", "--id", "admin"],
            "could not open the image",
        ),
        (
            [image, "--ceph-command", "/nowhere/ceph", "--id", "admin"],
            "could not ask the cluster",
        ),
    ] {
        let args = [&["backup"][..], &args].concat();
        let error = live.world.fails(&args, 1);
        assert!(error.contains(expected), "{args:?}: {error}");
        assert!(error.contains("next: "), "{args:?}: {error}");
    }
    assert_eq!(live.snapshots(name), Vec::<String>::new());
    assert_eq!(live.backups(), 0);
    // A user that may only read can back up a snapshot that another user made.
    live.cluster
        .rbd(&["snap", "create", "--no-progress", "live-deny/img@mine"]);
    let given = [
        "rbd:live-deny/img@mine",
        "--id",
        "reads",
        "--keyring",
        &reads,
    ];
    live.world
        .backup(&[&given[..], &["--volume", "given"]].concat());
    assert_eq!(
        live.restored("given"),
        live.cluster.digest("live-deny/img@mine")
    );
    // The minimal capabilities suffice. Environment variables give the user and the key here.
    live.world.set("CUTTLEBONE_CEPH_ID", "client.right");
    live.world.set("CUTTLEBONE_CEPH_KEYRING", &right);
    live.backs_up(name, &[]);
}

#[test]
fn a_write_key_backs_up_all_data_of_an_image_each_time() {
    let Some(mut live) = Live::with_pool("live-write") else {
        return;
    };
    let name = "live-write/img";
    let mut img = image(&live.cluster, name, &[]);
    live.world.add_key("a write key", "write", &[]);
    let full = live.world.environment.clone();
    for round in 0..2 {
        img.change(8 * MIB, vec![data(MIB + 4096, round)]);
        live.world.set("CUTTLEBONE_PASSWORD", "a write key");
        let args = ["backup", "rbd:live-write/img", "--json"];
        let ran = live.world.run(&args);
        ran.ok(&args);
        assert!(
            ran.stderr.contains("cannot merge changes"),
            "{}",
            ran.stderr
        );
        live.world.environment.clone_from(&full);
        let exported = live
            .cluster
            .digest(&format!("{name}@{}", live.tracking(name)));
        assert_eq!(live.restored(name), exported);
    }
}

#[test]
fn a_restore_fails_within_the_time_limit_if_the_cluster_stops_in_the_middle() {
    let Some(cluster) = Cluster::of_one_test() else {
        return;
    };
    let osd = cluster.osd();
    let mut live = Live::on(cluster, "live-stall");
    let name = "live-stall/img";
    let mut img = image(&live.cluster, name, &[]);
    // The image has more data than a pipe holds.
    img.change(8 * MIB, (0..32).map(|i| data(i * (128 << 10), i)).collect());
    live.backs_up(name, &[]);
    live.world.set("CUTTLEBONE_CEPH_TIMEOUT", "3");
    let stop = format!(
        "case \"$*\" in *import-diff*) kill -STOP {osd}; \
         setsid sh -c 'sleep 8; kill -CONT {osd}' >/dev/null 2>&1 </dev/null & sleep 0.2;; esac"
    );
    let program = live.rbd_script(&stop);
    let target = "rbd:live-stall/new";
    let ran = live
        .world
        .run(&["restore", name, target, "--rbd-command", &program]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let expected = "no progress for 3 seconds";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    assert!(ran.took < Duration::from_mins(1), "{ran:?}");
    // The cluster answers again.
    live.world.ok(&["restore", name, "rbd:live-stall/next"]);
    assert_eq!(
        live.cluster.digest("live-stall/next"),
        live.cluster.digest(name)
    );
}

#[test]
fn after_one_request_without_an_answer_no_other_image_is_tried() {
    let Some(live) = Live::with_pool("live-silent") else {
        return;
    };
    let names: Vec<_> = (0..9).map(|i| format!("live-silent/{i}")).collect();
    for name in &names {
        live.cluster.rbd(&["create", name, "--size", "1M"]);
    }
    live.world.ok(&["backup", "rbd:live-silent/*", "--json"]);
    // 110 is the exit code of `rbd` if the cluster does not answer.
    let program = live.rbd_script("case \"$*\" in *info*) exit 110;; esac");
    let args = ["backup", "rbd:live-silent/0", "rbd:live-silent/1"];
    let args = [
        &args[..],
        &["rbd:live-silent/*"],
        &["--rbd-command", &program],
    ]
    .concat();
    let error = live.world.fails(&args, 1);
    assert_eq!(live.calls(), 1, "{error}");
    for name in ["rbd:live-silent/1", "rbd:live-silent/*"] {
        let expected = format!("{name} was not tried, since the cluster does not answer");
        assert!(error.contains(&expected), "{error}");
    }
    // The images of a pattern are found, but none can be opened.
    let args = ["backup", "rbd:live-silent/*", "--rbd-command", &program];
    let error = live.world.fails(&args, 1);
    // The backup listed the images, and tried only one of them.
    assert!(error.contains("rbd:live-silent/8 was not tried"), "{error}");
    let lines = live.world.json(&["status", "--rbd-command", &program]);
    let summary = lines.last().unwrap();
    let problem = summary["cluster_problem"].as_str().unwrap_or_default();
    assert!(problem.contains("could not open the image"), "{summary}");
    // The first backup called `rbd` once, and the second one twice. `status` listed the trash, and
    // tried to open at most six images at the same time.
    assert!(live.calls() <= 2 + 1 + 1 + 6, "{}", live.calls());
}

#[test]
fn images_of_other_pools_are_backed_up_if_one_pool_is_forbidden() {
    let Some(live) = Live::with_pool("live-may") else {
        return;
    };
    live.cluster.make_pool("live-may-not");
    image(&live.cluster, "live-may/img", &[]);
    image(&live.cluster, "live-may-not/img", &[]);
    let caps = ["mon", "profile rbd", "osd", "profile rbd pool=live-may"];
    let keyring = live.keyring("may", &caps);
    let user = ["--id", "may", "--keyring", keyring.as_str()];
    let args = [&["backup", "rbd:live-may*/*"][..], &user].concat();
    let error = live.world.fails(&args, 3);
    assert!(error.contains("rbd:live-may-not/*"), "{error}");
    assert_eq!(live.backups(), 1);
    live.tracking("live-may/img");
    // With `--together`, no image is backed up if one of them cannot be opened.
    let args = [&args[..], &["--together"]].concat();
    let error = live.world.fails(&args, 1);
    assert!(error.contains("some images cannot be opened"), "{error}");
    assert_eq!(live.backups(), 1);
    // If the command names only the forbidden pool, it fails.
    let args = [&["backup", "rbd:live-may-not/*"][..], &user].concat();
    live.world.fails(&args, 1);
}

#[test]
fn an_image_in_the_trash_and_an_encrypted_image_are_reported() {
    let Some(live) = Live::with_pool("live-kinds") else {
        return;
    };
    let name = "live-kinds/luks";
    let mut img = image(&live.cluster, name, &[]);
    let (first, notes) = live.backs_up(name, &[]);
    assert!(!notes.contains("encrypted"), "{notes}");
    let mut header = data(0, 1);
    header.1[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
    img.change(8 * MIB, vec![header]);
    let (next, notes) = live.backs_up(name, &["--full"]);
    assert!(notes.contains("opens with the same passphrase"), "{notes}");
    assert_ne!(first["backup_id"], next["backup_id"]);
    // A backup of changes does not repeat the note.
    img.change(8 * MIB, vec![data(MIB, 4)]);
    let (_, notes) = live.backs_up(name, &[]);
    assert!(!notes.contains("encrypted"), "{notes}");
    let csi = "live-kinds/csi";
    image(&live.cluster, csi, &[]);
    let key = "rbd.csi.ceph.com/encrypted";
    live.cluster.rbd(&["image-meta", "set", csi, key, "true"]);
    let (_, notes) = live.backs_up(csi, &[]);
    assert!(notes.contains("opens with the same passphrase"), "{notes}");
    live.cluster.rbd(&["trash", "mv", name]);
    let error = live.world.fails(&["backup", "rbd:live-kinds/luks"], 1);
    assert!(error.contains("in the trash, with the id "), "{error}");
    // The proposed command names the configuration file of the cluster.
    let command = format!(
        "“rbd --conf {} trash restore”",
        live.cluster.conf().display()
    );
    assert!(error.contains(&command), "{error}");
}
