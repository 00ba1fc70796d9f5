//! Tests of `replicate`: copies without a password, from and to directories and servers. In some
//! tests, someone deletes objects of the original or adds false ones, or the copy is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::failures::assert_error;
use crate::support::program::{World, files, finish, json_lines};
use crate::support::{Random, SmallDisk, Sshd, noise};

const MIB: usize = 1 << 20;
const KILLS: u32 = 50;

/// The result of a copy.
pub(super) struct Copied {
    pub(super) code: i32,
    /// The items with findings.
    pub(super) items: Vec<String>,
    pub(super) summary: Value,
    pub(super) stderr: String,
}

/// Runs `replicate` without a password.
#[track_caller]
pub(super) fn replicate(world: &World, args: &[&str]) -> Copied {
    let args = [&["replicate", "--json"], args].concat();
    let mut command = world.command(&args);
    command.env_remove("CUTTLEBONE_PASSWORD");
    let ran = finish(command.spawn().unwrap(), &args);
    let lines = json_lines(&String::from_utf8(ran.stdout).unwrap());
    let of = |kind: &'static str| lines.iter().filter(move |l| l["message_type"] == kind);
    let items = of("error").map(|line| line["item"].as_str().unwrap().to_owned());
    let items: Vec<String> = items.collect();
    let summary = of("summary").next().cloned().unwrap_or_default();
    if !summary.is_null() {
        assert_eq!(summary["errors"], items.len(), "{summary}: {items:?}");
    }
    Copied {
        code: ran.code.unwrap(),
        items,
        summary,
        stderr: ran.stderr,
    }
}

/// Runs `replicate`, and asserts that it copied everything. Returns the summary.
#[track_caller]
pub(super) fn copied(world: &World, args: &[&str]) -> Value {
    let copied = replicate(world, args);
    assert_eq!(copied.code, 0, "{:?}: {}", copied.items, copied.stderr);
    copied.summary
}

/// Returns the arguments of a command on a copy, with a cache of its own.
fn on_copy<'a>(copy: &'a str, cache: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["-r", copy, "--cache-dir", cache], args].concat()
}

#[track_caller]
pub(super) fn is_clean(world: &World, copy: &str) {
    let cache = world.at("cache of the copy");
    world.ok(&on_copy(copy, &cache, &["check", "--read-data"]));
    world.ok(&on_copy(copy, &cache, &["check", "--keyless"]));
}

/// A world with two backups of a volume.
pub(super) fn with_backups() -> World {
    let world = World::new();
    for seed in [1, 2] {
        let disk = world.write("disk.img", &noise(seed, 5 * MIB));
        world.backup(&[&disk]);
    }
    world
}

/// Returns the paths of a repository's files, relative to its directory. Leaves out the ledger,
/// which belongs to one store only.
pub(super) fn names(repository: &Path) -> Vec<PathBuf> {
    let of = |path: PathBuf| path.strip_prefix(repository).unwrap().to_owned();
    let mut names: Vec<_> = files(repository).into_iter().map(of).collect();
    names.retain(|name| !name.to_str().unwrap().contains("/ledger/"));
    names.sort();
    names
}

#[test]
fn a_copy_has_all_files_of_the_original_and_its_backups_can_be_restored() {
    let world = with_backups();
    world.ok(&["head"]);
    let target = world.at("vault/copy");
    let all = names(&world.repository());
    let summary = copied(&world, &[&target]);
    assert_eq!(names(Path::new(&target)), all);
    assert_eq!(summary["files_copied"], all.len());
    assert_eq!(
        (&summary["files_present"], &summary["projects"]),
        (&0.into(), &1.into())
    );
    for name in &all {
        let [one, two] = [world.repository().join(name), Path::new(&target).join(name)];
        assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap(), "{name:?}");
    }
    is_clean(&world, &target);
    let restored = world.at("restored.img");
    let cache = world.at("other cache");
    world.ok(&on_copy(
        &target,
        &cache,
        &["restore", "disk.img", &restored],
    ));
    assert_eq!(fs::read(restored).unwrap(), noise(2, 5 * MIB));

    let again = copied(&world, &[&target, "--verify"]);
    assert_eq!(again["files_copied"], 0);
    assert_eq!(again["files_present"], all.len());
    let verified = again["files_verified"].as_u64().unwrap();
    assert!(verified >= all.len() as u64, "{again}");
    let disk = world.write("disk.img", &noise(3, 5 * MIB));
    world.backup(&[&disk]);
    let more = copied(&world, &[&target]);
    assert_eq!(more["files_present"], all.len());
    assert_eq!(names(Path::new(&target)), names(&world.repository()));
    let text = world.ok(&["replicate", &target]);
    assert!(text.starts_with("copied "), "{text}");
    assert!(text.contains("0 files, 0 B"), "{text}");
}

#[test]
fn another_repository_and_the_original_itself_are_refused_as_targets() {
    let world = with_backups();
    let other = with_backups();
    let target = other.at("repo");
    let before = names(Path::new(&target));
    let text = replicate(&world, &[&target]).stderr;
    assert!(text.contains("holds another repository"), "{text}");
    assert_eq!(names(Path::new(&target)), before);
    // An interrupted copy of another repository has no repository file yet.
    for name in ["cuttlebone", "cuttlebone.copy"] {
        fs::remove_file(Path::new(&target).join(name)).unwrap();
    }
    assert_eq!(replicate(&world, &[&target]).code, 1);
    for same in [&world.at("repo"), &world.at("repo/below"), &world.at("")] {
        assert_eq!(replicate(&world, &[same]).code, 2, "{same}");
    }
    let none = World::empty();
    let copied = replicate(&none, &[&none.at("copy")]);
    assert_eq!(copied.code, 10);
    assert!(!none.path("copy").exists());
    assert_eq!(replicate(&world, &["/x", "--project-id", "xyz"]).code, 2);
    let text = replicate(&world, &[&world.at("new"), "--project-id", "ffffffffffff"]);
    assert_eq!(text.code, 24);
}

#[test]
fn only_mirror_deletes_files_and_only_those_that_the_log_removes() {
    let world = with_backups();
    let target = world.at("copy");
    copied(&world, &[&target]);
    let before = names(Path::new(&target));
    let oldest = world.json(&["list"])[0]["backup_id"]
        .as_str()
        .unwrap()
        .to_owned();
    world.ok(&[
        "forget",
        &oldest,
        "--prune",
        "--grace",
        "0",
        "--max-unused",
        "0",
    ]);
    let summary = copied(&world, &[&target]);
    assert_eq!(summary["files_removed"], 0);
    let now = names(Path::new(&target));
    assert!(before.iter().all(|name| now.contains(name)));
    is_clean(&world, &target);
    // Nothing is deleted if the original lacks something.
    let record = files(&world.project().join("backups")).remove(0);
    let bytes = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    let stolen = replicate(&world, &[&target, "--mirror"]);
    assert_eq!(
        (stolen.code, stolen.items.len()),
        (23, 1),
        "{:?}",
        stolen.items
    );
    assert_eq!(names(Path::new(&target)), now);
    fs::write(&record, bytes).unwrap();

    let summary = copied(&world, &[&target, "--mirror"]);
    assert!(summary["files_removed"].as_u64().unwrap() > 2, "{summary}");
    let of_source = names(&world.repository());
    let mut left = names(Path::new(&target));
    left.retain(|name| !of_source.contains(name));
    assert!(left.is_empty(), "{left:?}");
    is_clean(&world, &target);
}

#[test]
fn a_theft_from_the_original_and_a_rollback_are_noticed_and_the_copy_keeps_everything() {
    let world = with_backups();
    let target = world.at("copy");
    let old = world.at("old");
    cp(&world.at("repo"), &old);
    let disk = world.write("disk.img", &noise(3, MIB));
    world.backup(&[&disk]);
    world.ok(&["head"]);
    copied(&world, &[&target]);
    let all = names(Path::new(&target));
    let record = files(&world.project().join("backups")).remove(0);
    fs::remove_file(&record).unwrap();
    let stolen = replicate(&world, &[&target]);
    assert_eq!(
        (stolen.code, stolen.items.len()),
        (23, 1),
        "{:?}",
        stolen.items
    );
    assert!(
        stolen.stderr.contains("history has vanished"),
        "{}",
        stolen.stderr
    );
    let mut rolled_back = with_backups();
    rolled_back.set("CUTTLEBONE_REPOSITORY", &old);
    for args in [&[&target[..]][..], &[&target, "--mirror"]] {
        let copied = replicate(&rolled_back, args);
        // The record, the entry of the log and the data of the last backup have vanished.
        assert_eq!(copied.code, 23, "{:?}", copied.items);
        let both = "and other files are missing or damaged";
        assert!(copied.stderr.contains(both), "{}", copied.stderr);
        let about = |kind: &str| copied.items.iter().any(|item| item.starts_with(kind));
        assert!(about("log entry") && about("backup record") && about("pack"));
        assert_eq!(names(Path::new(&target)), all);
    }
    is_clean(&world, &target);
}

fn cp(from: &str, to: &str) {
    let status = Command::new("cp").args(["-a", from, to]).status();
    assert!(status.unwrap().success());
}

#[test]
fn false_files_that_someone_put_into_the_original_are_reported_and_not_copied() {
    let world = with_backups();
    world.ok(&["head"]);
    let project = world.project();
    let hash = |byte: u8| format!("{byte:02x}").repeat(32);
    let pack = project.join("packs").join("07");
    fs::create_dir_all(&pack).unwrap();
    fs::write(pack.join(hash(7)), b"another content").unwrap();
    let record = project.join("backups").join(hash(8));
    let fifo = Command::new("mkfifo").arg(&record).status().unwrap();
    assert!(fifo.success());
    fs::create_dir(project.join("index").join(hash(9))).unwrap();
    // The false entry of the log is named by its hash, but has no valid signature.
    let entry = [&b"CTLBlogs"[..], &[1, 0], &[0; 600]].concat();
    let named = blake3::hash(&entry).to_string();
    fs::write(project.join("log").join(&named), &entry).unwrap();
    fs::write(world.repository().join("readme"), b"mine").unwrap();
    let target = world.at("copy");
    let copied = replicate(&world, &[&target]);
    assert_eq!(
        (copied.code, copied.items.len()),
        (21, 4),
        "{:?}",
        copied.items
    );
    for name in [hash(7), hash(8), hash(9), named] {
        assert!(
            copied.items.iter().any(|item| item.contains(&name)),
            "{name}"
        );
        let there = names(Path::new(&target));
        assert!(!there.iter().any(|path| path.ends_with(&name)), "{name}");
    }
    is_clean(&world, &target);
}

#[test]
fn a_target_whose_disk_is_not_mounted_is_noticed() {
    let world = with_backups();
    let target = world.at("vault");
    copied(&world, &[&target]);
    fs::rename(&target, world.path("unmounted")).unwrap();
    fs::create_dir(&target).unwrap();
    let refused = replicate(&world, &[&target]);
    assert_eq!(refused.code, 23);
    assert!(
        refused.stderr.contains("whether its disk is mounted"),
        "{}",
        refused.stderr
    );
    assert!(names(Path::new(&target)).is_empty());
    copied(&world, &[&target, "--init"]);
}

#[test]
fn newer_than_limits_a_copy_to_new_data_and_the_whole_log() {
    let world = with_backups();
    world.ok(&["head"]);
    let target = world.at("tape");
    let summary = copied(&world, &[&target, "--newer-than", "1h"]);
    assert_eq!(summary["files_copied"], names(&world.repository()).len());
    let empty = world.at("empty");
    let later = copied(&world, &[&empty, "--newer-than", "2999-01-01"]);
    assert!(later["files_copied"].as_u64().unwrap() > 5, "{later}");
    let there = names(Path::new(&empty));
    assert!(
        there
            .iter()
            .any(|name| name.to_str().unwrap().contains("/log/"))
    );
    for kind in ["/packs/", "/trees/", "/index/", "/backups/"] {
        assert!(
            !there
                .iter()
                .any(|name| name.to_str().unwrap().contains(kind))
        );
    }
    let both = replicate(&world, &[&empty, "--mirror", "--newer-than", "1h"]);
    assert_eq!(both.code, 2);
}

#[test]
fn key_slots_that_the_original_no_longer_has_are_reported() {
    let world = with_backups();
    let target = world.at("copy");
    copied(&world, &[&target]);
    let new = world.write("new password", b"another password\n");
    let args = [
        "key",
        "passwd",
        "--new-password-file",
        &new,
        "--kdf-memory",
        "8M",
    ];
    world.ok(&[&args[..], &["--kdf-passes", "5"]].concat());
    let again = replicate(&world, &[&target]);
    assert_eq!(again.code, 0);
    assert!(again.stderr.contains("1 key slot"), "{}", again.stderr);
}

#[test]
fn a_copy_to_a_full_target_fails_and_continues_when_there_is_space() {
    let Some(disk) = SmallDisk::mount(24 * 1024) else {
        return;
    };
    let world = with_backups();
    world.ok(&["head"]);
    let target = disk.path().join("copy").to_str().unwrap().to_owned();
    for free in [0, 200_000, 6 * MIB as u64] {
        let filler = disk.fill(free);
        let copied = replicate(&world, &[&target]);
        assert_eq!(copied.code, 1, "{}", copied.stderr);
        assert!(
            copied.stderr.contains("free some space"),
            "{}",
            copied.stderr
        );
        drop(filler);
        let cache = world.at("cache of the copy");
        let ran = world.run(&on_copy(&target, &cache, &["check", "--read-data"]));
        let has_file = disk.path().join("copy/cuttlebone").exists();
        assert_eq!(
            ran.code,
            Some(if has_file { 0 } else { 10 }),
            "{}",
            ran.stderr
        );
    }
    copied(&world, &[&target]);
    is_clean(&world, &target);
}

#[test]
fn a_copy_goes_to_a_server_from_a_server_and_between_servers() {
    let Some(server) = Sshd::start() else { return };
    let world = with_backups();
    let (ssh, remote) = (server.ssh_command(), server.location("copy"));
    let there = ["--ssh-command", &ssh];
    let count = names(&world.repository()).len();
    let summary = copied(&world, &[&[&remote[..]][..], &there].concat());
    assert_eq!(summary["files_copied"], count);
    assert_eq!(
        names(&server.store().join("copy")),
        names(&world.repository())
    );
    let (back, second) = (world.at("back"), server.location("second"));
    for target in [&back, &second] {
        let args = [
            &["-r", &remote, target][..],
            &there,
            &["--limit-upload", "500M"],
        ];
        assert_eq!(copied(&world, &args.concat())["files_copied"], count);
    }
    assert_eq!(
        names(&server.store().join("second")),
        names(&world.repository())
    );
    is_clean(&world, &back);
    let disk = world.write("disk.img", &noise(9, MIB));
    world.backup(&[&disk]);
    copied(&world, &[&[&remote[..], "--verify"][..], &there].concat());
    let inside = server.location("copy/below");
    let args = [&["-r", &remote, &inside][..], &there].concat();
    assert_eq!(replicate(&world, &args).code, 2);
}

#[test]
fn a_copy_that_is_killed_at_any_moment_alongside_prunes_of_the_original_is_whole() {
    let mut random = Random::new();
    let world = World::new();
    let target = world.at("copy");
    let cache = world.at("cache of the copy");
    let back_up = |seed: u64| {
        let disk = world.write("disk.img", &noise(seed, MIB));
        world.backup(&[&disk]);
    };
    back_up(1);
    let mut longest = Duration::from_millis(300);
    let mut killed = 0;
    for round in 0..u64::from(KILLS) {
        back_up(1000 + 2 * round);
        back_up(1001 + 2 * round);
        let forget = [
            "forget",
            "--keep-last",
            "2",
            "--prune",
            "--grace",
            "0",
            "-q",
        ];
        let pruning = world.start(&forget);
        let begun = Instant::now();
        let mut copying = world.command(&["replicate", &target, "-q"]);
        let mut copying = copying.env_remove("CUTTLEBONE_PASSWORD").spawn().unwrap();
        thread::sleep(Duration::from_millis(
            random.below(u64::try_from(longest.as_millis()).unwrap()),
        ));
        let ended = copying.try_wait().unwrap().is_some();
        copying.kill().unwrap();
        let status = copying.wait().unwrap();
        if ended {
            assert!(status.success(), "{status:?}");
            longest = longest.min(begun.elapsed());
        } else {
            longest = (longest * 5 / 4).min(Duration::from_secs(10));
            killed += 1;
        }
        finish(pruning, &forget).ok(&forget);
        let files = ["cuttlebone", "cuttlebone.copy"];
        let files = files.map(|name| Path::new(&target).join(name).exists());
        let exists = files.contains(&true);
        if exists && files.contains(&false) {
            // The two copies of the repository file cannot be stored at the same moment. Store the
            // missing one now, since the check would report it.
            copied(&world, &[&target]);
        }
        let check = on_copy(&target, &cache, &["check", "--read-data", "-q"]);
        let ran = world.run(&check);
        let expected = if exists { 0 } else { 10 };
        assert_eq!(ran.code, Some(expected), "round {round}: {}", ran.stderr);
    }
    eprintln!("{killed} of {KILLS} were killed");
    assert!(killed > KILLS / 4, "{killed}");
    copied(&world, &[&target, "--mirror"]);
    is_clean(&world, &target);
    let restored = world.at("restored.img");
    world.ok(&on_copy(
        &target,
        &cache,
        &["restore", "disk.img", &restored],
    ));
    assert_eq!(
        fs::read(restored).unwrap(),
        fs::read(world.at("disk.img")).unwrap()
    );
}

#[test]
fn a_project_to_copy_is_selected_by_the_first_digits_of_its_id() {
    let world = with_backups();
    let id = world
        .project()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let target = world.at("copy");
    let summary = copied(&world, &[&target, "--project-id", &id[..8]]);
    assert_eq!(summary["projects"], 1);
    is_clean(&world, &target);
    let error = replicate(&world, &[&target, "--project-id", "0000"]);
    if !id.starts_with("0000") {
        assert_error(&error_text(&world, &target), &["has no project 0000"]);
        assert_eq!(error.code, 24);
    }
}

fn error_text(world: &World, target: &str) -> String {
    world.fails(&["replicate", target, "--project-id", "0000"], 24)
}
