//! Tests of the program with a real Ceph. The program reads diffs that Ceph has written, and Ceph
//! reads diffs that the program has written. The images must be equal. The program also backs up
//! and restores images in the cluster itself.
//!
//! `ceph-dev` starts a cluster of one host in seconds. Most tests share one cluster. Random numbers
//! come from a seed that each test prints: `SEED=… cargo test ceph::` repeats them.

mod backup;
mod diffs;
mod image;
mod live;
mod live_copy;
mod live_distrust;
mod live_faults;
mod live_full;
mod live_in_place;
mod live_jobs;
mod live_restore;
mod live_series;
mod live_snapshots;
mod live_starts;
mod live_status;
mod live_together;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::{TempDir, tempfile};

use crate::support::program::finish;
use crate::support::{Random, skip};

/// The exit code of `ceph-dev` if Ceph is not installed.
const NOT_INSTALLED: i32 = 3;

/// A cluster of one host.
pub(crate) struct Cluster {
    directory: TempDir,
    /// A process that stops and removes the cluster when its standard input ends. That happens when
    /// this value is dropped, or when the test process ends.
    keeper: Child,
}

/// Returns the running cluster, or starts one. Returns `None` if Ceph is not installed.
pub(crate) fn cluster() -> Option<Arc<Cluster>> {
    static RUNNING: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cluster) = running.upgrade() {
        return Some(cluster);
    }
    let cluster = Arc::new(Cluster::start()?);
    *running = Arc::downgrade(&cluster);
    Some(cluster)
}

impl Cluster {
    fn start() -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let mut stderr = tempfile().unwrap();
        let mut keeper = ceph_dev("hold", directory.path())
            // Ctrl-C on the terminal must not end this process.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut up = String::new();
        let pipe = keeper.stdout.as_mut().unwrap();
        BufReader::new(pipe).read_line(&mut up).unwrap();
        if up == "up\n" {
            return Some(Self { directory, keeper });
        }
        let status = keeper.wait().unwrap();
        let why = text(&mut stderr);
        if status.code() == Some(NOT_INSTALLED) {
            skip(&why);
            return None;
        }
        panic!("the cluster did not start: {status}\n{up}{why}");
    }

    /// Starts a cluster that no other test uses. Returns `None` if Ceph is not installed.
    pub(crate) fn of_one_test() -> Option<Arc<Self>> {
        Some(Arc::new(Self::start()?))
    }

    /// Returns the process id of the OSD.
    pub(crate) fn osd(&self) -> String {
        let file = self.directory.path().join("run/osd.0.pid");
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    /// Returns the path of the configuration file for clients.
    pub(crate) fn conf(&self) -> PathBuf {
        self.directory.path().join("ceph.conf")
    }

    /// Makes a pool for images.
    pub(crate) fn make_pool(&self, name: &str) {
        let mut ceph = Command::new("ceph");
        ceph.args(["osd", "pool", "create", name]);
        let made = ceph.env("CEPH_CONF", self.conf()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        self.rbd(&["pool", "init", name]);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("rbd");
        command
            .args(args)
            .env("CEPH_CONF", self.conf())
            .env_remove("CEPH_ARGS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn start_rbd(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    /// Runs `rbd`, which must succeed. Returns its standard output.
    pub(crate) fn rbd(&self, args: &[&str]) -> Vec<u8> {
        self.finish_rbd(self.start_rbd(args), args)
    }

    /// Runs `rbd` with this standard input. It must succeed. Returns its standard output.
    fn rbd_with_stdin(&self, args: &[&str], input: impl Into<Stdio>) -> Vec<u8> {
        self.finish_rbd(self.command(args).stdin(input).spawn().unwrap(), args)
    }

    fn finish_rbd(&self, rbd: Child, args: &[&str]) -> Vec<u8> {
        let ran = finish(rbd, args);
        if ran.code != Some(0) {
            let log = self.log();
            panic!("rbd {args:?}: {:?}\n{}\n{log}", ran.code, ran.stderr);
        }
        ran.stdout
    }

    /// Returns a list of the running daemons, and their logs.
    fn log(&self) -> String {
        ["status", "log"]
            .map(|what| {
                ceph_dev(what, self.directory.path())
                    .output()
                    .unwrap()
                    .stdout
            })
            .map(|output| String::from_utf8_lossy(&output).into_owned())
            .concat()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // `wait` first closes the standard input of the process, so that the process ends.
        if let Err(error) = self.keeper.wait() {
            eprintln!("could not wait for the cluster to stop: {error}");
        }
    }
}

fn ceph_dev(what: &str, directory: &Path) -> Command {
    let mut command =
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ceph/ceph-dev"));
    command.arg(what).arg(directory);
    command
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns a file with these bytes, to be read from its beginning.
fn file(bytes: &[u8]) -> File {
    let mut file = tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}
