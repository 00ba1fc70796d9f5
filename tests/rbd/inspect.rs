//! Compares the result of `ops::inspect_diff` with simple counts of the extents in a stream.

use std::collections::BTreeSet;
use std::sync::Arc;

use cuttlebone::base::{Cancel, Cancelled, Silent};
use cuttlebone::format::{DiffErrorKind, ExtentKind, ImageDescription};
use cuttlebone::ops::{Context, DiffPart, DiffReport, DiffSummary, OpsError, inspect_diff};

use cuttlebone::volume::NamedInput;

use super::{Diff, bytes, read, streams};

type Found = (
    DiffReport,
    Option<(ImageDescription, u64)>,
    Vec<DiffSummary>,
);

fn inspect(stream: &[u8]) -> Result<Found, OpsError> {
    let (mut image, mut diffs) = (None, Vec::new());
    let context = Context {
        observer: Arc::new(Silent),
        cancel: &Cancel::default(),
        threads: 1,
        cache: None,
    };
    let mut source = NamedInput::new(stream, "a stream");
    let report = inspect_diff(&mut source, &context, |part| {
        match part {
            DiffPart::Image(found, count) => image = Some(((*found).clone(), *count)),
            DiffPart::Diff(found) => diffs.push((*found).clone()),
        }
        Ok::<(), OpsError>(())
    })?;
    Ok((report, image, diffs))
}

/// Computes the counts of an inspection from all extents of a diff.
fn by_hand((header, extents): &Diff) -> DiffSummary {
    let of = |kind| extents.iter().filter(move |(e, _)| e.kind == kind);
    let total = |kind| of(kind).map(|(e, _)| e.length).sum::<u64>();
    let touched = |unit: u64| {
        let units = extents
            .iter()
            .flat_map(|(e, _)| (e.offset..e.end()).step_by(512).chain([e.end() - 1]));
        units.map(|at| at / unit).collect::<BTreeSet<_>>().len() as u64
    };
    let mut zeros = 0;
    for (extent, data) in of(ExtentKind::Data) {
        let mut blocks = std::collections::BTreeMap::<u64, Vec<u8>>::new();
        for (at, byte) in (extent.offset..).zip(data) {
            blocks.entry(at / 4096).or_default().push(*byte);
        }
        let empty = blocks
            .values()
            .filter(|block| block.iter().all(|b| *b == 0));
        zeros += empty.map(Vec::len).sum::<usize>() as u64;
    }
    DiffSummary {
        header: header.clone(),
        data_extents: of(ExtentKind::Data).count() as u64,
        zero_extents: of(ExtentKind::Zero).count() as u64,
        data: total(ExtentKind::Data),
        zeros_in_data: zeros,
        zeros: total(ExtentKind::Zero),
        leaves: touched(4 << 20),
        chunks: touched(64 << 10),
        first: extents.first().map(|(e, _)| e.offset),
        end: extents.last().map_or(0, |(e, _)| e.end()),
        whole: true,
    }
}

#[test]
fn the_counts_of_an_inspection_match_a_count_by_hand() {
    let mut zeros = 0;
    for fixture in streams() {
        let name = fixture["file"].as_str().unwrap();
        let stream = bytes(name);
        let (report, image, diffs) = inspect(&stream).expect(name);
        assert!(report.damage.is_none(), "{name}");
        assert_eq!(report.bytes, stream.len() as u64, "{name}");
        assert_eq!(report.whole, diffs.len() as u64, "{name}");
        assert_eq!(
            image.is_some(),
            fixture["format"] == "rbd image v2",
            "{name}"
        );
        assert!(
            image.is_none_or(|(_, count)| count == report.whole),
            "{name}"
        );
        let expected: Vec<_> = read(&stream).unwrap().iter().map(by_hand).collect();
        assert_eq!(diffs, expected, "{name}");
        zeros += diffs.iter().map(|diff| diff.zeros_in_data).sum::<u64>();
    }
    assert!(zeros > 0, "no fixture has zeros in its data");
}

#[test]
fn an_inspection_reports_the_diffs_before_the_damage() {
    let stream = bytes("bad/cut-data.diff");
    let (report, _, diffs) = inspect(&stream).unwrap();
    let damage = report.damage.unwrap();
    assert_eq!(damage.offset, stream.len() as u64);
    assert_eq!((report.bytes, report.whole), (damage.offset, 0));
    let [diff] = &diffs[..] else {
        panic!("{diffs:?}")
    };
    assert_eq!((diff.whole, diff.header.size), (false, 1 << 20));
    assert_eq!(diff.header.to.as_deref(), Some(&b"x"[..]));

    // The stream is cut in its last diff; the others are complete.
    let stream = bytes("std.rbd2");
    let (report, image, diffs) = inspect(&stream[..stream.len() - 1]).unwrap();
    assert!(report.damage.is_some());
    assert_eq!(image.unwrap().1, 8);
    assert_eq!((report.whole, diffs.len()), (7, 8));
    assert!(diffs[..7].iter().all(|diff| diff.whole) && !diffs[7].whole);

    let (report, _, diffs) = inspect(b"rbd di").unwrap();
    assert!(report.damage.is_some() && report.version.is_none() && diffs.is_empty());
}

#[test]
fn inspecting_a_file_that_is_not_a_diff_fails() {
    for (stream, kind) in [
        (&b""[..], DiffErrorKind::Empty),
        (b"QFI\xfb", DiffErrorKind::NotADiff),
    ] {
        match inspect(stream) {
            Err(OpsError::NotADiff { source, .. }) => assert_eq!(source.kind, kind),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_inspection_can_be_cancelled() {
    let stream = bytes("std.rbd2");
    let cancel = Cancel::default();
    let context = Context {
        observer: Arc::new(Silent),
        cancel: &cancel,
        threads: 1,
        cache: None,
    };
    let source = || NamedInput::new(&stream[..], "a stream");
    let stop = |_: &DiffPart<'_>| Err(OpsError::from(Cancelled));
    assert!(inspect_diff(&mut source(), &context, stop).is_err());
    cancel.cancel();
    let go_on = |_: &DiffPart<'_>| Ok::<(), OpsError>(());
    assert!(inspect_diff(&mut source(), &context, go_on).is_err());
}
