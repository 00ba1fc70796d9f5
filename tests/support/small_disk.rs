//! A small file system in memory, which can be filled or made read-only.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tempfile::TempDir;

use super::{run, skip};

/// A tmpfs, unmounted when dropped. Its path contains a space.
pub(crate) struct SmallDisk {
    place: TempDir,
}

impl SmallDisk {
    /// Mounts a disk of `kib` KiB. If that is not permitted, skips the test and returns `None`.
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
        skip("mounting a file system is not permitted here");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    #[track_caller]
    pub(crate) fn make_read_only(&self) {
        assert!(self.run("mount", &["-o", "remount,ro"]));
    }

    /// Changes the size of the disk to `kib` KiB.
    #[track_caller]
    pub(crate) fn resize(&self, kib: u64) {
        assert!(self.run("mount", &["-o", &format!("remount,size={kib}k")]));
    }

    /// Lets only `more` further files and directories be created.
    #[track_caller]
    pub(crate) fn allow_files(&self, more: u64) {
        let found = statvfs(self.path()).unwrap();
        let inodes = found.f_files - found.f_ffree + more;
        assert!(self.run("mount", &["-o", &format!("remount,nr_inodes={inodes}")]));
    }

    /// Fills the disk except for `free` bytes, until the returned value is dropped.
    pub(crate) fn fill(&self, free: u64) -> Filler {
        let path = self.path().join("filler");
        let found = statvfs(self.path()).unwrap();
        let available = found.f_bavail * found.f_frsize;
        let file = fs::File::create(&path).unwrap();
        if available > free {
            // This fails if another process takes the space first. Then the disk is full, too.
            let _ = fallocate(&file, FallocateFlags::empty(), 0, available - free);
        }
        Filler(path)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let path = self.path().to_str().unwrap();
        run(program, &[arguments, &[path]].concat()).is_some()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Unmount lazily, because the store may still be open. Dropping `place` removes the
        // directory.
        self.run("umount", &["--lazy"]);
    }
}

/// The file that fills the disk. It is deleted when this value is dropped.
pub(crate) struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
