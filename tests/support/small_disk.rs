//! A small file system in memory: one that can be filled, or made read-only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Mounted as long as it lives.
pub(crate) struct SmallDisk {
    place: tempfile::TempDir,
}

impl SmallDisk {
    /// Of so many KiB. None, and a word about it, where mounting is not permitted.
    pub(crate) fn mount(kib: u64) -> Option<Self> {
        let place = tempfile::Builder::new()
            .prefix("small disk")
            .tempdir()
            .unwrap();
        let disk = Self { place };
        let size = format!("size={kib}k");
        if disk.run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs"]) {
            return Some(disk);
        }
        eprintln!("skipped: mounting a file system is not permitted here");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    pub(crate) fn make_read_only(&self) {
        assert!(self.run("mount", &["-o", "remount,ro"]));
    }

    /// Takes all but so many bytes of what is free, until what is returned is dropped.
    pub(crate) fn fill(&self, but: u64) -> Filler {
        let path = self.path().join("filler");
        let found = statvfs(self.path()).unwrap();
        let free = found.f_bavail * found.f_frsize;
        let file = fs::File::create(&path).unwrap();
        if free > but {
            // Somebody else may be quicker.
            let _ = fallocate(&file, FallocateFlags::empty(), 0, free - but);
        }
        Filler(path)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg(self.path())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because the store may still be open; the directory below goes with `place`.
        self.run("umount", &["--lazy"]);
    }
}

/// A file that leaves no room for others.
pub(crate) struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
