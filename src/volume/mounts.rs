//! The file systems that are mounted.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// The number of its device, `MAJOR:MINOR`.
    pub(super) device: String,
    /// The directory on which it is mounted.
    pub(super) at: PathBuf,
    /// Its kind, such as `ext4`.
    pub(super) kind: String,
    /// Whether the file system is mounted read-only everywhere, so that nothing writes to the
    /// device through it.
    pub(super) is_read_only: bool,
}

/// Returns the mounts that this process sees. The list is empty if the system does not list them.
pub(super) fn mounts() -> Vec<Mount> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    table.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ');
    let device = mount.nth(2)?.to_owned();
    let at = unescape(mount.nth(1)?);
    let mut file_system = file_system.split(' ');
    let kind = file_system.next()?.to_owned();
    // Use the options of the file system, not those of this mount: the file system may be mounted
    // read-write elsewhere.
    let options = file_system.nth(1).unwrap_or_default();
    Some(Mount {
        device,
        at,
        kind,
        is_read_only: options.split(',').any(|option| option == "ro"),
    })
}

/// Decodes a path of a table in `/proc`, in which blanks are written as octal numbers, such as
/// `\040`.
pub(super) fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let number = || u8::from_str_radix(std::str::from_utf8(after.get(..3)?).ok()?, 8).ok();
        if let Some(byte) = number().filter(|_| first == b'\\') {
            bytes.push(byte);
            rest = &after[3..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_of_mounts_is_read() {
        let line = r"36 35 98:0 /sub /mnt/a\040b rw,noatime master:1 - ext3 /dev/root rw";
        let mount = Mount {
            device: "98:0".to_owned(),
            at: "/mnt/a b".into(),
            kind: "ext3".to_owned(),
            is_read_only: false,
        };
        assert_eq!(parse(line), Some(mount));
        let line = "36 35 98:0 / /mnt rw - ext4 /dev/sda1 ro,seclabel";
        assert!(parse(line).is_some_and(|mount| mount.is_read_only));
        assert_eq!(parse("nonsense"), None);
        assert_eq!(unescape(r"a\b\1"), PathBuf::from(r"a\b\1"));
    }
}
