//! Messages with `--quiet`, and with a standard output that cannot be written.

use std::fs::File;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use super::failures::assert_error;
use crate::support::noise;
use crate::support::program::{World, damage, finish};

/// Runs a command with `--quiet` that succeeds. Returns its output.
fn quietly(world: &World, args: &[&str]) -> String {
    let ran = world.run(&[args, &["-q"]].concat());
    assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.stderr);
    String::from_utf8(ran.stdout).unwrap() + &ran.stderr
}

#[test]
fn a_quiet_command_prints_nothing_if_all_is_well() {
    let world = World::new();
    let disk = world.write("disk.img", &noise(1, 300_000));
    let list = world.write("list", br#"[{"offset":0,"length":300000,"exists":"true"}]"#);
    let commands: [&[&str]; 8] = [
        &["backup", &disk],
        // The file is unchanged.
        &["backup", &disk],
        // There is no backup to build on.
        &[
            "backup",
            &disk,
            "--extents",
            &list,
            "--from-nothing",
            "--volume",
            "v",
        ],
        &["backup", &disk, "--volume", "w", "--to-snapshot", "s"],
        // The volume has a backup of this snapshot already. The backup keeps its own labels.
        &[
            "backup",
            &disk,
            "--volume",
            "w",
            "--to-snapshot",
            "s",
            "--label",
            "a=b",
        ],
        &["forget", "--keep-last", "1", "--prune", "--grace", "0"],
        &["check", "--read-data"],
        &["restore", "w", &world.at("restored")],
    ];
    for args in commands {
        assert_eq!(quietly(&world, args), "", "{args:?}");
    }
}

#[test]
fn a_quiet_command_prints_only_warnings_and_json_has_all_notes() {
    let world = World::new();
    let disk = world.write("disk.img", &noise(1, 300_000));
    // Wait so long that every later write changes the times of the file.
    thread::sleep(Duration::from_millis(2500));
    world.backup(&[&disk, "--trust-times"]);
    let ran = world.run(&["backup", &disk, "-q", "--json", "--trust-times"]);
    assert!(
        ran.stderr.contains("was not written to since"),
        "{}",
        ran.stderr
    );
    damage(&world.repository().join("cuttlebone"));
    let printed = quietly(&world, &["backup", &disk, "--trust-times"]);
    assert!(printed.contains("using its other copy"), "{printed}");
    assert!(!printed.contains("was not written to since"), "{printed}");
}

#[test]
fn a_backup_that_creates_the_repository_says_so() {
    let world = World::empty();
    let disk = world.write("disk.img", b"data");
    let args = ["backup", &disk, "--init"];
    let ran = world.run(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let expected = format!("created {} with project default", world.at("repo"));
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    let again = world.run(&args);
    assert!(!again.stderr.contains("created"), "{}", again.stderr);
}

/// Runs a command whose standard output cannot be written. It must exit with 1. Returns its
/// standard error.
fn on_a_full_disk(world: &World, args: &[&str]) -> String {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = world.command(args);
    let ran = finish(command.stdout(Stdio::from(full)).spawn().unwrap(), args);
    assert_eq!(ran.code, Some(1), "{args:?}: {}", ran.stderr);
    ran.stderr
}

#[test]
fn if_the_result_cannot_be_written_the_error_states_that_the_work_was_done() {
    let world = World::new();
    let disk = world.write("disk.img", &noise(1, 300_000));
    for json in [&[][..], &["--json", "--no-progress"]] {
        let args = [&["backup", &disk], json].concat();
        let error = on_a_full_disk(&world, &args);
        let id = world.json(&["list", "--latest", "1"])[0]["backup_id"].clone();
        let id = &id.as_str().unwrap()[..8];
        let expected = format!("the backup {id} of disk.img was made");
        assert!(error.contains(&expected), "{error}");
    }
    let target = world.at("target");
    let error = on_a_full_disk(&world, &["restore", "disk.img", &target]);
    assert_error(
        &error,
        &["could not write to standard output", "target was restored"],
    );
    let error = on_a_full_disk(&world, &["forget", "--keep-last", "1"]);
    assert!(
        !error.contains("were removed"),
        "the plan is shown first: {error}"
    );
    assert_eq!(world.json(&["list"]).len(), 2);
    let error = on_a_full_disk(&world, &["list"]);
    assert!(!error.contains("next:"), "{error}");
}
