//! Restores to images in the cluster: `restore BACKUP rbd:POOL/IMAGE`.

use serde_json::Value;

use super::live::{Live, data, image};

const MIB: u64 = 1 << 20;

impl Live {
    pub(super) fn info(&self, image: &str) -> Value {
        let info = self.cluster.rbd(&["info", "--format", "json", image]);
        serde_json::from_slice(&info).unwrap()
    }

    /// Asserts that an image has the content of another image or snapshot.
    #[track_caller]
    pub(super) fn same(&self, image: &str, other: &str) {
        assert_eq!(
            self.cluster.digest(image),
            self.cluster.digest(other),
            "{image}"
        );
    }
}

#[test]
fn a_restored_image_has_the_content_and_the_parameters_of_the_one_that_was_backed_up() {
    let Some(live) = Live::with_pool("live-back") else {
        return;
    };
    let (cluster, world) = (&live.cluster, &live.world);
    cluster.make_pool("live-back-data");
    cluster.make_pool("live-else");
    cluster.rbd(&["namespace", "create", "live-else/ns"]);
    let name = "live-back/img";
    let options = ["--object-size", "1M", "--data-pool", "live-back-data"];
    let stripes = ["--stripe-unit", "65536", "--stripe-count", "4"];
    let features = ["--image-feature", "layering,exclusive-lock"];
    let options = [&options[..], &stripes, &features].concat();
    let mut img = image(cluster, name, &options);
    img.change(8 * MIB + 512, vec![data(2 * MIB, 3)]);
    cluster.rbd(&["image-meta", "set", name, "--", "owner", "-a b=✓"]);
    live.backs_up(name, &[]);
    let snapshot = format!("{name}@{}", live.tracking(name));
    for target in ["live-back/again", "live-else/a b", "live-else/ns/img"] {
        let summary = world.json_one(&["restore", name, &format!("rbd:{target}")], "summary");
        assert_eq!(summary["target"], format!("rbd:{target}"));
        assert!(
            summary["bytes_written"].as_u64() < Some(4 * MIB),
            "the image must be sparse: {summary}"
        );
        live.same(target, &snapshot);
        assert!(live.snapshots(target).is_empty());
        let (restored, original) = (live.info(target), live.info(name));
        for field in [
            "size",
            "order",
            "features",
            "data_pool",
            "stripe_unit",
            "stripe_count",
        ] {
            assert_eq!(restored[field], original[field], "{target}: {field}");
        }
        let metadata = cluster.rbd(&["image-meta", "list", "--format", "json", target]);
        let metadata: Value = serde_json::from_slice(&metadata).unwrap();
        assert_eq!(metadata, serde_json::json!({"owner": "-a b=✓"}));
    }
    // Only data is allocated.
    let extents = cluster.rbd(&["diff", "--format", "json", "live-back/again"]);
    let extents: Vec<Value> = serde_json::from_slice(&extents).unwrap();
    let allocated: u64 = extents.iter().map(|e| e["length"].as_u64().unwrap()).sum();
    assert!(allocated <= MIB, "{allocated}");
    // The restored image is not confused with the image that was backed up.
    let (_, notes) = live.backs_up("live-back/again", &[]);
    assert!(notes.contains("this is its first backup"), "{notes}");
}

#[test]
fn a_backup_of_a_file_is_restored_to_a_new_or_to_an_empty_image() {
    let Some(live) = Live::with_pool("live-file") else {
        return;
    };
    let (cluster, world) = (&live.cluster, &live.world);
    let content = [vec![7; 100_000], vec![0; 900_000], vec![9; 5000]].concat();
    let file = world.write("disk.img", &content);
    world.ok(&["backup", &file]);
    world.ok(&["restore", "disk.img", "rbd:live-file/new"]);
    cluster.rbd(&[
        "create",
        "live-file/empty",
        "--size",
        "64M",
        "--object-size",
        "512K",
    ]);
    world.ok(&["restore", "disk.img", "rbd:live-file/empty"]);
    for image in ["live-file/new", "live-file/empty"] {
        assert_eq!(cluster.digest(image), blake3::hash(&content), "{image}");
    }
    assert_eq!(
        live.info("live-file/empty")["order"],
        19,
        "an image that exists keeps its parameters"
    );
}

#[test]
fn an_image_that_has_data_or_snapshots_is_not_touched() {
    let Some(live) = Live::with_pool("live-full") else {
        return;
    };
    let (cluster, world) = (&live.cluster, &live.world);
    image(cluster, "live-full/img", &[]);
    let file = world.write("disk.img", &vec![1; 70_000]);
    world.ok(&["backup", &file]);
    world.ok(&["backup", "--command", "echo stream", "--volume", "stream"]);
    let before = cluster.digest("live-full/img");
    cluster.rbd(&["create", "live-full/snap", "--size", "8M"]);
    cluster.rbd(&["snap", "create", "--no-progress", "live-full/snap@mine"]);
    for (backup, target, code, expected) in [
        ("disk.img", "rbd:live-full/img", 1, "it exists and has data"),
        (
            "disk.img",
            "rbd:live-full/snap",
            1,
            "it exists and has snapshots",
        ),
        ("disk.img", "rbd:nowhere/img", 1, "could not make the image"),
        (
            "stream",
            "rbd:live-full/new",
            1,
            "is a stream, not an image",
        ),
        (
            "disk.img",
            "rbd:live-full/img@mine",
            2,
            "does not name an image",
        ),
        ("disk.img", "rbd:img", 2, "does not name an image"),
    ] {
        let error = world.fails(&["restore", backup, target], code);
        assert!(error.contains(expected), "{target}: {error}");
    }
    world.fails(&["restore", "disk.img", "rbd:live-full/img", "--force"], 2);
    assert_eq!(cluster.digest("live-full/img"), before);
    let images = cluster.rbd(&["ls", "live-full"]);
    assert_eq!(String::from_utf8(images).unwrap(), "img\nsnap\n");
    // If `rbd` fails in the middle of the import, the restore fails.
    let script = world.at("rbd-fails");
    let text = "#!/bin/bash\n\
        case \"$*\" in *import-diff*) head -c 100 >/dev/null; echo 'rbd: full' \
        >&2; exit 28;; esac\nexec rbd \"$@\"\n";
    std::fs::write(&script, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let args = [
        "restore",
        "disk.img",
        "rbd:live-full/new",
        "--rbd-command",
        &script,
    ];
    let error = world.fails(&args, 1);
    assert!(error.contains("full (exit status: 28)"), "{error}");
}

#[test]
fn a_restore_that_may_not_write_to_the_data_pool_fails() {
    let Some(live) = Live::with_pool("live-caps") else {
        return;
    };
    live.cluster.make_pool("live-caps-data");
    let name = "live-caps/img";
    let mut img = image(&live.cluster, name, &["--data-pool", "live-caps-data"]);
    img.change(8 * MIB, vec![data(2 * MIB, 3)]);
    live.backs_up(name, &[]);
    let caps = ["mon", "profile rbd", "osd", "profile rbd pool=live-caps"];
    let keyring = live.keyring("caps", &caps);
    let user = ["--id", "caps", "--keyring", keyring.as_str()];
    let restore = ["restore", name, "rbd:live-caps/again"];
    let error = live.world.fails(&[&restore[..], &user].concat(), 1);
    assert!(error.contains("not permitted"), "{error}");
}

#[test]
fn a_cache_that_would_hide_failed_writes_is_refused_or_not_used() {
    let Some(live) = Live::with_pool("live-cache") else {
        return;
    };
    let (cluster, data_pool) = (&live.cluster, "live-cache-data");
    cluster.make_pool(data_pool);
    let name = "live-cache/img";
    image(cluster, name, &[]);
    live.backs_up(name, &[]);
    let osd = "profile rbd pool=live-cache, profile rbd-read-only pool=live-cache-data";
    let caps = ["mon", "profile rbd", "osd", osd];
    let keyring = live.keyring("caches", &caps);
    let user = ["--id", "caches", "--keyring", keyring.as_str()];
    let target = "live-cache/again";
    let options = ["--size", "8M", "--data-pool", data_pool];
    cluster.rbd(&[&["create", target][..], &options].concat());
    let to = format!("rbd:{target}");
    let set = |key: &str, value: &str| {
        cluster.rbd(&["config", "image", "set", target, key, value]);
    };
    // The settings of the image override the options of `rbd`. This user may not write to the data
    // pool.
    set("rbd_cache", "true");
    let restore = ["restore", name, &to];
    let error = live.world.fails(&[&restore[..], &user].concat(), 1);
    assert!(error.contains("not permitted"), "{error}");
    set("rbd_cache_max_dirty", "1000000");
    let error = live.world.fails(&[&restore[..], &user].concat(), 1);
    assert!(error.contains("not permitted"), "{error}");
    set("rbd_cache_policy", "writearound");
    let error = live.world.fails(&[&restore[..], &user].concat(), 1);
    assert!(error.contains("enable a cache that hides"), "{error}");
    // A user who may write is refused, too: a write can fail for other reasons.
    let error = live.world.fails(&restore, 1);
    assert!(error.contains("enable a cache that hides"), "{error}");
    cluster.rbd(&["config", "image", "remove", target, "rbd_cache"]);
    live.world.ok(&restore);
    live.same(target, name);
}
