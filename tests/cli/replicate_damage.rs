//! `replicate` if files of the original or of the copy are damaged.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::replicate::{copied, is_clean, names, replicate, with_backups};
use crate::support::noise;
use crate::support::program::{CHEAP_KEY, World, damage, files};

#[test]
fn a_copy_leaves_out_damaged_objects_and_has_all_others() {
    let world = with_backups();
    world.ok(&["head"]);
    let target = world.at("copy");
    let all = names(&world.repository());
    let packs = world.packs();
    damage(&packs[0]);
    let record = &files(&world.project().join("backups"))[0];
    let bytes = fs::read(record).unwrap();
    fs::write(record, &bytes[..bytes.len() - 1]).unwrap();
    // Damage the first copy of the repository file. Both copies are stored in the target, since the
    // second one is whole.
    fs::write(world.repository().join("cuttlebone"), b"CTLBrepo").unwrap();
    let copied = replicate(&world, &[&target]);
    assert_eq!(copied.code, 21);
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let found = |text: &str| copied.items.iter().any(|item| item.contains(text));
    assert_eq!(copied.items.len(), 3, "{:?}", copied.items);
    assert!(found(&name(&packs[0])) && found(&name(record)) && found("repository file"));
    let there = names(Path::new(&target));
    assert_eq!(there.len(), all.len() - 2);
    assert!(!there.iter().any(|path| path.ends_with(name(record))));
    assert!(
        copied.stderr.contains("everything else was copied"),
        "{}",
        copied.stderr
    );
}

#[test]
fn a_file_of_the_copy_that_differs_is_named_and_not_replaced() {
    let world = with_backups();
    let target = world.at("copy");
    copied(&world, &[&target]);
    let there = |path: &Path| {
        let name = path.strip_prefix(world.repository()).unwrap();
        Path::new(&target).join(name)
    };
    let pack = there(&world.packs()[0]);
    let slot = there(&files(&world.repository().join("keys"))[0]);
    for path in [&pack, &slot] {
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        fs::write(path, &bytes[1..]).unwrap();
    }
    let before = [fs::read(&pack).unwrap(), fs::read(&slot).unwrap()];
    let copied = replicate(&world, &[&target]);
    assert_eq!(
        (copied.code, copied.items.len()),
        (21, 2),
        "{:?}",
        copied.items
    );
    assert!(copied.items.iter().all(|item| item.ends_with(&target)));
    assert_eq!([fs::read(&pack).unwrap(), fs::read(&slot).unwrap()], before);
    // A pack with the right size is read only with `--verify`. All other files are always read.
    let bytes = fs::read(there(&world.packs()[1])).unwrap();
    fs::remove_file(&pack).unwrap();
    fs::remove_file(&slot).unwrap();
    assert_eq!(replicate(&world, &[&target]).code, 0);
    damage_read_only(&there(&world.packs()[1]), &bytes);
    assert_eq!(replicate(&world, &[&target]).code, 0);
    assert_eq!(replicate(&world, &[&target, "--verify"]).code, 21);
}

#[test]
fn a_file_of_the_copy_with_the_same_size_and_other_bytes_differs() {
    let world = with_backups();
    world.ok(&["head"]);
    let target = world.at("copy");
    copied(&world, &[&target]);
    for kind in ["backups", "log", "index", "settings"] {
        let path = &files(&world.project().join(kind))[0];
        let there = path.strip_prefix(world.repository()).unwrap();
        let there = Path::new(&target).join(there);
        let bytes = fs::read(&there).unwrap();
        damage_read_only(&there, &bytes);
        let damaged = fs::read(&there).unwrap();
        let found = replicate(&world, &[&target]);
        assert_eq!(found.code, 21, "{kind}: {:?}", found.items);
        let name = path.file_name().unwrap().to_str().unwrap();
        let hash = name.strip_suffix(".copy").unwrap_or(name);
        assert!(found.items[0].contains(hash), "{kind}: {:?}", found.items);
        assert_eq!(found.items.len(), 1);
        assert_eq!(fs::read(&there).unwrap(), damaged, "{kind}");
        fs::remove_file(&there).unwrap();
        assert_eq!(copied(&world, &[&target])["files_copied"], 1, "{kind}");
    }
    is_clean(&world, &target);
}

/// Replaces a file, which may be read-only, by these bytes with one bit flipped.
fn damage_read_only(path: &Path, bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    bytes[100] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn parity_is_copied_and_repairs_the_copy_and_mirror_deletes_the_parity_of_removed_objects() {
    let world = World::empty();
    world.ok(&[&["init", "--parity", "5%"][..], &CHEAP_KEY].concat());
    for seed in [1, 2] {
        let disk = world.write("disk.img", &noise(seed, 5 << 20));
        world.backup(&[&disk]);
    }
    let target = world.at("copy");
    copied(&world, &[&target]);
    assert_eq!(names(Path::new(&target)), names(&world.repository()));
    let parity = |path: &Path| {
        let all = names(path).into_iter();
        all.filter(|name| name.to_str().unwrap().contains("parity/"))
            .count()
    };
    assert!(parity(Path::new(&target)) > 8);
    let pack = world.packs()[0].clone();
    let pack = Path::new(&target).join(pack.strip_prefix(world.repository()).unwrap());
    let bytes = fs::read(&pack).unwrap();
    damage_read_only(&pack, &bytes);
    let cache = world.at("cache of the copy");
    let repair = [
        "-r",
        &target,
        "--cache-dir",
        &cache,
        "repair",
        "parity",
        "--yes",
    ];
    world.ok(&repair);
    assert_eq!(fs::read(&pack).unwrap(), bytes);
    is_clean(&world, &target);

    let oldest = world.json(&["list"])[0]["backup_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let forget = [
        "forget",
        &oldest,
        "--prune",
        "--grace",
        "0",
        "--max-unused",
        "0",
    ];
    world.ok(&forget);
    let before = parity(Path::new(&target));
    copied(&world, &[&target, "--mirror"]);
    assert!(parity(Path::new(&target)) < before);
    let of_source = names(&world.repository());
    let mut left = names(Path::new(&target));
    left.retain(|name| !of_source.contains(name));
    left.retain(|name| !name.starts_with("quarantine"));
    left.retain(|name| !name.to_str().unwrap().contains("/quarantine/"));
    assert!(left.is_empty(), "{left:?}");
    is_clean(&world, &target);
}

#[test]
fn a_process_that_works_in_the_copy_is_reported_and_its_lease_is_not_touched() {
    let world = with_backups();
    let target = world.at("copy");
    copied(&world, &[&target]);
    let project = world.project().join("leases");
    let leases = Path::new(&target).join(project.strip_prefix(world.repository()).unwrap());
    fs::create_dir_all(&leases).unwrap();
    let lease = leases.join("07".repeat(16));
    fs::write(&lease, b"of a prune").unwrap();
    let text = |seed| {
        for seed in [seed, seed + 1] {
            let disk = world.write("disk.img", &noise(seed, 1 << 20));
            world.backup(&[&disk]);
        }
        let done = replicate(&world, &[&target]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.stderr
    };
    let busy = text(5);
    assert!(busy.contains("another process works in"), "{busy}");
    assert_eq!(fs::read(&lease).unwrap(), b"of a prune");
    let old = SystemTime::now() - Duration::from_hours(1);
    let file = fs::File::options().write(true).open(&lease).unwrap();
    file.set_modified(old).unwrap();
    let idle = text(7);
    assert!(!idle.contains("another process"), "{idle}");
}

#[test]
fn damage_is_reported_even_if_the_copy_cannot_be_finished() {
    let world = with_backups();
    let target = world.at("copy");
    fs::write(world.repository().join("cuttlebone"), b"CTLBrepo").unwrap();
    // The copy fails, since a file is in the place of a directory.
    let project = world.project();
    let there = Path::new(&target).join(project.strip_prefix(world.repository()).unwrap());
    fs::create_dir_all(&there).unwrap();
    fs::write(there.join("index"), b"").unwrap();
    let failed = replicate(&world, &[&target]);
    assert!(
        failed.code != 0 && failed.summary.is_null(),
        "{}",
        failed.code
    );
    assert_eq!(failed.items.len(), 1, "{}", failed.stderr);
    assert!(failed.items[0].contains("repository file"));
}
