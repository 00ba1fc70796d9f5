//! Identifies this process, and finds out whether another process has ended. Section 13 (Lease) of
//! `docs/format.md` says how a process is named.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::format::ProcessId;

fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

fn namespace() -> Option<String> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_str()?.to_owned())
}

/// The start of a process, in clock ticks since the machine started: field 22 of
/// `proc_pid_stat(5)`. `None` if `/proc` does not show the process. The process may still exist,
/// since `/proc` may hide processes of other users (`hidepid` in `proc(5)`).
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, field 2, is in parentheses and may contain any characters.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Identifies this process. `None` if `/proc` cannot be read.
pub(crate) fn this_process() -> Option<ProcessId> {
    let pid = std::process::id();
    Some(ProcessId {
        boot: boot()?,
        namespace: namespace()?,
        pid,
        started: started(pid)?,
    })
}

/// Whether a process is known to have ended: it ran in this boot of this machine and in this PID
/// namespace, and no longer exists.
pub(crate) fn is_gone(process: &ProcessId) -> bool {
    let is_here =
        boot().as_ref() == Some(&process.boot) && namespace().as_ref() == Some(&process.namespace);
    is_here
        && match started(process.pid) {
            Some(began) => began != process.started,
            None => is_free(process.pid),
        }
}

/// Whether no process has this number.
fn is_free(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_ended_if_its_number_is_free_or_of_another_process() {
        let here = this_process().unwrap();
        assert!(!is_gone(&here));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let ended = ProcessId {
            pid: child.id(),
            ..here.clone()
        };
        assert!(is_gone(&ended));
        let before = ProcessId {
            started: here.started - 1,
            ..here.clone()
        };
        assert!(is_gone(&before));
        // A process that `/proc` does not show counts as running, unless its number is free.
        assert!(is_free(child.id()) && !is_free(here.pid) && !is_free(1));
        // A process of another boot or namespace counts as running.
        for elsewhere in [
            ProcessId {
                boot: "another".into(),
                ..ended.clone()
            },
            ProcessId {
                namespace: "pid:[1]".into(),
                ..ended.clone()
            },
        ] {
            assert!(!is_gone(&elsewhere));
        }
    }
}
