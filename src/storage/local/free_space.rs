//! Describes the disk of a directory and its free space, for messages about a full disk.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::ByteSize;

/// Returns text like `on /mnt/backup, 1.2 MiB free of 3.6 TiB` for a directory below `root`. If
/// there is no such directory, describes `root`. If no inode is free, the text states this instead.
pub(super) fn describe(root: &Path, directory: &str) -> String {
    let below = root.join(directory);
    let path = if below.is_dir() { &below } else { root };
    let mount = fs::read("/proc/self/mountinfo")
        .ok()
        .and_then(|mounts| mount_point(path, &mounts));
    let on = mount.as_deref().unwrap_or(path).display();
    match rustix::fs::statvfs(path) {
        Ok(space) => {
            let bytes = |blocks: u64| ByteSize(blocks.saturating_mul(space.f_frsize));
            let (free, total) = (bytes(space.f_bavail), bytes(space.f_blocks));
            if space.f_files > 0 && space.f_favail == 0 {
                return format!("on {on}, no inode free of {}", space.f_files);
            }
            format!("on {on}, {free} free of {total}")
        }
        Err(_) => format!("on {on}"),
    }
}

/// Returns the deepest mount point at or above a path. Returns `None` if `mountinfo` lists none.
/// Several file systems on the same mount point have the same path, so it does not matter which of
/// them is found.
fn mount_point(path: &Path, mountinfo: &[u8]) -> Option<PathBuf> {
    mountinfo
        .split(|&byte| byte == b'\n')
        // proc(5): the mount point is the fifth field.
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsStr::from_bytes(&unescape(field))))
        .filter(|mount| path.starts_with(mount))
        .max_by_key(|mount| mount.components().count())
}

/// Decodes a field of `/proc/self/mountinfo`, in which spaces and other special characters are
/// written as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        plain.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &rest[4..] } else { tail };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_point_is_found_and_its_escaped_spaces_are_decoded() {
        let mounts = b"27 1 254:0 / / rw - ext4 /dev/vda rw\n\
            30 27 0:5 / /mnt/my\\040disk rw shared:1 - xfs /dev/sda rw\n\
            31 27 0:6 / /mnt/my rw - xfs /dev/sdb rw\n\
            short line\n";
        for (path, mount) in [
            ("/mnt/my disk/backup", "/mnt/my disk"),
            ("/mnt/my disk", "/mnt/my disk"),
            ("/mnt/my/backup", "/mnt/my"),
            ("/mnt/mystery", "/"),
        ] {
            let found = mount_point(Path::new(path), mounts);
            assert_eq!(found.as_deref(), Some(Path::new(mount)), "{path}");
        }
        assert_eq!(mount_point(Path::new("/a"), b""), None);
        assert_eq!(unescape(b"a\\"), b"a\\");
        assert_eq!(unescape(b"\\134040"), b"\\040");
    }
}
