//! Restores of several backups as snapshots of a new image, and to other pools and clusters.

use std::sync::Arc;

use super::Cluster;
use super::image::Image;
use super::live::{Live, data, image};

const MIB: u64 = 1 << 20;

#[test]
fn a_series_gives_a_new_image_the_snapshots_of_all_backups() {
    let Some(live) = Live::with_pool("series") else {
        return;
    };
    let (cluster, world, name) = (&live.cluster, &live.world, "series/img");
    let mut img = image(cluster, name, &[]);
    cluster.rbd(&["image-meta", "set", name, "owner", "me"]);
    let mut expected = Vec::new();
    for (seed, size) in [(1, 8 * MIB), (2, 11 * MIB + 512), (3, 7 * MIB)] {
        img.change(size, vec![data(seed * MIB, seed)]);
        let source = format!("rbd:{name}");
        world.ok(&["backup", &source, "--keep-snapshots", "9"]);
        expected.push(cluster.digest(name));
    }
    img.change(7 * MIB, vec![data(MIB / 2, 9)]);
    expected.push(img.snapshot("mine"));
    world.ok(&["backup", &format!("rbd:{name}@mine")]);
    let before: Vec<_> = live.snapshots(name);
    let target = "series/again";
    let to = format!("rbd:{target}");
    let summary = world.json_one(&["restore", name, &to, "--series"], "summary");
    let made = live.snapshots(target);
    assert_eq!(summary["snapshots"], serde_json::json!(made), "{summary}");
    assert_eq!(made.len(), expected.len());
    assert_eq!(made[3], "mine");
    for ((snapshot, of), digest) in made.iter().zip(&before).zip(&expected) {
        assert_eq!(cluster.digest(&format!("{target}@{snapshot}")), *digest);
        // A snapshot that a backup made gets a new name. With its old name, a later backup of the
        // new image would remove it.
        if let Some(rest) = of.strip_prefix("cuttlebone-") {
            let time = rest.rsplit_once('-').unwrap().0;
            assert_eq!(*snapshot, format!("backup-{time}"));
        }
    }
    live.same(target, &format!("{target}@mine"));
    let metadata = cluster.rbd(&["image-meta", "get", target, "owner"]);
    assert_eq!(metadata.trim_ascii(), b"me");
    // Only the differences are written. The first backup writes 18 chunks: three with data, and 15
    // with zeros between the first two of them. Each of the three others writes one chunk.
    assert_eq!(summary["bytes_written"], 21 * (64 << 10), "{summary}");
    // The restored image can be backed up, and keeps its snapshots.
    live.backs_up(target, &[]);
    for snapshot in &made {
        assert!(live.snapshots(target).contains(snapshot), "{snapshot}");
    }
    // Restore a series that begins at a given backup.
    let part = [
        "restore",
        &format!("{name}~1"),
        "rbd:series/part",
        "--series",
    ];
    world.ok(&[&part[..], &["--from", &format!("{name}~2")]].concat());
    assert_eq!(live.snapshots("series/part"), made[1..3]);
    // These restores are refused, and change nothing.
    cluster.rbd(&["create", "series/full", "--size", "1M"]);
    cluster.rbd(&["snap", "create", "--no-progress", "series/full@mine"]);
    cluster.rbd(&["create", "series/other", "--size", "1M"]);
    cluster.rbd(&["snap", "create", "--no-progress", "series/other@x"]);
    world.ok(&["backup", "--command", "echo stream", "--volume", "stream"]);
    for (args, code, why) in [
        (
            vec![name, "rbd:series/full"],
            1,
            "has a snapshot mine already",
        ),
        (
            vec![name, "rbd:series/other"],
            1,
            "it exists and has snapshots",
        ),
        (
            vec![name, "rbd:series/img"],
            1,
            "has a snapshot mine already",
        ),
        (
            vec!["stream", "rbd:series/new"],
            1,
            "is a stream, not an image",
        ),
        (
            vec!["series/img~2", "rbd:series/new", "--from", "series/img~1"],
            1,
            "the first one is newer than the last one",
        ),
        (
            vec![name, "rbd:series/new", "--from", target],
            1,
            "they are of different volumes",
        ),
        (vec![name, "rbd:series/new", "--in-place"], 2, "--in-place"),
    ] {
        let error = world.fails(&[&["restore", "--series"], &args[..]].concat(), code);
        assert!(error.contains(why), "{args:?}: {error}");
    }
    assert_eq!(live.snapshots("series/full"), ["mine"]);
    assert_eq!(live.snapshots(name), before);
    let images = String::from_utf8(cluster.rbd(&["ls", "series"])).unwrap();
    assert!(!images.contains("new"), "{images}");
    // A series is not restored to an image that has data already.
    Image::create(cluster, "series/data", &[]).change(MIB, vec![data(0, 1)]);
    let error = world.fails(&["restore", name, "rbd:series/data", "--series"], 1);
    assert!(error.contains("it exists and has data"), "{error}");
    world.is_clean();
}

#[test]
fn each_parameter_of_a_new_image_can_be_chosen() {
    let Some(live) = Live::with_pool("choose") else {
        return;
    };
    let (cluster, world, name) = (&live.cluster, &live.world, "choose/img");
    cluster.make_pool("choose-a");
    cluster.make_pool("choose-b");
    let options = ["--object-size", "1M", "--data-pool", "choose-a"];
    let features = ["--image-feature", "layering,exclusive-lock"];
    image(cluster, name, &[&options[..], &features].concat());
    for (key, value) in [("owner", "me"), ("conf_rbd_cache", "false")] {
        cluster.rbd(&["image-meta", "set", name, key, value]);
    }
    live.backs_up(name, &[]);
    let restore = |target: &str, options: &[&str]| {
        let to = format!("rbd:choose/{target}");
        world.ok(&[&["restore", name, &to], options].concat());
        let image = format!("choose/{target}");
        live.same(&image, name);
        live.info(&image)
    };
    let info = restore(
        "size",
        &["--object-size", "512K", "--data-pool", "choose-b"],
    );
    assert_eq!(
        (&info["order"], &info["data_pool"]),
        (&19.into(), &"choose-b".into())
    );
    let info = restore("plain", &["--data-pool", "choose"]);
    assert_eq!(info["data_pool"], serde_json::Value::Null, "{info}");
    let striped = ["--stripe-unit", "64K", "--stripe-count", "4"];
    let info = restore("striped", &striped);
    assert_eq!(
        (&info["stripe_unit"], &info["stripe_count"]),
        (&65536.into(), &4.into())
    );
    let feature = ["--image-feature", "layering", "--image-feature"];
    let info = restore(
        "features",
        &[&feature[..], &["exclusive-lock,object-map"]].concat(),
    );
    // Ceph enables fast-diff together with object-map.
    let expected = [
        "layering",
        "exclusive-lock",
        "object-map",
        "fast-diff",
        "data-pool",
    ];
    assert_eq!(info["features"], serde_json::json!(expected));
    let info = restore("layering", &["--image-feature", "layering"]);
    assert_eq!(
        info["features"],
        serde_json::json!(["layering", "data-pool"])
    );
    let metadata = |image: &str| -> serde_json::Value {
        let found = cluster.rbd(&["image-meta", "ls", image, "--format", "json"]);
        serde_json::from_slice(&found).unwrap_or_default()
    };
    restore(
        "meta",
        &["--image-meta", "owner=you", "--image-meta", "new=a=b"],
    );
    let expected = serde_json::json!({"conf_rbd_cache": "false", "owner": "you", "new": "a=b"});
    assert_eq!(metadata("choose/meta"), expected);
    restore("none", &["--no-image-meta"]);
    assert_eq!(metadata("choose/none"), serde_json::Value::Null);
    // An image that exists keeps its parameters.
    cluster.rbd(&["create", "choose/empty", "--size", "1M"]);
    let empty = live.info("choose/empty");
    for option in [
        ["--object-size", "1M"],
        ["--image-feature", "layering"],
        ["--data-pool", "choose-a"],
    ] {
        let args = [&["restore", name, "rbd:choose/empty"], &option[..]].concat();
        let error = world.fails(&args, 1);
        assert!(error.contains("exists already"), "{error}");
        assert_eq!(live.info("choose/empty"), empty);
    }
    // These options have wrong values, or do not fit the target.
    let file = world.at("file");
    for args in [
        vec!["rbd:choose/x", "--object-size", "3M"],
        vec!["rbd:choose/x", "--stripe-unit", "64K"],
        vec!["rbd:choose/x", "--image-feature", "striping"],
        vec!["rbd:choose/x", "--resize"],
        vec!["rbd:choose/x", "--from", name],
        vec![&file, "--object-size", "4M"],
        vec![&file, "--series"],
        vec![&file, "--in-place", "--resize"],
    ] {
        world.fails(&[&["restore", name], &args[..]].concat(), 2);
    }
}

#[test]
fn an_image_is_restored_to_a_second_cluster_that_knows_nothing_of_the_first() {
    let Some(mut live) = Live::with_pool("two") else {
        return;
    };
    let Some(second) = Cluster::start() else {
        return;
    };
    let second = Arc::new(second);
    second.make_pool("elsewhere");
    second.make_pool("two");
    live.cluster.make_pool("two-data");
    let name = "two/img";
    let options = ["--data-pool", "two-data", "--object-size", "1M"];
    let mut img = image(&live.cluster, name, &options);
    live.cluster
        .rbd(&["image-meta", "set", name, "owner", "me"]);
    live.backs_up(name, &[]);
    let digest = img.snapshot("same");
    img.change(8 * MIB, vec![data(2 * MIB, 3)]);
    let conf = second.conf();
    let conf = conf.to_str().unwrap();
    let first = live.info(name);
    // The data pool of the first cluster is missing.
    let restore = ["restore", name, "rbd:elsewhere/img", "--ceph-conf", conf];
    let error = live.world.fails(&restore, 1);
    assert!(error.contains("could not make the image"), "{error}");
    live.world
        .ok(&[&restore[..], &["--data-pool", "elsewhere"]].concat());
    assert_eq!(second.digest("elsewhere/img"), digest);
    // The environment names the second cluster. The new image gets the name of the first image.
    live.world.set("CUTTLEBONE_CEPH_CONF", conf);
    live.world
        .ok(&["restore", name, "rbd:two/img", "--data-pool", "two"]);
    for image in ["elsewhere/img", "two/img"] {
        assert_eq!(second.digest(image), digest);
        let restored = second.rbd(&["info", "--format", "json", image]);
        let restored: serde_json::Value = serde_json::from_slice(&restored).unwrap();
        for field in ["size", "order"] {
            assert_eq!(restored[field], first[field], "{field}");
        }
        let metadata = second.rbd(&["image-meta", "get", image, "owner"]);
        assert_eq!(metadata.trim_ascii(), b"me");
    }
    // The image of the first cluster has the same pool and name, and perhaps the same ids. But the
    // clusters differ, so all data is compared.
    let restore = ["restore", name, "rbd:two/img", "--in-place", "--json"];
    let ran = live.world.run(&restore);
    let summary = super::live::summary(&ran, &restore);
    assert!(ran.stderr.contains("reading all data"), "{}", ran.stderr);
    assert_eq!(summary["bytes_written"], 0, "{summary}");
    // Backups of an image in the second cluster cannot join the volume of the first image.
    let error = live
        .world
        .fails(&["backup", "rbd:elsewhere/img", "--volume", name], 20);
    assert!(error.contains("elsewhere/img (id"), "{error}");
}
