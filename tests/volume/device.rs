//! Block devices, and full or read-only file systems. Tests need privileges to make them. Without
//! these privileges, the tests are skipped.

use std::fs;

use cuttlebone::base::is_zero;
use cuttlebone::volume::{
    DeviceTarget, Existing, FileTarget, ImageKind, ImageSource, RawImage, Target, Unsuitable,
    VolumeError, VolumeErrorKind, open_target,
};

use super::{kind, names, noise};
use crate::support::{LoopDevice, SmallDisk};

#[test]
fn a_device_is_read_and_written_in_place() {
    let before = noise(4, 8 << 20);
    let Some(device) = LoopDevice::new(&before) else {
        return;
    };
    let source = RawImage::open(&device.device).expect("a source");
    assert_eq!((source.size(), source.kind()), (8 << 20, ImageKind::Device));
    let extents: Vec<_> = source.extents().map(|e| e.expect("an extent")).collect();
    assert_eq!(
        extents,
        vec![0..8 << 20],
        "the holes of a device are unknown"
    );
    let mut read = vec![0; 5_000];
    source.read_at(3_000, &mut read).expect("data");
    assert_eq!(read, before[3_000..8_000]);
    assert!(!source.changed_since_opened().expect("metadata"));
    let mut identity = source.identity().expect("an identity").clone();
    identity.settled = true;
    assert!(
        !identity.unchanged_since(&identity),
        "the time of the last write to a device is unknown"
    );

    let target = DeviceTarget::open(&device.device, 7 << 20).expect("a target");
    assert_eq!(
        kind(DeviceTarget::open(&device.device, 1)),
        VolumeErrorKind::Busy
    );
    for existing in [Existing::Refuse, Existing::Replace, Existing::Update] {
        let busy = open_target(&device.device, 1, existing).map(drop);
        assert_eq!(kind(busy), VolumeErrorKind::Busy);
    }
    let data = noise(5, 1 << 20);
    target.write_at(1 << 20, &data).expect("a write");
    target.zero_range(3 << 20, 2 << 20).expect("whole sectors");
    target
        .zero_range((6 << 20) + 1, 1_000)
        .expect("no whole sectors");
    assert_eq!(
        kind(target.write_at(7 << 20, &[1])),
        VolumeErrorKind::OutOfRange
    );
    drop(target);

    let target = open_target(&device.device, 7 << 20, Existing::Update).expect("a target");
    let held = target.as_read_target().expect("a target with content");
    let extents = held.data_extents().collect::<Result<Vec<_>, _>>();
    assert_eq!(extents.expect("extents"), vec![0..7 << 20]);
    held.read_at(1 << 20, &mut read).expect("its content");
    assert_eq!(read, data[..5_000]);
    target.finish().expect("finished");
    drop(target);
    let mut expected = before;
    expected[1 << 20..2 << 20].copy_from_slice(&data);
    expected[3 << 20..5 << 20].fill(0);
    expected[(6 << 20) + 1..(6 << 20) + 1_001].fill(0);
    assert!(fs::read(&device.device).expect("the device") == expected);
    assert!(fs::read(&device.backing).expect("its backing file") == expected);
}

#[test]
fn a_device_that_is_too_small_is_refused_with_both_sizes() {
    let Some(device) = LoopDevice::new(&noise(8, 1 << 20)) else {
        return;
    };
    let error = DeviceTarget::open(&device.device, (1 << 20) + 1).expect_err("too small");
    assert_eq!(
        error.kind,
        VolumeErrorKind::TooSmall {
            size: 1 << 20,
            needed: (1 << 20) + 1
        }
    );
    assert!(error.to_string().contains("1048576") && error.to_string().contains("1048577"));
    let device_found = VolumeErrorKind::Unsuitable(Unsuitable::BlockDevice);
    assert_eq!(kind(FileTarget::replace(&device.device, 1)), device_found);
    assert_eq!(kind(FileTarget::in_place(&device.device, 1)), device_found);
    assert!(
        fs::metadata(&device.device).is_ok(),
        "the device node still exists"
    );
}

#[test]
fn a_full_disk_is_named_and_no_file_is_left() {
    let Some(disk) = SmallDisk::mount(1 << 10) else {
        return;
    };
    let path = disk.path().join("disk.raw");
    for piece in [64 << 10, 512 << 10] {
        let target = FileTarget::create_new(&path, 8 << 20).expect("sparse, so it fits");
        let data = noise(6, piece);
        let error: VolumeError = (0..)
            .find_map(|at| target.write_at(at * data.len() as u64, &data).err())
            .expect("an error when the disk is full");
        let VolumeErrorKind::Full { free: Some(free) } = error.kind else {
            unreachable!("{error:?}");
        };
        assert!(free < 1 << 20);
        assert!(
            error.to_string().contains(path.to_str().expect("plain")),
            "{error}"
        );
        assert_eq!(kind(target.finish()), VolumeErrorKind::Incomplete);
        drop(target);
        assert!(names(disk.path()).is_empty());
    }
}

#[test]
fn a_read_only_file_system_has_an_error_kind_of_its_own() {
    let Some(disk) = SmallDisk::mount(1 << 10) else {
        return;
    };
    let path = disk.path().join("disk.raw");
    fs::write(&path, noise(7, 4096)).expect("a file");
    disk.make_read_only();
    assert_eq!(
        kind(FileTarget::create_new(disk.path().join("new"), 1)),
        VolumeErrorKind::ReadOnly
    );
    assert_eq!(
        kind(FileTarget::replace(&path, 1)),
        VolumeErrorKind::ReadOnly
    );
    assert_eq!(
        kind(FileTarget::in_place(&path, 4096)),
        VolumeErrorKind::ReadOnly
    );
    let source = RawImage::open(&path).expect("a source");
    let mut read = vec![0; 4096];
    source.read_at(0, &mut read).expect("data");
    assert!(!is_zero(&read));
}
