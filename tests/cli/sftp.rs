//! The program and an SSH server: backups and restores, refused logins, and servers and connections
//! that fail at any moment.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::program::{CHEAP_KEY, HANGS, Ran, World, finish};
use crate::support::{Random, SmallDisk, Sshd, noise};

const MIB: usize = 1 << 20;
const SIZE: usize = 12 * MIB;
/// The number of bytes that a round changes.
const NEW: usize = 6 * MIB;
const ROUNDS: u64 = 50;

/// A repository on an SSH server that the test starts, and the options that every command needs to
/// reach it.
struct RemoteRepo {
    server: Sshd,
    world: World,
    ssh: String,
}

impl RemoteRepo {
    /// Starts a server and creates a repository. Skips the test and returns `None` if OpenSSH is
    /// missing.
    fn new() -> Option<Self> {
        let remote = Self::empty()?;
        remote.ok(&[&["init", "-q"][..], &CHEAP_KEY].concat());
        Some(remote)
    }

    fn empty() -> Option<Self> {
        Some(Self::on(Sshd::start()?))
    }

    fn on(server: Sshd) -> Self {
        let mut world = World::empty();
        world.set("CUTTLEBONE_REPOSITORY", server.location("repo"));
        let ssh = server.ssh_command();
        Self { server, world, ssh }
    }

    fn with_ssh<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let mut all = args.to_vec();
        all.extend(["--ssh-command", &self.ssh]);
        all
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.world.run(&self.with_ssh(args))
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        self.world.ok(&self.with_ssh(args))
    }

    fn start(&self, args: &[&str]) -> Child {
        self.world.start(&self.with_ssh(args))
    }

    #[track_caller]
    fn fails(&self, args: &[&str], code: i32, expected: &[&str]) {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        for text in expected {
            assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
        }
    }
}

/// When a lease is stored again, it gets a new name on this server, since the server cannot replace
/// the old file.
#[test]
fn backup_forget_prune_and_check_work_on_a_server_that_cannot_replace_files() {
    let without = "internal-sftp -P posix-rename,hardlink";
    let Some(remote) = Sshd::start_with(without).map(RemoteRepo::on) else {
        return;
    };
    remote.ok(&[&["init", "-q"][..], &CHEAP_KEY].concat());
    let disk = remote.world.write("disk.img", &noise(1, SIZE));
    remote.ok(&["backup", &disk, "-q"]);
    remote.world.write("disk.img", &noise(2, SIZE));
    remote.ok(&["backup", &disk, "-q"]);
    remote.ok(&[
        "forget",
        "--keep-last",
        "1",
        "--prune",
        "--grace",
        "0",
        "-q",
    ]);
    remote.ok(&["check", "--read-data", "-q"]);
    let leases = remote.server.store().join("repo/projects");
    let left = crate::support::program::files(&leases);
    assert!(
        left.iter()
            .all(|path| !path.to_str().unwrap().contains("/leases/")),
        "{left:?}"
    );
}

#[test]
fn a_backup_on_a_server_is_restored_exactly() {
    let Some(remote) = RemoteRepo::new() else {
        return;
    };
    let disk = remote.world.write("disk.img", &noise(1, SIZE));
    remote.ok(&["backup", &disk, "-q", "--limit-upload", "500M"]);
    remote.ok(&["backup", &disk, "-q", "--connections", "1"]);
    assert!(remote.ok(&["list"]).contains("disk.img"));
    remote.ok(&["check", "--read-data", "--limit-download", "500M"]);
    let back = remote.world.at("back");
    remote.ok(&["restore", "disk.img", &back, "-q"]);
    assert!(fs::read(&back).unwrap() == fs::read(&disk).unwrap());
    remote.fails(&["init"], 1, &["already"]);
    // The server stores the same files as a local directory, so the repository can be read without
    // the server.
    let mut world = World::empty();
    world.set("CUTTLEBONE_REPOSITORY", remote.server.store().join("repo"));
    world.ok(&["check", "--read-data"]);
}

#[test]
fn errors_of_ssh_are_reported_with_the_next_step() {
    let Some(mut remote) = RemoteRepo::empty() else {
        return;
    };
    remote.fails(&["list"], 10, &["no repository", "cuttlebone init"]);
    let there = remote.server.location("repo");
    remote.fails(
        &["list", "-r", "sftp:-oProxyCommand=x:/r"],
        2,
        &["its host is missing or invalid"],
    );
    remote.fails(
        &["list", "-r", &there, "--limit-upload", "0"],
        2,
        &["--limit-upload"],
    );

    let known = fs::read(remote.server.path("known")).unwrap();
    fs::write(remote.server.path("known"), "").unwrap();
    remote.fails(
        &["list"],
        1,
        &["Host key verification failed", "log in once by hand"],
    );
    fs::write(remote.server.path("known"), known).unwrap();
    let key = fs::read(remote.server.path("user.pub")).unwrap();
    fs::write(remote.server.path("user.pub"), "").unwrap();
    remote.fails(&["list"], 1, &["Permission denied", "log in once by hand"]);
    fs::write(remote.server.path("user.pub"), key).unwrap();
    remote.server.stop();
    remote.fails(&["list"], 1, &["refused", "can be reached"]);
    let ran = remote.world.run(&["list", "--ssh-command", "no-such-ssh"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    for text in ["no-such-ssh", "--ssh-command"] {
        assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
    }
}

#[test]
fn a_killed_program_leaves_no_ssh() {
    let Some(remote) = RemoteRepo::new() else {
        return;
    };
    let disk = remote.world.write("disk.img", &noise(1, SIZE));
    let mut child = remote.start(&["backup", &disk, "-q", "--limit-upload", "1M"]);
    let begun = Instant::now();
    while remote.server.clients() == 0 {
        assert!(begun.elapsed() < HANGS);
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    while remote.server.clients() > 0 {
        assert!(begun.elapsed() < HANGS, "ssh still runs");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_that_never_answers_again_ends_a_copy_and_a_repair_with_an_error() {
    let Some(mut remote) = RemoteRepo::new() else {
        return;
    };
    let disk = remote.world.write("disk.img", &noise(1, SIZE));
    remote.ok(&["backup", &disk, "-q"]);
    let target = remote.world.at("copy");
    let copy = ["replicate", &target];
    let repair = ["repair", "copies", "--from", &target, "--yes"];
    remote.ok(&copy);
    remote.ok(&["backup", &disk, "--reread", "-q"]);
    let back = remote.server.location("back");
    let slow = ["--timeout", "1", "--limit-download", "1M"];
    let again = ["replicate", &back];
    let all = [&again[..], &repair].map(|args| [args, &slow[..]].concat());
    let children = all.each_ref().map(|args| remote.start(args));
    let begun = Instant::now();
    while remote.server.clients() < 2 {
        assert!(begun.elapsed() < HANGS);
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_secs(1));
    remote.server.freeze();
    for (child, args) in children.into_iter().zip(&all) {
        let ran = finish(child, args);
        assert_eq!(ran.code, Some(1), "{args:?}: {ran:?}");
        let next = "next: check that the store can be reached, then run this again";
        assert!(ran.stderr.contains(next), "{ran:?}");
    }
    remote.server.restart();
    remote.ok(&again);
    remote.ok(&repair);
    remote.ok(&["check", "--read-data", "-q"]);
}

/// Backs up, restores and prunes. In each round, one of these faults happens: the server does not
/// answer, its connections are killed, it is restarted, its disk is full, or the program is killed.
#[test]
fn no_fault_of_server_or_connection_hangs_the_program_or_harms_a_backup() {
    let Some(mut remote) = RemoteRepo::empty() else {
        return;
    };
    // If no small disk can be mounted, the test runs without a full disk. In CI, it fails instead.
    let small = SmallDisk::mount(256 << 10);
    if let Some(disk) = &small {
        let repository = remote.server.location_of(&disk.path().join("repo"));
        remote.world.set("CUTTLEBONE_REPOSITORY", repository);
    }
    remote.ok(&[&["init", "-q"][..], &CHEAP_KEY].concat());
    let mut random = Random::new();
    let disk = remote.world.write("disk.img", &noise(2, SIZE));
    let file = fs::File::options().write(true).open(&disk).unwrap();
    remote.ok(&["backup", &disk, "-q"]);

    let back = remote.world.at("back");
    let backup = ["backup", &disk, "-q"];
    let restore = ["restore", "disk.img", &back, "--force", "-q"];
    let prune = [
        "forget",
        "--volume=disk.img",
        "--keep-last=2",
        "--prune",
        "--grace=0",
        "--max-unused=0",
        "-q",
    ];
    let mut failed = [0; 5];
    for round in 0..ROUNDS {
        let at = random.below((SIZE - NEW) as u64);
        file.write_all_at(&noise(round + 100, NEW), at).unwrap();
        let args = [&backup[..], &restore, &backup, &prune][(round % 4) as usize];
        let args = [args, &["--timeout", "1"]].concat();
        let mut child = remote.start(&args);
        thread::sleep(Duration::from_millis(100 + random.below(500)));
        let fault = random.below(5);
        let mut filler = None;
        match (fault, &small) {
            (0, _) => remote.server.signal(Signal::STOP),
            (1, _) => remote.server.signal(Signal::KILL),
            (2, _) => remote.server.restart(),
            (3, Some(disk)) => filler = Some(disk.fill(random.below(256 << 10))),
            _ => child.kill().unwrap(),
        }
        let ran = finish(child, &args);
        failed[usize::try_from(fault).unwrap()] += u32::from(ran.code != Some(0));
        assert!(
            matches!(ran.code, None | Some(0 | 1)),
            "round {round}: {args:?}: {}",
            ran.stderr
        );
        remote.server.signal(Signal::CONT);
        drop(filler);
    }
    eprintln!("{failed:?} of {ROUNDS} failed, by fault");
    remote.ok(&["check", "--read-data", "-q"]);
    remote.ok(&backup);
    remote.ok(&prune);
    remote.ok(&restore);
    assert!(fs::read(&back).unwrap() == fs::read(&disk).unwrap());
    remote.ok(&["check", "--read-data", "-q"]);
}

#[test]
fn a_malformed_image_or_pattern_is_reported_before_anything_connects() {
    let mut world = World::empty();
    world.set("CUTTLEBONE_REPOSITORY", "sftp:host.invalid:repo");
    let called = world.path("called");
    let script = format!("#!/bin/sh\n: > '{}'\nexit 1\n", called.display());
    let ssh = world.write("ssh", script.as_bytes());
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let args = |source| ["backup", "rbd:pool/a", source, "--ssh-command", &ssh[..]];
    for (source, message) in [
        ("rbd:pool", "“rbd:pool” does not name an image"),
        ("rbd:pool/a@", "does not name an image"),
        ("rbd:pool/*@mon", "a pattern cannot name a snapshot"),
    ] {
        let error = world.fails(&args(source), 2);
        assert!(error.contains(message), "{error}");
        assert!(!called.exists(), "{source}");
    }
    world.run(&args("rbd:pool/b"));
    assert!(called.exists(), "an image that is not malformed");
}
