//! Runs the commands of the README block by block, as a reader would. The test starts a Ceph
//! cluster and an SSH server, and makes the devices that the commands name.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::blocks::{Block, blocks};
use crate::ceph::{Cluster, cluster};
use crate::support::program::{Ran, finish, with_default_signals};
use crate::support::{LoopDevice, Sshd, noise, run, skip};

const MIB: usize = 1 << 20;
/// The image that the README backs up.
const IMAGE: &str = "vms/web1";
/// Stands for the directory of the stage in a replacement. The path of the directory is inserted
/// last, since it may begin with `/tmp/`, which is replaced, too.
const ROOT: &str = "\u{1}";
const IMAGE_SIZE: usize = 32 * MIB;

/// A directory in which the blocks of a page run. The paths of the examples are below it. Scripts
/// replace the programs that the page calls but that the test must not run.
struct Stage {
    directory: TempDir,
    /// Text in a block, and its replacement in this test.
    replaced: Vec<(String, String)>,
    environment: Vec<(String, String)>,
}

impl Stage {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = env!("CARGO_BIN_EXE_cuttlebone");
        let at = |name: &str| directory.path().join(name);
        for name in [
            "bin",
            "clone/target/release",
            "home",
            "srv",
            "mnt/vault",
            "dev/vg0",
            "root",
            "tmp",
        ] {
            fs::create_dir_all(at(name)).unwrap();
        }
        symlink(root.join("src"), at("clone/src")).unwrap();
        symlink(root.join("Cargo.lock"), at("clone/Cargo.lock")).unwrap();
        symlink(program, at("clone/target/release/cuttlebone")).unwrap();
        symlink(program, at("bin/cuttlebone")).unwrap();
        fs::write(at("root/backup.pw"), "correct horse\n").unwrap();
        fs::set_permissions(at("root/backup.pw"), fs::Permissions::from_mode(0o600)).unwrap();
        let replaced = ["/srv/", "/mnt/", "/dev/vg0/", "/root/", "/tmp/"];
        let replaced = replaced.map(|path| (path.to_owned(), format!("{ROOT}{path}")));
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", at("bin").display());
        let environment = [
            ("HOME", at("home").to_str().unwrap().to_owned()),
            ("PATH", path),
        ];
        let stage = Self {
            environment: environment.map(|(k, v)| (k.to_owned(), v)).to_vec(),
            replaced: replaced.to_vec(),
            directory,
        };
        // The program is already built, so `cargo` does nothing.
        stage.program("cargo", "exit 0");
        stage.program("pg_dumpall", "echo 'CREATE ROLE web;'");
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces a program by a shell script.
    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn replace(&mut self, written: &str, meant: &str) {
        self.replaced.push((written.to_owned(), meant.to_owned()));
    }

    fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Runs a block in bash. Exported variables stay set for the next blocks, as in the reader's
    /// shell.
    fn run(&self, text: &str) -> Ran {
        let mut text = text.to_owned();
        for (written, meant) in &self.replaced {
            text = text.replace(written, meant);
        }
        let text = text.replace(ROOT, self.directory.path().to_str().unwrap());
        let exports = self.path("exports");
        let script = format!(
            "set -e\n[ ! -e {0} ] || . {0}\n{text}\nexport -p >{0}\n",
            exports.display()
        );
        let mut bash = with_default_signals();
        bash.args(["bash", "-c", &script])
            .env_clear()
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .current_dir(self.path("clone"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        finish(bash.spawn().unwrap(), &[&text])
    }

    fn ok(&self, block: &Block<'_>) {
        let ran = self.run(&block.text);
        let output = String::from_utf8_lossy(&ran.stdout);
        assert_eq!(
            ran.code,
            Some(0),
            "README.md:{}: {}\n{output}\n{}",
            block.line,
            block.text,
            ran.stderr
        );
    }
}

/// A Ceph cluster with the image that the README backs up.
struct Image<'a>(&'a Cluster);

impl Image<'_> {
    fn rbd(&self, args: &[&str]) -> String {
        String::from_utf8(self.0.rbd(args)).unwrap()
    }

    /// Returns the names of the snapshots, the oldest first.
    fn snapshots(&self) -> Vec<String> {
        let listed = self.rbd(&["snap", "ls", IMAGE, "--format", "json"]);
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
        listed
            .iter()
            .map(|snapshot| snapshot["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Changes 1 MiB in a place that the file system does not use.
    fn change(&self, stage: &Stage, seed: u64) {
        let numbers = [28 * MIB, MIB]
            .map(|number| (number as u64).to_le_bytes())
            .concat();
        let size = (IMAGE_SIZE as u64).to_le_bytes();
        let head = [&b"rbd diff v1\ns"[..], &size, b"w", &numbers].concat();
        let path = stage.path("change");
        fs::write(&path, [&head[..], &noise(seed, MIB), b"e"].concat()).unwrap();
        let args = [
            "import-diff",
            "--no-progress",
            path.to_str().unwrap(),
            IMAGE,
        ];
        self.rbd(&args);
    }
}

/// One test for all blocks, since each depends on the blocks before it.
#[test]
fn the_blocks_of_the_readme_run_as_they_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("README.md")).unwrap();
    let blocks: Vec<Block<'_>> = blocks(&page);
    let blocks = blocks
        .into_iter()
        .filter(|block| block.info.starts_with(&["sh", "run"]));
    let mut stage = Stage::new();

    let Some(source) = LoopDevice::new(&noise(1, 8 * MIB)) else {
        return;
    };
    let Some(target) = LoopDevice::new(&noise(2, 64 * MIB)) else {
        return;
    };
    symlink(&source.device, stage.path("dev/vg0/web1-snapshot")).unwrap();
    symlink(&target.device, stage.path("dev/vg0/web1")).unwrap();
    let cluster = cluster();
    let image = cluster.as_deref().map(Image);
    if let Some(image) = &image {
        stage.set("CEPH_CONF", image.0.conf().to_str().unwrap());
        image.0.make_pool("vms");
        fs::create_dir_all(stage.path("files/etc")).unwrap();
        fs::write(
            stage.path("files/etc/fstab"),
            "proc /proc proc defaults 0 0\n",
        )
        .unwrap();
        let (files, disk) = (stage.path("files"), stage.path("disk"));
        let args = [
            "-q",
            "-t",
            "ext4",
            "-d",
            files.to_str().unwrap(),
            disk.to_str().unwrap(),
            "32M",
        ];
        run("/sbin/mke2fs", &args).unwrap();
        image.rbd(&["import", "--no-progress", disk.to_str().unwrap(), IMAGE]);
    }
    let subsystem = format!("internal-sftp -d {}", stage.path("server").display());
    fs::create_dir(stage.path("server")).unwrap();
    let server = Sshd::start_with(&subsystem);
    if let Some(server) = &server {
        let config = fs::read_to_string(server.path("config")).unwrap();
        let (port, user) = (server.port(), run("id", &["-un"]).unwrap());
        let alias =
            format!("Host vault.example.org\n  HostName 127.0.0.1\n  Port {port}\n{config}");
        fs::write(stage.path("ssh_config"), alias).unwrap();
        let config = stage.path("ssh_config");
        stage.program(
            "ssh",
            &format!("exec /usr/bin/ssh -F {} \"$@\"", config.display()),
        );
        stage.replace(
            "backup@vault.example.org",
            &format!("{user}@vault.example.org"),
        );
    }

    let mut ran = 0;
    for block in blocks {
        let needs = |what| block.info.contains(&what);
        let missing = (needs("ceph") && image.is_none()) || (needs("sftp") && server.is_none());
        if missing {
            skip(&format!(
                "README.md:{} needs {:?}",
                block.line,
                &block.info[2..]
            ));
            continue;
        }
        ran += 1;
        match &image {
            Some(image) if block.text.contains("backup rbd:") => nights(&stage, image, &block),
            Some(image) if block.text.contains("rbd snap rollback") => {
                let snapshots = third_backup(&stage, image);
                stage.replace("web1@OLD", &format!("web1@{}", snapshots.0));
                stage.replace("web1@NEW", &format!("web1@{}", snapshots.1));
                stage.ok(&block);
                let fstab = fs::read_to_string(stage.path("clone/fstab")).unwrap();
                assert_eq!(fstab, "proc /proc proc defaults 0 0\n");
                let exported = |image: &str| image_hash(image, &stage);
                assert_eq!(exported(IMAGE), exported("vms/web1-new"));
                let restored = fs::read(stage.path("clone/web1.img")).unwrap();
                assert_eq!(blake3::hash(&restored), exported(IMAGE));
            }
            _ => {
                if needs("sftp") {
                    // Remove the restored image, which a new machine would not have.
                    let _ = fs::remove_file(stage.path("clone/web1.img"));
                }
                // The path of the repository is relative to the directory in which the server
                // starts.
                let there = stage.path("server/web1");
                let _ = fs::remove_file(&there).or_else(|_| fs::remove_dir_all(&there));
                if needs("sftp") && !block.text.contains("init") {
                    symlink(stage.path("srv/backup"), &there).unwrap();
                }
                stage.ok(&block);
            }
        }
    }
    assert!(ran > 5, "only {ran} blocks ran");
}

/// Runs a nightly block twice, and changes the image in between.
fn nights(stage: &Stage, image: &Image<'_>, block: &Block<'_>) {
    stage.ok(block);
    let first = image.snapshots();
    image.change(stage, 3);
    // The name of a snapshot contains the time in whole seconds. These two names must differ.
    thread::sleep(Duration::from_millis(1100));
    stage.ok(block);
    let second = image.snapshots();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second);
}

/// Backs up a third state of the image, and deletes its snapshot. Returns the names of the
/// snapshots of the second and of the third backup.
fn third_backup(stage: &Stage, image: &Image<'_>) -> (String, String) {
    let old = image.snapshots().remove(0);
    let new = "third".to_owned();
    image.change(stage, 4);
    let script = format!(
        "rbd snap create --no-progress {IMAGE}@{new}\n\
        rbd export-diff --no-progress --from-snap {old} {IMAGE}@{new} - |\n\
        cuttlebone backup --diff - --volume {IMAGE}\n\
        rbd snap rm --no-progress {IMAGE}@{new}\n"
    );
    let ran = stage.run(&script);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    (old, new)
}

fn image_hash(image: &str, stage: &Stage) -> blake3::Hash {
    let mut rbd = Command::new("rbd");
    rbd.args(["export", "--no-progress", image, "-"]);
    let output = rbd
        .envs(stage.environment.iter().map(|(k, v)| (k, v)))
        .output()
        .unwrap();
    assert!(output.status.success());
    blake3::hash(&output.stdout)
}
