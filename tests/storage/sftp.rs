//! What is special to a server: getting in, and what becomes of a connection that stalls, breaks or is refused.

#![expect(clippy::unwrap_used, reason = "a call that fails fails the test")]

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cuttlebone::storage::{
    Backend, ErrorKind, Operation, Rate, SftpBackend, SftpOptions, StorageError,
};
use rustix::process::Signal;

use super::local::tree;
use super::{kind, name, names};
use crate::support::SmallDisk;
use crate::support::Sshd;

/// From a fault to its end, on a machine that does other things too.
const QUICKLY: Duration = Duration::from_mins(1);

fn open(server: &Sshd) -> SftpBackend {
    SftpBackend::open(server.options()).unwrap()
}

/// An error with what caused it.
fn told(error: &StorageError) -> String {
    let cause = error.source().map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

fn refused(options: SftpOptions) -> StorageError {
    let begun = Instant::now();
    let error = SftpBackend::open(options).unwrap_err();
    assert!(begun.elapsed() < QUICKLY, "{error}");
    assert_eq!(error.operation, Operation::Open);
    error
}

fn until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < QUICKLY);
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn open_wants_a_directory_and_create_makes_it() {
    let Some(server) = Sshd::start() else { return };
    let at = |path: &str| {
        let mut options = server.options();
        options.path = format!("{}/{path}", options.path);
        options
    };
    fs::write(server.store().join("file"), "").unwrap();
    for missing in ["a", "a/b", "file", "file/a"] {
        assert_eq!(refused(at(missing)).kind, ErrorKind::NotFound, "{missing}");
    }
    let store = SftpBackend::create(at("a/b")).unwrap();
    store.put(&name("x"), &[b"1"]).unwrap();
    for again in [SftpBackend::create(at("a/b")), SftpBackend::open(at("a/b"))] {
        assert_eq!(again.unwrap().get(&name("x"), 1).unwrap(), b"1");
    }
    assert!(SftpBackend::create(at("file")).is_err());
    assert!(SftpBackend::create(at("file/a")).is_err());
    let mode = |path: &str| {
        let metadata = fs::metadata(server.store().join(path)).unwrap();
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!((mode("a/b"), mode("a/b/x")), (0o700, 0o400));
}

#[test]
fn who_is_not_let_in_hears_why() {
    let Some(server) = Sshd::start() else { return };
    let known = fs::read(server.path("known")).unwrap();
    fs::write(server.path("known"), "").unwrap();
    let error = refused(server.options());
    assert_eq!(error.kind, ErrorKind::Login);
    assert!(
        told(&error).contains("Host key verification failed"),
        "{}",
        told(&error)
    );
    fs::write(server.path("known"), known).unwrap();

    let key = fs::read(server.path("user.pub")).unwrap();
    fs::write(server.path("user.pub"), "").unwrap();
    let error = refused(server.options());
    assert_eq!(error.kind, ErrorKind::Login);
    assert!(
        told(&error).contains("Permission denied"),
        "{}",
        told(&error)
    );
    fs::write(server.path("user.pub"), key).unwrap();

    open(&server);
}

#[test]
fn what_cannot_connect_says_so() {
    let Some(mut server) = Sshd::start() else {
        return;
    };
    let options = |words: &[&str]| {
        let mut options = server.options();
        options.ssh = words.iter().map(Into::into).collect();
        options
    };
    let error = refused(options(&["no-such-ssh", "-q"]));
    assert_eq!(error.kind, ErrorKind::NoProgram);
    assert!(told(&error).contains("no-such-ssh"), "{}", told(&error));
    assert_eq!(refused(options(&["false"])).kind, ErrorKind::NoProgram);
    assert_eq!(refused(options(&["true"])).kind, ErrorKind::NoProgram);
    // It swallows all and says nothing.
    let mut silent = options(&["sh", "-c", "exec sleep 600", "ssh"]);
    silent.patience = Duration::from_secs(1);
    let error = refused(silent);
    assert_eq!(error.kind, ErrorKind::Gone);
    assert!(told(&error).contains("within 20 s"), "{}", told(&error));
    // It speaks something else.
    let error = refused(options(&[
        "sh",
        "-c",
        "echo Welcome to this machine",
        "ssh",
    ]));
    assert!(
        matches!(error.kind, ErrorKind::Gone | ErrorKind::NoProgram),
        "{}",
        told(&error)
    );

    server.stop();
    let error = refused(server.options());
    assert_eq!(error.kind, ErrorKind::Gone);
    assert!(told(&error).contains("refused"), "{}", told(&error));
}

#[test]
fn large_objects_go_over_all_connections() {
    let Some(server) = Sshd::start() else { return };
    let store = open(&server);
    let bytes: Vec<u8> = (0..20_000_000_u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    for round in 0..3 {
        let object = name(&format!("packs/{round}/a"));
        // The second is opened once it is wanted.
        until(|| round == 0 || server.clients() == 2);
        let parts: Vec<_> = bytes.chunks(1_234_567).collect();
        store.put(&object, &parts).unwrap();
        assert!(store.get(&object, 20_000_000).unwrap() == bytes);
        let mut range = vec![0; 9_000_000];
        store.get_range(&object, 5_000_001, &mut range).unwrap();
        assert!(range == bytes[5_000_001..14_000_001]);
        let past = store.get_range(&object, 12_000_001, &mut range);
        assert_eq!(kind(past), Some(ErrorKind::Truncated));
    }
    drop(store);
    until(|| server.clients() == 0);
}

#[test]
fn a_server_that_stops_is_given_up_and_found_again() {
    let Some(server) = Sshd::start() else { return };
    let mut options = server.options();
    options.patience = Duration::from_secs(1);
    let store = SftpBackend::open(options).unwrap();
    store.put(&name("a/b"), &[b"1"]).unwrap();
    server.signal(Signal::STOP);
    // Those who connect anew are served, so that this goes on with another connection.
    assert_eq!(store.get(&name("a/b"), 1).unwrap(), b"1");
    server.signal(Signal::KILL);
    store.put_new(&name("a/c"), &[&vec![7; 3_000_000]]).unwrap();
    assert_eq!(names(&store, "a"), ["a/b", "a/c"]);
}

#[test]
fn a_connection_that_breaks_is_replaced() {
    let Some(mut server) = Sshd::start() else {
        return;
    };
    let store = open(&server);
    store.put(&name("a/b"), &[b"1"]).unwrap();
    server.signal(Signal::KILL);
    assert_eq!(store.size(&name("a/b")).unwrap(), 1);
    server.signal(Signal::KILL);
    assert_eq!(names(&store, ""), ["a/b"]);
    server.signal(Signal::KILL);
    store.put(&name("a/c"), &[&vec![7; 5_000_000]]).unwrap();
    server.restart();
    store.delete(&name("a/b")).unwrap();
    assert_eq!(kind(store.delete(&name("a/b"))), Some(ErrorKind::NotFound));
    server.stop();
    let begun = Instant::now();
    let error = store.get(&name("a/c"), 5_000_000).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Gone);
    assert!(begun.elapsed() < QUICKLY);
}

#[test]
fn whoever_asks_to_stop_does_not_wait_for_the_server() {
    let Some(server) = Sshd::start() else { return };
    let options = server.options();
    let cancel = options.cancel.clone();
    let store = SftpBackend::open(options).unwrap();
    server.signal(Signal::STOP);
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            cancel.cancel();
        });
        assert_eq!(kind(store.size(&name("a"))), Some(ErrorKind::Gone));
    });
    assert!(begun.elapsed() < QUICKLY / 2);
}

#[test]
fn leftovers_are_removed_once_they_are_old() {
    let Some(server) = Sshd::start() else { return };
    let store = open(&server);
    store.put(&name("a/b/c"), &[b"1"]).unwrap();
    for (path, hours) in [
        (".tmp-00000000000000aa", 25),
        ("a/b/.tmp-00000000000000aa", 25),
        ("a/b/.tmp-00000000000000bb", 23),
        ("a/b/.tmp-stray", 1000),
    ] {
        let file = fs::File::create_new(server.store().join(path)).unwrap();
        let then = SystemTime::now() - Duration::from_hours(hours);
        file.set_modified(then).unwrap();
    }
    assert_eq!(names(&store, ""), ["a/b/c"]);
    let day = Duration::from_hours(24);
    assert_eq!(store.remove_leftovers("", day).unwrap(), 2);
    assert_eq!(store.remove_leftovers("", day).unwrap(), 0);
    let rest = [
        "a",
        "a/b",
        "a/b/.tmp-00000000000000bb",
        "a/b/.tmp-stray",
        "a/b/c",
    ];
    assert_eq!(tree(&server.store()), rest);
    assert_eq!(store.remove_leftovers("a", day / 2).unwrap(), 1);
}

#[test]
fn a_failure_leaves_no_temporary_file() {
    let Some(server) = Sshd::start() else { return };
    let store = open(&server);
    store.put(&name("a/b"), &[b"1"]).unwrap();
    let before = tree(&server.store());
    assert!(store.put(&name("a"), &[b"2"]).is_err());
    assert!(store.put_new(&name("a"), &[b"2"]).is_err());
    assert!(store.put(&name("a/b/c"), &[b"2"]).is_err());
    assert_eq!(
        kind(store.put_new(&name("a/b"), &[b"2"])),
        Some(ErrorKind::Exists)
    );
    assert_eq!(tree(&server.store()), before);
}

/// Neither renames that replace, nor links, nor a way to wait for the disk.
#[test]
fn a_server_without_extensions_will_do() {
    let without = "internal-sftp -P posix-rename,hardlink,fsync,statvfs,limits";
    let Some(server) = Sshd::start_with(without) else {
        return;
    };
    let store = open(&server);
    let large = vec![7; 3_000_000];
    store.put(&name("a/b/c"), &[&large]).unwrap();
    store.put(&name("a/b/c"), &[&large]).unwrap();
    assert!(store.get(&name("a/b/c"), 3_000_000).unwrap() == large);
    assert_eq!(
        kind(store.put(&name("a/b/c"), &[b"else"])),
        Some(ErrorKind::Exists)
    );
    store.put_new(&name("n"), &[b"1"]).unwrap();
    assert_eq!(
        kind(store.put_new(&name("n"), &[b"2"])),
        Some(ErrorKind::Exists)
    );
    assert_eq!(store.get(&name("n"), 1).unwrap(), b"1");
    assert_eq!(tree(&server.store()), ["a", "a/b", "a/b/c", "n"]);
    store.delete(&name("n")).unwrap();
    assert_eq!(names(&store, ""), ["a/b/c"]);
}

#[test]
fn a_full_or_read_only_disk_is_said_to_be_so() {
    let Some(server) = Sshd::start() else { return };
    let Some(disk) = SmallDisk::mount(1 << 10) else {
        return;
    };
    let mut options = server.options();
    options.path = disk.path().to_str().unwrap().to_owned();
    let store = SftpBackend::open(options).unwrap();
    store.put(&name("packs/a"), &[&vec![1; 100_000]]).unwrap();
    let before = tree(disk.path());
    for size in [1_500_000, 3_000_000] {
        let error = store.put(&name("packs/b"), &[&vec![2; size]]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Full);
        assert!(told(&error).contains("free of 1.0 MiB"), "{}", told(&error));
        assert_eq!(tree(disk.path()), before);
    }
    disk.make_read_only();
    assert_eq!(
        kind(store.put(&name("packs/b"), &[b"1"])),
        Some(ErrorKind::ReadOnly)
    );
    assert_eq!(
        kind(store.delete(&name("packs/a"))),
        Some(ErrorKind::ReadOnly)
    );
    assert_eq!(store.get(&name("packs/a"), 100_000).unwrap().len(), 100_000);
}

#[test]
fn limits_are_kept() {
    let Some(server) = Sshd::start() else { return };
    let mut options = server.options();
    options.limits.upload = Rate::new((4 << 20).try_into().unwrap());
    let store = SftpBackend::open(options).unwrap();
    let begun = Instant::now();
    store.put(&name("a"), &[&vec![1; 6 << 20]]).unwrap();
    assert!(begun.elapsed() > Duration::from_secs(1));
}
