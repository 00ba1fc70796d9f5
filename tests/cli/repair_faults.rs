//! Repairs that SIGKILL or a full disk ends: nothing is lost, and the next run completes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::replicate::names;
use crate::support::program::{CHEAP_KEY, World};
use crate::support::{Random, SmallDisk, noise};

const MIB: usize = 1 << 20;
/// How often each repair is killed.
const KILLS: u32 = 5;

/// A repair, and the damage that it must undo.
struct Repair {
    args: Vec<String>,
    is_damaged: fn(&str) -> bool,
    damage: fn(&[u8]) -> Vec<u8>,
}

fn is_object(name: &str) -> bool {
    let others = ["parity/", "leases/", "marks/", "ledger/"];
    !others.iter().any(|part| name.contains(part))
}

/// Returns these bytes with one bit flipped. Parity can undo this.
fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

fn repairs(replica: &str) -> [Repair; 4] {
    let args = |words: &[&str]| {
        let words = [&["repair"], words, &["--yes", "-q"]].concat();
        words.into_iter().map(str::to_owned).collect()
    };
    // If entries of the log are damaged, only a second run of a repair finds missing objects. So
    // most cases leave the log whole.
    let is_outside_log = |name: &str| is_object(name) && !name.contains("log/");
    [
        Repair {
            args: args(&["parity"]),
            is_damaged: is_outside_log,
            damage: flipped,
        },
        Repair {
            args: args(&["copies"]),
            is_damaged: |name| name.contains(".copy"),
            damage: |_| b"damaged".to_vec(),
        },
        Repair {
            args: args(&["copies", "--from", replica]),
            is_damaged: is_outside_log,
            damage: |_| b"damaged".to_vec(),
        },
        Repair {
            args: args(&["parity", "--from", replica]),
            is_damaged: is_object,
            damage: |bytes| bytes[..bytes.len() / 3].to_vec(),
        },
    ]
}

fn cp(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

/// A repository with parity, and a copy of its directory.
struct Whole {
    world: World,
    repository: PathBuf,
    replica: PathBuf,
}

impl Whole {
    fn at(mut world: World, repository: PathBuf) -> Self {
        world.set("CUTTLEBONE_REPOSITORY", repository.to_str().unwrap());
        world.ok(&[&["init", "-q", "--parity", "5%"][..], &CHEAP_KEY].concat());
        for seed in [1, 2] {
            let disk = world.write("disk.img", &noise(seed, 8 * MIB));
            world.backup(&[&disk]);
        }
        world.ok(&["head", "-q"]);
        let replica = world.path("replica");
        cp(&repository, &replica);
        Self {
            world,
            repository,
            replica,
        }
    }

    /// Replaces the repository by its copy, and damages the files that this repair must restore.
    fn damage(&self, repair: &Repair) {
        fs::remove_dir_all(&self.repository).unwrap();
        cp(&self.replica, &self.repository);
        let mut damaged = 0;
        for name in names(&self.repository) {
            let path = self.repository.join(&name);
            if (repair.is_damaged)(name.to_str().unwrap()) {
                let bytes = fs::read(&path).unwrap();
                fs::remove_file(&path).unwrap();
                fs::write(&path, (repair.damage)(&bytes)).unwrap();
                damaged += 1;
            }
        }
        assert!(damaged > 3, "{:?}", repair.args);
    }

    /// Asserts that each file is whole, or as damaged as it was before the repair.
    fn has_lost_nothing(&self, repair: &Repair, when: &str) {
        for name in names(&self.replica) {
            let whole = fs::read(self.replica.join(&name)).unwrap();
            let found = fs::read(self.repository.join(&name)).unwrap();
            let is_damaged = (repair.is_damaged)(name.to_str().unwrap());
            let is_known = found == whole || is_damaged && found == (repair.damage)(&whole);
            assert!(is_known, "{when}: {}", name.display());
        }
    }

    /// Runs a repair until it has nothing more to do. Asserts that all files are whole then.
    fn complete(&self, repair: &Repair, when: &str) {
        let args: Vec<_> = repair.args.iter().map(String::as_str).collect();
        let ran = self.world.run(&args);
        if ran.code != Some(0) {
            // The restored entries of the log name objects that are missing. So a second run is
            // needed.
            assert_eq!(ran.code, Some(21), "{when}: {ran:?}");
            assert!(ran.stderr.contains("run the same command again"), "{ran:?}");
            self.world.ok(&args);
        }
        for name in names(&self.replica) {
            let whole = fs::read(self.replica.join(&name)).unwrap();
            let found = fs::read(self.repository.join(&name)).unwrap();
            assert!(found == whole, "{when}: {}", name.display());
        }
    }
}

#[test]
fn a_repair_that_is_killed_at_any_moment_loses_nothing_and_the_next_one_completes_it() {
    let mut random = Random::new();
    let world = World::empty();
    let repository = world.path("repo");
    let whole = Whole::at(world, repository);
    for repair in repairs(whole.replica.to_str().unwrap()) {
        let args: Vec<_> = repair.args.iter().map(String::as_str).collect();
        whole.damage(&repair);
        let begun = Instant::now();
        whole.complete(&repair, "without a kill");
        let most = u64::try_from(begun.elapsed().as_millis()).unwrap();
        for kill in 0..KILLS {
            whole.damage(&repair);
            let mut child = whole.world.start(&args);
            thread::sleep(Duration::from_millis(random.below(most.max(2))));
            child.kill().unwrap();
            child.wait().unwrap();
            let when = format!("{args:?}, kill {kill}");
            whole.has_lost_nothing(&repair, &when);
            whole.complete(&repair, &when);
        }
        whole.world.is_clean();
    }
}

#[test]
fn a_repair_on_a_full_disk_loses_nothing_and_succeeds_when_there_is_space() {
    let Some(disk) = SmallDisk::mount(96 << 10) else {
        return;
    };
    let whole = Whole::at(World::empty(), disk.path().join("repo"));
    for repair in repairs(whole.replica.to_str().unwrap()) {
        let args: Vec<_> = repair.args.iter().map(String::as_str).collect();
        for free in [0, 100_000] {
            whole.damage(&repair);
            let filler = disk.fill(free);
            let when = format!("{args:?}, {free} bytes are free");
            let ran = whole.world.run(&args);
            // A repair of second copies needs little space, so it may succeed.
            if free == 0 || ran.code != Some(0) {
                assert_eq!(ran.code, Some(1), "{when}: {ran:?}");
                assert!(ran.stderr.contains("free some space"), "{when}: {ran:?}");
            }
            whole.has_lost_nothing(&repair, &when);
            drop(filler);
            whole.complete(&repair, &when);
        }
        whole.world.is_clean();
    }
}
