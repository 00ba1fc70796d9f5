//! The guard: the process that freezes and thaws for `backup --together`.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cuttlebone::base::Cancel;
use cuttlebone::volume::{Freeze, FreezeError, FreezeOptions};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cuttlebone");

/// Starts a guard in a directory. The limit of the freeze is in milliseconds.
fn guard(directory: &TempDir, limit: &str, before: &str, after: &str) -> Child {
    let mut command = Command::new(PROGRAM);
    command.current_dir(directory);
    command.args(["__guard-freeze", limit, before, after]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command.spawn().unwrap()
}

/// Returns options whose commands run in a directory. The command before the freeze also writes the
/// process id of its parent, the guard, to the file `guard`.
fn options(directory: &TempDir, before: &str, after: &str) -> FreezeOptions {
    let directory = directory.path().display();
    let inside = |command: &str| Some(format!("cd '{directory}'; {command}").into());
    FreezeOptions {
        before: inside(&format!("echo $PPID > new; mv new guard; {before}")),
        after: inside(after),
        limit: Duration::from_mins(1),
        guard: (PROGRAM.into(), vec!["__guard-freeze".into()]),
    }
}

#[track_caller]
fn wait_for(file: &Path) {
    let begun = Instant::now();
    while !file.exists() {
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "{}",
            file.display()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a signal to the process whose id is in the file `guard`.
fn signal(directory: &TempDir, signal: &str) {
    let file = directory.path().join("guard");
    wait_for(&file);
    let id = fs::read_to_string(file).unwrap();
    let mut kill = Command::new("kill");
    assert!(kill.args([signal, id.trim()]).status().unwrap().success());
}

#[test]
fn a_thaw_that_prints_succeeds_although_nobody_reads_its_output() {
    let directory = tempfile::tempdir().unwrap();
    let thawed = directory.path().join("thawed");
    let after = format!("echo thawing; touch '{}'", thawed.display());
    let (unread, output) = io::pipe().unwrap();
    drop(unread);
    // Keep standard input open. The guard waits until no other test freezes, and would give up if
    // its standard input ended meanwhile.
    let (input, _open) = io::pipe().unwrap();
    let status = Command::new(PROGRAM)
        .args(["__guard-freeze", "300", "true", &after])
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(output)
        .status()
        .unwrap();
    assert!(thawed.exists(), "{status}");
    assert!(status.success(), "{status}");
}

#[test]
fn two_freezes_on_one_machine_do_not_overlap() {
    let directory = tempfile::tempdir().unwrap();
    let note = |word: &str| format!("echo {word} >> log");
    let mut guards = [(); 3].map(|()| {
        // Each freeze lasts 300 ms, its limit, since nobody asks for the thaw earlier.
        guard(&directory, "300", &note("freeze"), &note("thaw"))
    });
    // Keep the standard inputs open: if the standard input of a guard ends, the guard thaws at
    // once.
    let _inputs: Vec<_> = guards.iter_mut().map(|guard| guard.stdin.take()).collect();
    for mut guard in guards {
        assert!(guard.wait().unwrap().success());
    }
    let log = fs::read_to_string(directory.path().join("log")).unwrap();
    assert_eq!(log, "freeze\nthaw\n".repeat(3));
}

#[test]
fn a_process_that_leaves_the_group_of_the_freezing_command_does_not_freeze_after_the_thaw() {
    let directory = tempfile::tempdir().unwrap();
    let before = "setsid sh -c 'sleep 2; touch frozen' & sleep 60";
    let mut guard = guard(&directory, "200", before, "touch thawed");
    let _input = guard.stdin.take();
    assert!(guard.wait().unwrap().success());
    assert!(directory.path().join("thawed").exists());
    thread::sleep(Duration::from_millis(2500));
    assert!(!directory.path().join("frozen").exists());
}

#[test]
fn if_the_guard_is_killed_while_it_freezes_the_freezing_command_is_killed_before_the_thaw() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(&directory, "sleep 2; touch frozen", "touch thawed");
    let failed = thread::scope(|scope| {
        let frozen = scope.spawn(|| Freeze::begin(&options, &Cancel::default()).map(drop));
        signal(&directory, "-KILL");
        frozen.join().unwrap()
    });
    assert_eq!(failed, Err(FreezeError::GuardLost));
    assert!(directory.path().join("thawed").exists());
    thread::sleep(Duration::from_millis(2500));
    assert!(!directory.path().join("frozen").exists());
}

#[test]
fn a_guard_that_was_stopped_is_continued_for_the_thaw() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(&directory, "true", "touch thawed");
    let frozen = Freeze::begin(&options, &Cancel::default()).unwrap();
    signal(&directory, "-STOP");
    frozen.thaw().unwrap();
    assert!(directory.path().join("thawed").exists());
}
