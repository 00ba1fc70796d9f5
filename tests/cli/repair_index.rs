//! `repair index`: the index is completed from the packs alone.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::kill::each_killed;
use super::matrix::{Way, copy, damage};
use crate::support::program::{CHEAP_KEY, World, files, json_lines};
use crate::support::{SmallDisk, noise};

const KIB: usize = 1 << 10;
const VOLUMES: [&str; 2] = ["a", "b"];

/// A repository with a backup of each volume, each with its own index segment.
struct Backups {
    world: World,
    disks: Vec<String>,
}

impl Backups {
    fn new() -> Self {
        Self::of(World::new())
    }

    fn of(world: World) -> Self {
        let disks = (1..).zip(VOLUMES).map(|(seed, volume)| {
            let disk = world.write(volume, &noise(seed, 700 * KIB));
            world.backup(&[&disk, "--volume", volume]);
            disk
        });
        let disks = disks.collect();
        let backups = Self { world, disks };
        assert_eq!(backups.segments().len(), 2);
        backups
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut segments = files(&self.world.project().join("index"));
        segments.sort();
        segments
    }

    /// Asserts that `check` finds damage, and proposes `repair index` as the next step.
    fn is_damaged(&self, when: &str) {
        let ran = self.world.run(&["check"]);
        assert_eq!(ran.code, Some(21), "{when}: {ran:?}");
        let text = String::from_utf8(ran.stdout).unwrap();
        assert!(
            text.contains("cuttlebone repair index --yes"),
            "{when}: {text}"
        );
        assert!(
            ran.stderr.contains("repair index"),
            "{when}: {}",
            ran.stderr
        );
    }

    /// Repairs the index. Asserts that nothing is left to repair, and that all backups are whole.
    /// All data must count as present, also on another host. Returns the steps of the repair.
    fn repair(&self, when: &str) -> Vec<Value> {
        let steps = self.steps(&["--yes"], 0);
        assert!(!steps.is_empty(), "{when}");
        for step in &steps {
            assert_eq!(step["done"], true, "{when}: {step}");
        }
        self.is_whole(when);
        steps
    }

    fn is_whole(&self, when: &str) {
        assert!(self.steps(&[], 0).is_empty(), "{when}");
        for _ in 0..2 {
            self.world.is_clean();
            for (disk, volume) in self.disks.iter().zip(VOLUMES) {
                let other = format!("{volume}-{when}");
                let made = self.world.backup(&[disk, "--volume", &other]);
                assert_eq!(made["bytes_new"], 0, "{when}");
                self.world.restores(volume, disk);
            }
            fs::remove_dir_all(self.world.path("cache")).unwrap();
        }
    }

    /// Runs `repair index`, which must exit with this code. Returns its steps.
    fn steps(&self, args: &[&str], code: i32) -> Vec<Value> {
        let args = [&["repair", "index", "--json"], args].concat();
        let ran = self.world.run(&args);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        let lines = json_lines(&String::from_utf8(ran.stdout).unwrap());
        let (summary, steps) = lines.split_last().unwrap();
        assert_eq!(summary["message_type"], "repair");
        assert_eq!(summary["what"], "index");
        let count = |is_repaired: bool| {
            let is_counted = |step: &&Value| {
                let dry = step["dry_run"] == true && step["action"] != "none";
                (step["done"] == true || dry) == is_repaired
            };
            steps.iter().filter(is_counted).count()
        };
        assert_eq!(summary["repaired"], count(true), "{lines:?}");
        assert_eq!(summary["unrepaired"], count(false), "{lines:?}");
        steps.to_vec()
    }
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Returns the steps that name this file.
fn of<'a>(steps: &'a [Value], path: &Path) -> Vec<&'a Value> {
    let steps = steps.iter();
    steps
        .filter(|step| step["item"].as_str().unwrap().contains(name(path)))
        .collect()
}

#[test]
fn a_damaged_segment_is_replaced_and_kept_in_quarantine() {
    let ways = [
        Way::Flipped,
        Way::Truncated,
        Way::Empty,
        Way::Swapped,
        Way::Fifo,
        Way::Directory,
        Way::Dangling,
    ];
    for way in ways {
        let when = format!("{way:?}");
        let backups = Backups::new();
        let segment = &backups.segments()[0];
        assert!(damage(segment, way));
        // Nothing can be read from a FIFO.
        let damaged = if way == Way::Fifo {
            None
        } else {
            fs::read(segment).ok()
        };
        backups.is_damaged(&when);

        let before = files(&backups.world.repository());
        let plan = backups.steps(&[], 21);
        assert_eq!(
            files(&backups.world.repository()),
            before,
            "a plan changed files"
        );
        let [step] = of(&plan, segment)[..] else {
            unreachable!("{plan:?}")
        };
        assert_eq!(
            (&step["action"], &step["dry_run"]),
            (&json!("rebuild"), &json!(true))
        );
        assert!(
            plan.len() > 1,
            "the plan must list packs that no segment names: {plan:?}"
        );

        let steps = backups.repair(&when);
        assert_eq!(steps.len(), plan.len(), "{when}");
        assert!(
            segment.symlink_metadata().is_ok(),
            "{when}: only a prune may delete the segment"
        );
        let kept = files(&backups.world.repository().join("quarantine"));
        let kept: Vec<_> = kept.iter().map(|path| fs::read(path).unwrap()).collect();
        assert_eq!(kept, Vec::from_iter(damaged), "{when}");

        backups.world.ok(&["prune", "--grace", "0"]);
        backups.is_whole(&format!("{when}-pruned"));
        // A directory stays, since it may have content.
        assert_eq!(segment.exists(), way == Way::Directory, "{when}");
        if way != Way::Directory {
            backups.world.ok(&["check", "--keyless"]);
        }
    }
}

#[test]
fn missing_segments_are_replaced_and_the_log_no_longer_requires_them() {
    for (is_logged, all) in [(false, false), (false, true), (true, false), (true, true)] {
        let when = format!("logged-{is_logged}-all-{all}");
        let backups = Backups::new();
        let world = &backups.world;
        let statement = is_logged.then(|| world.json_one(&["head"], "head"));
        let gone = 1 + usize::from(all);
        let segments = &backups.segments()[..gone];
        for segment in segments {
            fs::remove_file(segment).unwrap();
        }
        backups.is_damaged(&when);
        let steps = backups.repair(&when);
        for segment in segments {
            assert_eq!(of(&steps, segment).len(), usize::from(is_logged), "{when}");
        }
        world.ok(&["check", "--keyless"]);
        if let Some(statement) = statement {
            let paper = statement["qr_content"].as_str().unwrap();
            world.ok(&["check", "--keyless", "--statement", paper]);
        }
        world.ok(&["prune", "--grace", "0"]);
        backups.is_whole(&format!("{when}-pruned"));
        world.ok(&["check", "--keyless"]);
    }
}

#[test]
fn a_missing_segment_is_removed_from_the_log_even_if_other_segments_name_its_packs() {
    let backups = Backups::new();
    let world = &backups.world;
    world.ok(&["head"]);
    let segment = &backups.segments()[0];
    fs::remove_file(segment).unwrap();
    // The prune stores a segment that names the packs again.
    world.ok(&["prune"]);
    world.is_clean();
    let stderr = world.fails(&["check", "--keyless"], 21);
    assert!(stderr.contains("repair index"), "{stderr}");
    let steps = backups.repair("explained");
    assert_eq!(
        (steps.len(), of(&steps, segment).len()),
        (1, 1),
        "{steps:?}"
    );
    world.ok(&["check", "--keyless"]);
}

#[test]
fn a_lost_pack_stays_lost_and_the_check_names_the_backup_that_it_affects() {
    for way in [None, Some(Way::Flipped), Some(Way::Truncated)] {
        let backups = Backups::new();
        let world = &backups.world;
        let pack = files(&world.project().join("packs")).remove(0);
        for segment in backups.segments() {
            fs::remove_file(segment).unwrap();
        }
        match way {
            None => fs::remove_file(&pack).unwrap(),
            Some(way) => assert!(damage(&pack, way)),
        }
        // The index is complete, but a backup lacks data.
        let steps = backups.steps(&["--yes"], 21);
        let failed: Vec<_> = steps.iter().filter(|step| step["done"] == false).collect();
        assert_eq!(
            failed.len(),
            usize::from(way.is_some()),
            "{way:?}: {steps:?}"
        );
        assert_eq!(of(&steps, &pack), failed, "{way:?}");
        let ran = world.run(&["check", "--read-data", "--json"]);
        assert_eq!(ran.code, Some(21), "{way:?}: {ran:?}");
        let lines = json_lines(&String::from_utf8(ran.stdout).unwrap());
        let check = lines.iter().find(|line| line["message_type"] == "check");
        let affected = &check.unwrap()["backups_affected"];
        assert_eq!(affected.as_array().unwrap().len(), 1, "{way:?}: {lines:?}");

        // The next backups of the same data store the lost data again.
        for (disk, volume) in backups.disks.iter().zip(VOLUMES) {
            world.run(&["backup", disk, "--volume", volume, "--reread"]);
        }
        world.ok(&["prune", "--grace", "0"]);
        backups.is_whole("healed");
    }
}

#[test]
fn a_damaged_segment_stays_if_it_may_be_the_only_list_of_a_pack_that_backups_need() {
    let world = World::empty();
    world.ok(&[&["init", "--parity", "5%"][..], &CHEAP_KEY].concat());
    let backups = Backups::of(world);
    let world = &backups.world;
    let segments = backups.segments();
    let whole: Vec<_> = segments
        .iter()
        .map(|path| fs::read(path).unwrap())
        .collect();
    for segment in &segments {
        assert!(damage(segment, Way::Truncated));
    }
    // A pack has the list of its contents at its end. Cut off a part of this list.
    let pack = files(&world.project().join("packs")).remove(0);
    let file = fs::File::options().write(true).open(&pack).unwrap();
    file.set_len(file.metadata().unwrap().len() - 20_000)
        .unwrap();
    fs::remove_dir_all(world.path("cache")).unwrap();
    let steps = backups.steps(&["--yes"], 21);
    for path in segments.iter().chain([&pack]) {
        let [step] = of(&steps, path)[..] else {
            unreachable!("{steps:?}")
        };
        assert_eq!(
            (&step["action"], &step["done"]),
            (&json!("none"), &json!(false))
        );
    }
    // The index names all other packs now.
    let named: Vec<_> = steps
        .iter()
        .filter(|step| step["action"] == "name")
        .collect();
    assert!(named.len() > 2, "{steps:?}");
    assert!(named.iter().all(|step| step["done"] == true), "{steps:?}");
    let stderr = world.fails(&["repair", "index"], 21);
    assert!(stderr.contains("repair parity"), "{stderr}");
    world.ok(&["repair", "parity", "--yes"]);
    for (path, whole) in segments.iter().zip(whole) {
        assert!(fs::read(path).unwrap() == whole);
    }
    backups.is_whole("restored");
}

#[test]
fn packs_of_an_interrupted_backup_are_no_damage() {
    let backups = Backups::new();
    let world = &backups.world;
    world.backup(&[&world.write("c", &noise(9, 700 * KIB)), "--volume", "c"]);
    // Without its segment and its record, nothing but the packs of the backup is left.
    for directory in ["backups", "index"] {
        let objects = files(&world.project().join(directory));
        let modified = |path: &&PathBuf| fs::metadata(path).unwrap().modified().unwrap();
        fs::remove_file(objects.iter().max_by_key(modified).unwrap()).unwrap();
    }
    world.forget_memory();
    fs::remove_dir_all(world.path("cache")).unwrap();
    world.is_clean();
    assert!(backups.steps(&[], 0).is_empty());
    let text = world.ok(&["repair", "index", "--yes"]);
    assert!(text.contains("no damage found"), "{text}");
}

#[test]
fn a_write_key_may_not_repair_the_index() {
    let mut backups = Backups::new();
    fs::write(backups.world.path("new.pw"), "new").unwrap();
    let add = [
        "key",
        "add",
        "--role",
        "write",
        "--new-password-file",
        "new.pw",
    ];
    backups.world.ok(&[&add[..], &CHEAP_KEY].concat());
    backups.world.set("CUTTLEBONE_PASSWORD", "new");
    let stderr = backups.world.fails(&["repair", "index", "--yes"], 22);
    assert!(stderr.contains("may not repair the index"), "{stderr}");
}

#[test]
fn a_lost_segment_stays_if_it_may_be_the_only_one_that_names_a_missing_pack_that_backups_need() {
    for way in [None, Some(Way::Flipped)] {
        let backups = Backups::new();
        let world = &backups.world;
        world.ok(&["head"]);
        let segments = backups.segments();
        for segment in &segments {
            match way {
                None => fs::remove_file(segment).unwrap(),
                Some(way) => assert!(damage(segment, way)),
            }
        }
        fs::remove_file(files(&world.project().join("packs")).remove(0)).unwrap();
        fs::remove_dir_all(world.path("cache")).unwrap();
        for _ in 0..2 {
            let steps = backups.steps(&["--yes"], 21);
            for path in &segments {
                let [step] = of(&steps, path)[..] else {
                    unreachable!("{steps:?}")
                };
                let expected = (&json!("none"), &json!(false));
                assert_eq!((&step["action"], &step["done"]), expected, "{way:?}");
            }
        }
        for (disk, volume) in backups.disks.iter().zip(VOLUMES) {
            world.run(&["backup", disk, "--volume", volume, "--reread"]);
        }
        backups.repair("healed");
    }
}

#[test]
fn a_lost_segment_stays_if_a_record_is_damaged() {
    let backups = Backups::new();
    let world = &backups.world;
    world.ok(&["head"]);
    let segments = backups.segments();
    for segment in &segments {
        fs::remove_file(segment).unwrap();
    }
    for record in files(&world.project().join("backups")) {
        assert!(damage(&record, Way::Flipped));
    }
    fs::remove_file(files(&world.project().join("packs")).remove(0)).unwrap();
    fs::remove_dir_all(world.path("cache")).unwrap();
    let steps = backups.steps(&["--yes"], 21);
    for path in &segments {
        let [step] = of(&steps, path)[..] else {
            unreachable!("{steps:?}")
        };
        let expected = (&json!("none"), &json!(false));
        assert_eq!((&step["action"], &step["done"]), expected);
    }
}

#[test]
fn a_repair_of_the_index_on_a_full_disk_fails_and_succeeds_when_there_is_space() {
    let Some(disk) = SmallDisk::mount(32 << 10) else {
        return;
    };
    let mut backups = Backups::new();
    let to = disk.path().join("repo");
    copy(&backups.world.repository(), &to);
    backups.world.set("CUTTLEBONE_REPOSITORY", &to);
    let segments = || {
        let mut found = files(&to.join("projects"));
        found.retain(|path| path.components().any(|part| part.as_os_str() == "index"));
        found
    };
    let damaged = segments();
    for segment in &damaged {
        assert!(damage(segment, Way::Flipped));
    }
    let full = disk.fill(0);
    let stderr = backups.world.fails(&["repair", "index", "--yes"], 1);
    assert!(stderr.contains("free some space"), "{stderr}");
    assert_eq!(segments().len(), damaged.len());
    drop(full);
    backups.repair("space");
}

#[test]
fn a_repair_of_the_index_that_is_killed_loses_nothing_and_can_be_repeated() {
    let backups = Backups::new();
    for segment in backups.segments() {
        assert!(damage(&segment, Way::Flipped));
    }
    let repair = ["repair", "index", "--yes"];
    each_killed(
        &backups.world,
        &repair,
        |_| {},
        |world| {
            world.ok(&repair);
            world.is_clean();
            for (disk, volume) in backups.disks.iter().zip(VOLUMES) {
                world.restores(volume, disk);
            }
        },
    );
}
