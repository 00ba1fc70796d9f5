//! Restores to existing targets, whose content must not be destroyed by mistake.

use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};

use super::failures::assert_error;
use crate::support::program::{World, finish};
use crate::support::{LoopDevice, noise, run, skip, skip_for_kernel};

const MIB: usize = 1 << 20;

/// Returns a world (a directory with a repository) with a backup of a volume “v”. Also returns the
/// content of this backup.
fn backed_up(size: usize) -> (World, Vec<u8>) {
    let world = World::new();
    let content = noise(1, size);
    world.backup(&[&world.write("disk.img", &content), "--volume", "v"]);
    (world, content)
}

/// A directory at which a device is mounted, until this value is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(device: &str, at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        run("mount", &[device, at.to_str().unwrap()])?;
        Some(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[self.0.to_str().unwrap()]);
    }
}

/// Asserts that a restore to a target fails with this code and text, with each option. The content
/// of the target, which is in the file `held_in`, must not change.
#[track_caller]
fn refused(world: &World, target: &str, held_in: &Path, code: i32, expected: &[&str]) {
    let before = fs::read(held_in).unwrap();
    for way in [&[][..], &["--in-place"], &["--force"]] {
        let args = [&["restore", "v", target], way].concat();
        let error = world.fails(&args, code);
        assert_error(&error, expected);
        assert!(fs::read(held_in).unwrap() == before, "{way:?}");
    }
}

#[test]
fn a_device_that_is_not_blank_is_overwritten_only_if_the_user_asks_for_it() {
    let (world, content) = backed_up(2 * MIB);
    let kinds: [(&str, &[&str], &str); 7] = [
        ("mke2fs", &["-q", "-F", "-t", "ext2"], "an ext2 file system"),
        ("mke2fs", &["-q", "-F", "-t", "ext4"], "an ext4 file system"),
        ("mkfs.xfs", &["-q", "-f"], "an XFS file system"),
        ("mkswap", &[], "swap space"),
        ("pvcreate", &["-qq", "-ff", "-y"], "an LVM2 physical volume"),
        (
            "cryptsetup",
            &[
                "luksFormat",
                "-q",
                "--pbkdf-force-iterations",
                "1000",
                "--pbkdf",
                "pbkdf2",
                "--key-file",
                "/proc/version",
            ],
            "a LUKS container",
        ),
        ("true", &[], "data of a kind that cuttlebone does not know"),
    ];
    let mut tried = 0;
    for (program, args, name) in kinds {
        // XFS needs at least 300 MiB.
        let Some(device) = LoopDevice::sparse(320 << 20) else {
            return;
        };
        if program == "true" {
            fs::write(&device.device, b"x").unwrap();
        }
        if run(program, &[args, &[&device.device]].concat()).is_none() {
            continue;
        }
        tried += 1;
        let error = world.fails(&["restore", "v", &device.device], 1);
        assert_error(&error, &[&device.device, name, "--force", "--in-place"]);
        for way in ["--in-place", "--force"] {
            world.ok(&["restore", "v", &device.device, way]);
            assert!(
                fs::read(&device.device).unwrap()[..2 * MIB] == content,
                "{name}"
            );
        }
    }
    assert!(tried >= 3, "no programs that make file systems");
}

#[test]
fn a_blank_device_needs_no_flag() {
    let (world, content) = backed_up(2 * MIB);
    let Some(device) = LoopDevice::new(&vec![0; 4 * MIB]) else {
        return;
    };
    let summary = world.json_one(&["restore", "v", &device.device], "summary");
    assert_eq!(summary["bytes_after_end"], 2 * MIB, "{summary}");
    let held = fs::read(&device.device).unwrap();
    assert!(held[..2 * MIB] == content);
    let error = world.fails(&["restore", "v", &device.device], 1);
    assert_error(&error, &["does not know"]);
}

#[test]
fn a_target_of_another_kind_is_refused_with_advice_for_a_restore() {
    let (world, _) = backed_up(1000);
    let fifo = world.at("fifo");
    run("mkfifo", &[&fifo]).unwrap();
    for target in [&fifo, "/dev/null", &world.at("repo")] {
        for way in ["--force", "--in-place"] {
            let error = world.fails(&["restore", "v", target, way], 1);
            assert_error(
                &error,
                &[target, "give a regular file or a block device, or give “-”"],
            );
            assert!(!error.contains("back it up"), "{error}");
        }
    }
}

#[test]
fn a_backup_of_a_mounted_device_warns_unless_it_is_mounted_read_only() {
    let world = World::new();
    let Some(device) = LoopDevice::new(&vec![0; 8 * MIB]) else {
        return;
    };
    run("mke2fs", &["-q", "-F", &device.device]).unwrap();
    let warning = "may change while it is read, since it is mounted at";
    let args = ["backup", &device.device, "--volume", "v", "-q"];
    let warned = || {
        let ran = world.run(&args);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(
            ran.stderr.is_empty() || ran.stderr.contains(warning),
            "{}",
            ran.stderr
        );
        !ran.stderr.is_empty()
    };
    assert!(!warned());
    let Some(mounted) = Mounted::new(&device.device, world.path("mount")) else {
        skip("mounting a file system is not permitted here");
        return;
    };
    assert!(warned());
    let at = mounted.0.to_str().unwrap();
    run("mount", &["-o", "remount,ro", at]).unwrap();
    assert!(
        !warned(),
        "a device that nothing writes to gives no warning"
    );
}

#[test]
fn a_backup_of_a_file_warns_if_it_is_mounted_through_a_loop_device() {
    let world = World::new();
    let Some(device) = LoopDevice::new(&vec![0; 8 * MIB]) else {
        return;
    };
    run("mke2fs", &["-q", "-F", &device.device]).unwrap();
    let backing = device.backing.to_str().unwrap();
    let args = ["backup", backing, "--volume", "v", "-q"];
    assert_eq!(world.run(&args).stderr, "");
    let Some(mounted) = Mounted::new(&device.device, world.path("mount")) else {
        skip("mounting a file system is not permitted here");
        return;
    };
    let ran = world.run(&args);
    let at = mounted.0.display();
    let expected = format!("{} is attached to it: it is mounted at {at}", device.device);
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
}

#[test]
fn a_mounted_device_and_the_file_behind_it_are_refused_in_any_case() {
    let (world, _) = backed_up(MIB);
    let Some(device) = LoopDevice::new(&vec![0; 8 * MIB]) else {
        return;
    };
    run("mke2fs", &["-q", "-F", &device.device]).unwrap();
    let backing = device.backing.to_str().unwrap();
    let attached = format!("{} is attached to it", device.device);
    refused(&world, backing, &device.backing, 11, &[backing, &attached]);
    let Some(mounted) = Mounted::new(&device.device, world.path("a mount")) else {
        skip("mounting a file system is not permitted here");
        return;
    };
    let at = format!("it is mounted at {}", mounted.0.display());
    refused(
        &world,
        &device.device,
        &device.backing,
        11,
        &[&device.device, &at],
    );
    refused(&world, backing, &device.backing, 11, &[backing, &attached]);
    let link = world.at("link");
    std::os::unix::fs::symlink(backing, &link).unwrap();
    refused(&world, &link, &device.backing, 11, &[&attached]);
}

#[test]
fn a_device_that_another_device_uses_is_refused_in_any_case() {
    let (world, _) = backed_up(MIB);
    let Some(device) = LoopDevice::new(&noise(2, 8 * MIB)) else {
        return;
    };
    let above = run("losetup", &["--find", "--show", &device.device]).unwrap();
    let expected = format!("{above} is attached to it");
    refused(&world, &device.device, &device.backing, 11, &[&expected]);
    run("losetup", &["--detach", &above]).unwrap();
}

#[test]
fn a_device_that_the_device_mapper_uses_is_refused_in_any_case() {
    if !Path::new("/sys/class/misc/device-mapper").exists() {
        // A unit test of `volume::users` reads the files that a kernel would have for such a
        // device.
        return skip_for_kernel("the kernel has no device mapper");
    }
    let (world, _) = backed_up(MIB);
    let Some(device) = LoopDevice::new(&noise(2, 8 * MIB)) else {
        return;
    };
    let table = format!("0 2048 linear {} 0", device.device);
    let name = format!("cuttlebone-test-{}", std::process::id());
    if run("dmsetup", &["create", &name, "--table", &table]).is_none() {
        skip("device mapper cannot be used here");
        return;
    }
    let expected = ["it is held by the device dm-"];
    refused(&world, &device.device, &device.backing, 11, &expected);
    run("dmsetup", &["remove", &name]).unwrap();
    world.ok(&["restore", "v", &device.device, "--force"]);
}

#[test]
fn a_read_only_device_is_refused_in_any_case() {
    let (world, _) = backed_up(MIB);
    let backing = world.write("backing", &vec![0; 8 * MIB]);
    let args = ["--find", "--show", "--read-only", &backing];
    let Some(device) = run("losetup", &args) else {
        skip("loop devices cannot be made here");
        return;
    };
    refused(
        &world,
        &device,
        Path::new(&backing),
        1,
        &[&device, "Read-only"],
    );
    run("losetup", &["--detach", &device]).unwrap();
}

#[test]
fn an_image_that_another_program_has_locked_is_not_changed() {
    let (world, content) = backed_up(MIB);
    let target = world.write("vm.raw", &noise(3, MIB));
    // QEMU locks some bytes of the image in this way.
    let file = File::options()
        .read(true)
        .write(true)
        .open(&target)
        .unwrap();
    fcntl_lock(&file, FlockOperation::NonBlockingLockShared).unwrap();
    let error = world.fails(&["restore", "v", &target, "--in-place"], 11);
    assert_error(&error, &[&target, "another program has locked it"]);
    assert!(fs::read(&target).unwrap() == noise(3, MIB));
    fcntl_lock(&file, FlockOperation::Unlock).unwrap();
    world.ok(&["restore", "v", &target, "--in-place"]);
    assert!(fs::read(&target).unwrap() == content);
}

#[test]
fn no_file_is_created_in_the_directory_of_devices() {
    let (world, _) = backed_up(MIB);
    let link = world.at("link");
    std::os::unix::fs::symlink("/dev", &link).unwrap();
    let missing = format!("cuttlebone-{}", std::process::id());
    for directory in ["/dev", "/dev/vg0", "/dev/disk/../.", "/proc/../dev", &link] {
        let target = format!("{directory}/{missing}");
        for way in [
            &[][..],
            &["--in-place"],
            &["--force"],
            &["--format", "rbd-diff"],
        ] {
            let error = world.fails(&[&["restore", "v", &target], way].concat(), 1);
            assert_error(&error, &[&target, "there is no such device"]);
        }
        let error = world.fails(&["diff", "export", "v", "-o", &target], 1);
        assert_error(&error, &[&target, "there is no such device"]);
    }
    let created = |name: &str| Path::new("/dev").join(name).symlink_metadata().is_ok();
    assert!(!created(&missing) && !created("vg0"));
}

#[test]
fn a_regular_file_in_the_directory_of_devices_is_no_target() {
    let name = format!("/dev/cuttlebone-file-{}", std::process::id());
    if fs::write(&name, b"from another program").is_err() {
        skip("files cannot be created in /dev here");
        return;
    }
    let (world, _) = backed_up(MIB);
    let file = Path::new(&name);
    let expected = ["it is a regular file where only devices should be"];
    refused(&world, &name, file, 1, &expected);
    fs::remove_file(file).unwrap();
}

#[test]
fn a_character_device_is_no_target() {
    let (world, _) = backed_up(MIB);
    for way in ["--force", "--in-place"] {
        let error = world.fails(&["restore", "v", "/dev/null", way], 1);
        assert_error(&error, &["/dev/null", "a character device"]);
    }
    let kind = fs::metadata("/dev/null").unwrap().file_type();
    assert!(kind.is_char_device());
}

#[test]
fn a_closed_stream_that_a_command_needs_is_an_error_before_anything_is_done() {
    let (world, _) = backed_up(MIB);
    let program = env!("CARGO_BIN_EXE_cuttlebone");
    let shell = |line: &str| {
        let mut command = world.command(&[]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("exec {program} {line}")]);
        shell
            .env_clear()
            .envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
        shell.current_dir(world.directory.path());
        shell.stdout(std::process::Stdio::piped());
        shell.stderr(std::process::Stdio::piped());
        command = shell;
        finish(command.spawn().unwrap(), &[line])
    };
    for (line, closed) in [
        ("restore v - >&-", "standard output is closed"),
        (
            "restore v - --format rbd-diff >&-",
            "standard output is closed",
        ),
        ("diff export v >&-", "standard output is closed"),
        ("diff merge d1 d2 -o - >&-", "standard output is closed"),
        ("key export >&-", "standard output is closed"),
        ("backup - --volume s <&-", "standard input is closed"),
        ("backup --diff - --volume s <&-", "standard input is closed"),
        ("diff inspect - <&-", "standard input is closed"),
    ] {
        let ran = shell(line);
        assert_eq!(ran.code, Some(2), "{line}: {ran:?}");
        assert_error(&ran.stderr, &[closed]);
    }
    for line in [
        "restore v - >/dev/null",
        "restore v out >/dev/null </dev/null 2>&-",
        "list <&-",
    ] {
        let ran = shell(line);
        assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
    }
    assert!(!world.ok(&["list"]).contains(" s "));
}

#[test]
fn a_restore_says_that_it_cuts_off_the_end_of_a_larger_file() {
    let (world, content) = backed_up(2 * MIB);
    let target = world.write("larger", &noise(2, 3 * MIB));
    let args = ["restore", "v", &target, "--in-place"];
    let ran = world.run(&args);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let expected = format!("its last {MIB} bytes will be cut off");
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    assert!(fs::read(&target).unwrap() == content);
    let again = world.run(&args);
    assert!(!again.stderr.contains("cut off"), "{}", again.stderr);
    fs::write(&target, noise(2, 3 * MIB)).unwrap();
    let summary = world.json_one(&args, "summary");
    assert_eq!(summary["bytes_cut"], MIB, "{summary}");
    fs::write(&target, noise(2, 3 * MIB)).unwrap();
    let ran = world.run(&["restore", "v", &target, "--force"]);
    assert!(!ran.stderr.contains("cut off"), "a new file replaces it");
}
