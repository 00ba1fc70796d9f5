//! A cache directory that another user has prepared is not used.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::support::program::World;
use crate::support::{noise, skip};

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Returns a world with a backup, the disk image, and the directory of the project's cache, which
/// exists.
fn world() -> (World, String, PathBuf) {
    let world = World::new();
    let disk = world.write("disk.img", &noise(1, 300_000));
    world.backup(&[&disk]);
    let cache = world.json_one(&["cache"], "cache");
    let cache = cache["path"].as_str().unwrap().into();
    (world, disk, cache)
}

/// Runs commands that use the cache. Asserts that each succeeds without the cache and states the
/// reason.
#[track_caller]
fn goes_on_without(world: &World, disk: &str, why: &str) {
    let target = world.at("target");
    for args in [
        &["backup", disk, "--reread"][..],
        &["check"],
        &["restore", "disk.img", &target, "--force"],
        &["stats"],
    ] {
        let ran = world.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("cannot be used"),
            "{args:?}: {}",
            ran.stderr
        );
        assert!(ran.stderr.contains(why), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn a_cache_that_others_may_write_to_is_not_used() {
    let (world, disk, cache) = world();
    let caches = world.path("cache");
    set_mode(&caches, 0o777);
    fs::remove_dir_all(&cache).unwrap();
    goes_on_without(&world, &disk, "other users may write to it");
    assert!(!cache.exists(), "nothing was written there");
    let error = world.fails(&["cache", "rebuild"], 1);
    assert!(error.contains("other users may write to it"), "{error}");
    // A directory with the sticky bit, like /tmp, is safe.
    set_mode(&caches, 0o1777);
    let ran = world.run(&["stats"]);
    assert!(!ran.stderr.contains("cannot be used"), "{}", ran.stderr);
    assert!(cache.exists());
    assert_eq!(mode(&cache), 0o700);
}

#[test]
fn the_cache_directory_of_a_project_is_closed_to_other_users() {
    let (world, _, cache) = world();
    set_mode(&cache, 0o777);
    let ran = world.run(&["stats"]);
    assert!(!ran.stderr.contains("cannot be used"), "{}", ran.stderr);
    assert_eq!(mode(&cache), 0o700);
}

#[test]
fn a_link_in_place_of_a_cache_directory_is_not_followed() {
    let (world, disk, cache) = world();
    let victim = world.path("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("index-0.redb"), "precious").unwrap();
    for part in [cache.clone(), cache.parent().unwrap().to_owned()] {
        fs::remove_dir_all(&part).unwrap();
        symlink(&victim, &part).unwrap();
        goes_on_without(&world, &disk, "it is a symbolic link");
        // The second link leads to a directory without a cache of this project. So there is nothing
        // to clear, and the command succeeds.
        let cleared = world.run(&["cache", "clear"]);
        assert_eq!(cleared.code, Some(i32::from(part == cache)), "{cleared:?}");
        assert_eq!(fs::read(victim.join("index-0.redb")).unwrap(), b"precious");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
        fs::remove_file(&part).unwrap();
    }
}

#[test]
fn a_link_in_place_of_a_file_of_the_cache_is_replaced() {
    let (world, disk, cache) = world();
    let victim = world.path("victim");
    for name in ["index-0.redb", "index-0.stamp", "index-0.pending"] {
        fs::write(&victim, "precious").unwrap();
        let file = cache.join(name);
        for make in [symlink::<&Path, &Path>, fs::hard_link] {
            let _ = fs::remove_file(&file);
            make(&victim, &file).unwrap();
            let args = ["backup", &disk, "--reread"];
            let ran = world.run(&args);
            assert_eq!(ran.code, Some(0), "{name}: {}", ran.stderr);
            assert_eq!(fs::read(&victim).unwrap(), b"precious", "{name}");
            assert!(!file.is_symlink(), "{name}");
        }
    }
    world.is_clean();
}

#[test]
fn a_cache_that_belongs_to_another_user_is_not_used() {
    let (world, disk, cache) = world();
    if chown(&cache, Some(54_321), None).is_err() {
        skip("only root can give files away");
        return;
    }
    goes_on_without(&world, &disk, "belongs to user 54321");
    chown(world.path("cache"), Some(54_321), None).unwrap();
    goes_on_without(&world, &disk, "belongs to user 54321");
}
