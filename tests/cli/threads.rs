//! If the system allows only a few threads, a command succeeds or fails with a message. It does not
//! panic.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Stdio};

use crate::support::program::{World, finish};
use crate::support::{noise, run, skip};

/// The id of a user that runs no other processes.
const USER: u32 = 54_322;

#[test]
fn a_command_that_cannot_start_its_threads_fails_without_a_panic() {
    let world = World::new();
    let disk = world.write("disk.img", &noise(1, 3 << 20));
    world.backup(&[&disk]);
    let user = USER.to_string();
    let ids = ["--reuid", &user, "--regid", &user, "--clear-groups"];
    let may = run(
        "setpriv",
        &[&ids[..], &["prlimit", "--nproc=9", "true"]].concat(),
    );
    let program = env!("CARGO_BIN_EXE_cuttlebone");
    if may.is_none() || chown(world.directory.path(), Some(USER), Some(USER)).is_err() {
        skip("no process can be started as another user here");
        return;
    }
    let top = world.directory.path();
    // Change the owner of all files and directories, even of empty ones: the user must be able to
    // list them.
    let owner = format!("{user}:{user}");
    run("chown", &["-R", &owner, top.to_str().unwrap()]).unwrap();
    // Copy the program to a directory that the user can read.
    let copy = world.at("program");
    fs::copy(program, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let target = world.at("target");
    let mut done = 0;
    for args in [
        &["backup", &disk, "--reread", "--volume", "v"][..],
        &["restore", "disk.img", &target, "--force"],
        &["check", "--read-data"],
        &["prune"],
        &["forget", "--keep-last", "9"],
        &["list"],
    ] {
        for most in 1..16 {
            let limit = format!("--nproc={most}");
            let mut command = Command::new("setpriv");
            command
                .args(ids)
                .args(["prlimit", &limit, &copy])
                .args(args)
                .env_clear()
                .envs(world.environment.iter().map(|(k, v)| (k, v)))
                .current_dir(top)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let ran = finish(command.spawn().unwrap(), args);
            assert!(matches!(ran.code, Some(0 | 1)), "{most} {args:?}: {ran:?}");
            assert!(
                !ran.stderr.contains("panicked"),
                "{most} {args:?}: {}",
                ran.stderr
            );
            done += usize::from(ran.code == Some(0));
        }
    }
    assert!(done >= 6, "only {done} commands succeeded");
    world.is_clean();
}
