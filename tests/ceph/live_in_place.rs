//! Restores to existing images in the cluster: `restore BACKUP rbd:POOL/IMAGE --in-place`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Random;
use super::image::Image;
use super::live::{Live, data, image};
use super::live_faults::settle;
use crate::support::program::files;

const MIB: u64 = 1 << 20;

impl Live {
    /// Restores a backup in place, which must succeed. The image must then equal a file to which
    /// the backup is restored. Returns the summary and the notes.
    #[track_caller]
    fn brings_back(&self, backup: &str, image: &str, options: &[&str]) -> (Value, String) {
        let target = format!("rbd:{image}");
        let args = [
            &["restore", backup, &target, "--in-place", "--json"],
            options,
        ]
        .concat();
        let ran = self.world.run(&args);
        let summary = super::live::summary(&ran, &args);
        assert_eq!(
            self.cluster.digest(image),
            self.restored(backup),
            "{backup}: {summary}"
        );
        (summary, ran.stderr)
    }

    /// Returns the only safety snapshot of an image, and removes it.
    #[track_caller]
    fn take_safety_snapshot(&self, image: &str) -> String {
        let mut names = self.snapshots(image);
        names.retain(|name| name.starts_with("before-restore-"));
        assert_eq!(names.len(), 1, "{names:?}");
        let name = names.remove(0);
        let snapshot = format!("{image}@{name}");
        self.cluster
            .rbd(&["snap", "rm", "--no-progress", &snapshot]);
        name
    }
}

#[test]
fn an_image_is_brought_back_through_random_writes_and_resizes() {
    let Some(live) = Live::with_pool("place-random") else {
        return;
    };
    let mut random = Random::new();
    let name = "place-random/img";
    let mut img = image(&live.cluster, name, &["--object-size", "512K"]);
    let mut backups = Vec::new();
    for round in 0..6_usize {
        img.change_at_random(&mut random);
        let source = format!("rbd:{name}");
        let args = ["backup", &source, "--json", "--keep-snapshots", "3"];
        let summary = super::live::summary(&live.world.run(&args), &args);
        backups.push(summary["backup_id"].as_str().unwrap().to_owned());
        img.change_at_random(&mut random);
        img.change_at_random(&mut random);
        let before = live.cluster.digest(name);
        // Go back to the newest backup, whose snapshot exists, or to an older backup.
        let place = round - usize::try_from(random.below(round as u64 + 1)).unwrap();
        let (summary, notes) = live.brings_back(&backups[place], name, &["--resize"]);
        assert!(notes.contains("writing only what differs"), "{notes}");
        assert_eq!(summary["bytes_compared"], 0, "{summary}");
        if summary.get("safety_snapshot").is_some() {
            let snapshot = format!("{name}@{}", summary["safety_snapshot"].as_str().unwrap());
            assert_eq!(live.cluster.digest(&snapshot), before);
            live.take_safety_snapshot(name);
        }
        img.read_again();
    }
    // Without a snapshot that the repository knows, everything is compared.
    for snapshot in live.snapshots(name) {
        let snapshot = format!("{name}@{snapshot}");
        live.cluster
            .rbd(&["snap", "rm", "--no-progress", &snapshot]);
    }
    for backup in &backups {
        let options = ["--resize", "--no-safety-snapshot"];
        let (_, notes) = live.brings_back(backup, name, &options);
        assert!(notes.contains("has no backup of its snapshots"), "{notes}");
        assert!(live.snapshots(name).is_empty());
        img.read_again();
        img.change_at_random(&mut random);
    }
    live.world.is_clean();
}

#[test]
fn what_a_program_changes_while_the_whole_image_is_compared_is_brought_back() {
    let Some(live) = Live::with_pool("place-change") else {
        return;
    };
    let name = "place-change/img";
    let mut img = image(&live.cluster, name, &[]);
    live.backs_up(name, &[]);
    // Without this snapshot, the whole image is compared.
    let snapshot = format!("{name}@{}", live.tracking(name));
    live.cluster
        .rbd(&["snap", "rm", "--no-progress", &snapshot]);
    // After the comparison, a program opens the image, writes to it, and closes it.
    let calls = live.world.at("calls");
    let write =
        "bench --io-type write --io-size 4K --io-threads 1 --io-total 64K --io-pattern rand";
    let program = live.rbd_script(&format!(
        "case \"$*\" in *export-diff*) echo >>{calls}
         rbd \"$@\" && rbd \"$1\" {write} {name} >/dev/null 2>&1; exit;; esac"
    ));
    let args = ["--rbd-command", &program];
    img.change(8 * MIB, vec![data(2 * MIB, 1)]);
    live.brings_back(name, name, &args);
    live.take_safety_snapshot(name);
    img.read_again();

    // The safety snapshot of an interrupted restore that changed nothing is used again.
    img.change(8 * MIB, vec![data(2 * MIB, 3)]);
    let stops = live.rbd_script("case \"$*\" in *import-diff*) exit 5;; esac");
    let target = format!("rbd:{name}");
    let stopped = [
        "restore",
        name,
        &target,
        "--in-place",
        "--rbd-command",
        &stops,
    ];
    live.world.fails(&stopped, 1);
    live.brings_back(name, name, &args);
    live.take_safety_snapshot(name);
    let calls = std::fs::read_to_string(calls).unwrap();
    assert_eq!(calls.lines().count(), 2, "the image was compared each time");
}

#[test]
fn damage_of_another_backup_does_not_keep_an_image_from_being_brought_back() {
    let Some(live) = Live::with_pool("place-damage") else {
        return;
    };
    let name = "place-damage/img";
    let mut img = image(&live.cluster, name, &[]);
    let (first, _) = live.backs_up(name, &[]);
    let trees = live.world.project().join("trees");
    let before = files(&trees);
    img.change(8 * MIB, vec![data(MIB, 7)]);
    live.backs_up(name, &[]);
    for file in files(&trees) {
        if !before.contains(&file) {
            std::fs::remove_file(file).unwrap();
        }
    }
    img.change(8 * MIB, vec![data(3 * MIB, 8)]);
    let cache = live.world.at("other-cache");
    let first = first["backup_id"].as_str().unwrap();
    let (summary, notes) = live.brings_back(first, name, &["--cache-dir", &cache]);
    assert!(notes.contains("its snapshot is damaged"), "{notes}");
    assert_eq!(summary["bytes_written"], 2 * (64 << 10), "{summary}");
}

#[test]
fn only_what_differs_is_read_and_written() {
    let Some(live) = Live::with_pool("place-count") else {
        return;
    };
    let name = "place-count/img";
    let size = 64 * MIB;
    let mut img = Image::create(&live.cluster, name, &[]);
    img.change(size, (0..512).map(|i| data(i * (128 << 10), i)).collect());
    live.backs_up(name, &[]);
    // Change four chunks that have data, and write to one chunk that had no data.
    let changed = [0, 9, 99, 300].map(|i| data(i * (128 << 10), 7000 + i));
    img.change(size, changed.to_vec());
    img.change(size, vec![data(64 << 10, 5)]);
    // The script counts the bytes of the diff that is written to the image, and notes each read.
    let counted = live.world.at("counted");
    let script = format!(
        "case \"$*\" in
         *import-diff*) tee >(wc -c >{counted}) | rbd \"$@\"; exit;;
         *export-diff*) echo read >>{counted}-read;;
         esac"
    );
    let program = live.rbd_script(&script);
    let (summary, _) = live.brings_back(name, name, &["--rbd-command", &program]);
    let written: u64 = std::fs::read_to_string(&counted)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(written <= 4 * (64 << 10) + 1000, "{written}: {summary}");
    assert!(written > 4 * (60 << 10), "{written}: {summary}");
    assert_eq!(summary["bytes_written"], 5 * (64 << 10), "{summary}");
    assert!(
        // Each of the four chunks is in another run of 512 KiB, and each run is fetched as a whole.
        // The data in these runs cannot be compressed.
        summary["bytes_fetched"].as_u64() < Some(2 * MIB + 4096),
        "{summary}"
    );
    assert!(
        !live.world.path("counted-read").exists(),
        "the image was read"
    );
    live.take_safety_snapshot(name);
    // Everything is compared, and nothing differs.
    let snapshot = format!("{name}@{}", live.tracking(name));
    live.cluster
        .rbd(&["snap", "rm", "--no-progress", &snapshot]);
    let (summary, _) = live.brings_back(name, name, &["--rbd-command", &program]);
    assert_eq!(summary["bytes_written"], 0, "{summary}");
    assert!(
        summary["bytes_compared"].as_u64() >= Some(32 * MIB),
        "{summary}"
    );
    assert_eq!(live.snapshots(name), Vec::<String>::new());
}

#[test]
fn a_safety_snapshot_that_cannot_be_removed_does_not_hide_the_result_of_the_restore() {
    let Some(live) = Live::with_pool("place-stays") else {
        return;
    };
    let name = "place-stays/img";
    image(&live.cluster, name, &[]);
    live.backs_up(name, &[]);
    // Without this snapshot, the whole image is compared, and the safety snapshot is made first.
    let snapshot = format!("{name}@{}", live.tracking(name));
    live.cluster
        .rbd(&["snap", "rm", "--no-progress", &snapshot]);
    let stays = "*'snap rm'*) echo 'rbd: no removal' >&2; exit 6;; esac";
    // The comparison fails.
    let script = format!("case \"$*\" in *export*) echo 'rbd: disk on fire' >&2; exit 5;; {stays}");
    let program = live.rbd_script(&script);
    let target = format!("rbd:{name}");
    let args = ["restore", name, &target, "--in-place"];
    let error = live
        .world
        .fails(&[&args[..], &["--rbd-command", &program]].concat(), 1);
    let (because, note) = ("disk on fire", "but stays: could not remove the snapshot");
    for expected in [because, note, "no removal"] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    live.take_safety_snapshot(name);
    // Nothing differs, so that the restore succeeds.
    let program = live.rbd_script(&format!("case \"$*\" in {stays}"));
    let (summary, notes) = live.brings_back(name, name, &["--rbd-command", &program]);
    assert!(notes.contains(note), "{notes}");
    assert_eq!(summary["bytes_written"], 0, "{summary}");
    let left = live.take_safety_snapshot(name);
    assert_eq!(summary["safety_snapshot"], left.as_str());
}

#[test]
fn an_image_that_is_in_use_or_has_another_size_is_not_touched() {
    let Some(live) = Live::with_pool("place-refuse") else {
        return;
    };
    let (cluster, world, name) = (&live.cluster, &live.world, "place-refuse/img");
    let mut img = image(cluster, name, &[]);
    live.backs_up(name, &[]);
    world.ok(&["backup", "--command", "echo stream", "--volume", "stream"]);
    img.change(9 * MIB, vec![data(0, 9)]);
    let (before, snapshots) = (cluster.digest(name), live.snapshots(name));
    let target = format!("rbd:{name}");
    let refused = |args: &[&str], code: i32, expected: &str| {
        let error = world.fails(&[&["restore", "--in-place"], args].concat(), code);
        assert!(error.contains(expected), "{error}");
        assert_eq!(cluster.digest(name), before);
        assert_eq!(live.snapshots(name), snapshots);
        let metadata = cluster.rbd(&["image-meta", "ls", name, "--format", "json"]);
        assert!(
            metadata.trim_ascii().is_empty(),
            "the image has a mark: {metadata:?}"
        );
    };
    refused(
        &[name, &target],
        1,
        "has 9437184 bytes, but the backup has 8388608",
    );
    refused(&[name, &target], 1, "--resize");
    refused(&["stream", &target], 1, "is a stream, not an image");
    refused(
        &[name, "rbd:place-refuse/no"],
        1,
        "No such file or directory",
    );
    refused(
        &[name, &target, "--object-size", "1M"],
        2,
        "keeps its parameters",
    );
    // Another program uses the image.
    let mut watch = cluster.command(&["watch", name]);
    let mut watch = watch.stdin(Stdio::piped()).spawn().unwrap();
    let mut printed = String::new();
    BufReader::new(watch.stdout.take().unwrap())
        .read_line(&mut printed)
        .unwrap();
    refused(&[name, &target, "--resize"], 11, "it is in use");
    watch.kill().unwrap();
    watch.wait().unwrap();
    // A copy of an image of another cluster cannot be written to.
    let copy = "place-refuse/copy";
    image(cluster, copy, &[]);
    cluster.rbd(&["mirror", "pool", "enable", "place-refuse", "image"]);
    cluster.rbd(&["mirror", "image", "enable", copy, "snapshot"]);
    cluster.rbd(&["mirror", "image", "demote", copy]);
    let target = format!("rbd:{copy}");
    refused(
        &[name, &target],
        1,
        "is the copy of an image of another cluster",
    );
}

#[test]
fn a_restore_in_place_that_is_killed_at_any_step_is_reported_and_succeeds_the_second_time() {
    let Some(live) = Live::with_pool("place-kill") else {
        return;
    };
    let name = "place-kill/img";
    let mut img = image(&live.cluster, name, &[]);
    let (backup, _) = live.backs_up(name, &[]);
    let backup = backup["backup_id"].as_str().unwrap();
    let target = format!("rbd:{name}");
    let args = |program: &str| {
        [
            "restore",
            backup,
            &target,
            "--in-place",
            "--rbd-command",
            program,
        ]
        .map(str::to_owned)
    };
    let run = |script: &str| {
        let program = live.rbd_script(script);
        let args = args(&program);
        live.world.run(&args.each_ref().map(String::as_str))
    };
    let (mut step, mut marked) = (0, 0);
    loop {
        step += 1;
        img.change(
            8 * MIB,
            vec![data(2 * MIB, step), data(5 * MIB, step + 1000)],
        );
        let before = live.cluster.digest(name);
        let ran = run(&format!(
            "[ $count = {step} ] && {{ kill -9 $PPID; exit 1; }}"
        ));
        if ran.code == Some(0) {
            live.take_safety_snapshot(name);
            break;
        }
        assert_eq!(ran.code, None, "step {step}: {ran:?}");
        settle("place-kill");
        marked += live.ends_right(name, backup, before, step);
        img.read_again();
    }
    assert!(step > 9, "only {step} calls");
    assert!(marked >= 3, "the mark was found only {marked} times");
    // Kill the restore after a part was written, and right after calls that change the image.
    for (call, script) in [
        ("import-diff", "head -c 70000 | rbd \"$@\""),
        ("import-diff", "rbd \"$@\""),
        ("snap create", "rbd \"$@\""),
        ("image-meta set", "rbd \"$@\""),
    ] {
        img.change(8 * MIB, vec![data(2 * MIB, step), data(5 * MIB, 77)]);
        let before = live.cluster.digest(name);
        let ran = run(&format!(
            "case \"$*\" in *'{call}'*) {script}; kill -9 $PPID; exit 1;; esac"
        ));
        assert_eq!(ran.code, None, "{call}: {ran:?}");
        settle("place-kill");
        live.ends_right(name, backup, before, step);
        img.read_again();
    }
    live.world.is_clean();
}

impl Live {
    /// Restores again after an interrupted restore. A restore marks an image with metadata while it
    /// writes. Returns 1 if the image had the mark of the first restore, and 0 otherwise. If it had
    /// the mark, a backup must be refused before the second restore. The oldest safety snapshot
    /// must have the content from before the first restore.
    #[track_caller]
    fn ends_right(&self, name: &str, backup: &str, before: blake3::Hash, step: u64) -> u64 {
        let metadata = self.cluster.rbd(&["image-meta", "ls", name]);
        let marked = String::from_utf8(metadata)
            .unwrap()
            .contains("cuttlebone.restore");
        if marked {
            let error = self.world.fails(&["backup", &format!("rbd:{name}")], 1);
            assert!(error.contains("holds an interrupted restore"), "{error}");
        }
        let (summary, notes) = self.brings_back(backup, name, &[]);
        assert_eq!(
            notes.contains("holds an interrupted restore"),
            marked,
            "step {step}: {notes}"
        );
        let mut safe = self.snapshots(name);
        safe.retain(|name| name.starts_with("before-restore-"));
        if marked {
            // There may be a second snapshot, of the partly restored content.
            let earlier = summary["earlier_snapshots"][0].as_str();
            let first = earlier.or(summary["safety_snapshot"].as_str());
            assert_eq!(first, safe.first().map(String::as_str), "step {step}");
        }
        let oldest = safe.first().map(|snapshot| format!("{name}@{snapshot}"));
        if let Some(oldest) = oldest {
            assert_eq!(self.cluster.digest(&oldest), before, "step {step}");
        }
        for snapshot in safe {
            let snapshot = format!("{name}@{snapshot}");
            self.cluster
                .rbd(&["snap", "rm", "--no-progress", &snapshot]);
        }
        let metadata = self.cluster.rbd(&["image-meta", "ls", name]);
        let metadata = String::from_utf8(metadata).unwrap();
        assert!(!metadata.contains("cuttlebone"), "step {step}: {metadata}");
        u64::from(marked)
    }
}

#[test]
fn after_an_interrupted_restore_was_undone_the_next_one_saves_what_was_written_since() {
    let Some(live) = Live::with_pool("place-undone") else {
        return;
    };
    let (cluster, name) = (&live.cluster, "place-undone/img");
    let mut img = image(cluster, name, &[]);
    live.backs_up(name, &[]);
    img.change(8 * MIB, vec![data(2 * MIB, 4), data(5 * MIB, 6)]);
    let before = cluster.digest(name);
    let target = format!("rbd:{name}");
    let script = "case \"$*\" in *import-diff*) head -c 70000 | rbd \"$@\"; exit 5;; esac";
    let program = live.rbd_script(script);
    let args = [
        "restore",
        name,
        &target,
        "--in-place",
        "--rbd-command",
        &program,
    ];
    let safety = || {
        let mut names = live.snapshots(name);
        names.retain(|name| name.starts_with("before-restore-"));
        names
    };
    live.world.fails(&args, 1);
    let first = safety();
    assert_eq!(first.len(), 1);
    assert_ne!(cluster.digest(name), before, "a part was written");
    // The user rolls the image back to the safety snapshot.
    let snapshot = format!("{name}@{}", first[0]);
    cluster.rbd(&["snap", "rollback", "--no-progress", &snapshot]);
    assert_eq!(cluster.digest(name), before);
    // The user writes to the image, and then restores it again.
    img.read_again();
    img.change(8 * MIB, vec![data(7 * MIB, 8)]);
    let used = cluster.digest(name);
    let (summary, _) = live.brings_back(name, name, &[]);
    let all = safety();
    assert_eq!((all.len(), &all[0]), (2, &first[0]));
    assert_eq!(summary["safety_snapshot"], all[1].as_str(), "{summary}");
    assert_eq!(
        summary["earlier_snapshots"][0],
        all[0].as_str(),
        "{summary}"
    );
    let digest = |snapshot: &str| cluster.digest(&format!("{name}@{snapshot}"));
    assert_eq!((digest(&all[0]), digest(&all[1])), (before, used));
}

#[test]
fn a_restore_in_place_waits_for_a_killed_client_that_still_counts_as_a_user() {
    let Some(live) = Live::with_pool("place-wait") else {
        return;
    };
    let name = "place-wait/img";
    let mut img = image(&live.cluster, name, &[]);
    live.backs_up(name, &[]);
    img.change(8 * MIB, vec![data(2 * MIB, 4)]);
    // The program that writes gets all but the last byte, so that it holds the image open. Then it
    // is killed, so that the cluster still counts it as a user.
    let script = "case \"$*\" in *import-diff*)
        (until rbd \"$1\" status place-wait/img | grep -q watcher=; do sleep 0.1; done
         sleep 1; kill -9 $$) &
        exec rbd \"$@\" < <(head -c -1; sleep 100);; esac";
    let program = live.rbd_script(script);
    let target = format!("rbd:{name}");
    let args = [
        "restore",
        name,
        &target,
        "--in-place",
        "--rbd-command",
        &program,
    ];
    live.world.fails(&args, 1);
    let status = live.cluster.rbd(&["status", name]);
    let status = String::from_utf8(status).unwrap();
    assert!(status.contains("watcher="), "{status}");
    let begun = Instant::now();
    let (_, notes) = live.brings_back(name, name, &[]);
    assert!(notes.contains("holds an interrupted restore"), "{notes}");
    assert!(begun.elapsed() < Duration::from_mins(2));
}
