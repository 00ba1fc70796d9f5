//! Finds uses of a device or a file: a mount, swap, a device on top of it, or a lock of another
//! program.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, fcntl_lock, major, minor};
use rustix::io::Errno;

use super::error::{VolumeError, VolumeErrorKind, VolumeOperation};
use super::mounts::{Mount, mounts, unescape};
use super::sys::open_image;

/// The maximum number of layers of devices on top of each other that the search follows.
const LAYERS_MAX: u32 = 8;

/// Describes a use of a device or file that may change it while it is read, as a sentence without a
/// full stop. Returns `None` if no such use is found. Finds devices that are in use as swap space,
/// and mounts for writing. Such a mount may be of the device, of one of its partitions, or of a
/// device on top of it, such as a logical volume. For a file, it may be of the loop device to which
/// the file is attached.
pub(super) fn writer_of(of: &Metadata) -> Option<String> {
    if of.file_type().is_block_device() {
        return written_through(&in_sysfs(of), LAYERS_MAX).or_else(|| swap(of));
    }
    let device = loop_of(of)?;
    let user = written_through(&device, LAYERS_MAX)?;
    let name = device.file_name()?.display();
    Some(format!("the device /dev/{name} is attached to it: {user}"))
}

/// Finds a mount for writing of a device, of its partitions, or of devices on top of these, through
/// at most `layers` layers of devices. Describes the mount as a sentence without a full stop.
/// Returns `None` if there is none. `directory` is the directory of the device in `/sys`.
fn written_through(directory: &Path, layers: u32) -> Option<String> {
    for part in parts_of(directory) {
        let mount = part.mount().filter(|(_, mount)| !mount.is_read_only);
        if let Some((prefix, mount)) = mount {
            return Some(format!("{prefix}mounted at {}", mount.at.display()));
        }
        let layers = layers.checked_sub(1)?;
        for holder in entries(&part.directory.join("holders")) {
            let name = holder.file_name().unwrap_or_default().display();
            if let Some(user) = written_through(&holder, layers) {
                return Some(format!("{}held by the device {name}: {user}", part.prefix));
            }
        }
    }
    None
}

/// Opens an existing file or block device to change it. Fails with [`VolumeErrorKind::Busy`] if the
/// file or device is in use. As far as possible, prevents other programs from using it: opens a
/// device exclusively, and takes a lock of the kind that QEMU takes.
pub(super) fn open_for_update(path: &Path) -> Result<(File, Metadata), VolumeError> {
    let failed = VolumeError::on(VolumeOperation::Open, path);
    let metadata = path.metadata().map_err(&failed)?;
    refuse_if_used(path, &metadata)?;
    if metadata.file_type().is_block_device() && is_read_only(&metadata) {
        return Err(failed(Errno::ROFS.into()));
    }
    let (file, metadata, _) = open_image(path, OFlags::RDWR, true)?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN | Errno::ACCESS) => Err(busy(path, "another program has locked it")),
        // Ignore other errors: some file systems do not support locks.
        _ => Ok((file, metadata)),
    }
}

/// Fails with [`VolumeErrorKind::Busy`] if a device or file is in use.
pub(super) fn refuse_if_used(path: &Path, metadata: &Metadata) -> Result<(), VolumeError> {
    match user_of(metadata) {
        Some(user) => Err(busy(path, &user)),
        None => Ok(()),
    }
}

fn busy(path: &Path, why: &str) -> VolumeError {
    VolumeError {
        source: Some(io::Error::other(why.to_owned())),
        ..VolumeError::new(VolumeErrorKind::Busy, VolumeOperation::Open, path.display())
    }
}

/// Describes the use of a device or file, if it is in use, as a sentence without a full stop. Finds
/// only uses that the system reports. Opening a device with `O_EXCL` finds more.
fn user_of(of: &Metadata) -> Option<String> {
    let is_device = of.file_type().is_block_device();
    let on_top = is_device.then(|| device_user(&in_sysfs(of))).flatten();
    on_top.or_else(|| swap(of)).or_else(|| attached(of))
}

/// Returns whether the system forbids all writes to this device.
fn is_read_only(device: &Metadata) -> bool {
    let flag = fs::read_to_string(in_sysfs(device).join("ro"));
    flag.is_ok_and(|flag| flag.trim() == "1")
}

/// Returns the directory in which the kernel describes a device.
fn in_sysfs(device: &Metadata) -> PathBuf {
    let (major, minor) = (major(device.rdev()), minor(device.rdev()));
    format!("/sys/dev/block/{major}:{minor}").into()
}

/// A device, or one of its partitions.
struct Part {
    /// The directory in which the kernel describes it.
    directory: PathBuf,
    /// The beginning of a sentence about it, such as “it is ”.
    prefix: String,
}

impl Part {
    /// Returns the beginning of a sentence about the device, and a mount of the device. Prefers a
    /// mount for writing. Returns `None` if the device is not mounted.
    fn mount(&self) -> Option<(String, Mount)> {
        let number = fs::read_to_string(self.directory.join("dev")).unwrap_or_default();
        let number = number.trim();
        let found = mounts().into_iter().filter(|mount| mount.device == number);
        let mount = found.min_by_key(|mount| mount.is_read_only)?;
        Some((self.prefix.clone(), mount))
    }
}

/// Returns a device and its partitions. `directory` is the directory of the device in `/sys`.
fn parts_of(directory: &Path) -> Vec<Part> {
    let partitions = entries(directory).into_iter();
    let partitions = partitions.filter(|entry| entry.join("partition").exists());
    let partitions = partitions.map(|partition| {
        let name = partition.file_name().unwrap_or_default().display();
        let prefix = format!("its partition {name} is ");
        Part {
            directory: partition,
            prefix,
        }
    });
    let whole = Part {
        directory: directory.to_owned(),
        prefix: "it is ".to_owned(),
    };
    std::iter::once(whole).chain(partitions).collect()
}

/// Finds a mount of a device or of one of its partitions, or a device on top of one of them.
/// Describes this use as a sentence without a full stop. Returns `None` if there is none.
/// `directory` is the directory of the device in `/sys`.
fn device_user(directory: &Path) -> Option<String> {
    for part in parts_of(directory) {
        if let Some((prefix, mount)) = part.mount() {
            return Some(format!("{prefix}mounted at {}", mount.at.display()));
        }
        let holders = entries(&part.directory.join("holders"));
        if let Some(holder) = holders.iter().find_map(|holder| holder.file_name()) {
            let prefix = &part.prefix;
            return Some(format!("{prefix}held by the device {}", holder.display()));
        }
    }
    None
}

/// Describes the use of a device or file as swap space. `None` if it is not used as swap space.
fn swap(of: &Metadata) -> Option<String> {
    let table = fs::read_to_string("/proc/swaps").ok()?;
    let mut names = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    let is_swap = names.any(|name| same(of, &unescape(name)));
    is_swap.then(|| "it is in use as swap space".to_owned())
}

/// Describes the loop device to which a file or device is attached, if there is one.
fn attached(of: &Metadata) -> Option<String> {
    let device = loop_of(of)?;
    let name = device.file_name()?.display();
    Some(format!("the device /dev/{name} is attached to it"))
}

/// Finds the loop device to which a file or device is attached. Returns the directory in which the
/// kernel describes the loop device. Returns `None` if there is no such loop device.
fn loop_of(of: &Metadata) -> Option<PathBuf> {
    entries(Path::new("/sys/block")).into_iter().find(|device| {
        let backing = fs::read_to_string(device.join("loop/backing_file"));
        backing.is_ok_and(|backing| {
            let backing = backing.strip_suffix('\n').unwrap_or(&backing);
            same(of, Path::new(backing))
        })
    })
}

/// Returns whether a path leads to this file or device.
fn same(of: &Metadata, path: &Path) -> bool {
    path.metadata().is_ok_and(|other| {
        let [a, b] = [of, &other].map(|file| file.file_type().is_block_device());
        match (a, b) {
            (true, true) => of.rdev() == other.rdev(),
            (false, false) => (of.dev(), of.ino()) == (other.dev(), other.ino()),
            _ => false,
        }
    })
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut entries: Vec<_> = listed.map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

#[cfg(test)]
mod tests {
    use super::{LAYERS_MAX, device_user, mounts, written_through};
    use std::fs;

    #[test]
    fn a_mount_of_a_device_on_top_of_others_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let [disk, volume] = ["sda", "dm-3"].map(|name| directory.path().join(name));
        fs::create_dir_all(disk.join("sda1/holders")).unwrap();
        fs::write(disk.join("sda1/partition"), "1\n").unwrap();
        fs::create_dir(&volume).unwrap();
        std::os::unix::fs::symlink(&volume, disk.join("sda1/holders/dm-3")).unwrap();
        assert_eq!(written_through(&disk, LAYERS_MAX), None);

        let mounted = mounts().into_iter().find(|mount| !mount.is_read_only);
        let device = mounted.unwrap().device;
        fs::write(volume.join("dev"), format!("{device}\n")).unwrap();
        let user = written_through(&disk, LAYERS_MAX).unwrap();
        let expected = "its partition sda1 is held by the device dm-3: it is mounted at ";
        assert!(user.starts_with(expected), "{user}");
        // The search ends even if devices are on top of each other in a loop.
        fs::create_dir(volume.join("holders")).unwrap();
        std::os::unix::fs::symlink(&disk, volume.join("holders/sda")).unwrap();
        fs::remove_file(volume.join("dev")).unwrap();
        assert_eq!(written_through(&disk, LAYERS_MAX), None);
    }

    #[test]
    fn a_device_on_top_of_a_device_or_of_its_partition_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let [device, partition] = ["", "sda1"].map(|name| directory.path().join(name));
        for part in [&device, &partition] {
            fs::create_dir_all(part.join("holders")).unwrap();
        }
        fs::write(partition.join("partition"), "1\n").unwrap();
        assert_eq!(device_user(&device), None);

        fs::write(partition.join("holders/dm-3"), "").unwrap();
        let user = device_user(&device).unwrap();
        assert_eq!(user, "its partition sda1 is held by the device dm-3");

        fs::write(device.join("holders/md0"), "").unwrap();
        let user = device_user(&device).unwrap();
        assert_eq!(user, "it is held by the device md0");
    }
}
