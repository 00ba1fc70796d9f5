//! `backup --command`, sources without bytes, and inputs that share standard input.

use std::fs;
use std::io;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::noise;
use crate::support::program::{World, until, wait};

#[test]
fn the_output_of_a_program_is_backed_up_and_its_messages_are_shown() {
    let world = World::new();
    let file = world.write("file", &noise(1, 3 << 20));
    let script = format!("echo hello >&2; cat {file}");
    let ran = world.run(&["backup", "--command", &script, "--volume", "db.dump"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("hello\n"), "{}", ran.stderr);
    world.restores("db.dump", &file);
    let shown = world.json_one(&["show", "db.dump"], "backup");
    assert_eq!(shown["source"]["kind"], "command");
    world.is_clean();
}

#[test]
fn nothing_is_committed_if_the_program_fails() {
    let world = World::new();
    for (script, expected) in [
        (
            "echo some data; exit 3",
            "the command failed: exit status: 3",
        ),
        (
            "echo some data; kill -9 $$",
            "the command failed: signal: 9",
        ),
        ("no-such-program", "the command failed: exit status: 127"),
        (
            "echo some data; exec >&-; sleep 0.5; exit 1",
            "exit status: 1",
        ),
        ("true", "the output of the command is empty"),
    ] {
        let output = world.fails(&["backup", "--command", script, "--volume", "db"], 1);
        assert!(
            output.contains(expected),
            "{expected:?} is not in\n{output}"
        );
        assert!(output.contains("no backup was created"), "{output}");
    }
    assert!(world.json(&["list"]).is_empty());
    world.ok(&[
        "backup",
        "--command",
        "true",
        "--volume",
        "db",
        "--allow-empty",
    ]);
}

#[test]
fn the_program_does_not_get_the_password() {
    let mut world = World::new();
    let file = world.write("password", b"not this one");
    world.set("CUTTLEBONE_PASSWORD_FILE", &file);
    let args = ["backup", "--command", "env; echo end", "--volume", "env"];
    world.ok(&args);
    let restored = world.at("restored");
    world.ok(&["restore", "env", &restored]);
    let environment = fs::read_to_string(restored).unwrap();
    assert!(environment.ends_with("end\n"));
    assert!(
        environment.contains("CUTTLEBONE_REPOSITORY="),
        "{environment}"
    );
    assert!(
        !environment.contains("CUTTLEBONE_PASSWORD"),
        "{environment}"
    );
}

#[test]
fn an_interrupted_backup_ends_the_program_and_all_that_it_started() {
    let world = World::new();
    let pids = world.at("pids");
    for script in [
        format!("sleep 1000 & echo $! > {pids}; wait"),
        format!("sh -c 'echo $$ > {pids}; exec sleep 1000' | cat"),
    ] {
        let _ = fs::remove_file(&pids);
        let args = ["backup", "--command", &script, "--volume", "db"];
        let mut child = world.command(&args).stdin(Stdio::null()).spawn().unwrap();
        let read = || fs::read_to_string(&pids).unwrap_or_default();
        until(&mut child, || read().ends_with('\n'));
        let sleeping = read();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        assert_eq!(wait(&mut child), Some(130));
        let stat = format!("/proc/{}/stat", sleeping.trim());
        for attempt in 0.. {
            let runs = fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
            if !runs {
                break;
            }
            assert!(attempt < 100, "the program still runs");
            thread::sleep(Duration::from_millis(50));
        }
    }
    assert!(world.json(&["list"]).is_empty());
}

#[test]
fn a_command_needs_a_volume_and_no_other_source() {
    let world = World::new();
    let file = world.write("file", b"data");
    for args in [
        &["backup", "--command", "echo x"][..],
        &["backup", "--command", "echo x", "--volume", "v", &file],
        &[
            "backup",
            "--command",
            "echo x",
            "--volume",
            "v",
            "--diff",
            &file,
        ],
    ] {
        world.fails(args, 2);
    }
}

#[test]
fn an_empty_input_is_refused_unless_it_is_allowed() {
    let world = World::new();
    let file = world.write("data", b"data");
    world.backup(&[&file, "--volume", "v"]);
    let empty = world.write("empty", b"");
    let output = world.fails(&["backup", &empty, "--volume", "v"], 1);
    assert!(
        output.contains("empty is empty: it has no bytes") && output.contains("--allow-empty"),
        "{output}"
    );
    let args = ["backup", "-", "--volume", "w"];
    let closed = io::pipe().unwrap().0;
    for stdin in [Stdio::null(), closed.into()] {
        let ran = world.run_with_stdin(&args, stdin);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("standard input is empty"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(world.json(&["list"]).len(), 1);
    world.ok(&["backup", &empty, "--volume", "v", "--allow-empty"]);
    let args = [&args[..], &["--allow-empty"]].concat();
    world.run_with_stdin(&args, Stdio::null()).ok(&args);
    assert_eq!(world.json(&["list"]).len(), 3);
    world.is_clean();
}

#[test]
fn a_diff_is_stored_as_it_is_only_if_that_is_allowed() {
    let world = World::new();
    let v1 = world.write("v1", b"rbd diff v1\ns\0\x10\0\0\0\0\0\0e");
    let v2 = world.write("v2", b"rbd image v2\n");
    for diff in [&v1, &v2] {
        let print = format!("cat {diff}");
        let ways: [(&[&str], bool); 3] = [
            (&["backup", "-", "--volume", "v"], true),
            (&["backup", diff, "--volume", "v"], false),
            (&["backup", "--command", &print, "--volume", "v"], false),
        ];
        for (args, piped) in ways {
            let stdin = || {
                if piped {
                    Stdio::from(fs::File::open(diff).unwrap())
                } else {
                    Stdio::null()
                }
            };
            let ran = world.run_with_stdin(args, stdin());
            assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.stderr);
            for expected in [
                "is an RBD diff",
                "--diff",
                "--allow-diff",
                "no backup was created",
            ] {
                assert!(ran.stderr.contains(expected), "{args:?}: {}", ran.stderr);
            }
            assert!(world.json(&["list"]).is_empty());
            // A dry run is refused, too.
            let dry = [args, &["--dry-run"]].concat();
            assert_eq!(world.run_with_stdin(&dry, stdin()).code, Some(2));
        }
    }
    let allowed = ["backup", "-", "--volume", "v", "--allow-diff"];
    let stdin = fs::File::open(&v1).unwrap();
    world.run_with_stdin(&allowed, stdin).ok(&allowed);
    world.restores("v", &v1);
    // A file that only begins like a diff is not one.
    let other = world.write("other", b"rbd diff v9\n");
    world.backup(&[&other, "--volume", "w"]);
}

#[test]
fn a_second_signal_ends_the_program_whose_output_is_backed_up() {
    let world = World::new();
    let pids = world.at("pids");
    // The program ignores SIGTERM. So after one signal alone, it would be killed only after two
    // seconds.
    let script = format!("trap '' TERM; echo $$ > {pids}; while true; do sleep 1; done");
    let args = ["backup", "--command", &script, "--volume", "db"];
    let mut child = world.command(&args).stdin(Stdio::null()).spawn().unwrap();
    let read = || fs::read_to_string(&pids).unwrap_or_default();
    until(&mut child, || read().ends_with('\n'));
    let process = Pid::from_child(&child);
    kill_process(process, Signal::INT).unwrap();
    thread::sleep(Duration::from_millis(300));
    kill_process(process, Signal::INT).unwrap();
    assert_eq!(wait(&mut child), Some(130));
    let stat = format!("/proc/{}/stat", read().trim());
    for attempt in 0.. {
        let runs = fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        if !runs {
            break;
        }
        assert!(attempt < 100, "the program still runs");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_signal_interrupts_a_password_command_that_hangs() {
    let mut world = World::new();
    world.set("CUTTLEBONE_PASSWORD", "");
    for script in [
        "sleep 1000",
        "exec >&-; sleep 1000",
        "echo x; exec sleep 1000",
    ] {
        let mark = world.at("mark");
        let _ = fs::remove_file(&mark);
        let command = format!("touch {mark}; {script}");
        let args = ["list", "--password-command", &command];
        let mut child = world.start(&args);
        until(&mut child, || fs::exists(&mark).unwrap());
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(wait(&mut child), Some(130), "{script}");
    }
}

#[test]
fn a_password_and_data_cannot_both_come_from_standard_input_whatever_its_name() {
    let mut world = World::new();
    world.set("CUTTLEBONE_PASSWORD", "");
    let refused = |args: &[&str], world: &World| {
        let ran = world.run_with_stdin(args, io::pipe().unwrap().0);
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.stderr);
        assert!(
            ran.stderr
                .contains("both the password and other input from standard input"),
            "{args:?}: {}",
            ran.stderr
        );
    };
    let names = ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];
    for name in names {
        for args in [
            &["backup", "-", "--volume", "v", "--password-file", name][..],
            &[
                "backup",
                "--diff",
                name,
                "--volume",
                "v",
                "--password-file",
                "/dev/stdin",
            ],
        ] {
            refused(args, &world);
        }
    }
    let args = ["backup", "-", "--volume", "v"];
    for name in names {
        world.set("CUTTLEBONE_PASSWORD_FILE", name);
        refused(&args, &world);
    }
    world.set("CUTTLEBONE_PASSWORD_FILE", "");
    world.set("CUTTLEBONE_PASSWORD_FD", "0");
    refused(&args, &world);
    // `copy` cannot read both passwords from standard input.
    let copy = ["copy", "--all", "--to", "/elsewhere"];
    for name in names {
        refused(&[&copy[..], &["--to-password-file", name]].concat(), &world);
        world.set("CUTTLEBONE_TO_PASSWORD_FILE", name);
        refused(&copy, &world);
    }
    world.set("CUTTLEBONE_TO_PASSWORD_FD", "0");
    refused(&copy, &world);
    refused(&["key", "add", "--new-password-file", "/dev/stdin"], &world);
}

#[test]
fn a_source_of_the_password_that_is_not_used_does_not_count_as_standard_input() {
    let mut world = World::new();
    world.set("CUTTLEBONE_PASSWORD_FILE", "-");
    world.set("CUTTLEBONE_PASSWORD_FD", "");
    let args = ["backup", "-", "--volume", "v"];
    let data = world.write("data", &noise(1, 1 << 20));
    let ran = world.run_with_stdin(&args, fs::File::open(data).unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}
