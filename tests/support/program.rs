//! Runs the program like a user, in a scratch directory with its own repository and cache.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cuttlebone::base::CHUNK_SIZE_DEFAULT;
use cuttlebone::format::SlotInfo;
use cuttlebone::repo::{InitOptions, KdfParams, NewKey, Repository};
use cuttlebone::storage::LocalBackend;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PASSWORD: &str = "correct horse";
/// The options that make a new key as cheap to unlock as the program allows.
pub(crate) const CHEAP_KEY: [&str; 4] = ["--kdf-memory", "8M", "--kdf-passes", "5"];
/// A run of the program that takes longer is assumed to hang. No run takes this long, even on a
/// busy machine.
pub(crate) const HANGS: Duration = Duration::from_mins(10);
/// A lock for tests that measure memory, or that must not run at the same time as other tests that
/// take this lock.
pub(crate) static ALONE: Mutex<()> = Mutex::new(());

/// A scratch directory with a repository and a cache in it, and the environment that makes the
/// program use them. Its methods run the program and check the exit code.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) environment: Vec<(String, String)>,
}

/// Makes a repository whose key takes almost no time and memory to unlock. The program itself
/// cannot make such keys.
pub(crate) fn make_repository(path: &Path, password: &str) {
    let options = InitOptions {
        key: NewKey {
            password: password.as_bytes(),
            kdf: KdfParams::new(8, 1, 1).unwrap(),
            info: SlotInfo::default(),
        },
        project: "default",
        chunk_size: CHUNK_SIZE_DEFAULT,
        parity: None,
        created: 1_800_000_000,
        created_text: "2027-01-15T08:00:00Z".into(),
    };
    let store = LocalBackend::create(path).unwrap();
    Repository::init(Arc::new(store), &options).unwrap();
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    /// The highest memory use that was observed, in bytes.
    pub(crate) peak: u64,
}

impl World {
    /// Creates a world with a repository.
    pub(crate) fn new() -> Self {
        let world = Self::empty();
        make_repository(&world.repository(), PASSWORD);
        world
    }

    /// Creates a world without a repository.
    pub(crate) fn empty() -> Self {
        let directory = TempDir::new().unwrap();
        let path = |name| directory.path().join(name).to_str().unwrap().to_owned();
        let environment = [
            ("HOME", path("home")),
            ("PATH", std::env::var("PATH").unwrap()),
            ("CUTTLEBONE_REPOSITORY", path("repo")),
            ("CUTTLEBONE_CACHE_DIR", path("cache")),
            ("CUTTLEBONE_PASSWORD", PASSWORD.to_owned()),
        ];
        Self {
            environment: environment.map(|(k, v)| (k.to_owned(), v)).to_vec(),
            directory,
        }
    }

    /// Sets a variable of the environment. The program treats an empty variable as unset.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        let value = value.as_ref().to_str().unwrap().to_owned();
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns a path in the directory as a command-line argument.
    pub(crate) fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn repository(&self) -> PathBuf {
        let set = self.environment.iter();
        let mut set = set.filter(|(name, _)| name == "CUTTLEBONE_REPOSITORY");
        PathBuf::from(&set.next().unwrap().1)
    }

    /// Returns the directory of the only project.
    pub(crate) fn project(&self) -> PathBuf {
        let mut projects = fs::read_dir(self.repository().join("projects")).unwrap();
        projects.next().unwrap().unwrap().path()
    }

    /// Returns the paths of all stored packs, without unfinished uploads.
    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        let mut packs = files(&self.project().join("packs"));
        packs.extend(files(&self.project().join("trees")));
        packs.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
        packs
    }

    /// Adds a key of this role, with more options of `key add`. Returns the file with its password.
    pub(crate) fn add_key(&self, password: &str, role: &str, options: &[&str]) -> String {
        let file = self.write(&format!("{password}.pw"), password.as_bytes());
        let add = ["key", "add", "--role", role, "--new-password-file", &file];
        self.ok(&[&add[..], options, &CHEAP_KEY].concat());
        file
    }

    /// Deletes the client memory, in which the program remembers the state of repositories. A test
    /// that changes a repository itself needs this.
    pub(crate) fn forget_memory(&self) {
        fs::remove_dir_all(self.path("home/.local/state/cuttlebone/locations")).unwrap();
    }

    /// Writes a file in the directory. Returns its path as a command-line argument.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.path(name), content).unwrap();
        self.at(name)
    }

    /// Returns the command for a run of the program, with all output piped.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = with_default_signals();
        command
            .arg(env!("CARGO_BIN_EXE_cuttlebone"))
            .args(args)
            .env_clear()
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        finish(self.start(args), args)
    }

    #[track_caller]
    pub(crate) fn run_with_stdin(&self, args: &[&str], input: impl Into<Stdio>) -> Ran {
        finish(self.command(args).stdin(input).spawn().unwrap(), args)
    }

    /// Runs a command that must succeed. Returns its standard output.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok(args)
    }

    /// Runs a command that must exit with this code. Returns its standard error.
    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str], code: i32) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
        ran.stderr
    }

    /// Runs a command that must succeed with `--json`. Returns the lines of its output.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        json_lines(&self.ok(&[args, &["--json"]].concat()))
    }

    /// Runs a command like [`json`](Self::json). Asserts that its output has exactly one line of
    /// this type, and returns that line.
    #[track_caller]
    pub(crate) fn json_one(&self, args: &[&str], message_type: &str) -> Value {
        let lines = self.json(args);
        let mut found = lines
            .iter()
            .filter(|line| line["message_type"] == message_type);
        match (found.next(), found.next()) {
            (Some(line), None) => line.clone(),
            _ => unreachable!("{args:?}: not one {message_type}: {lines:?}"),
        }
    }

    /// Backs up. Returns the summary.
    #[track_caller]
    pub(crate) fn backup(&self, args: &[&str]) -> Value {
        let summary = self.json_one(&[&["backup"], args].concat(), "summary");
        assert!(summary["backup_id"].is_string(), "{summary}");
        summary
    }

    /// Asserts that restoring `backup` gives the bytes of the file `expected`.
    #[track_caller]
    pub(crate) fn restores(&self, backup: &str, expected: &str) {
        let target = self.at("restored");
        self.ok(&["restore", backup, &target, "--force", "-q"]);
        assert!(same(&target, expected), "{backup} is not {expected}");
        fs::remove_file(target).unwrap();
    }

    /// Asserts that `check --read-data` finds no damage.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        let check = self.json_one(&["check", "--read-data"], "check");
        assert_eq!(
            (&check["errors"], &check["packs_damaged"]),
            (&0.into(), &0.into())
        );
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        assert_eq!(self.code, Some(0), "{args:?}: {self:?}");
        String::from_utf8(self.stdout.clone()).unwrap()
    }
}

/// Returns a command that runs its first argument with the signal dispositions of a shell in a
/// terminal.
///
/// The tests may run with SIGINT or SIGHUP ignored, for example below `nohup` or in a background
/// job of a script. Child processes inherit this, and the program would keep ignoring these
/// signals. Without unsafe code, a process cannot change this for its child, so env(1) of coreutils
/// 8.31 or later does it.
pub(crate) fn with_default_signals() -> Command {
    let mut command = Command::new("/usr/bin/env");
    command.arg("--default-signal=HUP,INT,TERM");
    command
}

/// Waits for a run of the program to end. Returns its output. Fails after [`HANGS`].
#[track_caller]
pub(crate) fn finish(mut child: Child, args: &[&str]) -> Ran {
    let begun = Instant::now();
    let drain = |pipe: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                pipe.read_to_end(&mut bytes).unwrap();
            }
            bytes
        })
    };
    let stdout = drain(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = drain(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let mut peak = 0;
    let status = loop {
        peak = peak_memory(child.id()).unwrap_or(0).max(peak);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > HANGS {
            child.kill().unwrap();
            child.wait().unwrap();
            unreachable!("{args:?} did not end");
        }
        thread::sleep(Duration::from_millis(2));
    };
    Ran {
        code: status.code(),
        took: begun.elapsed(),
        stdout: stdout.join().unwrap(),
        stderr: String::from_utf8(stderr.join().unwrap()).unwrap(),
        peak,
    }
}

/// Returns the peak memory of a process so far, in bytes, or `None` if the process has ended.
fn peak_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Waits for a process to end. Returns its exit code, or `None` if a signal killed it.
#[track_caller]
pub(crate) fn wait(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if begun.elapsed() > HANGS {
            child.kill().unwrap();
            child.wait().unwrap();
            unreachable!("the process did not end");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `condition` returns true. Fails if the process ends before.
#[track_caller]
pub(crate) fn until(child: &mut Child, mut condition: impl FnMut() -> bool) {
    while !condition() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "the process ended too early"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

#[track_caller]
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    let line = |line| match serde_json::from_str::<Value>(line) {
        Ok(value) => value,
        Err(error) => unreachable!("{error}: {line}"),
    };
    let lines: Vec<_> = text.lines().map(line).collect();
    assert!(
        lines.iter().all(|line| line["message_type"].is_string()),
        "{text}"
    );
    lines
}

/// Returns the paths of all files below a directory, unsorted; none if the directory is missing.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.append(&mut files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Returns whether two files have the same content.
pub(crate) fn same(a: impl AsRef<Path>, b: impl AsRef<Path>) -> bool {
    let (a, b) = (File::open(a).unwrap(), File::open(b).unwrap());
    let size = a.metadata().unwrap().len();
    if size != b.metadata().unwrap().len() {
        return false;
    }
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    (0..size).step_by(1 << 20).all(|at| {
        let len = usize::try_from((size - at).min(1 << 20)).unwrap();
        a.read_exact_at(&mut left[..len], at).unwrap();
        b.read_exact_at(&mut right[..len], at).unwrap();
        left[..len] == right[..len]
    })
}

/// Flips a bit in the middle of a file.
pub(crate) fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}
