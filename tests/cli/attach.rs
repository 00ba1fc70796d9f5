//! Files that are attached to a backup: `backup --attach`, `show` and `restore --attachments`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::noise;
use crate::support::program::World;

#[test]
fn attached_files_are_listed_and_restored_and_nothing_is_overwritten() {
    let world = World::new();
    let xml = world.write("vm.xml", b"<domain/>");
    let large = noise(1, 3 << 20);
    let config = world.write("100 ä.conf", &large);
    let disk = world.write("disk.img", &noise(2, 100_000));
    world.backup(&[&disk, "--attach", &xml, "--attach", &config]);
    let expected = json!([
        {"name": "vm.xml", "size": 9},
        {"name": "100 ä.conf", "size": 3 << 20},
    ]);
    let shown = world.json_one(&["show", "disk.img", "--attachments"], "attachments");
    assert_eq!(shown["attachments"], expected);
    let text = world.ok(&["show", "disk.img", "--attachments"]);
    assert!(
        text.contains("vm.xml") && text.contains("3.0 MiB"),
        "{text}"
    );
    assert!(world.ok(&["show", "disk.img"]).contains("vm.xml (9 B)"));
    let directory = world.at("out");
    let args = ["restore", "disk.img", "--attachments", &directory];
    let restored = world.json_one(&args, "attachments");
    assert_eq!(restored["attachments"], expected);
    assert_eq!(fs::read(world.path("out/vm.xml")).unwrap(), b"<domain/>");
    assert_eq!(fs::read(world.path("out/100 ä.conf")).unwrap(), large);
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("out"), mode("out/vm.xml")), (0o700, 0o600));
    // One of the target files exists. It stays, and nothing is written.
    fs::remove_file(world.path("out/vm.xml")).unwrap();
    fs::write(world.path("out/100 ä.conf"), "mine").unwrap();
    let error = world.fails(&args, 1);
    assert!(error.contains("100 ä.conf exists"), "{error}");
    assert!(!world.path("out/vm.xml").exists());
    assert_eq!(fs::read(world.path("out/100 ä.conf")).unwrap(), b"mine");
    // A link that leads nowhere is not followed.
    fs::remove_file(world.path("out/100 ä.conf")).unwrap();
    std::os::unix::fs::symlink("elsewhere", world.path("out/vm.xml")).unwrap();
    world.fails(&args, 1);
    assert!(!world.path("out/elsewhere").exists());
    // The next backup has no attachments.
    fs::write(&disk, noise(3, 100_000)).unwrap();
    world.backup(&[&disk]);
    assert_eq!(
        world.ok(&["show", "disk.img", "--attachments"]),
        "no attachments\n"
    );
    world.is_clean();
}

#[test]
fn files_that_cannot_be_attached_are_refused_before_anything_is_stored() {
    let world = World::empty();
    let disk = world.write("disk.img", &noise(2, 100_000));
    let half = world.write("half", &vec![1; 9 << 20]);
    let other = world.write("other", &vec![2; 9 << 20]);
    let whole = world.write("whole", &vec![1; (16 << 20) + 1]);
    let reserved = world.write("rbd-metadata", b"x");
    let newline = world.write("a\nb", b"x");
    fs::create_dir(world.path("sub")).unwrap();
    let twice = world.write("sub/half", b"x");
    for (files, code, why) in [
        (vec![&whole], 2, "at most 16.0 MiB are allowed"),
        (vec![&half, &other], 2, "at most 16.0 MiB are allowed"),
        (vec![&half, &twice], 2, "two attachments have this name"),
        (vec![&reserved], 2, "reserved for the metadata"),
        (vec![&newline], 2, "not a safe name"),
        (vec![&world.at("sub")], 2, "not a regular file"),
        (vec![&world.at("missing")], 1, "to attach it"),
    ] {
        let mut args = vec!["backup", &disk, "--init"];
        for file in files {
            args.extend(["--attach", file]);
        }
        let error = world.fails(&args, code);
        assert!(error.contains(why), "{error}");
    }
    world.fails(&["list"], 10);
    world.backup(&[&disk, "--init"]);
    for args in [
        vec!["restore", "disk.img"],
        vec!["restore", "disk.img", &disk, "--attachments", &disk],
        vec!["restore", "disk.img", "--attachments", &disk, "--in-place"],
        vec![
            "restore",
            "disk.img",
            "--attachments",
            &disk,
            "--resize",
            "--in-place",
        ],
    ] {
        world.fails(&args, 2);
    }
}
