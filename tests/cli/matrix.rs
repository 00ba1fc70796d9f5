//! Damages an object of every kind in every way, and then lists, restores, checks, backs up,
//! forgets and prunes. Only data that no other object holds may be lost. No command may hang,
//! delete anything because of the damage, or return wrong data.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cuttlebone::base::Silent;
use cuttlebone::repo::{Lease, Repository, Voids, Work, Worker};
use cuttlebone::storage::LocalBackend;

use crate::support::program::{PASSWORD, World, files, same};
use crate::support::{bad_sectors, modes_apply, noise};

const MIB: usize = 1 << 20;

/// A way to make an object unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The user may not read the file.
    Denied,
    Fifo,
    Socket,
    Directory,
    /// A symbolic link that leads nowhere.
    Dangling,
    Truncated,
    Empty,
    /// One bit has changed.
    Flipped,
    /// The file holds the bytes of another object of the same kind.
    Swapped,
    /// The file is larger than any object can be.
    Huge,
    /// The disk cannot read the file.
    BadSectors,
}

pub(super) const WAYS: [Way; 10] = [
    Way::Denied,
    Way::Fifo,
    Way::Socket,
    Way::Directory,
    Way::Dangling,
    Way::Truncated,
    Way::Empty,
    Way::Flipped,
    Way::Swapped,
    Way::Huge,
];

/// The directories of a project, with objects of one kind each.
const KINDS: [&str; 13] = [
    "settings", "keys", "writers", "packs", "trees", "index", "backups", "voids", "log", "leases",
    "marks", "audits", "ledger",
];

/// A repository with objects of all kinds, and the files that its backups restore to.
pub(super) struct Whole {
    pub(super) world: World,
    backups: Vec<(String, String)>,
    /// A backup on which no other backup builds. The tests forget it.
    spare: String,
    /// Packs that a mark names and that no backup needs. Also the index segment of these packs,
    /// which another segment replaces. Damage to these objects loses no data.
    unused: Vec<PathBuf>,
}

impl Whole {
    pub(super) fn new() -> Self {
        let world = World::new();
        let write = world.add_key("of the writer", "write", &[]);
        let mut backups = Vec::new();
        let mut back_up = |volume: &str, seed: u64, args: &[&str]| {
            let file = world.write(&format!("{volume}-{seed}"), &noise(seed, MIB));
            let summary = world.backup(&[&[&file, "--volume", volume], args].concat());
            let id = summary["backup_id"].as_str().unwrap().to_owned();
            backups.push((id.clone(), file));
            id
        };
        let gone = back_up("gone", 1, &[]);
        let mut unused = world.packs();
        unused.extend(files(&world.project().join("index")));
        back_up("a", 2, &[]);
        back_up("client", 3, &["--password-file", &write]);
        let spare = back_up("b", 4, &[]);
        let void = back_up("void", 5, &[]);
        back_up("a", 6, &[]);
        backups.retain(|(id, _)| ![&gone, &spare].contains(&id));
        world.ok(&["check", "--read-data"]);
        world.ok(&["forget", &gone, "--force"]);
        thread::sleep(std::time::Duration::from_secs(2));
        let options = ["--max-unused", "unlimited", "--no-merge-small"];
        world.ok(&[&["prune", "--grace", "1s"], &options[..]].concat());
        world.ok(&["head"]);
        let store = LocalBackend::open(world.repository()).unwrap();
        let repository = Repository::open(Arc::new(store), PASSWORD.as_bytes(), &Silent).unwrap();
        let project = repository.project("default", &Silent).unwrap();
        Voids::put(&project, void.parse().unwrap(), "test").unwrap();
        let worker = Worker {
            host: Some("another"),
            tool: "test",
        };
        // Leave the lease of a process that was killed. The process was a reader, so its lease
        // stops no other process.
        let lease = Lease::take(&project, Work::Read, worker).unwrap();
        let name = fs::read_dir(world.project().join("leases")).unwrap();
        let path = name.last().unwrap().unwrap().path();
        let bytes = fs::read(&path).unwrap();
        drop(lease);
        fs::write(&path, bytes).unwrap();
        Self {
            world,
            backups,
            spare,
            unused,
        }
    }

    /// Returns the paths, in the repository, of one object of each kind. The repository file and
    /// the project object are listed with their second copies.
    pub(super) fn objects(&self) -> Vec<PathBuf> {
        let project = self.world.project();
        let project = project.strip_prefix(self.world.repository()).unwrap();
        let mut objects: Vec<PathBuf> = ["cuttlebone", "cuttlebone.copy"].map(PathBuf::from).into();
        objects.extend(["project", "project.copy"].map(|name| project.join(name)));
        for kind in KINDS {
            let mut found = files(&self.world.project().join(kind));
            found.retain(|path| !self.unused.contains(path));
            found.sort();
            let first = found.into_iter().next();
            let first = first.unwrap_or_else(|| unreachable!("no object in {kind}"));
            let name = first.file_name().unwrap().to_str().unwrap().to_owned();
            let directory = first.parent().unwrap();
            let directory = directory.strip_prefix(self.world.repository()).unwrap();
            let plain = name.trim_end_matches(".copy");
            objects.push(directory.join(plain));
        }
        let repository_key = files(&self.world.repository().join("keys")).remove(0);
        let name = repository_key
            .strip_prefix(self.world.repository())
            .unwrap();
        objects.push(name.to_owned());
        objects
    }

    /// Returns a world with a copy of the repository, and a cache of its own.
    pub(super) fn copy(&self) -> World {
        let world = World::empty();
        copy(&self.world.repository(), &world.repository());
        world
    }
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Damages a file in this way. Returns `false` if that is not possible.
pub(super) fn damage(path: &Path, way: Way) -> bool {
    let bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    if way == Way::Denied {
        fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
        return true;
    }
    // For this way, the caller sets an environment in which the program cannot read the file.
    if way == Way::BadSectors {
        return true;
    }
    let other = || {
        let directory = path.parent().unwrap();
        let directory = match directory.file_name().unwrap().len() {
            2 => directory.parent().unwrap(),
            _ => directory,
        };
        let mut others = files(directory);
        others.sort();
        let others = others
            .into_iter()
            .rev()
            .map(|other| fs::read(other).unwrap());
        others
            .clone()
            .find(|other| *other != bytes && other[..8] == bytes[..8])
    };
    let swapped = if way == Way::Swapped {
        let Some(other) = other() else { return false };
        other
    } else {
        Vec::new()
    };
    fs::remove_file(path).unwrap();
    match way {
        Way::Denied | Way::BadSectors => {}
        Way::Fifo => {
            let made = Command::new("mkfifo").arg(path).status().unwrap();
            assert!(made.success());
        }
        Way::Socket => {
            // The path that a socket is bound to must be short.
            let short = path.with_file_name("s");
            drop(UnixListener::bind(&short).unwrap());
            fs::rename(&short, path).unwrap();
        }
        Way::Directory => fs::create_dir(path).unwrap(),
        Way::Dangling => symlink("nowhere", path).unwrap(),
        Way::Truncated => fs::write(path, &bytes[..middle]).unwrap(),
        Way::Empty => fs::write(path, b"").unwrap(),
        Way::Flipped => {
            let mut flipped = bytes;
            flipped[middle] ^= 1;
            fs::write(path, flipped).unwrap();
        }
        Way::Swapped => fs::write(path, swapped).unwrap(),
        Way::Huge => {
            fs::write(path, bytes).unwrap();
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(1 << 40).unwrap();
        }
    }
    true
}

/// Puts the bytes of an object back, whatever is in its place.
pub(super) fn heal(path: &Path, bytes: &[u8]) {
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir(path).unwrap();
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Runs a command. Returns its exit code, which must be one of these.
#[track_caller]
fn exits(when: &str, world: &World, args: &[&str], codes: &[i32]) -> i32 {
    let ran = world.run(args);
    let code = ran.code.unwrap_or(-1);
    let output = String::from_utf8_lossy(&ran.stdout);
    assert!(
        codes.contains(&code),
        "{when}: {args:?}: {code}\n{output}\n{}",
        ran.stderr
    );
    let printed = format!("{output}{}", ran.stderr).to_lowercase();
    assert!(!printed.contains("delete the damaged"), "{when}: {printed}");
    code
}

/// Restores all backups. Returns those that cannot be restored: for these, the command must exit
/// with 21, 23 or 24. No restored data may be wrong.
fn restore_all(when: &str, world: &World, backups: &[(String, String)]) -> Vec<String> {
    let mut failed = Vec::new();
    for (id, file) in backups {
        let target = world.at("restored");
        let args = ["restore", id, &target, "-q"];
        if exits(when, world, &args, &[0, 21, 23, 24]) == 0 {
            assert!(same(&target, file), "{when}: {id} is wrong");
            fs::remove_file(&target).unwrap();
        } else {
            assert!(
                !world.path("restored").exists(),
                "{when}: a part of {id} was restored"
            );
            failed.push(id.clone());
        }
    }
    failed
}

/// Damages an object in a copy of the repository, and runs all commands there.
fn runs_all(whole: &Whole, object: &Path, way: Way) {
    let when = format!("{way:?} {}", object.display());
    let mut world = whole.copy();
    let path = world.repository().join(object);
    let bytes = fs::read(&path).unwrap();
    if !damage(&path, way) {
        return;
    }
    if way == Way::BadSectors {
        for (name, value) in bad_sectors(&path) {
            world.set(name, value);
        }
    }
    let is_in = |directory: &str| object.components().any(|c| c.as_os_str() == directory);
    exits(&when, &world, &["list"], &[0]);
    let failed = restore_all(&when, &world, &whole.backups);
    if is_in("backups") {
        let name = object.file_name().unwrap().to_str().unwrap();
        assert!(failed.iter().all(|id| id == name), "{when}: {failed:?}");
    } else if !is_in("packs") {
        assert_eq!(failed, [""; 0], "{when}: every backup can be restored");
    }

    // A check may ignore a damaged lease or mark, since no data depends on it. It may also report
    // the damage, since other processes rely on reading these objects.
    let may_be_lost = is_in("leases") || is_in("marks");
    let found: &[i32] = if may_be_lost { &[0, 21] } else { &[21] };
    exits(&when, &world, &["check", "--read-data"], found);

    let new = world.write("new", &noise(100, MIB));
    // If a mark is damaged, a backup cannot know whether the mark names a pack that the backup
    // would rely on. So the backup may fail.
    let stored: &[i32] = if is_in("marks") {
        &[0, 1, 21]
    } else {
        &[0, 21]
    };
    let made = exits(&when, &world, &["backup", &new, "--volume", "new"], stored);
    if made == 0 {
        let ids = world.json(&["list", "new"]);
        assert_eq!(ids.len(), 1, "{when}");
        let id = ids[0]["backup_id"].as_str().unwrap();
        let restored = restore_all(&when, &world, &[(id.to_owned(), new.clone())]);
        assert_eq!(restored, [""; 0], "{when}: damage in the new backup");
    }
    let stops: &[i32] = if may_be_lost {
        &[0, 1, 21, 23]
    } else {
        &[0, 21, 23]
    };
    exits(&when, &world, &["forget", &whole.spare, "--force"], stops);
    exits(&when, &world, &["prune", "--grace", "0"], stops);

    // Nothing was deleted because of the damage.
    heal(&path, &bytes);
    world.set("BAD_SECTORS", "none");
    let failed = restore_all(&when, &world, &whole.backups);
    assert_eq!(failed, [""; 0], "{when}: after the object was healed");
}

#[test]
fn no_damage_to_an_object_of_any_kind_stops_commands_that_do_not_need_it() {
    if !modes_apply(
        "cli::matrix::no_damage_to_an_object_of_any_kind_stops_commands_that_do_not_need_it",
    ) {
        return;
    }
    let whole = Whole::new();
    let objects = whole.objects();
    let ways = WAYS.into_iter().chain([Way::BadSectors]);
    let cases: Vec<_> = ways
        .flat_map(|way| objects.iter().map(move |o| (o, way)))
        .collect();
    let (next, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((object, way)) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let case = std::panic::AssertUnwindSafe(|| runs_all(&whole, object, *way));
                    if std::panic::catch_unwind(case).is_err() {
                        failures.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(failures.into_inner(), 0, "of {} cases", cases.len());
}

#[test]
fn a_check_goes_on_after_a_directory_that_cannot_be_listed() {
    if !modes_apply("cli::matrix::a_check_goes_on_after_a_directory_that_cannot_be_listed") {
        return;
    }
    let whole = Whole::new();
    let world = &whole.world;
    let project = world.project();
    let pack = files(&project.join("packs")).remove(0);
    let in_packs = pack.parent().unwrap().strip_prefix(&project).unwrap();
    let kinds = [
        "packs", "trees", "index", "backups", "voids", "log", "marks", "audits", "ledger",
    ];
    let directories = kinds.iter().map(Path::new).chain([in_packs]);
    for directory in directories {
        let path = project.join(directory);
        // The check must also find damage to another object. If a directory of the history cannot
        // be listed, this is the second copy of the project object, and otherwise a record.
        let of_history = ["backups", "voids", "log"];
        let other = if of_history.map(Path::new).contains(&directory) {
            project.join("project.copy")
        } else {
            files(&project.join("backups")).remove(0)
        };
        let bytes = fs::read(&other).unwrap();
        assert!(damage(&other, Way::Flipped));
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        for args in [&["check"][..], &["check", "--read-data"]] {
            let ran = world.run(args);
            let output = String::from_utf8(ran.stdout).unwrap();
            let when = format!("{args:?} {}: {output}{}", directory.display(), ran.stderr);
            assert_eq!(ran.code, Some(21), "{when}");
            let name = directory.iter().next().unwrap().to_str().unwrap();
            let named = output
                .lines()
                .any(|line| line.contains(name) && line.contains("list"));
            assert!(named, "{when}");
            let other = other.file_name().unwrap().to_str().unwrap();
            assert!(output.contains(other), "{when}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        heal(&other, &bytes);
    }
    world.ok(&["check", "--read-data"]);
}
