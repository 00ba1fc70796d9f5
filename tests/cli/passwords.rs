//! Passwords: their sources, their Unicode forms, and the number of prompts.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cuttlebone::crypto::object_hash;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::program::{CHEAP_KEY, PASSWORD, World, wait};
use crate::support::skip;

/// A Python script that runs the command in its arguments on a terminal. Whenever the command asks
/// for a password, the script types the next line of its own standard input.
const TYPIST: &str = r#"
import os, pty, sys
answers = sys.stdin.read().splitlines()
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
shown = b""
while True:
    try:
        read = os.read(terminal, 4096)
    except OSError:
        read = b""
    if not read:
        break
    shown += read
    if read.endswith(b": ") and answers:
        os.write(terminal, answers.pop(0).encode() + b"\n")
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// Runs the program on a terminal whose user types these answers. Returns its exit code and
/// output; `None` if there is no Python.
fn typed(world: &World, args: &[&str], answers: &str) -> Option<(i32, String)> {
    let mut command = Command::new("python3");
    command
        .args(["-c", TYPIST, env!("CARGO_BIN_EXE_cuttlebone")])
        .args(args)
        .env_clear()
        .envs(world.environment.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        skip("there is no python3 to make a terminal");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(answers.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    Some((output.status.code().unwrap(), shown))
}

fn prompts(shown: &str) -> usize {
    shown.matches("password for ").count() + shown.matches("try again: ").count()
}

#[test]
fn a_user_at_a_terminal_has_three_attempts_to_type_the_password() {
    let mut world = World::new();
    world.set("CUTTLEBONE_PASSWORD", "");
    let right_at_last = format!("wrong\nwrong again\n{PASSWORD}\n");
    let Some((code, shown)) = typed(&world, &["key", "test"], &right_at_last) else {
        return;
    };
    assert_eq!((code, prompts(&shown)), (0, 3), "{shown}");
    let (code, shown) = typed(&world, &["key", "test"], &format!("{PASSWORD}\n")).unwrap();
    assert_eq!((code, prompts(&shown)), (0, 1), "{shown}");
    let (code, shown) = typed(&world, &["key", "test"], "1\n2\n3\n4\n").unwrap();
    assert_eq!((code, prompts(&shown)), (12, 3), "{shown}");
    assert!(shown.contains("that was typed"), "{shown}");
}

#[test]
fn a_wrong_password_is_tried_once_and_the_error_names_its_source() {
    let mut world = World::new();
    let file = world.write("pw", b"wrong\n");
    world.set("CUTTLEBONE_PASSWORD", "also wrong");
    let refused = |args: &[&str], named: &str| {
        let text = world.fails(args, 12);
        assert!(text.contains(named), "{text}");
    };
    refused(&["list"], "CUTTLEBONE_PASSWORD");
    refused(&["list"], "or unset it to be asked on a terminal");
    refused(
        &["list", "--password-file", &file],
        "the right file for this repository",
    );
    refused(&["list", "--password-file", &file], &file);
    refused(&["list", "--password-command", "echo no"], "command");
    // Test this on a terminal, too: the program asks again only for a password that was typed.
    if let Some((code, shown)) = typed(&world, &["list"], "a\nb\nc\n") {
        assert_eq!((code, prompts(&shown)), (12, 0), "{shown}");
    }
    world.set("CUTTLEBONE_PASSWORD", "");
    let opened = fs::File::open(&file).unwrap();
    let number = opened.as_raw_fd();
    // The program does not inherit this descriptor, so the path names a descriptor of the test.
    world.set(
        "CUTTLEBONE_PASSWORD_FILE",
        format!("/proc/{}/fd/{number}", std::process::id()),
    );
    let text = world.fails(&["list"], 12);
    assert!(text.contains(&format!("/fd/{number}")), "{text}");
}

#[test]
fn neither_ssh_nor_a_password_command_sees_the_password() {
    let world = World::new();
    let seen = world.at("seen");
    let script = world.write("script", format!("env > {seen}\necho no").as_bytes());
    let program = format!("sh {script}");
    let server = ["list", "-r", "sftp:host:/repo", "--ssh-command", &program];
    for args in [&["list", "--password-command", &program][..], &server] {
        assert_ne!(world.run(args).code, Some(0));
        let variables = fs::read_to_string(&seen).unwrap();
        assert!(variables.contains("CUTTLEBONE_REPOSITORY="), "{variables}");
        assert!(!variables.contains("CUTTLEBONE_PASSWORD"), "{variables}");
        fs::remove_file(&seen).unwrap();
    }
}

#[test]
fn a_password_opens_its_key_in_either_unicode_form() {
    const COMPOSED: &str = "gr\u{fc}ne Wiese";
    const DECOMPOSED: &str = "gru\u{308}ne Wiese";
    let mut world = World::empty();
    for (number, made_with) in [COMPOSED, DECOMPOSED].into_iter().enumerate() {
        world.set("CUTTLEBONE_REPOSITORY", world.at(&format!("repo {number}")));
        world.set("CUTTLEBONE_PASSWORD", made_with);
        world.ok(&[&["init", "-q"][..], &CHEAP_KEY].concat());
        let new = world.write("new", format!("{made_with}!").as_bytes());
        let add = ["key", "add", "-q", "--new-password-file", &new];
        world.ok(&[&add[..], &CHEAP_KEY].concat());
        for opened_with in [COMPOSED, DECOMPOSED] {
            world.set("CUTTLEBONE_PASSWORD", opened_with);
            world.ok(&["key", "test"]);
            world.set("CUTTLEBONE_PASSWORD", format!("{opened_with}!"));
            world.ok(&["key", "test"]);
        }
        world.set("CUTTLEBONE_PASSWORD", "grune Wiese");
        world.fails(&["key", "test"], 12);
    }
}

#[test]
fn a_password_that_is_not_text_opens_its_key_unchanged() {
    let world = World::empty();
    let binary = world.write("pw", b"u\xcc\x88 \xff\x00 \xef\xbb");
    let init = ["init", "-q", "--password-file", &binary];
    world.ok(&[&init[..], &CHEAP_KEY].concat());
    world.ok(&["key", "test", "--password-file", &binary]);
}

#[test]
fn a_byte_order_mark_in_a_password_file_is_refused_with_a_hint() {
    let world = World::new();
    let file = world.write("pw", format!("\u{feff}{PASSWORD}\n").as_bytes());
    for args in [
        &["list", "--password-file", &file][..],
        &["key", "add", "--new-password-file", &file],
    ] {
        let text = world.fails(args, 1);
        assert!(
            text.contains(&file) && text.contains("without BOM"),
            "{text}"
        );
    }
}

#[test]
fn parameters_that_make_passwords_easy_to_guess_are_refused() {
    let world = World::new();
    let new = world.write("new", b"new");
    let weak = ["--kdf-memory", "1M", "--kdf-passes", "1"];
    let init = ["init", "-r", &world.at("other")];
    let add = ["key", "add", "--new-password-file", &new];
    let passwd = ["key", "passwd", "--new-password-file", &new];
    for args in [&init[..], &add, &passwd] {
        let text = world.fails(&[args, &weak].concat(), 2);
        assert!(text.contains("--kdf-memory"), "{text}");
    }
    assert!(!world.path("other").exists());
}

#[test]
fn a_new_key_needs_a_password_that_opens_no_other_key() {
    let mut world = World::new();
    let new = world.write("new", b"battery staple");
    let add = [
        "key",
        "add",
        "--label",
        "envelope",
        "--new-password-file",
        &new,
    ];
    let add = [&add[..], &CHEAP_KEY].concat();
    let added = world.json_one(&add, "key_change");
    let id = added["key_id"].as_str().unwrap();
    let refused = |args: &[&str]| {
        let text = world.fails(args, 1);
        assert!(
            text.contains(&id[..8]) && text.contains("envelope"),
            "{text}"
        );
    };
    refused(&add);
    refused(
        &[
            &["key", "add", "--this-project", "--new-password-file", &new][..],
            &CHEAP_KEY,
        ]
        .concat(),
    );
    // Another key cannot get this password, either. The same key may keep its password, so that a
    // user can change only the parameters.
    let passwd = ["key", "passwd", "--new-password-file", &new];
    refused(&[&passwd[..], &CHEAP_KEY].concat());
    world.set("CUTTLEBONE_PASSWORD", "battery staple");
    world.ok(&[&passwd[..], &["--kdf-memory", "16M"]].concat());
    assert_eq!(world.json(&["key", "list"]).len(), 2);
}

#[test]
fn a_signal_ends_the_program_while_it_derives_a_key() {
    let mut world = World::new();
    world.set("CUTTLEBONE_PASSWORD", "wrong");
    // Add a slot whose key takes a minute to derive.
    let directory = world.repository().join("keys");
    let own = fs::read_dir(&directory)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut slot = fs::read(own).unwrap();
    slot[20..28].copy_from_slice(&[0, 0, 1, 0, 0, 4, 0, 0]);
    let name = object_hash(&[&slot]).to_string();
    fs::write(directory.join(&name), &slot).unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = world.command(&["list"]).spawn().unwrap();
        thread::sleep(Duration::from_secs(1));
        assert!(
            child.try_wait().unwrap().is_none(),
            "the program has ended too early"
        );
        let sent = Instant::now();
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(wait(&mut child), Some(130));
        assert!(
            sent.elapsed() < Duration::from_secs(10),
            "{:?}",
            sent.elapsed()
        );
    }
}

#[test]
fn the_key_that_opened_last_is_remembered_in_the_cache_directory() {
    let world = World::new();
    // Add a slot that the program tries first. The program reports this slot, since it does not
    // allow 1 KiB of memory.
    let directory = world.repository().join("keys");
    let own = fs::read_dir(&directory)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut slot = fs::read(own).unwrap();
    slot[20..24].copy_from_slice(&1_u32.to_le_bytes());
    let name = object_hash(&[&slot]).to_string();
    fs::write(directory.join(&name), &slot).unwrap();
    let is_tried = || world.run(&["key", "test"]).stderr.contains(&name[..8]);
    assert!(is_tried());
    assert!(!is_tried());
    // A remembered name that is not a key does no harm: all slots are tried again.
    let remembered = fs::read_dir(world.path("cache").join("keys")).unwrap();
    for file in remembered {
        fs::write(file.unwrap().path(), "nonsense").unwrap();
    }
    assert!(is_tried());
    assert!(!is_tried());
}
