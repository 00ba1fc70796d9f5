//! Backups of images in the cluster: `backup rbd:POOL/IMAGE`.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use blake3::Hash;
use cuttlebone::format::{Extent, ExtentKind};
use serde_json::Value;

use super::image::Image;
use super::{Cluster, Random, cluster};
use crate::support::noise;
use crate::support::program::{Ran, World, json_lines};

const MIB: u64 = 1 << 20;

/// A repository, and a cluster with a pool for one test. The environment of all commands that
/// `world` runs names the cluster.
pub(super) struct Live {
    pub(super) world: World,
    pub(super) cluster: Arc<Cluster>,
    /// How many scripts were made that run in place of `rbd`.
    pub(super) scripts: AtomicU32,
}

impl Live {
    /// Makes a repository, and a pool in the shared cluster. `None` if Ceph is not installed.
    pub(super) fn with_pool(pool: &str) -> Option<Self> {
        Some(Self::on(cluster()?, pool))
    }

    /// Like [`with_pool`](Self::with_pool), on this cluster.
    pub(super) fn on(cluster: Arc<Cluster>, pool: &str) -> Self {
        let mut world = World::new();
        cluster.make_pool(pool);
        world.set("CUTTLEBONE_CEPH_CONF", cluster.conf());
        Self {
            world,
            cluster,
            scripts: AtomicU32::new(0),
        }
    }

    pub(super) fn snapshots(&self, image: &str) -> Vec<String> {
        let listed = self.cluster.rbd(&["snap", "ls", "--format", "json", image]);
        let listed: Value = serde_json::from_slice(&listed).unwrap();
        let names = listed.as_array().unwrap().iter();
        names
            .map(|s| s["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Returns the name of the only snapshot that cuttlebone keeps of an image.
    #[track_caller]
    pub(super) fn tracking(&self, image: &str) -> String {
        let mut names = self.snapshots(image);
        names.retain(|name| name.starts_with("cuttlebone-"));
        assert_eq!(names.len(), 1, "{image}: {names:?}");
        names.remove(0)
    }

    /// Backs up an image, which must succeed. The new backup, restored to a file, must be equal to
    /// the export of its snapshot. Cuttlebone must keep no other snapshot of the image. Returns the
    /// summary and the notes.
    #[track_caller]
    pub(super) fn backs_up(&self, image: &str, options: &[&str]) -> (Value, String) {
        self.backs_up_and_ends_with(0, image, options)
    }

    /// Like [`backs_up`](Self::backs_up), for a backup that is right but exits with this code.
    pub(super) fn backs_up_and_ends_with(
        &self,
        code: i32,
        image: &str,
        options: &[&str],
    ) -> (Value, String) {
        let source = format!("rbd:{image}");
        let args = [&["backup", &source, "--json"], options].concat();
        let ran = self.world.run(&args);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        let summary = json_lines(std::str::from_utf8(&ran.stdout).unwrap());
        let summary = summary.last().unwrap().clone();
        assert_eq!(summary["message_type"], "summary", "{ran:?}");
        let snapshot = self.tracking(image);
        assert_eq!(summary["snapshot"], snapshot.as_str(), "{summary}");
        let backup = summary["backup_id"].as_str().unwrap();
        let exported = self.cluster.digest(&format!("{image}@{snapshot}"));
        assert_eq!(self.restored(backup), exported, "{image}: {summary}");
        (summary, ran.stderr)
    }

    /// Restores this backup to a file and returns its digest.
    pub(super) fn restored(&self, backup: &str) -> Hash {
        let target = self.world.at("restored");
        self.world
            .ok(&["restore", backup, &target, "--force", "-q"]);
        let digest = blake3::hash(&std::fs::read(&target).unwrap());
        std::fs::remove_file(target).unwrap();
        digest
    }

    pub(super) fn backups(&self) -> usize {
        self.world.json(&["list"]).len()
    }
}

/// Returns the summary of a command that must have succeeded.
#[track_caller]
pub(super) fn summary(ran: &Ran, args: &[&str]) -> Value {
    let lines = json_lines(&ran.ok(args));
    let summary = lines.last().unwrap().clone();
    assert_eq!(summary["message_type"], "summary", "{ran:?}");
    summary
}

/// Makes an image of 8 MiB with some data.
pub(super) fn image<'a>(cluster: &'a Cluster, name: &'static str, options: &[&str]) -> Image<'a> {
    let mut image = Image::create(cluster, name, options);
    image.change(8 * MIB, vec![data(0, 1), data(5 * MIB, 2)]);
    image
}

/// Returns an extent of 64 KiB, with data that depends on `seed`.
pub(super) fn data(offset: u64, seed: u64) -> (Extent, Vec<u8>) {
    let (length, kind) = (64 << 10, ExtentKind::Data);
    let extent = Extent {
        offset,
        length,
        kind,
    };
    (extent, noise(seed, 64 << 10))
}

/// Asserts that a backup read everything, and that a note gives this reason.
#[track_caller]
fn read_everything((summary, notes): &(Value, String), reason: &str) {
    assert!(notes.contains(reason), "{notes}");
    assert!(
        summary["bytes_read"].as_u64() >= Some(128 << 10),
        "{summary}"
    );
}

/// Asserts that a backup read only the changes since the backup with the summary `before`.
#[track_caller]
fn read_changes((summary, notes): &(Value, String), before: &Value) {
    assert!(!notes.contains("reading all data"), "{notes}");
    assert_eq!(summary["base"], before["backup_id"], "{summary}");
}

#[test]
fn changes_of_a_live_image_are_backed_up_through_random_writes_and_resizes() {
    let Some(live) = Live::with_pool("live-random") else {
        return;
    };
    let mut random = Random::new();
    let mut image = image(&live.cluster, "live-random/img", &["--object-size", "512K"]);
    let first = live.backs_up("live-random/img", &[]);
    read_everything(&first, "this is its first backup");
    assert_eq!(first.0["volume"], "live-random/img");
    let mut before = first.0;
    for size in [8 * MIB + 500_003, 3 * MIB + 17, 7 * MIB] {
        image.change_at_random(&mut random);
        image.change(size, vec![data(MIB, random.below(1000))]);
        let next = live.backs_up("live-random/img", &[]);
        read_changes(&next, &before);
        before = next.0;
    }
    // The image has not changed.
    let same = live.backs_up("live-random/img", &[]);
    read_changes(&same, &before);
    assert_eq!(same.0["bytes_changed"], 0);
    assert!(same.0["bytes_read"].as_u64() < Some(1000), "{}", same.0);
    // The backup reads everything again, and stores nothing twice.
    let full = live.backs_up("live-random/img", &["--full"]);
    read_everything(&full, "you asked for it");
    assert_eq!(
        (&full.0["bytes_changed"], &full.0["bytes_new"]),
        (&0.into(), &0.into())
    );
    live.world.is_clean();
}

#[test]
fn the_record_of_a_live_backup_has_the_ids_of_image_and_snapshot_and_the_image_parameters() {
    let Some(live) = Live::with_pool("live-record") else {
        return;
    };
    let cluster = &live.cluster;
    cluster.make_pool("live-data");
    cluster.rbd(&["namespace", "create", "live-record/ns"]);
    let name = "live-record/ns/i m-ä%";
    let options = [
        "--order",
        "20",
        "--data-pool",
        "live-data",
        "--stripe-unit",
        "65536",
    ];
    let options = [&options[..], &["--stripe-count", "4"]].concat();
    let mut made = image(cluster, name, &options);
    cluster.rbd(&["image-meta", "set", name, "owner", "a b=✓"]);
    live.backs_up(name, &[]);
    made.change(8 * MIB, vec![data(2 * MIB, 3)]);
    let (summary, _) = live.backs_up(name, &[]);
    let detail = live.world.json_one(&["show", name], "backup");
    let source = &detail["source"];
    let of = |args: &[&str]| -> Value {
        serde_json::from_slice(&cluster.rbd(&[args, &["--format", "json"]].concat())).unwrap()
    };
    let info = of(&["info", name]);
    let snapshots = of(&["snap", "ls", name]);
    assert_eq!(source["kind"], "rbd");
    assert_eq!(source["consistency"], "crash");
    assert_eq!(source["snapshot"], summary["snapshot"]);
    assert_eq!(source["image_id"], info["id"]);
    let rbd = &source["rbd"];
    let conf = std::fs::read_to_string(cluster.conf()).unwrap();
    let fsid = conf
        .lines()
        .find_map(|line| line.strip_prefix("fsid = "))
        .unwrap();
    assert_eq!(rbd["cluster"], fsid);
    assert_eq!(rbd["pool"], "live-record");
    assert!(rbd["pool_id"].as_u64() > Some(1), "{rbd}");
    assert_eq!(rbd["namespace"], "ns");
    assert_eq!(rbd["image"], "i m-ä%");
    assert_eq!(rbd["image_id"], info["id"]);
    assert_eq!(rbd["snapshot_id"], snapshots[0]["id"]);
    let image = &source["image"];
    assert_eq!(image["order"], 20);
    assert_eq!(image["data_pool"], "live-data");
    assert_eq!(image["stripe_unit"], 65536);
    assert_eq!(image["stripe_count"], 4);
    // layering, striping, exclusive-lock, object-map, fast-diff, deep-flatten, data-pool
    assert_eq!(image["features"], 1 + 2 + 4 + 8 + 16 + 32 + 128);
    assert_eq!(
        detail["metadata"],
        serde_json::json!([{"key": "owner", "value": "a b=✓"}])
    );
}

#[test]
fn a_lost_or_replaced_snapshot_or_image_is_noticed_and_everything_is_read() {
    let Some(live) = Live::with_pool("live-lost") else {
        return;
    };
    let (cluster, name) = (&live.cluster, "live-lost/img");
    let mut img = image(cluster, name, &[]);
    live.backs_up(name, &[]);
    // The snapshot is removed.
    let snapshot = format!("{name}@{}", live.tracking(name));
    cluster.rbd(&["snap", "rm", "--no-progress", &snapshot]);
    img.change(8 * MIB, vec![data(MIB, 3)]);
    let found = live.backs_up(name, &[]);
    read_everything(&found, "no longer exists");
    assert_eq!(
        found.0["bytes_changed"],
        64 << 10,
        "the image is compared with its newest backup"
    );
    // The snapshot is removed and made again with its name, after a change.
    let snapshot = format!("{name}@{}", live.tracking(name));
    cluster.rbd(&["snap", "rm", "--no-progress", &snapshot]);
    img.change(8 * MIB, vec![data(2 * MIB, 4)]);
    cluster.rbd(&["snap", "create", "--no-progress", &snapshot]);
    img.change(8 * MIB, vec![data(3 * MIB, 5)]);
    let found = live.backs_up(name, &[]);
    read_everything(&found, "another has its name");
    // The image is renamed. Its backups continue in the same volume.
    let renamed = "live-lost/renamed";
    cluster.rbd(&["mv", name, renamed]);
    img.name = renamed;
    img.change(8 * MIB, vec![data(4 * MIB, 6)]);
    let next = live.backs_up(renamed, &[]);
    read_changes(&next, &found.0);
    assert_eq!(next.0["volume"], name);
    assert!(next.1.contains("the new backup joins them"), "{}", next.1);
    // Another image gets the old name. Its backups must not join those of the first one.
    let mut other = image(cluster, name, &[]);
    other.change(8 * MIB, vec![data(0, 7)]);
    let backups = live.backups();
    let error = live.world.fails(&["backup", "rbd:live-lost/img"], 20);
    assert!(error.contains("live-lost/renamed (id"), "{error}");
    assert_eq!(live.backups(), backups);
    assert!(live.snapshots(name).is_empty());
    let found = live.backs_up(name, &["--volume", "second"]);
    read_everything(&found, "this is its first backup");
    let next = live.backs_up(renamed, &["--volume", "renamed"]);
    read_changes(&next, &next_base(&live, &next.0));
    // The image is removed and made again with the same name.
    cluster.rbd(&["snap", "purge", "--no-progress", name]);
    cluster.rbd(&["rm", "--no-progress", name]);
    image(cluster, name, &["--object-size", "1M"]);
    let found = live.backs_up(name, &["--volume", "second"]);
    read_everything(&found, "of another image of that name");
    let next = live.backs_up(name, &[]);
    read_changes(&next, &found.0);
    assert_eq!(next.0["volume"], "second");
    live.world.is_clean();
}

/// Returns the base of the backup with this summary.
fn next_base(live: &Live, summary: &Value) -> Value {
    let base = summary["base"].as_str().unwrap();
    let shown = live.world.json_one(&["show", base], "backup");
    // The base is the newest backup of the renamed image. Its volume has the first name of the
    // image.
    assert_eq!(shown["source"]["rbd"]["image"], "renamed");
    shown
}

#[test]
fn clones_are_backed_up_with_the_data_of_their_parent_before_and_after_they_are_flattened() {
    let Some(live) = Live::with_pool("live-clone") else {
        return;
    };
    let (cluster, parent, clone) = (&live.cluster, "live-clone/parent", "live-clone/clone");
    let mut of_parent = image(cluster, parent, &[]);
    of_parent.snapshot("golden");
    cluster.rbd(&["snap", "protect", "live-clone/parent@golden"]);
    of_parent.change(8 * MIB, vec![data(0, 9)]);
    cluster.rbd(&["clone", "live-clone/parent@golden", clone]);
    let first = live.backs_up(clone, &[]);
    read_everything(&first, "first backup");
    write(cluster, clone, 5 * MIB + 4096, 11);
    let second = live.backs_up(clone, &[]);
    read_changes(&second, &first.0);
    write(cluster, clone, 7 * MIB, 12);
    cluster.rbd(&["flatten", "--no-progress", clone]);
    write(cluster, clone, 6 * MIB, 13);
    let third = live.backs_up(clone, &[]);
    read_changes(&third, &second.0);
    cluster.rbd(&[
        "resize",
        "--no-progress",
        "--allow-shrink",
        "--size",
        "4M",
        clone,
    ]);
    let fourth = live.backs_up(clone, &[]);
    assert_eq!(fourth.0["size"], 4 * MIB);
}

/// Writes 64 KiB into an image whose expected content the test does not track.
fn write(cluster: &Cluster, image: &str, offset: u64, seed: u64) {
    use cuttlebone::format::DiffHeader;
    let info = cluster.rbd(&["info", "--format", "json", image]);
    let info: Value = serde_json::from_slice(&info).unwrap();
    let header = DiffHeader {
        from: None,
        to: None,
        size: info["size"].as_u64().unwrap(),
        protected: None,
    };
    let diff = crate::rbd::stream(&header, &[data(offset, seed)]);
    let args = ["import-diff", "--no-progress", "-", image];
    cluster.rbd_with_stdin(&args, super::file(&diff));
}

#[test]
fn backups_keep_the_snapshots_of_others_and_the_given_number_of_their_own() {
    let Some(live) = Live::with_pool("live-snaps") else {
        return;
    };
    let (cluster, world, name) = (&live.cluster, &live.world, "live-snaps/img");
    let mut img = image(cluster, name, &[]);
    img.snapshot("mine");
    let lookalike = "cuttlebone-20200101T000000Z-00000000";
    img.snapshot(lookalike);
    let ok = |args: &[&str]| {
        let args = [&["backup", "rbd:live-snaps/img", "--json"], args].concat();
        let ran = world.run(&args);
        let summary = json_lines(&ran.ok(&args)).pop().unwrap();
        (summary, ran.stderr)
    };
    let own = || {
        let mut names = live.snapshots(name);
        assert_eq!(names.remove(0), "mine");
        assert_eq!(names.remove(0), lookalike);
        names
    };
    ok(&[]);
    let first = own();
    assert_eq!(first.len(), 1);
    // A protected snapshot stays, and a note says so.
    let protected = format!("{name}@{}", first[0]);
    cluster.rbd(&["snap", "protect", &protected]);
    let (_, notes) = ok(&[]);
    assert!(notes.contains("is no longer needed, but stays"), "{notes}");
    assert_eq!(own().len(), 2);
    cluster.rbd(&["snap", "unprotect", &protected]);
    ok(&["--keep-snapshots", "3"]);
    assert_eq!(own().len(), 3);
    ok(&["--keep-snapshots", "2"]);
    assert_eq!(own().len(), 2);
    // If the user names a snapshot, the backup makes and removes none.
    let before = live.snapshots(name);
    let source = "rbd:live-snaps/img@mine";
    let summary = world.backup(&[source, "--volume", "given"]);
    assert_eq!(summary["snapshot"], "mine");
    assert_eq!(live.snapshots(name), before);
    assert_eq!(
        live.restored("given"),
        cluster.digest("live-snaps/img@mine")
    );
    let again = world.backup(&[source, "--volume", "given"]);
    assert_eq!(
        (&again["existing"], &again["bytes_read"]),
        (&true.into(), &0.into())
    );
    let error = world.fails(&["backup", "rbd:live-snaps/img@none"], 1);
    assert!(error.contains("has no such snapshot"), "{error}");
    // A snapshot that was made again is not the one that was backed up.
    img.change(8 * MIB, vec![data(MIB, 8)]);
    cluster.rbd(&["snap", "rm", "--no-progress", "live-snaps/img@mine"]);
    img.snapshot("mine");
    let error = world.fails(&["backup", source, "--volume", "given"], 20);
    assert!(error.contains("different content"), "{error}");
    cluster.rbd(&["snap", "rm", "--no-progress", "live-snaps/img@mine"]);
    // `--no-retain` leaves no snapshot of cuttlebone, so the next backup reads everything.
    let mut dry = live.snapshots(name);
    ok(&["--dry-run"]);
    assert_eq!(live.snapshots(name), dry);
    ok(&["--no-retain"]);
    dry.truncate(1);
    assert_eq!(live.snapshots(name), dry);
    let (_, notes) = ok(&[]);
    assert!(notes.contains("no longer exists"), "{notes}");
}

#[test]
fn several_images_and_patterns_are_backed_up_in_one_run_and_failures_are_named() {
    let Some(live) = Live::with_pool("live-many-a") else {
        return;
    };
    let (cluster, world) = (&live.cluster, &live.world);
    cluster.make_pool("live-many-b");
    for name in [
        "live-many-a/web-1",
        "live-many-a/web-2",
        "live-many-a/db",
        "live-many-b/web-1",
    ] {
        image(cluster, name, &[]);
    }
    let volumes = |args: &[&str]| {
        let args = [&["backup", "--json"], args].concat();
        summaries(&world.ok(&args))
    };
    assert_eq!(
        volumes(&["rbd:live-many-a/web-*"]),
        ["live-many-a/web-1", "live-many-a/web-2"]
    );
    let all = volumes(&["rbd:live-many-?/web-1", "rbd:live-many-a/db"]);
    assert_eq!(
        all,
        ["live-many-a/web-1", "live-many-b/web-1", "live-many-a/db"]
    );
    let file = world.write("disk.img", b"content");
    let args = [
        "backup",
        "--json",
        "rbd:live-many-a/none",
        &file,
        "rbd:live-many-a/db",
    ];
    let args = [&args[..], &["/nowhere/x", "rbd:live-many-b/web-?"]].concat();
    let ran: Ran = world.run(&args);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let done = summaries(std::str::from_utf8(&ran.stdout).unwrap());
    assert_eq!(done, ["disk.img", "live-many-a/db", "live-many-b/web-1"]);
    let errors = json_lines(&ran.stderr);
    let of_type = |wanted: &str| {
        let errors = errors.iter().filter(|line| line["message_type"] == wanted);
        errors
            .map(|line| line["message"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(of_type("error").len(), 2, "{errors:?}");
    assert!(
        of_type("error")[0].contains("live-many-a/none"),
        "{errors:?}"
    );
    let last = of_type("exit_error");
    let expected = "2 of 5 backups failed: rbd:live-many-a/none, /nowhere/x";
    assert_eq!(last, [expected]);
    // One source alone fails with its own exit code.
    let error = world.fails(&["backup", "rbd:live-many-a/x*"], 1);
    assert!(error.contains("no image matches"), "{error}");
    world.fails(&["backup", "rbd:live-many-a/web-*", "--volume", "one"], 2);
}

#[test]
fn an_invalid_object_map_is_reported_with_the_command_that_repairs_it() {
    let Some(live) = Live::with_pool("live-flags") else {
        return;
    };
    let (cluster, name) = (&live.cluster, "live-flags/img");
    let mut img = image(
        cluster,
        name,
        &["--image-feature", "layering,exclusive-lock"],
    );
    // If these features are enabled on an image with data, the object map is invalid until it is
    // rebuilt.
    cluster.rbd(&["feature", "enable", name, "object-map", "fast-diff"]);
    let (first, notes) = live.backs_up(name, &[]);
    let rbd = format!("rbd --conf {}", cluster.conf().display());
    let repair = format!(
        "object map invalid, fast diff invalid”: reading it takes longer. Repair it with “{rbd} \
         object-map rebuild live-flags/img”"
    );
    assert!(notes.contains(&repair), "{notes}");
    img.change(8 * MIB, vec![data(MIB, 3)]);
    let next = live.backs_up(name, &[]);
    read_changes(&next, &first);
    let of_snapshot = format!("with “{rbd} object-map rebuild live-flags/img@cuttlebone-");
    assert!(next.1.contains(&of_snapshot), "{}", next.1);
    cluster.rbd(&["object-map", "rebuild", "--no-progress", name]);
    let snapshot = format!("{name}@{}", live.tracking(name));
    cluster.rbd(&["object-map", "rebuild", "--no-progress", &snapshot]);
    let (_, notes) = live.backs_up(name, &[]);
    assert!(!notes.contains("object-map"), "{notes}");
}

/// Returns the volumes of the summaries among these lines of JSON.
fn summaries(text: &str) -> Vec<String> {
    let lines = json_lines(text);
    let lines = lines
        .iter()
        .filter(|line| line["message_type"] == "summary");
    let volumes = lines.map(|line| line["volume"].as_str().unwrap().to_owned());
    volumes.collect()
}

#[test]
fn a_file_or_stream_is_refused_for_a_volume_whose_last_backup_is_of_a_live_image() {
    let Some(live) = Live::with_pool("live-file") else {
        return;
    };
    image(&live.cluster, "live-file/img", &[]);
    let (summary, _) = live.backs_up("live-file/img", &[]);
    let volume = summary["volume"].as_str().unwrap();
    let file = live.world.write("img", &noise(3, 1 << 20));
    for source in [&[file.as_str()][..], &["--command", "echo x"]] {
        let refused = live
            .world
            .fails(&[&["backup", "--volume", volume], source].concat(), 20);
        assert!(refused.contains("live-file/img"), "{refused}");
        assert!(refused.contains("--new-content"), "{refused}");
    }
    let (next, notes) = live.backs_up("live-file/img", &[]);
    read_changes(&(next, notes), &summary);
    live.world
        .ok(&["backup", &file, "--volume", volume, "--new-content"]);
}

#[test]
fn names_of_kubernetes_become_labels_unless_the_user_gives_others() {
    let Some(live) = Live::with_pool("live-labels") else {
        return;
    };
    let name = "live-labels/csi-vol-0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0";
    image(&live.cluster, name, &[]);
    for (key, value) in [
        ("csi.storage.k8s.io/pvc/name", "data-0"),
        ("csi.storage.k8s.io/pvc/namespace", "shop"),
        ("rbd.csi.ceph.com/encrypted", "true"),
    ] {
        live.cluster.rbd(&["image-meta", "set", name, key, value]);
    }
    live.backs_up(name, &["--label", "namespace=mine"]);
    let found = live.world.json(&["list", "--label", "pvc=data-0"]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["labels"]["namespace"], "mine", "{found:?}");
    assert!(
        live.world
            .json(&["list", "--label", "pvc=data-1"])
            .is_empty()
    );
    // All metadata is kept.
    let detail = live.world.json_one(&["show", name], "backup");
    assert_eq!(detail["metadata"].as_array().unwrap().len(), 3, "{detail}");
    // A second backup of the same snapshot stores nothing. The first one has the labels that the
    // second command gives, and more.
    live.cluster
        .rbd(&["snap", "create", "--no-progress", &format!("{name}@mine")]);
    let args = ["backup", &format!("rbd:{name}@mine"), "--label", "a=b"];
    live.world.ok(&args);
    let ran = live.world.run(&args);
    ran.ok(&args);
    assert!(!ran.stderr.contains("keeps its own labels"), "{ran:?}");
    let other = ["backup", &format!("rbd:{name}@mine"), "--label", "pvc=x"];
    let ran = live.world.run(&other);
    ran.ok(&other);
    assert!(ran.stderr.contains("keeps its own labels"), "{ran:?}");
}
