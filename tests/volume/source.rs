//! Image files as sources.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cuttlebone::base::is_zero;
use cuttlebone::volume::{ImageKind, ImageSource, RawImage, Unsuitable, VolumeErrorKind};
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, SeekFrom};
use tempfile::TempDir;

use super::{kind, noise};
use crate::support::skip;

fn sparse(size: u64, data: &[(u64, &[u8])]) -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("image");
    let file = File::create_new(&path).expect("a file");
    file.set_len(size).expect("a size");
    for (offset, bytes) in data {
        file.write_all_at(bytes, *offset).expect("a write");
    }
    (directory, path)
}

#[test]
fn reads_at_any_offset_return_the_bytes_of_the_file() {
    let bytes = noise(1, 10_000);
    let (_directory, path) = sparse(20_000, &[(5_000, &bytes)]);
    let source = RawImage::open(&path).expect("a source");
    assert_eq!((source.size(), source.kind()), (20_000, ImageKind::File));
    let mut read = vec![1; 10_000];
    source.read_at(5_000, &mut read).expect("data");
    assert_eq!(read, bytes);
    source
        .read_at(15_000, &mut read[..5_000])
        .expect("zeros to the end");
    assert!(is_zero(&read[..5_000]));
    source.read_at(20_000, &mut []).expect("nothing at the end");
    assert_eq!(
        kind(source.read_at(20_000, &mut [0])),
        VolumeErrorKind::OutOfRange
    );
    assert_eq!(
        kind(source.read_at(u64::MAX, &mut [0])),
        VolumeErrorKind::OutOfRange
    );
    assert!(!source.changed_since_opened().expect("metadata"));
}

#[test]
fn a_huge_sparse_file_has_few_and_short_extents() {
    let size = 8 << 40;
    let places = [1 << 20, 3 << 40, size - 4096];
    let (_directory, path) = sparse(size, &places.map(|at| (at, &[7u8; 4096][..])));
    let file = File::open(&path).expect("the file");
    if rustix::fs::seek(&file, SeekFrom::Hole(0)) != Ok(0) {
        return skip("the file system of temporary files does not report holes");
    }
    let source = RawImage::open(&path).expect("a source");
    let extents: Vec<_> = source.extents().map(|e| e.expect("an extent")).collect();
    assert_eq!(extents.len(), 3);
    for (extent, at) in extents.iter().zip(places) {
        assert!(extent.start <= at && at + 4096 <= extent.end);
    }
    assert!(extents.iter().map(|e| e.end - e.start).sum::<u64>() < 1 << 20);
}

#[test]
fn an_empty_file_has_no_extents_and_one_byte_of_data_has_one() {
    let (_directory, path) = sparse(0, &[]);
    assert_eq!(
        RawImage::open(&path).expect("a source").extents().count(),
        0
    );
    let (_directory, path) = sparse(1, &[(0, &[1])]);
    let source = RawImage::open(&path).expect("a source");
    assert_eq!(
        source
            .extents()
            .map(|e| e.expect("an extent"))
            .collect::<Vec<_>>(),
        vec![0..1]
    );
}

#[test]
fn reading_a_file_that_has_shrunk_fails_and_gives_no_zeros_for_its_end() {
    let (_directory, path) = sparse(1 << 20, &[(0, &[1; 4096]), (512 << 10, &[1; 4096])]);
    let source = RawImage::open(&path).expect("a source");
    let mut extents = source.extents();
    assert_eq!(extents.next().expect("one").expect("an extent").start, 0);
    let file = OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("the file");
    file.set_len(100 << 10).expect("less");

    let shrunk = VolumeErrorKind::Shrunk { size: 100 << 10 };
    assert_eq!(kind(extents.next().expect("an error")), shrunk);
    assert!(extents.next().is_none());
    let error = source
        .read_at(96 << 10, &mut vec![0; 8 << 10])
        .expect_err("the end is gone");
    assert_eq!((error.kind, error.offset), (shrunk, Some(100 << 10)));
    assert!(error.to_string().contains(&path.display().to_string()));
    assert!(source.changed_since_opened().expect("metadata"));
}

#[test]
fn a_file_that_grows_is_read_up_to_its_old_end() {
    let (_directory, path) = sparse(8192, &[(0, &[1; 8192])]);
    let source = RawImage::open(&path).expect("a source");
    let file = OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("the file");
    file.write_all_at(&[2; 8192], 8192).expect("more");
    let extents: Vec<_> = source.extents().map(|e| e.expect("an extent")).collect();
    assert_eq!(extents, vec![0..8192]);
    assert_eq!(
        kind(source.read_at(8192, &mut [0])),
        VolumeErrorKind::OutOfRange
    );
    assert!(source.changed_since_opened().expect("metadata"));
}

#[test]
fn an_identity_differs_after_every_change_of_the_file() {
    let (directory, path) = sparse(8192, &[(0, &[1; 8192])]);
    let identity = |path: &PathBuf| {
        let source = RawImage::open(path).expect("a source");
        source.identity().expect("an identity").clone()
    };
    let fresh = identity(&path);
    assert!(!fresh.settled, "the file was written just now");
    assert!(
        !identity(&path).unchanged_since(&fresh),
        "a second change within one tick of the clock would not show"
    );

    let mut before = fresh;
    before.settled = true;
    assert!(identity(&path).unchanged_since(&before));
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    assert!(
        identity(&link).unchanged_since(&before),
        "a link is another name of the same file"
    );

    // The size is the same, and the time of modification is set back. Only the time of the inode's
    // change differs.
    let file = OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("the file");
    let then = file
        .metadata()
        .expect("metadata")
        .modified()
        .expect("a time");
    std::thread::sleep(Duration::from_millis(20));
    file.write_all_at(&[2], 100).expect("a write");
    file.set_modified(then).expect("the time set back");
    assert_eq!(identity(&path).mtime_ns, before.mtime_ns);
    assert!(!identity(&path).unchanged_since(&before));

    fs::remove_file(&path).expect("gone");
    fs::write(&path, [1; 8192]).expect("another");
    assert!(!identity(&path).unchanged_since(&before));
}

#[test]
fn a_file_is_settled_only_if_its_attributes_are_old_too() {
    let (_directory, path) = sparse(1, &[]);
    let file = OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("the file");
    file.set_modified(SystemTime::UNIX_EPOCH)
        .expect("an old time");
    let source = RawImage::open(&path).expect("a source");
    let identity = source.identity().expect("an identity");
    assert_eq!(identity.mtime_ns, 0);
    assert!(!identity.settled);
}

#[test]
fn directories_pipes_sockets_and_character_devices_are_refused_as_images() {
    let directory = TempDir::new().expect("a directory");
    let at = |name| directory.path().join(name);
    rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
    let _socket = UnixListener::bind(at("socket")).expect("a socket");
    let open = |path: PathBuf| kind(RawImage::open(path));
    let unsuitable = VolumeErrorKind::Unsuitable;
    assert_eq!(
        open(directory.path().into()),
        unsuitable(Unsuitable::Directory)
    );
    assert_eq!(open(at("fifo")), unsuitable(Unsuitable::Fifo));
    assert_eq!(open(at("socket")), unsuitable(Unsuitable::Socket));
    assert_eq!(open("/dev/null".into()), unsuitable(Unsuitable::CharDevice));
    assert_eq!(open(at("nothing")), VolumeErrorKind::NotFound);
    let error = RawImage::open(at("nothing")).expect_err("nothing");
    let source = std::error::Error::source(&error)
        .expect("the error of the system")
        .to_string();
    assert!(
        !error.to_string().contains(&source),
        "the message does not repeat its source"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn extents_cover_all_data(
        size in 0u64..2 << 20,
        places in prop::collection::vec((0u64..2 << 20, 1usize..40_000, any::<bool>()), 0..12),
    ) {
        let writes: Vec<_> = places
            .iter()
            .filter(|(at, _, _)| *at < size)
            .map(|(at, len, data)| {
                let len = (*len).min(usize::try_from(size - at).expect("small"));
                (*at, if *data { noise(*at, len) } else { vec![0; len] })
            })
            .collect();
        let writes: Vec<_> = writes.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
        let (_directory, path) = sparse(size, &writes);
        let whole = fs::read(&path).expect("all of it");
        let source = RawImage::open(&path).expect("a source");
        let mut last = 0;
        for extent in source.extents() {
            let extent = extent.expect("an extent");
            prop_assert!(last <= extent.start && extent.start < extent.end && extent.end <= size);
            let place = |at| usize::try_from(at).expect("small");
            prop_assert!(is_zero(&whole[place(last)..place(extent.start)]));
            let mut read = vec![0; place(extent.end - extent.start)];
            source.read_at(extent.start, &mut read).expect("data");
            prop_assert!(read == whole[place(extent.start)..place(extent.end)]);
            last = extent.end;
        }
        prop_assert!(is_zero(&whole[usize::try_from(last).expect("small")..]));
    }
}
