//! RBD diffs as targets.

use std::io::{self, Write};

use cuttlebone::format::{DiffHeader, Extent, ExtentKind};
use cuttlebone::volume::{DiffTarget, Target, VolumeError, VolumeErrorKind};

use crate::rbd::read;

use super::{kind, noise};

const BLOCK: u64 = 4096;

fn header(from: Option<&str>, size: u64) -> DiffHeader {
    DiffHeader {
        from: from.map(|name| name.as_bytes().to_vec()),
        to: None,
        size,
        protected: None,
    }
}

/// Returns the extents that `write` writes. Asserts that their data is that of `image`.
fn extents(
    from: Option<&str>,
    image: &[u8],
    write: impl FnOnce(&dyn Target) -> Result<(), VolumeError>,
) -> Vec<(char, u64, u64)> {
    let mut stream = Vec::new();
    let target = DiffTarget::new(&mut stream, "a diff", &header(from, image.len() as u64)).unwrap();
    assert_eq!(target.size(), image.len() as u64);
    write(&target).unwrap();
    target.finish().unwrap();
    target.finish().unwrap();
    let totals = target.totals();
    drop(target);
    let diffs = read(&stream).unwrap();
    let [(found, extents)] = &diffs[..] else {
        panic!("{} diffs", diffs.len())
    };
    assert_eq!(*found, header(from, image.len() as u64));
    assert_eq!(totals.written, stream.len() as u64);
    assert_eq!(totals.extents, extents.len() as u64);
    let sum = |kind| {
        extents
            .iter()
            .filter(|(e, _)| e.kind == kind)
            .map(|(e, _)| e.length)
            .sum()
    };
    assert_eq!(
        (totals.data, totals.zeros),
        (sum(ExtentKind::Data), sum(ExtentKind::Zero))
    );
    let entry = |(extent, data): &(Extent, Vec<u8>)| {
        let place = usize::try_from(extent.offset).unwrap();
        assert!(extent.kind == ExtentKind::Zero || image[place..][..data.len()] == data[..]);
        let tag = if extent.kind == ExtentKind::Zero {
            'z'
        } else {
            'w'
        };
        (tag, extent.offset, extent.length)
    };
    extents.iter().map(entry).collect()
}

#[test]
fn a_diff_names_zeros_only_where_its_snapshot_may_have_data() {
    // Blocks 1, 2 and 5 have data, and the image ends 100 bytes into block 7.
    let mut image = vec![0; 7 * 4096 + 100];
    for block in [1, 2, 5] {
        image[block * 4096 + 77] = 1;
    }
    let write = |target: &dyn Target| {
        target.write_at(0, &image[..4 * 4096])?;
        target.zero_range(4 * BLOCK, BLOCK)?;
        target.zero_range(5 * BLOCK, 0)?;
        target.write_at(5 * BLOCK, &image[5 * 4096..])
    };
    assert_eq!(
        extents(None, &image, write),
        [('w', BLOCK, 2 * BLOCK), ('w', 5 * BLOCK, BLOCK)]
    );
    assert_eq!(
        extents(Some("mon"), &image, write),
        [
            ('z', 0, BLOCK),
            ('w', BLOCK, 2 * BLOCK),
            ('z', 3 * BLOCK, 2 * BLOCK),
            ('w', 5 * BLOCK, BLOCK),
            ('z', 6 * BLOCK, BLOCK + 100),
        ]
    );
}

#[test]
fn ranges_that_are_not_written_are_not_in_the_diff() {
    let image = vec![0; 1 << 20];
    assert_eq!(extents(Some("mon"), &image, |_| Ok(())), []);
    let found = extents(Some("mon"), &image, |target| {
        target.zero_range(BLOCK, BLOCK)?;
        target.zero_range(3 * BLOCK, BLOCK)?;
        target.zero_range(4 * BLOCK, 1)
    });
    assert_eq!(found, [('z', BLOCK, BLOCK), ('z', 3 * BLOCK, BLOCK + 1)]);
}

#[test]
fn no_extent_has_more_data_than_4_mib() {
    let image = noise(1, (9 << 20) + 5);
    let found = extents(None, &image, |target| target.write_at(0, &image));
    let mib = 1 << 20;
    assert_eq!(
        found,
        [
            ('w', 0, 4 * mib),
            ('w', 4 * mib, 4 * mib),
            ('w', 8 * mib, mib + 5)
        ]
    );
}

/// A pipe that its reader closes after this many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_diff_with_a_failed_write_cannot_be_finished() {
    let begun = |room| DiffTarget::new(Full(room), "a pipe", &header(Some("mon"), 8 * BLOCK));
    let target = begun(1000).unwrap();
    target.zero_range(BLOCK, BLOCK).unwrap();
    let back = kind(target.write_at(0, b"back"));
    assert_eq!(
        back,
        VolumeErrorKind::OutOfOrder {
            position: 2 * BLOCK
        }
    );
    assert_eq!(kind(target.finish()), VolumeErrorKind::Incomplete);

    let target = begun(1000).unwrap();
    assert_eq!(
        kind(target.zero_range(7 * BLOCK, BLOCK + 1)),
        VolumeErrorKind::OutOfRange
    );
    assert_eq!(kind(target.finish()), VolumeErrorKind::Incomplete);

    let target = begun(1000).unwrap();
    assert_eq!(
        kind(target.write_at(0, &noise(1, 4096))),
        VolumeErrorKind::Closed
    );
    assert_eq!(kind(target.finish()), VolumeErrorKind::Incomplete);
    assert_eq!(kind(begun(10)), VolumeErrorKind::Closed);

    // There is space for 12 bytes of banner, 8 of the snapshot and 9 of the size, but not for the
    // end.
    let target = begun(29).unwrap();
    assert_eq!(kind(target.finish()), VolumeErrorKind::Closed);
}

#[test]
fn an_empty_too_long_or_nul_snapshot_name_is_refused() {
    for name in ["", "a\0b", &"x".repeat(4097)] {
        let begun = DiffTarget::new(Vec::new(), "a diff", &header(Some(name), 1));
        assert_eq!(kind(begun), VolumeErrorKind::Misnamed, "{name:?}");
    }
}
