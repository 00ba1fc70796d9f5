//! A store on a server: logging in, and connections that stall, break or are refused.

#![expect(clippy::unwrap_used, reason = "a failed call fails the test")]

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cuttlebone::base::Cancel;
use cuttlebone::storage::{
    Backend, LimitBackend, Limits, Rate, RetryBackend, RetryPolicy, SftpBackend, SftpOptions,
    StorageError, StorageErrorKind, StorageOperation,
};
use rustix::process::Signal;

use super::local::tree;
use super::{kind, name, names};
use crate::support::SmallDisk;
use crate::support::Sshd;

/// The time that a failure may take at most, even on a busy machine.
const QUICKLY: Duration = Duration::from_mins(1);

fn open(server: &Sshd) -> RetryBackend<SftpBackend> {
    open_with(server.options())
}

fn open_with(options: SftpOptions) -> RetryBackend<SftpBackend> {
    let policy = RetryPolicy::with_deadline(options.timeout);
    let cancel = options.cancel.clone();
    RetryBackend::new(SftpBackend::open(options).unwrap(), policy, cancel)
}

/// Returns the message of an error, followed by that of its cause.
fn message(error: &StorageError) -> String {
    let cause = error.source().map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

fn refused(options: SftpOptions) -> StorageError {
    let begun = Instant::now();
    let error = SftpBackend::open(options).unwrap_err();
    assert!(begun.elapsed() < QUICKLY, "{error}");
    assert_eq!(error.operation, StorageOperation::Open);
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
fn open_needs_a_directory_on_the_server_and_create_makes_it() {
    let Some(server) = Sshd::start() else { return };
    let at = |path: &str| {
        let mut options = server.options();
        options.path = format!("{}/{path}", options.path);
        options
    };
    fs::write(server.store().join("file"), "").unwrap();
    for missing in ["a", "a/b", "file", "file/a"] {
        assert_eq!(
            refused(at(missing)).kind,
            StorageErrorKind::NotFound,
            "{missing}"
        );
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
fn a_refused_login_gives_ssh_s_reason() {
    let Some(server) = Sshd::start() else { return };
    let known = fs::read(server.path("known")).unwrap();
    fs::write(server.path("known"), "").unwrap();
    let error = refused(server.options());
    assert_eq!(error.kind, StorageErrorKind::LoginRefused);
    assert!(
        message(&error).contains("Host key verification failed"),
        "{}",
        message(&error)
    );
    fs::write(server.path("known"), known).unwrap();

    let key = fs::read(server.path("user.pub")).unwrap();
    fs::write(server.path("user.pub"), "").unwrap();
    let error = refused(server.options());
    assert_eq!(error.kind, StorageErrorKind::LoginRefused);
    assert!(
        message(&error).contains("Permission denied"),
        "{}",
        message(&error)
    );
    fs::write(server.path("user.pub"), key).unwrap();

    open(&server);
}

#[test]
fn a_failed_connection_gives_its_reason() {
    let Some(mut server) = Sshd::start() else {
        return;
    };
    let options = |args: &[&str]| {
        let mut options = server.options();
        options.ssh = args.iter().map(Into::into).collect();
        options
    };
    let error = refused(options(&["no-such-ssh", "-q"]));
    assert_eq!(error.kind, StorageErrorKind::NoProgram);
    assert!(
        message(&error).contains("no-such-ssh"),
        "{}",
        message(&error)
    );
    assert_eq!(
        refused(options(&["false"])).kind,
        StorageErrorKind::NoProgram
    );
    assert_eq!(
        refused(options(&["true"])).kind,
        StorageErrorKind::NoProgram
    );
    // This command prints a greeting, as a login shell may. It reads its input, and does not end.
    let greeter = [
        "sh",
        "-c",
        "echo; echo Welcome to vault; exec cat >/dev/null",
        "ssh",
    ];
    let error = refused(options(&greeter));
    assert_eq!(error.kind, StorageErrorKind::Greeting);
    assert!(
        message(&error).contains("“Welcome to vault”"),
        "{}",
        message(&error)
    );
    // This command neither reads its input nor writes anything.
    let mut silent = options(&["sh", "-c", "exec sleep 600", "ssh"]);
    silent.timeout = Duration::from_secs(1);
    let error = refused(silent);
    assert_eq!(error.kind, StorageErrorKind::Unavailable);
    assert!(
        message(&error).contains("within 20 s"),
        "{}",
        message(&error)
    );
    // This command prints a greeting and ends.
    let error = refused(options(&[
        "sh",
        "-c",
        "echo Welcome to this machine",
        "ssh",
    ]));
    assert_eq!(error.kind, StorageErrorKind::Greeting);
    assert!(
        message(&error).contains("“Welcome to this machine”"),
        "{}",
        message(&error)
    );

    server.stop();
    let error = refused(server.options());
    assert_eq!(error.kind, StorageErrorKind::Unavailable);
    assert!(message(&error).contains("refused"), "{}", message(&error));
}

#[test]
fn large_objects_use_all_connections() {
    let Some(server) = Sshd::start() else { return };
    let store = open(&server);
    let bytes: Vec<u8> = (0..20_000_000_u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    for round in 0..3 {
        let object = name(&format!("packs/{round}/a"));
        // The second connection is opened only when it is needed.
        until(|| round == 0 || server.clients() == 2);
        let parts: Vec<_> = bytes.chunks(1_234_567).collect();
        store.put(&object, &parts).unwrap();
        assert!(store.get(&object, 20_000_000).unwrap() == bytes);
        let mut range = vec![0; 9_000_000];
        store.get_range(&object, 5_000_001, &mut range).unwrap();
        assert!(range == bytes[5_000_001..14_000_001]);
        let past = store.get_range(&object, 12_000_001, &mut range);
        assert_eq!(kind(past), Some(StorageErrorKind::Truncated));
    }
    drop(store);
    until(|| server.clients() == 0);
}

#[test]
fn a_connection_to_a_stopped_server_process_is_replaced() {
    let Some(server) = Sshd::start() else { return };
    let mut options = server.options();
    options.timeout = Duration::from_secs(1);
    let store = open_with(options);
    store.put(&name("a/b"), &[b"1"]).unwrap();
    server.signal(Signal::STOP);
    // The server accepts a new connection, on which the operation is repeated.
    assert_eq!(store.get(&name("a/b"), 1).unwrap(), b"1");
    server.signal(Signal::KILL);
    store.put_new(&name("a/c"), &[&vec![7; 3_000_000]]).unwrap();
    assert_eq!(names(&store, "a"), ["a/b", "a/c"]);
}

#[test]
fn a_broken_connection_is_replaced() {
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
    assert_eq!(
        kind(store.delete(&name("a/b"))),
        Some(StorageErrorKind::NotFound)
    );
    server.stop();
    let begun = Instant::now();
    let error = store.get(&name("a/c"), 5_000_000).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Unavailable);
    assert!(begun.elapsed() < QUICKLY);
}

#[test]
fn cancelling_does_not_wait_for_the_server() {
    let Some(server) = Sshd::start() else { return };
    let options = server.options();
    let cancel = options.cancel.clone();
    let store = open_with(options);
    server.signal(Signal::STOP);
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            cancel.cancel();
        });
        assert_eq!(
            kind(store.size(&name("a"))),
            Some(StorageErrorKind::Unavailable)
        );
    });
    assert!(begun.elapsed() < QUICKLY / 2);
}

#[test]
fn old_temporary_files_on_a_server_are_removed() {
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
fn a_failed_upload_leaves_no_temporary_file_on_the_server() {
    let Some(server) = Sshd::start() else { return };
    let store = open(&server);
    store.put(&name("a/b"), &[b"1"]).unwrap();
    let before = tree(&server.store());
    assert!(store.put(&name("a"), &[b"2"]).is_err());
    assert!(store.put_new(&name("a"), &[b"2"]).is_err());
    assert!(store.put(&name("a/b/c"), &[b"2"]).is_err());
    assert_eq!(
        kind(store.put_new(&name("a/b"), &[b"2"])),
        Some(StorageErrorKind::Exists)
    );
    assert_eq!(tree(&server.store()), before);
}

/// The server has no rename that replaces a file, no hard links, and no request to sync a file.
#[test]
fn a_server_without_extensions_can_be_used() {
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
        Some(StorageErrorKind::Exists)
    );
    store.put_new(&name("n"), &[b"1"]).unwrap();
    assert_eq!(
        kind(store.put_new(&name("n"), &[b"2"])),
        Some(StorageErrorKind::Exists)
    );
    assert_eq!(store.get(&name("n"), 1).unwrap(), b"1");
    assert_eq!(tree(&server.store()), ["a", "a/b", "a/b/c", "n"]);
    store.delete(&name("n")).unwrap();
    assert_eq!(names(&store, ""), ["a/b/c"]);
}

#[test]
fn a_full_or_read_only_disk_of_a_server_is_reported_as_such() {
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
        assert_eq!(error.kind, StorageErrorKind::Full);
        assert!(
            message(&error).contains("free of 1.0 MiB"),
            "{}",
            message(&error)
        );
        assert_eq!(tree(disk.path()), before);
    }
    disk.make_read_only();
    assert_eq!(
        kind(store.put(&name("packs/b"), &[b"1"])),
        Some(StorageErrorKind::ReadOnly)
    );
    assert_eq!(
        kind(store.delete(&name("packs/a"))),
        Some(StorageErrorKind::ReadOnly)
    );
    assert_eq!(store.get(&name("packs/a"), 100_000).unwrap().len(), 100_000);
}

#[test]
fn an_upload_limit_is_kept_block_by_block() {
    let Some(server) = Sshd::start() else { return };
    let limits = Limits {
        upload: Rate::new((4 << 20).try_into().unwrap()),
        download: Rate::default(),
    };
    let store = SftpBackend::open(server.options()).unwrap();
    let store = LimitBackend::new(store, limits, Cancel::default());
    // If the limit delayed only the next object, a single object would not be delayed.
    let begun = Instant::now();
    store.put(&name("a"), &[&vec![1; 6 << 20]]).unwrap();
    assert!(begun.elapsed() > Duration::from_secs(1));
}

/// If the server opened the FIFO, it would wait for a program that writes to the FIFO.
#[test]
fn a_fifo_in_the_place_of_an_object_stalls_no_read_and_no_later_operation() {
    let Some(server) = Sshd::start() else { return };
    let store = open(&server);
    store.put(&name("a/1"), &[b"content"]).unwrap();
    let fifo = server.store().join("a/2");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    std::os::unix::fs::symlink("2", server.store().join("a/3")).unwrap();
    let begun = Instant::now();
    for object in ["a/2", "a/3"] {
        let error = store.get(&name(object), 100).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::NotAFile, "{error}");
        let error = store.get_range(&name(object), 0, &mut [0; 4]).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::NotAFile, "{error}");
        assert_eq!(store.get(&name("a/1"), 100).unwrap(), b"content");
    }
    let limit = server.options().timeout;
    assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
}
