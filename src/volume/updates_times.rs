//! Finds out whether a file system changes the times of a file with every write.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{FsWord, fstat, fstatfs, major, minor, statfs};

/// The magic numbers, as `statfs` returns them, of file systems that change the times of a file
/// with every write.
const KNOWN: [FsWord; 6] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x2fc1_2fc1, // ZFS
    0x0102_1994, // tmpfs
    0x6969,      // NFS
];
const OVERLAY: FsWord = 0x794c_7630;

/// Returns whether the file is on a file system that is known to change the times of a file with
/// every write. FUSE does not count, since a program decides the times of its files. An overlay
/// counts if all of its directories can be found and are on such file systems.
pub(super) fn updates_times(file: &File) -> bool {
    match fstatfs(file).map(|found| found.f_type) {
        Ok(OVERLAY) => fstat(file).is_ok_and(|stat| {
            let device = format!("{}:{}", major(stat.st_dev), minor(stat.st_dev));
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let keeps = |path: &str| {
                let found = statfs(Path::new(path));
                found.is_ok_and(|found| KNOWN.contains(&found.f_type))
            };
            layers(&mounts, &device).is_some_and(|layers| layers.iter().all(|path| keeps(path)))
        }),
        Ok(magic) => KNOWN.contains(&magic),
        Err(_) => false,
    }
}

/// Returns the directories of the overlay on `device`, given the text of `/proc/self/mountinfo`.
/// Returns `None` if there is no such mount, or if its line has a form that is not understood.
fn layers(mounts: &str, device: &str) -> Option<Vec<String>> {
    let of_device = |line: &&str| line.split(' ').nth(2) == Some(device);
    let (_, mount) = mounts.lines().find(of_device)?.split_once(" - ")?;
    let options = mount.split(' ').nth(2)?;
    let mut all = Vec::new();
    for option in options.split(',') {
        match option.split_once('=') {
            // Escaped names are not understood.
            Some(("lowerdir" | "upperdir", paths)) if !paths.contains('\\') => {
                all.extend(
                    paths
                        .split(':')
                        .filter(|path| !path.is_empty())
                        .map(str::to_owned),
                );
            }
            Some(("lowerdir" | "upperdir" | "lowerdir+" | "datadir+", _)) => return None,
            _ => {}
        }
    }
    (!all.is_empty() && all.iter().all(|path| path.starts_with('/'))).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_does_not_keep_times_and_the_directory_of_the_tests_does() {
        assert!(!updates_times(&File::open("/proc/self/status").unwrap()));
        assert!(updates_times(&tempfile::tempfile().unwrap()));
    }

    #[test]
    fn the_directories_of_an_overlay_are_read_from_its_mount() {
        let mounts = "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
            30 27 0:40 / /merged rw,relatime shared:1 - overlay overlay \
            rw,lowerdir=/a:/b,upperdir=/c,workdir=/w\n\
            31 27 0:41 / /odd rw - overlay overlay rw,lowerdir=/a\\040b\n\
            32 27 0:42 / /relative rw - overlay overlay rw,lowerdir=a\n";
        let found = layers(mounts, "0:40").unwrap();
        assert_eq!(found, ["/a", "/b", "/c"]);
        for device in ["0:41", "0:42", "254:0", "0:43"] {
            assert_eq!(layers(mounts, device), None, "{device}");
        }
    }
}
