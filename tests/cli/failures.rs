//! Tests with bad input, and with stores and disks that fail. A command must exit with the right
//! code. Its message must state what it attempted, on which object, the cause, and the next step.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

use serde_json::Value;

use crate::support::program::{self, CHEAP_KEY, PASSWORD, World, damage, finish, until};
use crate::support::{LoopDevice, SmallDisk, noise, skip};

const MIB: usize = 1 << 20;

#[track_caller]
pub(super) fn assert_error(message: &str, expected: &[&str]) {
    let begins = message.starts_with("error: ") || message.contains("\nerror: ");
    assert!(begins, "{message}");
    assert!(message.contains("\n  next: "), "no next step: {message}");
    for part in expected {
        assert!(message.contains(part), "no “{part}” in {message}");
    }
}

/// Runs a command with `--json` that must fail with this code. Returns its error.
#[track_caller]
fn exit_error(world: &World, args: &[&str], code: i32) -> Value {
    let line = world.fails(&[args, &["--json"]].concat(), code);
    let error: Value = serde_json::from_str(line.lines().last().unwrap()).unwrap();
    assert_eq!(error["message_type"], "exit_error");
    assert_eq!(error["code"], code);
    assert!(
        error["message"].is_string() && error["hint"].is_string(),
        "{error}"
    );
    error
}

#[test]
fn a_missing_repository_exits_with_10() {
    let mut world = World::empty();
    let disk = world.write("disk.img", b"x");
    // Unset the password, too, since these commands must not need one.
    world.set("CUTTLEBONE_PASSWORD", "");
    for args in [
        &["list"][..],
        &["check"],
        &["backup", &disk],
        &["key", "list"],
    ] {
        assert_error(
            &world.fails(args, 10),
            &["no repository", &world.at("repo"), "cuttlebone init"],
        );
    }
    exit_error(&world, &["list"], 10);
    fs::create_dir(world.repository()).unwrap();
    assert_error(&world.fails(&["list"], 10), &["no repository"]);
    world.fails(&["list", "-r", &disk], 10);
}

#[test]
fn a_wrong_password_exits_with_12() {
    let mut world = World::empty();
    world.ok(&["init", "-q"]);
    world.set("CUTTLEBONE_PASSWORD", "wrong");
    let ran = world.run(&["list"]);
    assert_eq!(ran.code, Some(12));
    assert_error(&ran.stderr, &["no key", &world.at("repo")]);
    exit_error(&world, &["list"], 12);
}

#[test]
fn a_missing_password_is_an_error_that_says_how_to_give_one() {
    let mut world = World::new();
    world.set("CUTTLEBONE_PASSWORD", "");
    assert_error(
        &world.fails(&["list"], 1),
        &["no password", "--password-file"],
    );
    let empty = world.write("empty", b"\n");
    assert_error(
        &world.fails(&["list", "--password-file", &empty], 1),
        &[&format!("the password file {empty} is empty")],
    );
    let missing = world.at("missing");
    assert_error(
        &world.fails(&["list", "--password-file", &missing], 1),
        &[&missing, "No such file"],
    );
    assert_error(
        &world.fails(&["list", "--password-command", "exit 3"], 1),
        &["command failed", "3"],
    );
    assert_error(
        &world.fails(
            &["init", "-r", &world.at("new"), "--password-file", &empty],
            1,
        ),
        &[&empty],
    );
    assert!(!world.path("new").exists());
    let file = world.write("file", PASSWORD.as_bytes());
    world.ok(&["list", "--password-file", &file]);
    world.ok(&["list", "--password-command", &format!("cat {file}")]);
    let stdin = File::open(&file).unwrap();
    assert_eq!(
        world
            .run_with_stdin(&["list", "--password-file", "-"], stdin)
            .code,
        Some(0)
    );
}

#[test]
fn a_newer_format_is_refused() {
    let world = World::new();
    for name in ["cuttlebone", "cuttlebone.copy"] {
        let path = world.repository().join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] = 2;
        let hash = blake3::hash(&bytes[..72]);
        bytes[72..].copy_from_slice(hash.as_bytes());
        fs::write(path, bytes).unwrap();
    }
    assert_error(&world.fails(&["list"], 1), &["version", "newer"]);
}

#[test]
fn the_repository_file_is_read_from_its_other_copy_if_one_is_damaged() {
    let world = World::new();
    let file = world.repository().join("cuttlebone");
    damage(&file);
    let ran = world.run(&["list"]);
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.stderr.contains("using its other copy"),
        "{}",
        ran.stderr
    );
    assert_error(
        &world.fails(&["check"], 21),
        &["0 backups affected", "every backup can still be restored"],
    );
    fs::remove_file(&file).unwrap();
    world.ok(&["list"]);
    damage(&world.repository().join("cuttlebone.copy"));
    assert_error(&world.fails(&["list"], 21), &["repository file", "damaged"]);
}

#[test]
fn a_source_that_is_not_an_image_is_refused() {
    let world = World::new();
    let fifo = world.at("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    assert_error(
        &world.fails(&["backup", &fifo], 1),
        &[&fifo, "named pipe", "backup -"],
    );
    let directory = world.at("repo");
    assert_error(
        &world.fails(&["backup", &directory], 1),
        &[&directory, "a directory"],
    );
    let missing = world.at("missing");
    assert_error(
        &world.fails(&["backup", &missing], 1),
        &[&missing, "No such file"],
    );
    assert_error(
        &world.fails(&["backup", "/dev/null"], 1),
        &["/dev/null", "character device"],
    );
    // Files of the kernel have content but no size, or cannot be read at all.
    assert_error(
        &world.fails(&["backup", "/proc/cpuinfo"], 1),
        &["/proc/cpuinfo", "size"],
    );
    assert_error(
        &world.fails(&["backup", "/proc/self/mem"], 1),
        &["could not read /proc/self/mem"],
    );
    assert_eq!(world.ok(&["list"]), "no backups\n");
}

#[test]
fn a_damaged_cache_is_rebuilt_without_printing_a_panic() {
    let world = World::new();
    let disk = world.write("disk.img", &noise(1, 20 * MIB));
    world.backup(&[&disk]);
    let caches = program::files(&world.path("cache"));
    let cache = caches.iter().find(|path| path.ends_with("index-0.redb"));
    let cache = cache.unwrap();
    let whole = caches.iter().map(|path| (path, fs::read(path).unwrap()));
    let whole: Vec<_> = whole.collect();
    let written = cache.metadata().unwrap().modified().unwrap();
    let mut noticed = 0;
    for page in 0..cache.metadata().unwrap().len() / 4096 {
        for (path, bytes) in &whole {
            fs::write(path, bytes).unwrap();
        }
        let file = File::options().write(true).open(cache).unwrap();
        file.write_all_at(&[0x55; 4096], page * 4096).unwrap();
        // Restore the time of modification, so that the program trusts the file.
        file.set_modified(written).unwrap();
        let ran = world.run(&["check"]);
        assert_eq!(ran.code, Some(0), "page {page}: {ran:?}");
        assert!(!ran.stderr.contains("panicked"), "page {page}: {ran:?}");
        noticed += usize::from(ran.stderr.contains("rebuilding the local index"));
    }
    assert!(noticed > 0);
}

#[test]
fn a_source_that_changes_while_it_is_read_fails_the_backup() {
    let world = World::new();
    let disk = world.write("disk.img", &noise(1, 256 * MIB));
    for (what, expected) in [
        ("write", "changed while it was read"),
        ("shrink", "truncated"),
    ] {
        let args = ["backup", &disk, "--volume", what];
        let mut child = world.start(&args);
        let before = world.packs().len();
        until(&mut child, || world.packs().len() > before);
        let file = File::options().write(true).open(&disk).unwrap();
        match what {
            "write" => file.write_all_at(&noise(2, 4096), 0).unwrap(),
            _ => file.set_len(MIB as u64).unwrap(),
        }
        let ran = finish(child, &args);
        assert_eq!(ran.code, Some(1), "{what}: {ran:?}");
        assert_error(&ran.stderr, &[&disk, "snapshot"]);
        assert!(
            ran.stderr.contains(expected) || ran.stderr.contains("changed while it was read"),
            "{}",
            ran.stderr
        );
        // Use new data: the failed backup has stored some of the old data.
        fs::write(&disk, noise(3, 256 * MIB)).unwrap();
    }
    assert_eq!(world.ok(&["list"]), "no backups\n");
    world.is_clean();
}

#[test]
fn a_device_with_unreadable_sectors_fails_the_backup() {
    let content = noise(4, 8 * MIB);
    let Some(disk) = LoopDevice::new(&content) else {
        return;
    };
    disk.fail_from(2 << 20);
    if fs::read(&disk.device).is_ok() {
        skip("reading past the end of the file behind a loop device does not fail here");
        return;
    }
    let world = World::new();
    let failed = world.run(&["backup", &disk.device, "--volume", "v"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert_error(
        &failed.stderr,
        &[&disk.device, "at byte", "Input/output error"],
    );
    assert_eq!(world.ok(&["list"]), "no backups\n");
}

#[test]
fn a_source_that_could_be_the_name_of_an_image_gets_a_hint() {
    let world = World::new();
    for (source, expected) in [
        ("vms/web1", Some("write rbd:vms/web1")),
        ("vms/ns/web1", Some("write rbd:vms/ns/web1")),
        ("./web1", None),
        ("web1", None),
        ("/vms/web1", None),
    ] {
        let error = world.fails(&["backup", source], 1);
        assert!(error.contains("No such file"), "{error}");
        assert_eq!(error.contains("rbd:"), expected.is_some(), "{error}");
        assert!(error.contains(expected.unwrap_or_default()), "{error}");
    }
}

#[test]
fn an_unsuitable_target_is_refused_and_not_changed() {
    let world = World::new();
    let disk = world.write("disk.img", &noise(5, 2 * MIB));
    world.backup(&[&disk]);
    let existing = world.write("existing", b"precious");
    assert_error(
        &world.fails(&["restore", "disk.img", &existing], 1),
        &[&existing, "exists", "--force"],
    );
    assert_eq!(fs::read(&existing).unwrap(), b"precious");
    let nowhere = world.at("no/where");
    assert_error(
        &world.fails(&["restore", "disk.img", &nowhere], 1),
        &[&nowhere, "No such file"],
    );
    world.fails(&["restore", "disk.img", &world.at("cache"), "--force"], 1);
    world.fails(
        &["restore", "disk.img", &world.at("missing"), "--in-place"],
        1,
    );

    let before = noise(6, MIB);
    let Some(device) = LoopDevice::new(&before) else {
        return;
    };
    for way in [&[][..], &["--in-place"], &["--force"]] {
        let args = [&["restore", "disk.img", &device.device], way].concat();
        assert_error(
            &world.fails(&args, 1),
            &[&device.device, "1048576", "2097152"],
        );
    }
    assert!(fs::read(&device.device).unwrap() == before);
}

#[test]
fn a_backup_to_a_full_disk_fails_and_succeeds_when_there_is_space() {
    let Some(disk) = SmallDisk::mount(90 << 10) else {
        return;
    };
    let mut world = World::new();
    world.set("CUTTLEBONE_REPOSITORY", disk.path().join("repo"));
    world.ok(&["init", "-q"]);
    let small = world.write("small", &noise(7, MIB));
    world.backup(&[&small]);
    let size = 200 * MIB;
    let large = world.write("large", &noise(8, size));
    let mount = disk.path().to_str().unwrap();
    assert_error(
        &world.fails(&["backup", &large], 1),
        &[
            "could not store",
            mount,
            "free of 90.0 MiB",
            "free some space",
        ],
    );
    world.is_clean();
    world.restores("small", &small);

    disk.resize(400 << 10);
    let summary = world.backup(&[&large]);
    let new = summary["bytes_new"].as_u64().unwrap();
    assert!(
        new <= (size - 32 * MIB) as u64,
        "the second backup uses the data that the first one stored: {summary}"
    );
    world.restores("large", &large);
    world.is_clean();

    // The error names a full target, too, and no file is left.
    disk.resize(300 << 10);
    let target = disk.path().join("target");
    let output = world.fails(&["restore", "large", target.to_str().unwrap()], 1);
    assert_error(
        &output,
        &["could not write", target.to_str().unwrap(), "free"],
    );
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 1);
}

#[test]
fn the_error_says_that_the_disk_has_no_free_inode() {
    let Some(disk) = SmallDisk::mount(90 << 10) else {
        return;
    };
    let mut world = World::new();
    world.set("CUTTLEBONE_REPOSITORY", disk.path().join("repo"));
    world.ok(&["init", "-q"]);
    let image = world.write("image", &noise(7, MIB));
    disk.allow_files(2);
    let error = world.fails(&["backup", &image], 1);
    assert_error(&error, &["no inode free of", "free some space"]);
    disk.allow_files(1000);
    world.backup(&[&image]);
    world.is_clean();
}

#[test]
fn init_of_a_repository_that_exists_does_not_add_a_project() {
    let world = World::new();
    let args = [&["init", "--project", "tenant2"][..], &CHEAP_KEY].concat();
    assert_error(
        &world.fails(&args, 1),
        &[
            &world.at("repo"),
            "no command adds a project to a repository yet",
        ],
    );
    assert_error(
        &world.fails(&["list", "--project", "tenant2"], 24),
        &["no project “tenant2”", "no command adds a project yet"],
    );
}

#[test]
fn a_read_only_repository_can_be_read() {
    let Some(disk) = SmallDisk::mount(100 << 10) else {
        return;
    };
    let mut world = World::new();
    world.set("CUTTLEBONE_REPOSITORY", disk.path().join("repo"));
    world.ok(&["init", "-q"]);
    let image = world.write("disk.img", &noise(9, MIB));
    world.backup(&[&image]);
    let mount = disk.path().to_str().unwrap();
    disk.make_read_only();
    let other = world.write("other", &noise(10, MIB));
    assert_error(
        &world.fails(&["backup", &other], 1),
        &[mount, "Read-only", "mount the file system read-write"],
    );
    world.restores("disk.img", &image);
    world.ok(&["list"]);
    world.is_clean();
}

#[test]
fn a_backup_works_if_the_cache_cannot_be_written() {
    let mut world = World::new();
    let disk = world.write("disk.img", &noise(11, MIB));
    world.set("CUTTLEBONE_CACHE_DIR", format!("{disk}/cache"));
    let ran = world.run(&["backup", &disk]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for args in [&format!("{disk}/cache"), "Not a directory"] {
        assert!(ran.stderr.contains(args), "{}", ran.stderr);
    }
    world.restores("disk.img", &disk);
}

#[test]
fn an_unknown_name_is_reported_with_the_command_that_lists_names() {
    let mut world = World::new();
    let disk = world.write("disk.img", &noise(12, MIB));
    world.backup(&[&disk]);
    for selector in [
        "nope",
        "nope~1",
        "disk.img~20",
        "disk.img@snap",
        "ffffffffffffffffffff",
    ] {
        assert_error(
            &world.fails(&["show", selector], 24),
            &[selector, "cuttlebone list"],
        );
    }
    assert_error(
        &world.fails(&["list", "nope"], 24),
        &["“nope”", "cuttlebone list"],
    );
    assert!(world.json(&["list", "nope"]).is_empty());
    assert_error(
        &world.fails(&["restore", "nope", &world.at("x")], 24),
        &["“nope”"],
    );
    assert_error(
        &world.fails(&["compare", "disk.img", "nope"], 24),
        &["“nope”"],
    );
    assert_error(
        &world.fails(&["--project", "nope", "list"], 24),
        &["“nope”", "default"],
    );
    // There are 17 ids but only 16 hexadecimal digits, so two ids begin with the same digit.
    for number in 0..16 {
        let new = world.write("new", format!("new {number}").as_bytes());
        let add = ["key", "add", "-q", "--new-password-file", &new];
        world.ok(&[&add[..], &CHEAP_KEY].concat());
    }
    let keys = world.json(&["key", "list"]);
    let first = |line: &Value| line["key_id"].as_str().unwrap()[..1].to_owned();
    let digits: Vec<_> = keys.iter().map(first).collect();
    let twice = digits
        .iter()
        .find(|digit| digits.iter().filter(|d| d == digit).count() > 1);
    assert_error(
        &world.fails(&["key", "remove", twice.unwrap()], 2),
        &["more than one", "digits"],
    );
    world.set("CUTTLEBONE_REPOSITORY", "");
    assert_error(
        &world.fails(&["list"], 2),
        &["no repository given", "--repo"],
    );
}

#[test]
fn wrong_usage_exits_with_2() {
    let world = World::empty();
    assert!(world.fails(&["bakup", "x"], 2).contains("'backup'"));
    assert!(
        world
            .fails(&["backup", "x", "--volme", "v"], 2)
            .contains("--volume")
    );
    assert!(
        world
            .fails(&["backup", "x", "--label", "novalue"], 2)
            .contains("KEY=VALUE")
    );
    for args in [
        &["backup"][..],
        &["restore", "a"],
        &["restore", "a", "b", "--force", "--in-place"],
        &["backup", "-"],
        &["init", "--chunk-size", "3K"],
        &["key", "passwd", "--this-project"],
        &["restore", "a", "-", "--json"],
        &["-r", "s3:bucket/x", "list"],
    ] {
        world.fails(args, 2);
    }
}

#[test]
fn a_password_is_never_printed_or_stored() {
    const SECRET: &str = "whisper-4711";
    let mut world = World::empty();
    world.set("CUTTLEBONE_PASSWORD", SECRET);
    world.ok(&[&["init", "-q"][..], &CHEAP_KEY].concat());
    let disk = world.write("disk.img", &noise(13, 64 * MIB));
    // Test the environment of a child, and the command line that other processes can see.
    let secret = world.write("secret", SECRET.as_bytes());
    let command = format!(
        "env >{0}/env; cat /proc/$PPID/cmdline >{0}/ps; cat {secret}",
        world.at(".")
    );
    let ran = world.run(&["backup", &disk, "-v", "--password-command", &command]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut seen = fs::read_to_string(world.path("env")).unwrap();
    assert!(seen.contains("CUTTLEBONE_REPOSITORY"), "{seen}");
    seen += &fs::read_to_string(world.path("ps")).unwrap();
    seen += &ran.stderr;
    seen += &String::from_utf8(ran.stdout).unwrap();
    for args in [
        &["list"][..],
        &["key", "list"],
        &["nope"],
        &["--help"],
        &["list", "--json"],
    ] {
        let ran = world.run(args);
        seen += &ran.stderr;
        seen += &String::from_utf8(ran.stdout).unwrap();
    }
    assert!(!seen.contains(SECRET), "{seen}");
    for file in program::files(&world.path("cache")) {
        let bytes = fs::read(&file).unwrap();
        assert!(
            !bytes
                .windows(SECRET.len())
                .any(|window| window == SECRET.as_bytes()),
            "{file:?}"
        );
    }
}
