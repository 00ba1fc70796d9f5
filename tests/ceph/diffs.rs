//! Commands without a repository: inspecting and merging diffs.

use serde_json::Value;

use super::image::Image;
use super::{Cluster, Random, cluster, file};
use crate::support::program::World;

/// Returns an image with a change before each of these snapshots.
fn changed<'a>(cluster: &'a Cluster, name: &'static str, snapshots: &[&str]) -> Image<'a> {
    let mut random = Random::new();
    let mut image = Image::create(cluster, name, &["--object-size", "128K"]);
    image.change(5_000_003, Vec::new());
    for snapshot in snapshots {
        image.change_at_random(&mut random);
        image.snapshot(snapshot);
    }
    image
}

/// Returns the number of extents that `rbd diff` lists, and of bytes in them.
fn listed_by_ceph(cluster: &Cluster, options: &[&str]) -> (u64, u64) {
    let output = cluster.rbd(&[&["diff", "--format", "json"], options].concat());
    let extents: Vec<Value> = serde_json::from_slice(&output).unwrap();
    let length = |extent: &Value| extent["length"].as_u64().unwrap();
    (extents.len() as u64, extents.iter().map(length).sum())
}

#[test]
fn an_inspected_diff_has_the_extents_that_ceph_lists() {
    let Some(cluster) = cluster() else { return };
    let world = World::empty();
    let image = changed(&cluster, "inspected", &["first", "höhe 2"]);
    let (first, second) = (image.at("first"), image.at("höhe 2"));
    let head = image.name;
    for (options, from, to) in [
        (&[&first[..]][..], None, Some("first")),
        (
            &["--from-snap", "first", &second],
            Some("first"),
            Some("höhe 2"),
        ),
        (&["--from-snap", "höhe 2", head], Some("höhe 2"), None),
        (&["--whole-object", &second], None, Some("höhe 2")),
    ] {
        let export = [&["export-diff", "--no-progress"], options, &["-"]].concat();
        let mut rbd = cluster.start_rbd(&export);
        let args = ["diff", "inspect", "-", "--json"];
        let ran = world.run_with_stdin(&args, rbd.stdout.take().unwrap());
        cluster.finish_rbd(rbd, &export);
        let output = ran.ok(&args);
        let lines: Vec<Value> = output
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let [diff, stream] = &lines[..] else {
            panic!("{output}")
        };
        assert_eq!(
            (&diff["from"], &diff["to"]),
            (&from.into(), &to.into()),
            "{export:?}"
        );
        assert_eq!(
            (&stream["version"], &stream["whole"]),
            (&1.into(), &true.into())
        );
        let number = |name: &str| diff[name].as_u64().unwrap();
        let bytes = number("bytes_data") + number("bytes_zero");
        let expected = listed_by_ceph(&cluster, options);
        assert_eq!((number("extents"), bytes), expected, "{export:?}");
    }
}

#[test]
fn an_inspected_export_lists_its_snapshots_and_properties() {
    let Some(cluster) = cluster() else { return };
    let world = World::empty();
    let image = changed(&cluster, "exported", &["first", "second"]);
    cluster.rbd(&["snap", "protect", &image.at("first")]);
    cluster.rbd(&["image-meta", "set", image.name, "colour", "blau ✓"]);
    let exported = world.at("image.rbd2");
    let args = [
        "export",
        "--export-format",
        "2",
        "--no-progress",
        image.name,
        &exported,
    ];
    cluster.rbd(&args);
    let lines = world.json(&["diff", "inspect", &exported]);
    let [description, first, second, head, stream] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(
        (&description["order"], &description["diffs"]),
        (&17.into(), &3.into())
    );
    assert_eq!(description["metadata"][0]["value"], "blau ✓");
    for (diff, from, to, protected) in [
        (first, None, Some("first"), Some(true)),
        (second, Some("first"), Some("second"), Some(false)),
        (head, Some("second"), None, None),
    ] {
        assert_eq!((&diff["from"], &diff["to"]), (&from.into(), &to.into()));
        assert_eq!(
            (&diff["protected"], &diff["whole"]),
            (&protected.into(), &true.into())
        );
    }
    assert_eq!(
        (&stream["version"], &stream["whole"]),
        (&2.into(), &true.into())
    );
}

#[test]
fn diffs_merged_by_cuttlebone_and_by_ceph_give_the_same_image() {
    let Some(cluster) = cluster() else { return };
    let world = World::empty();
    let snapshots = ["a", "b", "c", "d"];
    let image = changed(&cluster, "merged", &snapshots);
    let diff = |from: Option<&str>, to: &str| {
        let path = world.at(&format!("{}{to}", from.unwrap_or_default()));
        let mut args = vec!["export-diff", "--no-progress"];
        args.extend(from.into_iter().flat_map(|from| ["--from-snap", from]));
        let to = image.at(to);
        args.extend([&to[..], &path]);
        cluster.rbd(&args);
        path
    };
    let full = diff(None, "a");
    let steps: Vec<_> = snapshots
        .windows(2)
        .map(|pair| diff(Some(pair[0]), pair[1]))
        .collect();

    let (ours, theirs) = (world.at("ours"), world.at("theirs"));
    let [ab, bc, cd] = [0, 1, 2].map(|step| &steps[step][..]);
    world.ok(&["diff", "merge", ab, bc, cd, "-o", &ours, "-q"]);
    cluster.rbd(&["merge-diff", "--no-progress", ab, bc, &world.at("two")]);
    cluster.rbd(&["merge-diff", "--no-progress", &world.at("two"), cd, &theirs]);
    let whole = world.run(&["diff", "merge", &full, &ours, "-o", "-"]);
    assert_eq!(whole.code, Some(0), "{whole:?}");

    let expected = cluster.digest(&image.at("d"));
    for (target, streams) in [
        ("merged.ours", [&full, &ours]),
        ("merged.theirs", [&full, &theirs]),
    ] {
        Image::create(&cluster, target, &[]);
        for stream in streams {
            cluster.rbd(&["import-diff", "--no-progress", stream, target]);
        }
        assert_eq!(cluster.digest(target), expected, "{target}");
        assert_eq!(cluster.digest(&format!("{target}@d")), expected, "{target}");
    }
    let target = Image::create(&cluster, "merged.whole", &[]).name;
    cluster.rbd_with_stdin(
        &["import-diff", "--no-progress", "-", target],
        file(&whole.stdout),
    );
    assert_eq!(cluster.digest(target), expected);
}
