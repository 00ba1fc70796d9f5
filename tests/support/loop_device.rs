//! A block device backed by a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{run, skip};

/// A loop device for a file in a separate directory. It is detached when this value is dropped.
pub(crate) struct LoopDevice {
    /// The path of the device.
    pub(crate) device: String,
    /// The file behind it.
    pub(crate) backing: PathBuf,
    _directory: TempDir,
}

impl LoopDevice {
    /// Creates a device with this content. If that is not possible, skips the test and returns
    /// `None`.
    pub(crate) fn new(content: &[u8]) -> Option<Self> {
        Self::over(|backing| fs::write(backing, content).unwrap())
    }

    /// Creates a device of this size, in bytes, that is all zeros and takes no space. If that is
    /// not possible, skips the test and returns `None`.
    pub(crate) fn sparse(size: u64) -> Option<Self> {
        Self::over(|backing| File::create(backing).unwrap().set_len(size).unwrap())
    }

    fn over(make: impl FnOnce(&Path)) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let backing = directory.path().join("backing");
        make(&backing);
        let args = ["--find", "--show", backing.to_str().unwrap()];
        let Some(device) = run("losetup", &args) else {
            skip("loop devices cannot be made here");
            return None;
        };
        Some(Self {
            device,
            backing,
            _directory: directory,
        })
    }

    /// Makes all reads from `offset` on fail with EIO, by truncating the file behind the device.
    pub(crate) fn fail_from(&self, offset: u64) {
        let file = File::options().write(true).open(&self.backing).unwrap();
        file.set_len(offset).unwrap();
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        run("losetup", &["--detach", &self.device]);
    }
}
