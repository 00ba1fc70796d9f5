//! Backups with a write key: a full key restores, checks and prunes them, and need not accept them
//! before.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use cuttlebone::crypto::object_hash;
use cuttlebone::format::{DiffHeader, DiffWriter};
use serde_json::{Value, json};

use crate::support::program::{World, files, json_lines};
use crate::support::{LoopDevice, noise};

const MIB: usize = 1 << 20;
const CHUNK: u64 = 64 << 10;

/// A repository with a write key for `web-*`, and a verify key.
struct Site {
    world: World,
    write: String,
    verify: String,
}

impl Site {
    fn new() -> Self {
        let world = World::new();
        let write = world.add_key("of the writer", "write", &["--volumes", "web-*"]);
        let verify = world.add_key("of the auditor", "verify", &[]);
        Self {
            world,
            write,
            verify,
        }
    }

    /// Backs up with the write key. Returns the summary.
    fn backup(&self, volume: &str, args: &[&str]) -> Value {
        let fixed = ["--volume", volume, "--password-file", &self.write];
        self.world.backup(&[args, &fixed].concat())
    }

    fn backup_stream(&self, volume: &str, dump: &str) -> Value {
        let args = ["backup", "-", "--volume", volume, "--json"];
        let args = [&args[..], &["--password-file", &self.write]].concat();
        let ran = self.world.run_with_stdin(&args, File::open(dump).unwrap());
        json_lines(&ran.ok(&args)).pop().unwrap()
    }

    fn key_id(&self, role: &str) -> String {
        let listed = self.world.json(&["key", "list"]);
        let key = listed.iter().find(|key| key["role"] == role).unwrap();
        key["key_id"].as_str().unwrap().to_owned()
    }
}

/// Writes a diff with one extent, which consists of whole chunks. Returns its path.
fn diff(world: &World, size: usize, from: Option<&str>, to: &str, at: u64, data: &[u8]) -> String {
    let header = DiffHeader {
        from: from.map(|name| name.as_bytes().to_vec()),
        to: Some(to.as_bytes().to_vec()),
        size: size as u64,
        protected: None,
    };
    let mut writer = DiffWriter::new(Vec::new(), &header).unwrap();
    writer.extent(at, data.len() as u64).unwrap();
    writer.data(data).unwrap();
    world.write("diff", &writer.finish().unwrap())
}

fn change(path: &str, at: u64, data: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(data, at).unwrap();
    file.sync_all().unwrap();
}

/// Returns the paths of all files of the repository, and the hashes of their contents.
fn contents(world: &World) -> Vec<(PathBuf, [u8; 32])> {
    let mut all: Vec<_> = files(&world.repository())
        .into_iter()
        .map(|path| {
            let hash = *object_hash(&[&fs::read(&path).unwrap()]).as_bytes();
            (path, hash)
        })
        .collect();
    all.sort_unstable();
    all
}

/// After each of three days, a full key must restore the content of the sources. At night, the full
/// key checks and prunes the repository.
#[test]
fn three_days_of_backups_with_a_write_key_are_restored_by_a_full_key() {
    let site = Site::new();
    let world = &site.world;
    let image_len = 8 * MIB;
    let image = world.write("image", &noise(1, image_len));
    let listed = world.write("listed", &noise(2, image_len));
    let dump = world.write("dump", &noise(3, 3 * MIB));
    let rbd = world.write("rbd", &noise(4, image_len));
    let device = LoopDevice::new(&noise(5, image_len));
    let mut made: Vec<(String, String)> = Vec::new();
    for day in 0..3_u64 {
        let at = (1 + 7 * day) * CHUNK;
        // Use other bytes for each source. Otherwise only the first backup would store them.
        let fresh = |source: u64| noise(100 + 10 * day + source, 3 << 16);
        if day > 0 {
            for (source, path) in (0..).zip([&image, &listed, &rbd]) {
                change(path, at, &fresh(source));
            }
            change(&dump, at, &fresh(3)[..999]);
        }
        let mut of_day = vec![
            ("image", site.backup("web-image", &[&image])),
            ("dump", site.backup_stream("web-dump", &dump)),
        ];
        let listed_now = if day == 0 {
            site.backup("web-listed", &[&listed])
        } else {
            let extents = json!([{"offset": at, "length": 3 << 16, "exists": "true"}]);
            let extents = world.write("extents", extents.to_string().as_bytes());
            let list = ["--extents", &extents, "--base", "web-listed"];
            site.backup("web-listed", &[&[&listed[..]], &list[..]].concat())
        };
        of_day.push(("listed", listed_now));
        let content = fs::read(&rbd).unwrap();
        let to = format!("day{day}");
        let from = day.checked_sub(1).map(|before| format!("day{before}"));
        let stream = match &from {
            None => diff(world, image_len, None, &to, 0, &content),
            Some(from) => diff(world, image_len, Some(from), &to, at, &fresh(2)),
        };
        of_day.push(("rbd", site.backup("web-rbd", &["--diff", &stream])));
        if let Some(device) = &device {
            if day > 0 {
                change(&device.device, at, &fresh(4));
            }
            fs::write(world.path("device"), fs::read(&device.device).unwrap()).unwrap();
            let summary = site.backup("web-device", &[&device.device, "--reread"]);
            of_day.push(("device", summary));
        }
        for (source, summary) in of_day {
            let expected = world.at(&format!("{source}-{day}"));
            fs::copy(world.path(source), &expected).unwrap();
            let id = summary["backup_id"].as_str().unwrap().to_owned();
            // Only changes are stored, even if the full key has repacked the other chunks.
            if day > 0 && source != "dump" {
                assert_eq!(summary["bytes_new"], 3 << 16, "{source} on day {day}");
            }
            made.push((id, expected));
        }
        for (backup, expected) in &made {
            world.restores(backup, expected);
        }
        // At night, the full key reads all data, and repacks packs that are not full.
        world.is_clean();
        if day == 1 {
            world.ok(&["forget", "--volume", "web-image", "--keep-last", "1"]);
            made.retain(|(_, expected)| *expected != world.at("image-0"));
        }
        let all = ["prune", "--grace", "0", "--max-unused", "0"];
        world.ok(&all);
        for (backup, expected) in &made {
            world.restores(backup, expected);
        }
    }
    world.is_clean();

    // A second volume with the same content stores no chunks, since other packs have them.
    let copied = site.backup("web-copy", &[&image]);
    assert_eq!(copied["bytes_new"], 0);
}

#[test]
fn a_refused_command_names_the_role_that_may_run_it_and_changes_no_byte_of_the_repository() {
    let site = Site::new();
    let world = &site.world;
    let image = world.write("image", &noise(1, 300 << 10));
    site.backup("web-1", &[&image]);
    let before = contents(world);
    let target = world.at("target");
    let new = world.write("new", b"another password");
    let id = site.key_id("verify");
    let refused: [&[&str]; 11] = [
        &["restore", "web-1", &target],
        &["restore", "web-1", "-"],
        &["compare", "web-1", "web-1"],
        &["prune"],
        &["prune", "--grace", "0"],
        &["forget", "--keep-last", "1"],
        &["head"],
        &["key", "add", "--new-password-file", &new],
        &["key", "passwd", "--new-password-file", &new],
        &["key", "remove", &id],
        &["key", "revoke", &id],
    ];
    for (role, file) in [("write", &site.write), ("verify", &site.verify)] {
        let own = ["--password-file", file.as_str()];
        for args in refused {
            let message = world.fails(&[args, &own].concat(), 22);
            assert!(message.contains(&format!("role “{role}”")), "{message}");
            assert!(message.contains("role “full”"), "{args:?}: {message}");
            assert!(contents(world) == before, "{role}: {args:?}");
        }
    }
    let own = ["--password-file", site.write.as_str()];
    let message = world.fails(&[&["check", "--read-data"], &own[..]].concat(), 22);
    assert!(message.contains("“verify” or “full”"), "{message}");
    assert!(
        contents(world) == before,
        "a check with a write key changed the repository"
    );
    let own = ["--password-file", site.verify.as_str()];
    let message = world.fails(
        &[&["backup", &image, "--volume", "web-1"], &own[..]].concat(),
        22,
    );
    assert!(message.contains("“write” or “full”"), "{message}");
    assert!(
        contents(world) == before,
        "a backup with a verify key changed the repository"
    );
    assert!(!world.path("target").exists());
}

#[test]
fn check_names_foreign_objects_of_many_kinds_and_other_commands_work() {
    let site = Site::new();
    let world = &site.world;
    let image = world.write("image", &noise(1, 300 << 10));
    site.backup("web-1", &[&image]);
    world.ok(&["head"]);
    let project = world.project();
    let magic = [
        ("index", "CTLBindx"),
        ("backups", "CTLBbkup"),
        ("voids", "CTLBvoid"),
        ("log", "CTLBlogs"),
        ("marks", "CTLBmark"),
        ("audits", "CTLBaudt"),
        ("settings", "CTLBsett"),
        ("writers", "CTLBcert"),
    ];
    let mut forged = Vec::new();
    for (number, (directory, magic)) in (0..).zip(magic) {
        // The object has a future version and noise. It was made without a key.
        let bytes = [magic.as_bytes(), &[9; 8], &noise(number, 400)].concat();
        let name = object_hash(&[&bytes]).to_string();
        let directory = project.join(directory);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(&name), &bytes).unwrap();
        forged.push(name);
    }
    let check = world.run(&["check", "--json"]);
    assert_eq!(check.code, Some(21), "{check:?}");
    let found = String::from_utf8(check.stdout).unwrap();
    for name in &forged {
        assert!(found.contains(name), "{name}: {found}");
    }
    world.restores("web-1", &image);
    site.backup("web-1", &[&image]);
    world.backup(&[&image, "--volume", "other"]);
    for args in [
        &["list"][..],
        &["show", "web-1"],
        &["stats"],
        &["head"],
        &["key", "list"],
        &["forget", "--keep-last", "1"],
        &["prune", "--grace", "0"],
    ] {
        world.ok(args);
    }
    world.restores("web-1", &image);
    world.restores("other", &image);
}

#[test]
fn accepted_backups_of_a_revoked_key_stay_and_prune_frees_the_space_of_the_others() {
    let site = Site::new();
    let world = &site.world;
    let (first, second) = (noise(1, MIB), noise(2, 4 * MIB));
    let image = world.write("image", &first);
    let accepted = site.backup("web-1", &[&image]);
    let accepted = accepted["backup_id"].as_str().unwrap();
    let kept = world.write("kept", &first);
    fs::write(&image, &second).unwrap();
    let other = site.backup("web-1", &[&image]);
    let other = other["backup_id"].as_str().unwrap();
    let id = site.key_id("write");
    let small = world.write("small", &noise(3, 4096));
    let of_full = world.backup(&[&small, "--volume", "other"]);
    let of_full = of_full["backup_id"].as_str().unwrap();
    let refused = world.fails(&["key", "revoke", &id, "--accept", of_full], 1);
    assert!(refused.contains("did not make"), "{refused}");
    let revoke = ["key", "revoke", &id, "--accept", accepted];
    let revoked = world.json_one(&revoke, "key_change");
    let counted = json!([{"volume": "web-1", "backups_accepted": 1, "backups_dropped": 1}]);
    assert_eq!(revoked["volumes"], counted);
    // A dry run says how many records would be removed, and removes none.
    for _ in 0..2 {
        let dry = world.json_one(&["prune", "--dry-run"], "prune");
        assert_eq!(dry["plan"]["revoked"], 1, "{dry}");
        assert_eq!(dry["revoked_removed"], 0, "{dry}");
    }
    let dry = world.ok(&["prune", "--dry-run"]);
    assert!(dry.contains("1 object would be removed"), "{dry}");
    assert!(!dry.contains("nothing to do"), "{dry}");
    let refused = world.fails(&["check"], 21);
    assert!(refused.contains("of revoked keys"), "{refused}");
    assert!(refused.contains("cuttlebone prune"), "{refused}");
    let listed = world.json(&["list", "web-1"]);
    let ids: Vec<_> = listed
        .iter()
        .filter_map(|b| b["backup_id"].as_str())
        .collect();
    assert_eq!(ids, [accepted]);
    world.fails(&["restore", other, &world.at("target")], 24);
    let stored = || -> u64 {
        let packs = world.packs();
        packs
            .iter()
            .map(|pack| pack.metadata().unwrap().len())
            .sum()
    };
    assert!(stored() > 5 << 20);
    let pruned = world.ok(&["prune", "--grace", "0", "--max-unused", "0"]);
    assert!(pruned.contains("1 object removed"), "{pruned}");
    assert!(
        stored() < 2 << 20,
        "the space of the other backup is not freed"
    );
    world.restores("web-1", &kept);
    world.is_clean();
}

#[test]
fn check_prune_and_forget_exit_with_23_if_the_certificate_of_a_write_key_is_missing() {
    let site = Site::new();
    let world = &site.world;
    let image = world.write("image", &noise(1, MIB));
    site.backup("web-1", &[&image]);
    let writers = world.project().join("writers");
    let aside = world.path("writers");
    fs::rename(&writers, &aside).unwrap();
    for args in [
        &["prune", "--grace", "0"][..],
        &["forget", "--keep-last", "1"],
    ] {
        let refused = world.fails(args, 23);
        assert!(refused.contains("certificate"), "{refused}");
        assert!(refused.contains("projects/*/writers"), "{refused}");
    }
    world.fails(&["check"], 23);
    fs::rename(&aside, &writers).unwrap();
    world.ok(&["prune", "--grace", "0"]);
    world.restores("web-1", &image);
    world.is_clean();
}

#[test]
fn a_prune_ends_with_exit_code_21_if_a_backup_of_a_write_key_lacks_data() {
    let site = Site::new();
    let world = &site.world;
    let disk = world.write("disk", &noise(1, MIB));
    let made = site.backup("web-1", &[&disk]);
    for pack in files(&world.project().join("packs")) {
        fs::remove_file(pack).unwrap();
    }
    for args in [&["prune", "--json"][..], &["prune", "--dry-run", "--json"]] {
        let ran = world.run(args);
        assert_eq!(ran.code, Some(21), "{ran:?}");
        assert!(ran.stderr.contains("1 backup lacks data"), "{}", ran.stderr);
        let lines = json_lines(&String::from_utf8(ran.stdout).unwrap());
        let affected = &lines.last().unwrap()["backups_affected"];
        assert_eq!(*affected, json!([made["backup_id"]]));
    }
    world.ok(&["forget", made["backup_id"].as_str().unwrap(), "--force"]);
    world.ok(&["prune"]);
}
