//! Repositories that earlier versions wrote, stored in `tests/golden/`. This version can read,
//! check and prune them, and can store backups in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cuttlebone::base::Silent;
use cuttlebone::repo::{Index, Marks, Repository};
use cuttlebone::storage::LocalBackend;

use crate::support::program::{self, World};

/// All golden repositories. The flag states whether a repository has superseded segments and marked
/// packs.
const KEPT: [(&str, bool); 1] = [("v1-2026-11-28", true)];
const PASSWORD: &str = "golden";
/// The passwords of three keys that open only the project. The keys have the roles full, write and
/// verify.
const OTHERS: [&str; 3] = ["guest", "writer", "auditor"];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Returns the backups in a repository: id, volume, and BLAKE3 hash of the content.
fn sums(name: &str) -> BTreeMap<String, (String, String)> {
    let text = fs::read_to_string(directory().join(format!("{name}.sums"))).unwrap();
    let words = text.lines().map(|line| line.split("  ").map(str::to_owned));
    let sums = words.map(|mut words| {
        let mut next = || words.next().unwrap();
        let (hash, id, volume) = (next(), next(), next());
        (id, (volume, hash))
    });
    sums.collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::write(target, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// Returns a world whose repository is a copy of the golden one.
fn copied(name: &str) -> World {
    let mut world = World::empty();
    copy(&directory().join(name), &world.repository());
    world.set("CUTTLEBONE_PASSWORD", PASSWORD);
    world
}

#[track_caller]
fn holds(world: &World, sums: &BTreeMap<String, (String, String)>) {
    let listed = world.json(&["list"]);
    let listed: BTreeSet<_> = listed
        .iter()
        .map(|backup| {
            let text = |member: &str| backup[member].as_str().unwrap().to_owned();
            (text("backup_id"), text("volume"))
        })
        .collect();
    let expected = sums
        .iter()
        .map(|(id, (volume, _))| (id.clone(), volume.clone()));
    assert_eq!(listed, expected.collect());
    let target = world.at("restored");
    for (id, (volume, hash)) in sums {
        world.ok(&["restore", id, &target, "--force", "-q"]);
        let found = blake3::hash(&fs::read(&target).unwrap()).to_hex();
        assert_eq!(found.as_str(), hash, "{volume}");
    }
    world.is_clean();
}

#[test]
fn every_golden_repository_is_tested() {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.insert(entry.file_name().into_string().unwrap());
        }
    }
    assert_eq!(found, KEPT.map(|(name, _)| name.to_owned()).into());
}

#[test]
fn golden_repositories_have_objects_of_every_kind_that_they_should_cover() {
    for (name, is_pruned) in KEPT {
        let world = copied(name);
        let backend = LocalBackend::open(world.repository()).unwrap();
        let repository = Repository::open(Arc::new(backend), PASSWORD.as_bytes(), &Silent).unwrap();
        let project = repository.project("default", &Silent).unwrap();
        let index = Index::in_memory(&project, Arc::new(Silent)).unwrap();
        let marks = Marks::load(&project).unwrap();
        assert!(!marks.any_damaged());
        assert_eq!(!marks.packs().is_empty(), is_pruned, "{name}");
        assert_eq!(!marks.segments().is_empty(), is_pruned, "{name}");
        let replaced = index.replaced_segments().unwrap();
        assert_eq!(!replaced.is_empty(), is_pruned, "{name}");
        for kept in ["log", "audits"] {
            let kept = world.project().join(kept);
            assert!(fs::read_dir(kept).unwrap().count() > 0, "{name}");
        }
        let shown = world.json_one(&["show", "image"], "backup");
        let metadata = shown["metadata"].as_array().unwrap();
        assert!(!metadata.is_empty(), "{name}: {shown}");
    }
}

#[test]
fn golden_repositories_open_with_each_of_their_keys() {
    for (name, _) in KEPT {
        let mut world = copied(name);
        let sums = sums(name);
        assert!(sums.len() >= 3);
        holds(&world, &sums);
        for password in OTHERS {
            world.set("CUTTLEBONE_PASSWORD", password);
            assert_eq!(world.json(&["list"]).len(), sums.len(), "{name}");
        }
    }
}

#[test]
fn golden_repositories_can_be_backed_up_into_and_pruned() {
    for (name, _) in KEPT {
        let world = copied(name);
        let mut sums = sums(name);
        // Back up the newest content of the image with one block changed.
        let path = world.at("disk");
        world.ok(&["restore", "disk", &path, "-q"]);
        let mut disk = fs::read(&path).unwrap();
        disk[3 * 4096..4 * 4096].fill(b'+');
        fs::write(&path, &disk).unwrap();
        let made = world.backup(&[&path, "--volume", "disk"]);
        assert_eq!(made["chunks_new"], 1, "{name}: {made}");
        let id = made["backup_id"].as_str().unwrap().to_owned();
        let hash = blake3::hash(&disk).to_hex().to_string();
        sums.insert(id, ("disk".to_owned(), hash));
        holds(&world, &sums);

        let packs = world.packs().len();
        let prune = ["prune", "--grace=0", "--max-unused=0"];
        let done = world.json_one(&prune, "prune");
        assert!(done["deleted"]["packs"].as_u64().unwrap() > 0, "{done}");
        assert!(world.packs().len() < packs);
        holds(&world, &sums);
        let again = world.json_one(&prune, "prune");
        assert_eq!(again["deleted"]["packs"], 0, "{again}");
        for left in ["marks", "leases"] {
            assert_eq!(
                program::files(&world.project().join(left)).len(),
                0,
                "{left}"
            );
        }
    }
}
