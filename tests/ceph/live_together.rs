//! `backup --together`: several images as of one point in time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::live::{Live, image};
use crate::support::program::{Ran, json_lines};

const IMAGES: [&str; 2] = ["a", "b"];

/// A pool with two images, and a log to which the commands write.
struct Group {
    live: Live,
    pool: &'static str,
}

impl Group {
    fn new(pool: &'static str) -> Option<Self> {
        let live = Live::with_pool(pool)?;
        for name in [format!("{pool}/a"), format!("{pool}/b")] {
            image(&live.cluster, name.leak(), &[]);
        }
        Some(Self { live, pool })
    }

    /// Backs up both images. `script` runs before each call of `rbd`. The commands `before` and
    /// `after` run before and after the snapshots. In all three, `$log` is the path of the log.
    /// `limit` is the freeze limit.
    fn run(&self, script: &str, before: &str, after: &str, limit: &str) -> Ran {
        let log = self.live.world.at("log");
        fs::write(&log, "").unwrap();
        // Each run has its own script, since a script of a killed run may go on for a moment.
        let number = self.live.scripts.fetch_add(1, Ordering::Relaxed);
        let rbd = self.live.world.at(&format!("rbd-script-{number}"));
        let script = format!("#!/bin/bash\nlog={log}\n{script}\nexec rbd \"$@\"\n");
        fs::write(&rbd, script).unwrap();
        fs::set_permissions(&rbd, fs::Permissions::from_mode(0o755)).unwrap();
        let before = before.replace("$log", &log);
        let after = after.replace("$log", &log);
        let sources = IMAGES.map(|name| format!("rbd:{}/{name}", self.pool));
        let args = ["backup", "--together", &sources[0], &sources[1], "--json"];
        let freeze = [
            "--before-snapshot",
            &before,
            "--after-snapshot",
            &after,
            "--freeze-limit",
            limit,
            "--rbd-command",
            &rbd,
        ];
        // The guard (the process that freezes and thaws) has the same standard error as the
        // backup. So `run` returns after both have ended.
        self.live.world.run(&[&args[..], &freeze].concat())
    }

    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.live.world.path("log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }

    fn snapshots(&self) -> usize {
        let of = |name| self.live.snapshots(&format!("{}/{name}", self.pool)).len();
        IMAGES.map(of).iter().sum()
    }

    /// Asserts that a run failed, said that no backup was created, and left no snapshots and no
    /// backups.
    #[track_caller]
    fn is_clean(&self, ran: &Ran) {
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert_eq!((self.snapshots(), self.live.backups()), (0, 0), "{ran:?}");
        assert!(
            ran.stderr.to_lowercase().contains("no backup was created"),
            "{}",
            ran.stderr
        );
    }
}

const FREEZE: &str = "echo freeze >>$log";
const THAW: &str = "echo thaw >>$log";
const NOTE_SNAPSHOTS: &str = "case \"$*\" in *'snap create'*) echo snap >>$log;; \
    *export-diff*) echo export >>$log;; esac";

#[test]
fn all_snapshots_are_made_between_freeze_and_thaw_and_before_the_first_backup() {
    let Some(group) = Group::new("tog-ok") else {
        return;
    };
    let slow = format!("{NOTE_SNAPSHOTS}; case \"$*\" in *export-diff*) sleep 1.1;; esac");
    let ran = group.run(&slow, FREEZE, THAW, "1m");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let steps = ["freeze", "snap", "snap", "thaw", "export", "export"];
    assert_eq!(group.log(), steps);
    let source = |name: &str| {
        let detail = group.live.world.json_one(&["show", name], "backup");
        detail["source"].clone()
    };
    let (a, b) = (source("tog-ok/a"), source("tog-ok/b"));
    assert_eq!(
        (&a["consistency"], &b["consistency"]),
        (&"quiesced".into(), &"quiesced".into())
    );
    assert_eq!(a["group"], b["group"]);
    assert_eq!(a["group"].as_str().unwrap().len(), 32);
    // A record has the time of its snapshot, not that of its export.
    for name in ["tog-ok/a", "tog-ok/b"] {
        let detail = group.live.world.json_one(&["show", name], "backup");
        let digits = |text: &str| text.replace(['-', ':'], "");
        let time = digits(&detail["time"].as_str().unwrap()[..19]);
        let snapshot = group.live.tracking(name);
        assert!(digits(&snapshot).contains(&time), "{time}: {snapshot}");
    }
    for name in ["tog-ok/a", "tog-ok/b"] {
        let exported = format!("{name}@{}", group.live.tracking(name));
        assert_eq!(
            group.live.restored(name),
            group.live.cluster.digest(&exported)
        );
    }
    // Without a freeze, the backups are only crash-consistent. They get a new group.
    let args = ["backup", "--together", "rbd:tog-ok/*", "--json"];
    let lines = json_lines(&group.live.world.ok(&args));
    let summaries = lines.iter().filter(|l| l["message_type"] == "summary");
    assert!(
        summaries.into_iter().all(|l| l["base"].is_string()),
        "{lines:?}"
    );
    let again = source("tog-ok/a");
    assert_eq!(again["consistency"], "crash");
    assert_ne!(again["group"], a["group"]);
    assert_eq!(group.snapshots(), 2);
    for wrong in [
        &["backup", "--together", "rbd:tog-ok/a@s", "rbd:tog-ok/b"][..],
        &["backup", "--together", "rbd:tog-ok/a", "rbd:tog-ok/a"],
        &["backup", "--together", "/etc/hostname", "rbd:tog-ok/a"],
        &["backup", "--after-snapshot", "true", "rbd:tog-ok/a"],
        &[
            "backup",
            "--together",
            "--freeze-limit",
            "2h",
            "rbd:tog-ok/a",
        ],
    ] {
        group.live.world.fails(wrong, 2);
    }
    group.live.world.is_clean();
}

#[test]
fn a_freeze_that_fails_or_hangs_is_thawed_and_nothing_is_backed_up() {
    let Some(group) = Group::new("tog-bad") else {
        return;
    };
    let ran = group.run("", &format!("{FREEZE}; exit 4"), THAW, "1m");
    group.is_clean(&ran);
    assert!(ran.stderr.contains("exit status: 4"), "{}", ran.stderr);
    assert_eq!(group.log(), ["freeze", "thaw"]);
    // The command hangs. It is killed with all that it started.
    let begun = Instant::now();
    let hang = format!("{FREEZE}; sleep 5; echo late >>$log");
    let ran = group.run("", &hang, THAW, "1s");
    group.is_clean(&ran);
    assert!(ran.stderr.contains("time limit"), "{}", ran.stderr);
    std::thread::sleep(Duration::from_secs(7).saturating_sub(begun.elapsed()));
    assert_eq!(group.log(), ["freeze", "thaw"]);
    // One of the snapshots cannot be made.
    let fail = "case \"$*\" in *'snap create'*image=b*) echo 'rbd: no' >&2; exit 5;; esac";
    let ran = group.run(fail, FREEZE, THAW, "1m");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!((group.snapshots(), group.live.backups()), (0, 0), "{ran:?}");
    assert!(
        ran.stderr.contains("could not make the snapshot tog-bad/b"),
        "{}",
        ran.stderr
    );
    assert_eq!(group.log(), ["freeze", "thaw"]);
    // One of the snapshots takes too long: the thaw does not wait for it.
    let hang = "case \"$*\" in *'snap create'*image=b*) sleep 60;; esac";
    let ran = group.run(hang, FREEZE, &format!("{THAW}; date +%s >>$log"), "2s");
    group.is_clean(&ran);
    assert!(
        ran.stderr.contains("within the time limit"),
        "{}",
        ran.stderr
    );
    assert!(ran.took < Duration::from_secs(40), "{ran:?}");
    // The thaw fails.
    let ran = group.run("", FREEZE, "echo thaw >>$log; exit 6", "1m");
    group.is_clean(&ran);
    assert!(ran.stderr.contains("may still be frozen"), "{}", ran.stderr);
    assert_eq!(group.log(), ["freeze", "thaw", "thaw", "thaw"]);
    // The guard is killed during the freeze.
    let kill = "case \"$*\" in *'snap create'*image=b*) pkill -9 -P $PPID -f guard-freeze;; esac";
    let ran = group.run(kill, FREEZE, THAW, "1m");
    group.is_clean(&ran);
    assert_eq!(group.log(), ["freeze", "thaw"]);
    // The next run succeeds.
    assert_eq!(group.run("", FREEZE, THAW, "1m").code, Some(0));
    assert_eq!((group.snapshots(), group.live.backups()), (2, 2));
    group.live.world.is_clean();
}

#[test]
fn a_freeze_is_thawed_even_if_the_run_is_killed_at_any_step() {
    let Some(group) = Group::new("tog-kill") else {
        return;
    };
    // Kill the program while the command before the snapshots runs. The parent of this command is
    // the guard, and the parent of the guard is the program.
    let kill = "echo freeze >>$log; kill -9 $(ps -o ppid= -p $PPID); sleep 5; echo late >>$log";
    let ran = group.run("", kill, THAW, "1m");
    assert_eq!(ran.code, None, "{ran:?}");
    assert_eq!(group.log(), ["freeze", "thaw"]);
    let mut step = 0;
    loop {
        step += 1;
        let count = group.live.world.at(&format!("count-{step}"));
        fs::write(&count, "0").unwrap();
        let kill = format!(
            "exec 9>>{count}.lock; flock 9; count=$(($(cat {count}) + 1)); echo $count >{count}; \
             exec 9>&-; [ $count = {step} ] && {{ kill -9 $PPID; exit 1; }}"
        );
        let ran = group.run(&kill, FREEZE, THAW, "1m");
        let log = group.log();
        if ran.code == Some(0) {
            assert_eq!(log, ["freeze", "thaw"]);
            break;
        }
        assert_eq!(ran.code, None, "step {step}: {ran:?}");
        assert!(
            log.is_empty() || log == ["freeze", "thaw"],
            "step {step}: {log:?}"
        );
    }
    assert!(step > 12, "only {step} calls");
    // After SIGINT, the run thaws and removes its snapshots.
    let before = group.snapshots();
    let kill = "case \"$*\" in *'snap create'*image=b*) kill -INT $PPID; sleep 60;; esac";
    let ran = group.run(kill, FREEZE, THAW, "1m");
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert_eq!(group.log(), ["freeze", "thaw"]);
    assert_eq!(group.snapshots(), before);
    for name in ["tog-kill/a", "tog-kill/b"] {
        group.live.backs_up(name, &[]);
    }
    group.live.world.is_clean();
}
