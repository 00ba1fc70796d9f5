//! Tests of a store in a directory: the modes of its files, files that are not objects, and disks
//! that are full or read-only.

#![expect(clippy::unwrap_used, reason = "a failed call fails the test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use cuttlebone::storage::{Backend, LocalBackend, StorageErrorKind, StorageOperation};

use super::{kind, name, names};
use crate::support::{SmallDisk, modes_apply};

/// Returns the paths of everything below a directory, including hidden files.
pub(super) fn tree(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(directory).unwrap().display().to_string());
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn open_needs_a_local_directory_and_create_makes_it() {
    let place = tempfile::tempdir().unwrap();
    let missing = place.path().join("a/b");
    let error = LocalBackend::open(&missing).unwrap_err();
    assert_eq!(
        (error.kind, error.operation),
        (StorageErrorKind::NotFound, StorageOperation::Open)
    );
    assert!(
        error.to_string().contains(missing.to_str().unwrap()),
        "{error}"
    );
    assert_eq!(tree(place.path()), [""; 0]);

    LocalBackend::create(&missing)
        .unwrap()
        .put(&name("x"), &[b"1"])
        .unwrap();
    assert_eq!(mode(&missing), 0o700);
    for again in [LocalBackend::create(&missing), LocalBackend::open(&missing)] {
        assert_eq!(again.unwrap().get(&name("x"), 1).unwrap(), b"1");
    }

    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(
        kind(LocalBackend::open(&file)),
        Some(StorageErrorKind::NotFound)
    );
    assert!(LocalBackend::create(&file).is_err());
    assert!(LocalBackend::create(file.join("below")).is_err());
}

#[test]
fn files_are_private_to_the_user_and_read_only_unless_they_are_replaced() {
    let place = tempfile::tempdir().unwrap();
    let store = LocalBackend::open(place.path()).unwrap();
    store.put(&name("a/b/c"), &[b"1"]).unwrap();
    store.put_new(&name("a/b/d"), &[b"1"]).unwrap();
    store.put(&name("a/leases/e"), &[b"1"]).unwrap();
    for (path, bits) in [
        ("a/leases/e", 0o600),
        ("a", 0o700),
        ("a/b", 0o700),
        ("a/b/c", 0o400),
        ("a/b/d", 0o400),
    ] {
        assert_eq!(mode(&place.path().join(path)), bits, "{path}");
    }
}

#[test]
fn a_directory_that_the_user_removed_is_created_again() {
    let place = tempfile::tempdir().unwrap();
    let store = LocalBackend::open(place.path()).unwrap();
    for _ in 0..3 {
        store.put(&name("a/b/c"), &[b"1"]).unwrap();
        fs::remove_dir_all(place.path().join("a")).unwrap();
        assert_eq!(names(&store, ""), [""; 0]);
    }
    store.put_new(&name("a/b/c"), &[b"1"]).unwrap();
    assert_eq!(names(&store, ""), ["a/b/c"]);
}

#[test]
fn the_store_moves_with_its_directory() {
    let place = tempfile::tempdir().unwrap();
    let (old, new) = (place.path().join("old"), place.path().join("new"));
    let store = LocalBackend::create(&old).unwrap();
    store.put(&name("a/1"), &[b"1"]).unwrap();
    fs::rename(&old, &new).unwrap();
    store.put(&name("a/2"), &[b"2"]).unwrap();
    assert_eq!(tree(place.path()), ["new", "new/a", "new/a/1", "new/a/2"]);

    fs::remove_dir_all(&new).unwrap();
    assert_eq!(
        kind(store.put(&name("3"), &[b"3"])),
        Some(StorageErrorKind::NotFound)
    );
    assert_eq!(
        kind(store.put(&name("a/3"), &[b"3"])),
        Some(StorageErrorKind::NotFound)
    );
}

#[test]
fn other_files_are_not_listed_and_symbolic_links_are_not_followed() {
    let place = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x"), "outside").unwrap();
    let at = |path: &str| place.path().join(path);
    let store = LocalBackend::open(place.path()).unwrap();
    store.put(&name("a/b"), &[b"1"]).unwrap();
    for stray in [
        ".tmp-0011",
        "a/.tmp-22",
        "README",
        "a/ü",
        "a/b~",
        "a/with space",
    ] {
        fs::write(at(stray), "stray").unwrap();
    }
    fs::create_dir_all(at("lost+found/deep")).unwrap();
    fs::write(at("lost+found/deep/x"), "stray").unwrap();
    fs::create_dir_all(at("1/2/3/4/5/6")).unwrap();
    fs::write(at("1/2/3/4/5/6/7"), "too deep").unwrap();
    symlink(outside.path().join("x"), at("a/file")).unwrap();
    symlink(at("a/b"), at("a/inside")).unwrap();
    symlink(outside.path(), at("a/away")).unwrap();
    symlink("nowhere", at("a/dangling")).unwrap();
    let fifo = Command::new("mkfifo").arg(at("a/fifo")).status().unwrap();
    assert!(fifo.success());

    for directory in ["", "a"] {
        assert_eq!(names(&store, directory), ["a/b"]);
    }
    assert_eq!(names(&store, "a/away"), [""; 0]);
    for stray in ["a/file", "a/inside", "a/away", "a/dangling", "a/fifo"] {
        assert_eq!(
            kind(store.get(&name(stray), 99)),
            Some(StorageErrorKind::NotFound),
            "{stray}"
        );
        assert_eq!(
            kind(store.size(&name(stray))),
            Some(StorageErrorKind::NotFound),
            "{stray}"
        );
    }
    fs::create_dir(outside.path().join("y")).unwrap();
    fs::write(outside.path().join("y/z"), "outside").unwrap();
    for behind in ["a/away/x", "a/away/y/z"] {
        let behind = name(behind);
        for found in [
            kind(store.get(&behind, 99)),
            kind(store.get_range(&behind, 0, &mut [0])),
            kind(store.size(&behind)),
            kind(store.delete(&behind)),
        ] {
            assert_eq!(found, Some(StorageErrorKind::NotFound), "{behind:?}");
        }
        assert!(store.put(&behind, &[b"1"]).is_err());
    }
    assert_eq!(names(&store, "a/away/y"), [""; 0]);
    assert_eq!(store.directories("a/away").unwrap(), [""; 0]);
    assert!(store.put(&name("a/away/new"), &[b"1"]).is_err());
    assert_eq!(fs::read(outside.path().join("x")).unwrap(), b"outside");
    assert_eq!(fs::read(outside.path().join("y/z")).unwrap(), b"outside");
}

#[test]
fn a_failed_put_leaves_no_temporary_file() {
    let place = tempfile::tempdir().unwrap();
    let store = LocalBackend::open(place.path()).unwrap();
    store.put(&name("a/b"), &[b"1"]).unwrap();
    let before = tree(place.path());
    // An object cannot replace a directory, and cannot contain other objects.
    assert!(store.put(&name("a"), &[b"2"]).is_err());
    assert!(store.put_new(&name("a"), &[b"2"]).is_err());
    assert!(store.put(&name("a/b/c"), &[b"2"]).is_err());
    assert_eq!(
        kind(store.put_new(&name("a/b"), &[b"2"])),
        Some(StorageErrorKind::Exists)
    );
    assert_eq!(tree(place.path()), before);
}

#[test]
fn an_operation_that_modes_forbid_fails_as_denied() {
    if !modes_apply("storage::local::an_operation_that_modes_forbid_fails_as_denied") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let store = LocalBackend::open(place.path()).unwrap();
    let denied = Some(StorageErrorKind::Denied);
    store.put(&name("a/b"), &[b"1"]).unwrap();
    let set = |path: &str, bits| {
        let permissions = fs::Permissions::from_mode(bits);
        fs::set_permissions(place.path().join(path), permissions).unwrap();
    };
    set("a/b", 0);
    assert_eq!(kind(store.get(&name("a/b"), 1)), denied);
    set("a", 0o500);
    assert_eq!(kind(store.put(&name("a/c"), &[b"1"])), denied);
    assert_eq!(kind(store.put_new(&name("a/c"), &[b"1"])), denied);
    assert_eq!(kind(store.delete(&name("a/b"))), denied);
    set("a", 0);
    assert_eq!(kind(store.list("")), denied);
    set("a", 0o700);
    assert_eq!(tree(place.path()), ["a", "a/b"]);
}

#[test]
fn old_temporary_files_in_a_directory_are_removed() {
    let place = tempfile::tempdir().unwrap();
    let at = |path: &str| place.path().join(path);
    let store = LocalBackend::open(place.path()).unwrap();
    store.put(&name("a/b/c"), &[b"1"]).unwrap();
    fs::create_dir_all(at("lost+found")).unwrap();
    fs::create_dir_all(at("a/.tmp-00000000000000dd")).unwrap();
    let day = Duration::from_hours(24);
    let leave = |path: &str, hours| {
        let file = fs::File::create_new(at(path)).unwrap();
        let then = SystemTime::now() - Duration::from_hours(hours);
        file.set_modified(then).unwrap();
    };
    for old in [
        ".tmp-00000000000000aa",
        "a/.tmp-00000000000000aa",
        "a/b/.tmp-00000000000000aa",
        "a/b/.tmp-00000000000000bb",
    ] {
        leave(old, 25);
    }
    leave("a/b/.tmp-00000000000000cc", 23);
    // These files were not made by this program.
    for stray in [
        "a/.tmp-1",
        "a/.tmp-00000000000000aa~",
        "lost+found/.tmp-00000000000000aa",
        "a/old",
    ] {
        leave(stray, 1000);
    }
    symlink("nowhere", at("a/.tmp-00000000000000ee")).unwrap();
    let rest = [
        "a",
        "a/.tmp-00000000000000aa~",
        "a/.tmp-00000000000000dd",
        "a/.tmp-00000000000000ee",
        "a/.tmp-1",
        "a/b",
        "a/b/.tmp-00000000000000cc",
        "a/b/c",
        "a/old",
        "lost+found",
        "lost+found/.tmp-00000000000000aa",
    ];

    assert_eq!(store.remove_leftovers("a/b", day).unwrap(), 2);
    assert_eq!(store.remove_leftovers("", day).unwrap(), 2);
    assert_eq!(tree(place.path()), rest);
    assert_eq!(store.remove_leftovers("", day).unwrap(), 0);
    assert_eq!(store.remove_leftovers("a", day / 2).unwrap(), 1);
}

#[test]
fn a_put_on_a_full_disk_names_the_disk_and_changes_nothing() {
    let Some(disk) = SmallDisk::mount(1 << 10) else {
        return;
    };
    let store = LocalBackend::create(disk.path().join("store")).unwrap();
    store.put(&name("packs/a"), &[&vec![1; 100_000]]).unwrap();
    let before = tree(disk.path());
    for (object, new) in [("packs/b", false), ("packs/b", true), ("packs/a", false)] {
        let parts: &[&[u8]] = &[&vec![2; 500_000], &vec![3; 1_500_000]];
        let put = if new {
            store.put_new(&name(object), parts)
        } else {
            store.put(&name(object), parts)
        };
        let error = put.unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Full);
        let text = error.to_string();
        let mount = format!("(on {}, ", disk.path().display());
        assert!(
            text.contains(&mount) && text.contains("free of 1.0 MiB)"),
            "{text}"
        );
        assert_eq!(tree(disk.path()), before);
    }
    assert_eq!(
        store.get(&name("packs/a"), 100_000).unwrap(),
        vec![1; 100_000]
    );
    // Deleting an object frees space for another one.
    store.delete(&name("packs/a")).unwrap();
    store.put(&name("packs/b"), &[&vec![2; 900_000]]).unwrap();
}

#[test]
fn a_read_only_disk_is_reported_as_such() {
    let Some(disk) = SmallDisk::mount(1 << 10) else {
        return;
    };
    let store = LocalBackend::open(disk.path()).unwrap();
    store.put(&name("packs/a"), &[b"1"]).unwrap();
    disk.make_read_only();
    let read_only = Some(StorageErrorKind::ReadOnly);
    // The first object is in a directory with objects, the second in the root, and the third in a
    // directory that does not exist.
    for object in ["packs/b", "b", "index/b"] {
        assert_eq!(
            kind(store.put(&name(object), &[b"1"])),
            read_only,
            "{object}"
        );
        assert_eq!(
            kind(store.put_new(&name(object), &[b"1"])),
            read_only,
            "{object}"
        );
    }
    assert_eq!(kind(store.delete(&name("packs/a"))), read_only);
    assert_eq!(store.get(&name("packs/a"), 1).unwrap(), b"1");
    assert_eq!(names(&store, ""), ["packs/a"]);
    let inside = LocalBackend::create(disk.path().join("new"));
    assert_eq!(kind(inside), read_only);
}

#[test]
fn files_that_root_stores_belong_to_the_owner_of_the_store() {
    // Only root can change the owner of a file.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (user, group) = (54_321, 54_322);
    chown(place.path(), Some(user), Some(group)).unwrap();
    let store = LocalBackend::open(place.path()).unwrap();
    store.put(&name("a/b/c"), &[b"1"]).unwrap();
    store.put_new(&name("a/d"), &[b"1"]).unwrap();
    for path in ["a", "a/b", "a/b/c", "a/d"] {
        let found = fs::metadata(place.path().join(path)).unwrap();
        assert_eq!((found.uid(), found.gid()), (user, group), "{path}");
    }
}

/// These names end with 64 digits, like the names of objects. Under such a name, the store reports
/// a FIFO or directory, instead of treating the object as missing.
#[test]
fn an_object_that_is_not_a_regular_file_cannot_be_read_but_is_not_missing() {
    let place = tempfile::tempdir().unwrap();
    let store = LocalBackend::open(place.path()).unwrap();
    let digits = |digit: &str| format!("a/{}", digit.repeat(64));
    let (fifo, directory, link) = (digits("1"), digits("2"), digits("3"));
    let at = |path: &str| place.path().join(path);
    fs::create_dir_all(at(&directory)).unwrap();
    symlink("nowhere", at(&link)).unwrap();
    let made = Command::new("mkfifo").arg(at(&fifo)).status().unwrap();
    assert!(made.success());
    let mut listed = names(&store, "");
    listed.sort();
    assert_eq!(listed, [&*fifo, &*directory, &*link]);
    for path in listed {
        let unreadable = Some(StorageErrorKind::NotAFile);
        assert_eq!(kind(store.get(&name(&path), 9)), unreadable, "{path}");
        let range = store.get_range(&name(&path), 0, &mut [0; 9]);
        assert_eq!(kind(range), unreadable, "{path}");
    }
}

#[test]
fn a_refused_delete_does_not_change_the_target_of_a_symbolic_link() {
    if !modes_apply(
        "storage::local::a_refused_delete_does_not_change_the_target_of_a_symbolic_link",
    ) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let store = LocalBackend::open(place.path()).unwrap();
    store.put(&name("a/b"), &[b"1"]).unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    let set = |path: &Path, bits| {
        fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
    };
    set(outside.path(), 0o444);
    let directory = place.path().join("a");
    symlink(outside.path(), directory.join("link")).unwrap();
    set(&directory, 0o500);
    assert_eq!(
        kind(store.delete(&name("a/link"))),
        Some(StorageErrorKind::Denied)
    );
    set(&directory, 0o700);
    assert_eq!(mode(outside.path()), 0o444);
    store.delete(&name("a/link")).unwrap();
}
