//! How often a backup of an image starts `rbd` and `ceph`. Each start takes 0.1 seconds or more.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::live::{Live, data, image};

const MIB: u64 = 1 << 20;

/// Makes a program that notes how it is called and then runs `program`. Returns its path. The
/// notes are in the file `calls`.
fn noting(live: &Live, program: &str) -> String {
    let (path, calls) = (
        live.world.at(&format!("noting-{program}")),
        live.world.at("calls"),
    );
    // One `write` adds a whole line, even if several programs start at the same time.
    let script = format!(
        "#!/bin/bash\n\
         printf '%s\\n' \"{program} $*\" >>{calls}\n\
         exec {program} \"$@\"\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Backs up a source, and returns the calls of `rbd` and `ceph` in order, without their options.
fn calls_of(live: &Live, source: &str) -> Vec<String> {
    let (rbd, ceph) = (noting(live, "rbd"), noting(live, "ceph"));
    let _ = fs::remove_file(live.world.path("calls"));
    let commands = ["--rbd-command", &rbd, "--ceph-command", &ceph];
    live.world
        .ok(&[&["backup", source, "-q"][..], &commands].concat());
    let noted = fs::read_to_string(live.world.path("calls")).unwrap();
    let words = |line: &str| {
        let words = line.split_whitespace();
        let words: Vec<_> = words.filter(|word| !word.starts_with("--")).collect();
        words.join(" ")
    };
    noted.lines().map(words).collect()
}

/// Asserts that the calls are these. The calls in each step start at the same time, in any order.
#[track_caller]
fn assert_steps(calls: &[String], steps: &[&[&str]]) {
    let mut left = calls;
    for step in steps {
        let (now, later) = left.split_at(step.len().min(left.len()));
        let mut now: Vec<&str> = now.iter().map(String::as_str).collect();
        now.sort_unstable();
        assert_eq!(now, *step, "{calls:#?}");
        left = later;
    }
    assert!(left.is_empty(), "{calls:#?}");
}

#[test]
fn a_backup_of_an_image_starts_rbd_and_ceph_only_as_often_as_needed() {
    let Some(live) = Live::with_pool("live-starts") else {
        return;
    };
    let name = "live-starts/img";
    let source = format!("rbd:{name}");
    let mut img = image(&live.cluster, name, &[]);
    let which: &[&str] = &["ceph osd dump", "rbd info"];
    let what: &[&str] = &["rbd image-meta list", "rbd snap ls"];
    let same: &[&str] = &["rbd info", "rbd snap ls"];
    let export: &[&str] = &["rbd export-diff"];
    let (make, remove): (&[&str], &[&str]) = (&["rbd snap create"], &["rbd snap rm"]);
    let first = calls_of(&live, &source);
    assert_steps(&first, &[which, make, what, export, same]);
    img.change(8 * MIB, vec![data(MIB, 7)]);
    let next = calls_of(&live, &source);
    assert_steps(&next, &[which, make, what, export, same, remove]);
    // Some of these backups begin in the same second. Still, none tries to make a snapshot with a
    // name that exists.
    for _ in 0..3 {
        let again = calls_of(&live, &source);
        assert_steps(&again, &[which, make, what, export, same, remove]);
    }
    // There is a backup of the given snapshot already.
    let given = format!("{source}@{}", live.tracking(name));
    assert_steps(&calls_of(&live, &given), &[which, what]);
    // A pattern: the images are listed, and then each is opened once.
    let many = calls_of(&live, "rbd:live-starts/*");
    let list: &[&str] = &["ceph osd dump"];
    let ls: &[&str] = &["rbd ls"];
    let open: &[&str] = &["rbd info"];
    assert_steps(&many, &[list, ls, open, make, what, export, same, remove]);
    live.world.is_clean();
}

#[test]
fn a_wrong_password_or_image_ends_a_backup_with_its_own_error_and_without_a_snapshot() {
    let Some(mut live) = Live::with_pool("live-wrong") else {
        return;
    };
    let name = "live-wrong/img";
    live.cluster.rbd(&["create", name, "--size", "1M"]);
    let is_named = |error: &str| assert!(error.contains("live-wrong/none"), "{error}");
    // The program opens the repository and the image at the same time. If both fail, it reports the
    // error of the image.
    is_named(&live.world.fails(&["backup", "rbd:live-wrong/none"], 1));
    live.world.set("CUTTLEBONE_PASSWORD", "wrong");
    let error = live.world.fails(&["backup", "rbd:live-wrong/img"], 12);
    assert!(error.contains("CUTTLEBONE_PASSWORD"), "{error}");
    is_named(&live.world.fails(&["backup", "rbd:live-wrong/none"], 1));
    // No program is asked for the password before the image is found.
    let asked = live.world.at("asked");
    let ask = format!("touch {asked}; echo wrong");
    let args = ["backup", "--password-command", &ask];
    is_named(
        &live
            .world
            .fails(&[&args[..], &["rbd:live-wrong/none"]].concat(), 1),
    );
    assert!(!fs::exists(&asked).unwrap());
    live.world
        .fails(&[&args[..], &["rbd:live-wrong/img"]].concat(), 12);
    assert!(fs::exists(&asked).unwrap());
    assert!(live.snapshots(name).is_empty());
}
