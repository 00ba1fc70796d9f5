//! A year with a vault (a copy of the repository that is kept offline). A custodian without keys
//! fills it each month and audits it each quarter. Meanwhile disks fail, thieves delete backups,
//! and someone replaces the vault by an older state.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::replicate::{copied, is_clean, replicate};
use crate::support::noise;
use crate::support::program::{World, files, finish, json_lines};

const SIZE: usize = 700_000;

/// The original, the vault, and the statement on paper that the custodian keeps.
struct Year {
    world: World,
    vault: String,
    /// The newest statement.
    paper: String,
}

impl Year {
    /// Backs up, forgets and prunes, and writes a new statement.
    fn work(&mut self, month: u64) {
        let disk = self.world.write("disk.img", &noise(month, SIZE));
        self.world.backup(&[&disk]);
        if month.is_multiple_of(3) {
            self.world.ok(&[
                "forget",
                "--keep-last",
                "4",
                "--prune",
                "--grace",
                "0",
                "--max-unused",
                "0",
                "-q",
            ]);
        }
        let head = self.world.json_one(&["head"], "head");
        head["qr_content"]
            .as_str()
            .unwrap()
            .clone_into(&mut self.paper);
    }

    #[track_caller]
    fn fill(&self) {
        copied(&self.world, &[&self.vault]);
    }

    /// Checks the vault without a password, against the newest statement. Returns the exit code and
    /// the items with findings.
    fn audit(&self) -> (i32, Vec<String>) {
        let statement = ["--statement", &self.paper];
        let args = ["-r", &self.vault, "check", "--keyless", "--json"];
        let args = [&args[..], &statement].concat();
        let mut command = self.world.command(&args);
        command.env_remove("CUTTLEBONE_PASSWORD");
        let ran = finish(command.spawn().unwrap(), &args);
        let lines = json_lines(&String::from_utf8(ran.stdout).unwrap());
        let errors = lines.iter().filter(|l| l["message_type"] == "error");
        let item = |line: &Value| line["item"].as_str().unwrap().to_owned();
        (ran.code.unwrap(), errors.map(item).collect())
    }

    /// Returns a file of the vault in a directory of the project. The original has this file, too,
    /// so that it can replace the file in the vault.
    fn in_vault(&self, kind: &str) -> PathBuf {
        let project = self.world.project();
        let project = project.file_name().unwrap();
        let directory = Path::new(&self.vault).join("projects").join(project);
        let original = files(&self.world.project().join(kind));
        let original: Vec<_> = original.iter().map(|path| name(path)).collect();
        let mut found = files(&directory.join(kind));
        found.retain(|path| original.contains(&name(path)));
        found.sort();
        found.remove(0)
    }

    /// Someone deletes the newest backups of the original, and later those of the vault.
    fn theft(&self) {
        let before = files(&Path::new(&self.vault).join("projects"));
        let records = files(&self.world.project().join("backups"));
        let known: Vec<_> = before.iter().map(|path| name(path)).collect();
        let stolen: Vec<_> = records
            .iter()
            .filter(|path| !known.contains(&name(path)))
            .collect();
        assert!(!stolen.is_empty());
        let whole: Vec<_> = stolen.iter().map(|path| fs::read(path).unwrap()).collect();
        for path in &stolen {
            fs::remove_file(path).unwrap();
        }
        let theft = replicate(&self.world, &[&self.vault]);
        assert_eq!(theft.code, 23, "{:?}", theft.items);
        assert_eq!(theft.items.len(), stolen.len());
        for (path, bytes) in stolen.iter().zip(&whole) {
            assert!(theft.items.iter().any(|item| item.contains(&name(path))));
            fs::write(path, bytes).unwrap();
        }
        self.fill();
        // Another thief deletes the same backups from the vault.
        let backups = self.in_vault("backups").parent().unwrap().to_owned();
        for path in &stolen {
            fs::remove_file(backups.join(name(path))).unwrap();
        }
        let (code, items) = self.audit();
        assert_eq!((code, items.len()), (23, stolen.len()), "{items:?}");
        for path in &stolen {
            assert!(items.iter().any(|item| item.contains(&name(path))));
        }
        self.fill();
    }

    /// Someone replaces the vault by an older state. Only the newest statement shows this.
    fn roll_back(&self) {
        let old = self.world.at("old vault");
        cp(&self.vault, &old);
        self.fill();
        let kept = self.world.at("kept vault");
        fs::rename(&self.vault, &kept).unwrap();
        fs::rename(&old, &self.vault).unwrap();
        assert_eq!(self.audit(), (23, vec!["the statement".to_owned()]));
        fs::remove_dir_all(&self.vault).unwrap();
        fs::rename(&kept, &self.vault).unwrap();
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Replaces a file, which may be read-only, by one with these bytes.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn flip(path: &Path) -> Vec<u8> {
    let whole = fs::read(path).unwrap();
    let mut bytes = whole.clone();
    bytes[whole.len() / 3] ^= 4;
    replace(path, &bytes);
    whole
}

fn cp(from: &str, to: &str) {
    let status = Command::new("cp").args(["-a", from, to]).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_custodian_without_keys_keeps_a_vault_for_a_year_and_notices_each_fault_and_attack() {
    let world = World::new();
    let vault = world.at("vault");
    let mut year = Year {
        world,
        vault,
        paper: String::new(),
    };
    for month in 1..=12 {
        year.work(month);
        match month {
            // A disk of the vault changes a bit. The audit names the file. After the file is moved
            // away, `replicate` copies it again.
            3 => {
                year.fill();
                let pack = year.in_vault("packs");
                flip(&pack);
                let (code, items) = year.audit();
                assert_eq!((code, items.len()), (21, 1), "{items:?}");
                assert!(items[0].contains(&name(&pack)));
                fs::rename(&pack, year.world.path("damaged pack")).unwrap();
                let summary = copied(&year.world, &[&year.vault]);
                assert_eq!(summary["files_copied"], 1);
            }
            // A new record of the original is damaged. The damaged record is not copied to the
            // vault.
            5 => {
                let known = files(&Path::new(&year.vault).join("projects"));
                let known: Vec<_> = known.iter().map(|path| name(path)).collect();
                let mut records = files(&year.world.project().join("backups"));
                records.retain(|path| !known.contains(&name(path)));
                let whole = flip(&records[0]);
                let damaged = replicate(&year.world, &[&year.vault]);
                assert_eq!(
                    (damaged.code, damaged.items.len()),
                    (21, 1),
                    "{:?}",
                    damaged.items
                );
                assert!(damaged.items[0].contains(&name(&records[0])));
                replace(&records[0], &whole);
                year.fill();
            }
            // A segment of the vault cannot be read: a directory is in its place.
            6 => {
                year.fill();
                let segment = year.in_vault("index");
                fs::remove_file(&segment).unwrap();
                fs::create_dir(&segment).unwrap();
                let (code, items) = year.audit();
                assert_eq!((code, items.len()), (21, 1), "{items:?}");
                assert!(items[0].contains(&name(&segment)));
                fs::remove_dir(&segment).unwrap();
                let summary = copied(&year.world, &[&year.vault]);
                assert_eq!(summary["files_copied"], 1);
            }
            8 => year.theft(),
            10 => year.roll_back(),
            _ => year.fill(),
        }
        if month % 3 == 0 {
            assert_eq!(year.audit(), (0, Vec::new()), "month {month}");
        }
    }
    is_clean(&year.world, &year.vault);
    let restored = year.world.at("restored.img");
    let cache = year.world.at("cache of the vault");
    let args = ["-r", &year.vault, "--cache-dir", &cache];
    let restore = [&args[..], &["restore", "disk.img", &restored]].concat();
    year.world.ok(&restore);
    assert_eq!(fs::read(restored).unwrap(), noise(12, SIZE));
}
