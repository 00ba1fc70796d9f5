//! Files and streams as targets.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cuttlebone::base::{Buffer, is_zero};
use cuttlebone::volume::{
    DeviceTarget, Existing, FileTarget, ReadTarget, StreamTarget, Target, Unsuitable,
    VolumeErrorKind, open_target,
};
use tempfile::TempDir;

use super::{kind, names, noise};

#[test]
fn a_new_file_is_sparse_and_appears_only_when_it_is_finished() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("disk.raw");
    let target = FileTarget::create_new(&path, 64 << 20).expect("a target");
    // Two blocks of data in a mebibyte.
    let mut data = vec![0; 1 << 20];
    data[8192] = 1;
    data[500_000] = 2;
    target.write_at(32 << 20, &data).expect("a write");
    target.zero_range(0, 1 << 20).expect("zeros");
    let [name] = &names(directory.path())[..] else {
        unreachable!("one name")
    };
    assert!(name.starts_with(".disk.raw.cuttlebone-"), "{name}");
    target.finish().expect("finished");
    target.finish().expect("finished twice");
    assert_eq!(names(directory.path()), ["disk.raw"]);
    drop(target);

    let metadata = fs::metadata(&path).expect("a file");
    assert_eq!((metadata.len(), metadata.mode() & 0o777), (64 << 20, 0o600));
    assert!(
        metadata.blocks() * 512 <= 64 << 10,
        "{} blocks",
        metadata.blocks()
    );
    let whole = fs::read(&path).expect("all of it");
    assert!(is_zero(&whole[..32 << 20]) && is_zero(&whole[33 << 20..]));
    assert_eq!(whole[32 << 20..33 << 20], data);
}

#[test]
fn a_complete_image_stays_if_its_name_is_taken_meanwhile() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("disk");
    let target = FileTarget::create_new(&path, 4).expect("a target");
    target.write_at(0, b"data").expect("a write");
    fs::write(&path, "another").expect("a file");
    let error = target.finish().expect_err("the name is taken");
    assert_eq!(error.kind, VolumeErrorKind::Exists);
    drop(target);
    let mut left = names(directory.path());
    left.retain(|name| name != "disk");
    let [complete] = &left[..] else {
        unreachable!("one file: {left:?}")
    };
    let complete = directory.path().join(complete);
    assert_eq!(fs::read(&complete).expect("the data"), b"data");
    assert!(
        error
            .to_string()
            .contains(complete.to_str().expect("a path")),
        "{error}"
    );
    assert_eq!(fs::read(&path).expect("a file"), b"another");
}

#[test]
fn many_threads_write_one_image() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("disk");
    // Use pieces below and above the length that bypasses the page cache. The size is not a
    // multiple of a block. It exceeds 64 MiB, after which the writer starts to sync the data.
    let size = (72 << 20) + 12_345;
    let image = noise(2, size);
    for piece in [64 << 10, 512 << 10, 2 << 20] {
        let target = FileTarget::replace(&path, size as u64).expect("a target");
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    // The buffer is aligned, so that long pieces bypass the cache.
                    let mut buffer = Buffer::default();
                    loop {
                        let at = next.fetch_add(piece, Ordering::Relaxed);
                        let Some(rest) = image.get(at..) else { break };
                        let data = &rest[..piece.min(rest.len())];
                        buffer.resize(data.len());
                        buffer.copy_from_slice(data);
                        target.write_at(at as u64, &buffer).expect("a write");
                    }
                });
            }
        });
        target.finish().expect("finished");
        assert!(fs::read(&path).expect("all of it") == image);
    }
}

#[test]
fn an_unfinished_file_is_removed() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("disk");
    let target = FileTarget::create_new(&path, 8192).expect("a target");
    target.write_at(0, &[1; 8192]).expect("a write");
    drop(target);
    assert!(names(directory.path()).is_empty());

    let target = FileTarget::create_new(&path, 8192).expect("a target");
    assert_eq!(
        kind(target.write_at(8191, &[1, 2])),
        VolumeErrorKind::OutOfRange
    );
    assert_eq!(kind(target.finish()), VolumeErrorKind::Incomplete);
    drop(target);
    assert!(names(directory.path()).is_empty());
}

#[test]
fn a_new_file_never_replaces_an_existing_one() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("disk");
    let target = FileTarget::create_new(&path, 1).expect("a target");
    fs::write(&path, "another process was quicker").expect("another");
    assert_eq!(kind(target.finish()), VolumeErrorKind::Exists);
    assert_eq!(
        kind(FileTarget::create_new(&path, 1)),
        VolumeErrorKind::Exists
    );
    assert_eq!(
        fs::read(&path).expect("the other"),
        b"another process was quicker"
    );
    fs::remove_file(&path).expect("made room");
    target.finish().expect("finished after all");
    drop(target);
    assert_eq!(names(directory.path()), ["disk"]);

    symlink("nowhere", directory.path().join("link")).expect("a link");
    assert_eq!(
        kind(FileTarget::create_new(directory.path().join("link"), 1)),
        VolumeErrorKind::Exists
    );
    let missing = directory.path().join("missing/disk");
    assert_eq!(
        kind(FileTarget::create_new(missing, 1)),
        VolumeErrorKind::NotFound
    );
}

#[test]
fn a_replaced_file_stays_until_the_new_one_is_finished() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("disk");
    let link = directory.path().join("link");
    fs::write(&path, "before").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
    symlink("disk", &link).expect("a link");
    drop(FileTarget::replace(&link, 5).expect("a target"));
    assert_eq!(fs::read(&path).expect("a file"), b"before");

    let target = FileTarget::replace(&link, 5).expect("a target");
    target.write_at(0, b"after").expect("a write");
    assert_eq!(fs::read(&path).expect("a file"), b"before");
    target.finish().expect("finished");
    assert_eq!(fs::read(&path).expect("a file"), b"after");
    assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
    assert_eq!(names(directory.path()), ["disk", "link"]);

    let refused = kind(FileTarget::replace(directory.path(), 5));
    assert_eq!(refused, VolumeErrorKind::Unsuitable(Unsuitable::Directory));
}

#[test]
fn a_restore_in_place_changes_only_what_is_written() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("disk");
    let before = noise(3, 3 << 20);
    fs::write(&path, &before).expect("a file");
    let allocated = || fs::metadata(&path).expect("a file").blocks() * 512;
    File::open(&path)
        .and_then(|file| file.sync_all())
        .expect("durable");
    let full = allocated();

    let target = FileTarget::in_place(&path, 2 << 20).expect("a target");
    let mut read = vec![0; 100];
    target.read_at(1_000, &mut read).expect("what it holds");
    assert_eq!(read, before[1_000..1_100]);
    target
        .write_at(10, &[0; 20])
        .expect("zeros are written too");
    target
        .zero_range((1 << 20) + 1, (512 << 10) + 1)
        .expect("an odd range");
    target.zero_range(0, 0).expect("nothing");
    target.finish().expect("finished");

    let mut expected = before[..2 << 20].to_vec();
    expected[10..30].fill(0);
    expected[(1 << 20) + 1..(1 << 20) + (512 << 10) + 2].fill(0);
    assert!(fs::read(&path).expect("a file") == expected);
    assert!(
        allocated() < full - (1 << 20),
        "shortened and punched: {} of {full}",
        allocated()
    );

    FileTarget::in_place(&path, 5 << 20)
        .expect("a target")
        .finish()
        .expect("longer");
    assert_eq!(fs::metadata(&path).expect("a file").len(), 5 << 20);
    assert_eq!(
        kind(FileTarget::in_place(directory.path().join("no"), 1)),
        VolumeErrorKind::NotFound
    );
    let null = kind(FileTarget::in_place("/dev/null", 1));
    assert_eq!(null, VolumeErrorKind::Unsuitable(Unsuitable::CharDevice));
    let file = kind(DeviceTarget::open(&path, 1));
    assert_eq!(file, VolumeErrorKind::Unsuitable(Unsuitable::File));
}

#[test]
fn a_longer_file_keeps_its_end_until_the_restore_is_finished() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("disk");
    let before = noise(6, 2 << 20);
    fs::write(&path, &before).expect("a file");
    let target = FileTarget::in_place(&path, 1 << 20).expect("a target");
    let extents = target.data_extents().collect::<Result<Vec<_>, _>>();
    assert_eq!(extents.expect("extents"), vec![0..1 << 20]);
    drop(target);
    assert!(fs::read(&path).expect("a file") == before);

    let target = FileTarget::in_place(&path, 1 << 20).expect("a target");
    target.finish().expect("finished");
    assert!(fs::read(&path).expect("a file") == before[..1 << 20]);
}

#[test]
fn a_shorter_file_is_extended_only_when_it_is_written_or_finished() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("disk");
    let before = noise(7, 1 << 20);
    fs::write(&path, &before).expect("a file");
    let len = || fs::metadata(&path).expect("a file").len();
    let target = FileTarget::in_place(&path, 3 << 20).expect("a target");

    // The missing end reads as zeros.
    let extents = target.data_extents().collect::<Result<Vec<_>, _>>();
    assert_eq!(extents.expect("extents"), vec![0..1 << 20]);
    let mut read = vec![1; 2 << 20];
    target.read_at(512 << 10, &mut read).expect("both parts");
    assert_eq!(read[..512 << 10], before[512 << 10..]);
    assert!(is_zero(&read[512 << 10..]));
    read.fill(1);
    target.read_at(1 << 20, &mut read).expect("the missing end");
    assert!(is_zero(&read));
    let beyond = target.read_at((3 << 20) - 1, &mut read[..2]);
    assert_eq!(kind(beyond), VolumeErrorKind::OutOfRange);
    drop(target);
    assert_eq!(len(), 1 << 20, "nothing was written");

    let target = FileTarget::in_place(&path, 3 << 20).expect("a target");
    let beyond = target.write_at(3 << 20, &[1]);
    assert_eq!(kind(beyond), VolumeErrorKind::OutOfRange);
    assert_eq!(len(), 1 << 20, "nothing was written");
    target.write_at(2 << 20, &[5; 4096]).expect("a write");
    assert_eq!(len(), 3 << 20);
    target.read_at(1 << 20, &mut read).expect("the new end");
    assert!(is_zero(&read[..1 << 20]) && is_zero(&read[(1 << 20) + 4096..]));
    assert_eq!(read[1 << 20..(1 << 20) + 4096], [5; 4096]);
    drop(target);

    let target = FileTarget::in_place(&path, 4 << 20).expect("a target");
    target.zero_range(0, 1 << 20).expect("zeros");
    assert_eq!(len(), 4 << 20);
    drop(target);

    let target = FileTarget::in_place(&path, 5 << 20).expect("a target");
    target.finish().expect("finished");
    assert_eq!(len(), 5 << 20);
}

#[test]
fn an_existing_file_is_refused_replaced_or_updated_as_asked() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("disk");
    fs::write(&path, "before").expect("a file");
    let refused = open_target(&path, 6, Existing::Refuse).map(drop);
    assert_eq!(kind(refused), VolumeErrorKind::Exists);

    let update = open_target(&path, 6, Existing::Update).expect("a target");
    let held = update.as_read_target().expect("a target with content");
    let mut read = [0; 6];
    held.read_at(0, &mut read).expect("its content");
    assert_eq!(&read, b"before");
    update.write_at(0, b"B").expect("a write");
    update.finish().expect("finished");
    assert_eq!(fs::read(&path).expect("a file"), b"Before");

    let replace = open_target(&path, 6, Existing::Replace).expect("a target");
    assert!(replace.as_read_target().is_none(), "the new file is empty");
    replace.write_at(0, b"after").expect("a write");
    replace.finish().expect("finished");
    assert_eq!(fs::read(&path).expect("a file"), b"after\0");
}

#[test]
fn a_stream_gets_zeros_in_gaps_and_up_to_its_end() {
    let target = StreamTarget::new(Vec::new(), "standard output", 300_000);
    target.write_at(0, b"first").expect("a write");
    target.write_at(100_000, b"after a gap").expect("a write");
    target.zero_range(150_000, 10).expect("zeros");
    target.write_at(150_010, b"last").expect("a write");
    target.finish().expect("finished");
    let mut expected = vec![0; 300_000];
    expected[..5].copy_from_slice(b"first");
    expected[100_000..100_011].copy_from_slice(b"after a gap");
    expected[150_010..150_014].copy_from_slice(b"last");
    assert!(target.into_inner() == expected);
}

/// A pipe whose reader has closed it.
struct Closed;
impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stream_target_with_a_failed_write_cannot_be_finished() {
    let target = StreamTarget::new(Vec::new(), "standard output", 10);
    target.write_at(2, b"two").expect("a write");
    let error = target.write_at(4, b"back").expect_err("backwards");
    assert_eq!(error.kind, VolumeErrorKind::OutOfOrder { position: 5 });
    assert_eq!(kind(target.finish()), VolumeErrorKind::Incomplete);
    let target = StreamTarget::new(Vec::new(), "standard output", 10);
    assert_eq!(
        kind(target.write_at(8, b"end")),
        VolumeErrorKind::OutOfRange
    );

    let target = StreamTarget::new(Closed, "standard output", 10);
    assert_eq!(kind(target.write_at(0, b"x")), VolumeErrorKind::Closed);
    assert_eq!(kind(target.finish()), VolumeErrorKind::Incomplete);
}
