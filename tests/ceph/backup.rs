//! Backups of exports of `rbd`, and diffs that `rbd` imports.

use std::fs;
use std::sync::Arc;

use blake3::Hash;
use serde_json::Value;

use super::image::Image;
use super::live::data;
use super::{Cluster, Random, cluster};
use crate::support::program::{Ran, World, finish};

const ROUNDS: usize = 30;
/// Number of rounds from one export to Ceph to the next.
const EXPORT_EVERY: usize = 6;

/// Returns a repository and a cluster. Returns `None` if Ceph is not installed.
fn worlds() -> Option<(World, Arc<Cluster>)> {
    let world = World::new();
    Some((world, cluster()?))
}

/// Pipes an export of `rbd` into a backup. Returns the result of the backup, and whether `rbd`
/// succeeded.
fn back_up(cluster: &Cluster, world: &World, export: &[&str], volume: &str) -> (Ran, bool) {
    let export = [export, &["--no-progress", "-"]].concat();
    let mut rbd = cluster.start_rbd(&export);
    let pipe = rbd.stdout.take().unwrap();
    let args = ["backup", "--diff", "-", "--volume", volume, "--json"];
    let ran = world.run_with_stdin(&args, pipe);
    (ran, finish(rbd, &export).code == Some(0))
}

/// Pipes an export into a backup. Both must succeed. Returns the lines that the backup printed.
fn backs_up(cluster: &Cluster, world: &World, export: &[&str], volume: &str) -> Vec<Value> {
    let (ran, exported) = back_up(cluster, world, export, volume);
    assert!(exported, "{export:?}");
    let output = ran.ok(export);
    let lines = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// Runs `diff export` with these arguments, and imports its output into an image.
fn export_to(cluster: &Cluster, world: &World, args: &[&str], image: &str) {
    let args = [&["diff", "export"], args].concat();
    let mut exported = world.start(&args);
    let pipe = exported.stdout.take().unwrap();
    cluster.rbd_with_stdin(&["import-diff", "--no-progress", "-", image], pipe);
    finish(exported, &args).ok(&args);
}

/// Restores this backup and returns its digest.
fn restored(world: &World, backup: &str) -> Hash {
    let target = world.at("restored");
    world.ok(&["restore", backup, &target, "--force", "-q"]);
    let digest = blake3::hash(&fs::read(&target).unwrap());
    fs::remove_file(target).unwrap();
    digest
}

fn backups(world: &World) -> usize {
    world.json(&["list"]).len()
}

/// Returns two rounds that are not adjacent, the earlier one first.
fn apart(rounds: usize, random: &mut Random) -> (usize, usize) {
    let index = |number: u64| usize::try_from(number).unwrap();
    let early = index(random.below(rounds as u64 - 2));
    let late = early + 2 + index(random.below((rounds - early - 2) as u64));
    (early, late)
}

#[test]
fn thirty_snapshots_are_backed_up_by_diffs_and_restored_and_exported() {
    let Some((world, cluster)) = worlds() else {
        return;
    };
    let mut random = Random::new();
    let mut image = Image::create(&cluster, "img", &["--object-size", "512K"]);
    image.change(8_400_001, Vec::new());
    let mut snapshots: Vec<(String, Hash)> = Vec::new();
    let mut base = Value::Null;
    for round in 0..ROUNDS {
        for _ in 0..=random.below(2) {
            image.change_at_random(&mut random);
        }
        let snapshot = format!("s{round}");
        let digest = image.snapshot(&snapshot);
        let at = image.at(&snapshot);
        let export = match snapshots.last() {
            None => vec!["export-diff", &at],
            Some((previous, _)) => vec!["export-diff", "--from-snap", previous, &at],
        };
        let lines = backs_up(&cluster, &world, &export, "img");
        let summary = lines.last().unwrap();
        assert_eq!(summary["base"], base, "{export:?}");
        base = summary["backup_id"].clone();
        assert_eq!(restored(&world, &at), digest, "{export:?}");
        snapshots.push((snapshot, digest));

        if round % EXPORT_EVERY == EXPORT_EVERY - 1 {
            let (early, late) = apart(snapshots.len(), &mut random);
            exports_to_ceph(&cluster, &world, &snapshots[early], &snapshots[late]);
        }
    }
    // Later backups have not changed the earlier ones.
    for (name, digest) in &snapshots {
        assert_eq!(restored(&world, &image.at(name)), *digest, "{name}");
    }
    assert_eq!(backups(&world), ROUNDS);
    world.is_clean();
}

/// Exports two backups to a new image: the earlier one as a full diff, and the later one as a diff
/// between them. Then the snapshots and the head of the image must equal these backups.
fn exports_to_ceph(
    cluster: &Cluster,
    world: &World,
    early: &(String, Hash),
    late: &(String, Hash),
) {
    let copy = Image::create(cluster, "img.copy", &["--object-size", "1M"]);
    let backup = |snapshot: &str| format!("img@{snapshot}");
    let (from, to) = (backup(&early.0), backup(&late.0));
    export_to(cluster, world, &[&from], copy.name);
    export_to(cluster, world, &["--from", &from, &to], copy.name);
    for (name, digest) in [early, late] {
        assert_eq!(cluster.digest(&copy.at(name)), *digest, "{from} to {to}");
    }
    assert_eq!(cluster.digest(copy.name), late.1, "{from} to {to}");
    cluster.rbd(&["snap", "purge", "--no-progress", copy.name]);
    cluster.rbd(&["rm", "--no-progress", copy.name]);
}

#[test]
fn snapshots_and_head_of_an_image_become_a_backup_each() {
    let Some((world, cluster)) = worlds() else {
        return;
    };
    let mut random = Random::new();
    let options = [
        "--object-size",
        "256K",
        "--stripe-unit",
        "64K",
        "--stripe-count",
        "4",
    ];
    let mut image = Image::create(&cluster, "striped", &options);
    image.change(6_000_000, Vec::new());
    let mut snapshots = Vec::new();
    for name in ["first", "höhe 2", "third"] {
        image.change_at_random(&mut random);
        snapshots.push((name, image.snapshot(name)));
    }
    cluster.rbd(&["snap", "protect", &image.at("first")]);
    image.change_at_random(&mut random);
    // A random change may change nothing. Then the head would have no backup of its own.
    image.change(6_000_000, vec![data(0, 7)]);
    let export = ["export", "--export-format", "2", image.name];
    backs_up(&cluster, &world, &export, "img2");
    for (name, digest) in snapshots {
        assert_eq!(restored(&world, &format!("img2@{name}")), digest, "{name}");
    }
    assert_eq!(restored(&world, "img2"), cluster.digest(image.name));
    assert_eq!(backups(&world), 4);
    world.is_clean();
}

#[test]
fn a_diff_that_is_incomplete_or_does_not_fit_the_backups_is_refused() {
    let Some((world, cluster)) = worlds() else {
        return;
    };
    let mut random = Random::new();
    let mut image = Image::create(&cluster, "refused", &[]);
    image.change(3_000_000, Vec::new());
    for name in ["a", "b", "c"] {
        image.change_at_random(&mut random);
        image.snapshot(name);
    }
    let [a, b, c] = ["a", "b", "c"].map(|name| image.at(name));
    backs_up(&cluster, &world, &["export-diff", &a], "img");

    // The backup of snapshot b is missing.
    let skipped = ["export-diff", "--from-snap", "b", &c];
    // The backup fails when it has read the header, so the export may fail with a broken pipe.
    let (ran, _) = back_up(&cluster, &world, &skipped, "img");
    assert_eq!(ran.code, Some(20), "{ran:?}");
    // Ceph writes a header before it finds that a snapshot does not exist. Test a snapshot that
    // never existed, and a deleted one that has a backup.
    cluster.rbd(&["snap", "rm", "--no-progress", &a]);
    for (from, codes) in [("nowhere", &[20, 21][..]), ("a", &[21])] {
        let missing = ["export-diff", "--from-snap", from, &b];
        let (ran, exported) = back_up(&cluster, &world, &missing, "img");
        assert!(!exported && codes.contains(&ran.code.unwrap()), "{ran:?}");
    }
    assert_eq!(backups(&world), 1);
    world.is_clean();
}
