//! Block devices as sources and targets: without a medium, of odd sizes, with large sectors, and
//! devices that grow. Also files of FUSE file systems, whose times do not show whether they were
//! changed.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::failures::assert_error;
use crate::support::program::{World, same};
use crate::support::{LoopDevice, noise, run, skip};

const MIB: usize = 1 << 20;

#[test]
fn a_device_without_a_medium_is_no_source_and_no_target() {
    let world = World::new();
    let content = noise(1, 5 * MIB);
    let Some(device) = LoopDevice::new(&content) else {
        return;
    };
    let args = ["backup", &device.device, "--volume", "v"];
    world.ok(&args);
    run("losetup", &["--detach", &device.device]).unwrap();
    // The kernel detaches the loop device when the last process has closed it.
    let begun = Instant::now();
    let sectors = || {
        let name = device.device.trim_start_matches("/dev/");
        fs::read_to_string(format!("/sys/block/{name}/size")).unwrap()
    };
    while sectors().trim() != "0" && begun.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(20));
    }
    assert_error(&world.fails(&args, 1), &["next: "]);
    for way in [&[][..], &["--in-place"], &["--force"]] {
        let ran = world.run(&[&["restore", "v", &device.device][..], way].concat());
        assert!(![Some(0), None].contains(&ran.code), "{ran:?}");
    }
    assert_eq!(world.json(&["list", "v"]).len(), 1);
    let target = world.at("out");
    world.ok(&["restore", "v", &target]);
    assert!(fs::read(target).unwrap() == content);
}

#[test]
fn images_of_odd_sizes_fit_devices_that_are_large_enough() {
    let world = World::new();
    let content = noise(1, 1_000_001);
    let odd = world.write("odd", &content);
    world.backup(&[&odd, "--volume", "v"]);
    // A loop device consists of complete sectors, so it is smaller than the image.
    let Some(small) = LoopDevice::new(&content) else {
        return;
    };
    world.backup(&[&small.device, "--volume", "device"]);
    let target = world.at("out");
    world.ok(&["restore", "device", &target]);
    assert!(fs::read(&target).unwrap() == content[..999_936]);
    let refused = world.run(&["restore", "v", &small.device, "--force"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("999936"), "{}", refused.stderr);

    let Some(large) = LoopDevice::new(&vec![b'x'; 1_000_448]) else {
        return;
    };
    for way in ["--force", "--in-place"] {
        world.ok(&["restore", "v", &large.device, way]);
        let held = fs::read(&large.backing).unwrap();
        assert!(held[..1_000_001] == content, "{way}");
        assert!(held[1_000_001..] == [b'x'; 447], "{way}");
    }
}

#[test]
fn an_odd_image_fits_a_device_with_sectors_of_4096_bytes() {
    let world = World::new();
    let content = noise(1, 1_000_001);
    let odd = world.write("odd", &content);
    world.backup(&[&odd, "--volume", "v"]);
    let backing = world.write("backing", &vec![0; 1_003_520]);
    let args = ["--find", "--show", "--sector-size", "4096", &backing];
    let Some(device) = run("losetup", &args) else {
        return skip("loop devices with large sectors cannot be made here");
    };
    for way in ["--force", "--in-place"] {
        world.ok(&["restore", "v", &device, way]);
        assert!(fs::read(&device).unwrap()[..1_000_001] == content, "{way}");
    }
    world.backup(&[&device, "--volume", "device"]);
    let target = world.at("out");
    world.ok(&["restore", "device", &target]);
    assert!(fs::read(&target).unwrap() == fs::read(&device).unwrap());
    run("losetup", &["--detach", &device]).unwrap();
}

#[test]
fn a_device_that_grows_or_shrinks_is_backed_up_with_its_new_size() {
    let world = World::new();
    let Some(device) = LoopDevice::new(&noise(1, 6 * MIB)) else {
        return;
    };
    let mut sizes = Vec::new();
    for size in [6 << 20, 9_000_448, 3_000_320] {
        let file = File::options().write(true).open(&device.backing).unwrap();
        file.set_len(size).unwrap();
        run("losetup", &["--set-capacity", &device.device]).unwrap();
        let summary = world.backup(&[&device.device, "--volume", "v"]);
        sizes.push(summary["size"].as_u64().unwrap());
        let target = world.at("out");
        world.ok(&["restore", "v", &target]);
        assert!(same(&target, &device.backing), "{size}");
        fs::remove_file(target).unwrap();
    }
    assert_eq!(sizes, [6 << 20, 9_000_448, 3_000_320]);
}

/// A program that shows an image as a file in a FUSE file system. The program ends when this value
/// is dropped.
struct Export {
    program: Child,
    file: std::path::PathBuf,
}

impl Export {
    /// Starts QEMU's storage daemon. Skips the test and returns `None` if that is not possible.
    fn new(image: &str, file: &Path) -> Option<Self> {
        fs::write(file, b"").unwrap();
        let program = Command::new("qemu-storage-daemon")
            .args([
                "--blockdev",
                &format!("driver=file,node-name=f,filename={image}"),
            ])
            .args(["--blockdev", "driver=raw,node-name=r,file=f"])
            .arg("--export")
            .arg(format!(
                "type=fuse,id=e,node-name=r,mountpoint={},writable=on",
                file.display()
            ))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(program) = program else {
            skip("there is no qemu-storage-daemon");
            return None;
        };
        let mut export = Self {
            program,
            file: file.to_owned(),
        };
        let begun = Instant::now();
        while fs::metadata(file).is_ok_and(|file| file.len() == 0) {
            let ended = export.program.try_wait().unwrap().is_some();
            if ended || begun.elapsed() > Duration::from_secs(10) {
                skip("QEMU cannot export an image through FUSE here");
                return None;
            }
            thread::sleep(Duration::from_millis(20));
        }
        Some(export)
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
        run("umount", &[self.file.to_str().unwrap()]);
    }
}

/// The times of a file in a FUSE file system may always be the current time, or may never change.
#[test]
fn an_image_in_a_fuse_file_system_is_read_again_after_each_write() {
    let world = World::new();
    let image = world.write("image", &noise(1, 4 * MIB));
    let Some(export) = Export::new(&image, &world.path("export")) else {
        return;
    };
    let file = export.file.to_str().unwrap();
    for round in 0..3 {
        let mut open = File::options().write(true).open(file).unwrap();
        open.seek(SeekFrom::Start(round << 18)).unwrap();
        open.write_all(&noise(10 + round, 1 << 16)).unwrap();
        open.sync_all().unwrap();
        drop(open);
        world.ok(&["backup", file, "--volume", "v"]);
        let target = world.at("out");
        world.ok(&["restore", "v", &target]);
        assert!(same(&target, file), "{round}");
        fs::remove_file(target).unwrap();
    }
    // If nothing was written, the backup stores nothing new.
    let summary = world.backup(&[file, "--volume", "v"]);
    assert_eq!(summary["bytes_new"], 0, "{summary}");
}
