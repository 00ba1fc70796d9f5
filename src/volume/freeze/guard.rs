//! The guard: the process that freezes and thaws the programs that use volumes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, geteuid, getpid, kill_process, kill_process_group,
    set_child_subreaper, waitpid,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::words::{FREEZING, FROZEN, LATE, NOT_FROZEN, NOT_THAWED, THAWED};
use crate::base::child_command;

/// The time between two tests whether a command has ended.
const STEP: Duration = Duration::from_millis(20);
/// The time that one attempt to thaw may take.
pub(super) const THAW_LIMIT: Duration = Duration::from_mins(1);
/// The maximum number of attempts to thaw.
const THAW_ATTEMPTS: u32 = 3;
/// The time between two attempts to thaw.
const THAW_PAUSE: Duration = Duration::from_secs(1);
/// The maximum time to wait until another freeze on this machine has ended.
const TURN_LIMIT: Duration = Duration::from_mins(5);
/// The time that a killed command has to end. A process that waits for a device cannot be killed.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// Freezes with the command `before`, and later thaws with the command `after`. In between, waits
/// until standard input has a byte or has ended, or until the time limit has passed. If the freeze
/// fails, thaws at once. Prints each step on standard output. Returns whether the thaw succeeded or
/// was not needed.
///
/// On one machine, only one freeze of a user takes place at a time, since the thaw of one could end
/// another. The time limit begins when no other freeze takes place. If `before` still runs when the
/// thaw must begin, it is killed first, with all processes that it started. This process ignores
/// signals that ask it to end: it ends soon anyway.
#[must_use]
pub fn guard_freeze(before: Option<&OsStr>, after: Option<&OsStr>, limit: Duration) -> bool {
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // If the registration fails, the signal ends this process, as it does by default.
        let _ = signal_hook::flag::register(signal, Arc::clone(&ignored));
    }
    // When a process ends that a command started, its children become children of this process,
    // even if they have left the group of the command.
    let _ = set_child_subreaper(Some(getpid()));
    let asked = watch_input();
    let turn = match before {
        Some(_) => Turn::wait_for(&asked),
        None => Ok(Turn(None)),
    };
    let _turn = match turn {
        Ok(turn) => turn,
        Err(reason) => {
            // No command has run, so nothing is frozen.
            print(&format!("{NOT_FROZEN}{reason}"));
            print(THAWED);
            return true;
        }
    };
    let deadline = Instant::now() + limit;
    let frozen = before.map_or(Ok(()), |before| freeze(before, deadline, &asked));
    match &frozen {
        Ok(()) => {
            print(FROZEN);
            let left = deadline.saturating_duration_since(Instant::now());
            if asked.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                print(LATE);
            }
        }
        Err(reason) => print(&format!("{NOT_FROZEN}{reason}")),
    }
    let thawed = after.map_or(Ok(()), thaw);
    match &thawed {
        Ok(()) => print(THAWED),
        Err(reason) => print(&format!("{NOT_THAWED}{reason}")),
    }
    thawed.is_ok()
}

/// The right to freeze, which one process of a user on this machine has at a time: a lock on a
/// file. The system releases the lock when the process ends.
struct Turn(#[expect(dead_code, reason = "holds the lock")] Option<File>);

impl Turn {
    /// Waits until no other process has the right. Fails after [`TURN_LIMIT`], or if the thaw is
    /// requested in the meantime. If the file system has no locks, does not wait.
    fn wait_for(asked: &Receiver<()>) -> Result<Self, String> {
        let file = lock_file().map_err(|error| error.to_string())?;
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(Some(file))),
                Err(Errno::WOULDBLOCK) if begun.elapsed() < TURN_LIMIT => {}
                Err(Errno::WOULDBLOCK) => {
                    return Err(
                        "it did not run: another freeze on this host has not ended".to_owned()
                    );
                }
                // Some file systems have no locks.
                Err(_) => return Ok(Self(None)),
            }
            if asked.recv_timeout(STEP) != Err(RecvTimeoutError::Timeout) {
                return Err("it did not run: it was interrupted".to_owned());
            }
        }
    }
}

/// Opens the file of the lock, which no other user can open. If the user has no directory for such
/// a file, opens the executable file of this program instead.
fn lock_file() -> io::Result<File> {
    let directory = if geteuid().is_root() {
        Some("/run".into())
    } else {
        std::env::var_os("XDG_RUNTIME_DIR")
    };
    let private = directory.and_then(|directory| {
        let path = Path::new(&directory).join("cuttlebone-freeze.lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).ok()
    });
    match private {
        Some(file) => Ok(file.into()),
        None => File::open("/proc/self/exe"),
    }
}

/// Prints a line. Ignores errors: if the reader has ended, this process still has to go on.
fn print(line: &str) {
    let mut stdout = io::stdout();
    let _ = writeln!(stdout, "{}", line.replace('\n', " "));
    let _ = stdout.flush();
}

/// Returns a channel that gets a message when standard input has a byte or ends.
fn watch_input() -> Receiver<()> {
    let (sender, asked): (Sender<()>, _) = channel();
    let watch = move || {
        let _ = io::stdin().read(&mut [0]);
        let _ = sender.send(());
    };
    // Without the thread, the channel is closed, which counts as a request to thaw at once.
    let _ = thread::Builder::new().spawn(watch);
    asked
}

/// Runs a command with a shell, in a process group of its own. If `is_shown`, the output of the
/// command goes to standard error. Otherwise it is discarded.
fn start(command: &OsStr, is_shown: bool) -> io::Result<Child> {
    let output = || {
        if is_shown {
            Stdio::from(io::stderr())
        } else {
            Stdio::null()
        }
    };
    child_command("sh")
        .arg("-c")
        .arg(command)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .spawn()
}

/// Kills a command that has not been reaped, and all processes that it started. Waits at most
/// [`KILL_LIMIT`] for their end, since the thaw must follow.
fn kill(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // Fails if all its processes have ended.
    let _ = group.map(|group| kill_process_group(group, Signal::KILL));
    let begun = Instant::now();
    while begun.elapsed() < KILL_LIMIT {
        let has_ended = !matches!(child.try_wait(), Ok(None));
        // Processes that left the group become children of this process when their parents end.
        let others = children(child.id());
        if has_ended && others.is_empty() {
            return;
        }
        for other in others {
            let _ = kill_process(other, Signal::KILL);
            let _ = waitpid(Some(other), WaitOptions::NOHANG);
        }
        thread::sleep(STEP);
    }
}

/// Returns the child processes of this process, except the one with the id `except`. The list is
/// empty if the system does not list them.
fn children(except: u32) -> Vec<Pid> {
    let own = getpid().as_raw_nonzero();
    let Ok(listed) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let texts = listed
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let texts: Vec<String> = texts.collect();
    let ids = texts.iter().flat_map(|text| text.split_whitespace());
    let ids = ids.filter_map(|id| id.parse().ok());
    ids.filter(|id: &i32| u32::try_from(*id) != Ok(except) && *id != own.get())
        .filter_map(Pid::from_raw)
        .collect()
}

/// Runs the command that freezes. Kills the command at the deadline, or when the thaw is requested.
fn freeze(before: &OsStr, deadline: Instant, asked: &Receiver<()>) -> Result<(), String> {
    let mut child = start(before, true).map_err(|error| error.to_string())?;
    print(&format!("{FREEZING}{}", child.id()));
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return succeeded(status),
            Err(error) => {
                kill(&mut child);
                return Err(error.to_string());
            }
        }
        let why = match asked.recv_timeout(STEP) {
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => continue,
            Err(RecvTimeoutError::Timeout) => "it took longer than the time limit",
            Ok(()) | Err(RecvTimeoutError::Disconnected) => "it was interrupted",
        };
        kill(&mut child);
        return Err(why.to_owned());
    }
}

/// Runs the command that thaws, up to [`THAW_ATTEMPTS`] times, until it succeeds.
fn thaw(after: &OsStr) -> Result<(), String> {
    let mut outcome = Ok(());
    for attempt in 0..THAW_ATTEMPTS {
        if attempt > 0 {
            thread::sleep(THAW_PAUSE);
        }
        // A command that prints fails if nobody reads its output. So the output of later attempts
        // is discarded.
        outcome = run_within(after, attempt == 0, THAW_LIMIT);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Runs a command, and kills it after `limit`. Returns the reason of a failure. Discards the output
/// of the command unless `is_shown`.
pub(super) fn run_within(command: &OsStr, is_shown: bool, limit: Duration) -> Result<(), String> {
    let begun = Instant::now();
    let mut child = start(command, is_shown).map_err(|error| error.to_string())?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return succeeded(status),
            Ok(None) if begun.elapsed() < limit => thread::sleep(STEP),
            Ok(None) => {
                kill(&mut child);
                return Err(format!("it took longer than {} seconds", limit.as_secs()));
            }
            Err(error) => {
                kill(&mut child);
                return Err(error.to_string());
            }
        }
    }
}

fn succeeded(status: ExitStatus) -> Result<(), String> {
    if status.success() {
        Ok(())
    } else {
        Err(status.to_string())
    }
}
