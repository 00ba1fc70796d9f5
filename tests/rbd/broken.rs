//! Damaged and unusual streams. `fixtures/bad/observed.json` records how Ceph treats them.

use std::collections::BTreeMap;

use cuttlebone::format::{CutIn, DiffErrorKind as Kind, DiffField, DiffReader};
use serde_json::Value;

use super::{bytes, read};

/// Returns each stream with its fault and the offset of the fault, or with `None` if the stream is
/// accepted.
fn expected() -> BTreeMap<&'static str, Option<(Kind, u64)>> {
    BTreeMap::from([
        ("good", None),
        ("empty-file", Some((Kind::Empty, 0))),
        ("cut-banner", Some((Kind::Cut(CutIn::Banner), 7))),
        ("banner-only", Some((Kind::Cut(CutIn::Records), 12))),
        ("wrong-banner", Some((Kind::NotADiff, 0))),
        ("v2-banner", Some((Kind::NotADiff, 0))),
        ("cut-name", Some((Kind::Cut(CutIn::Name), 20))),
        ("cut-size", Some((Kind::Cut(CutIn::Size), 16))),
        (
            "cut-extent-header",
            Some((Kind::Cut(CutIn::ExtentHeader), 35)),
        ),
        ("cut-data", Some((Kind::Cut(CutIn::Data), 5044))),
        ("no-end", Some((Kind::Cut(CutIn::Records), 8253))),
        ("unknown-tag", Some((Kind::UnknownTag(b'Q'), 27))),
        ("no-size", Some((Kind::SizeMissing, 18))),
        // These two streams are valid. Only the image shows whether the snapshots exist.
        ("from-missing", None),
        ("to-exists", None),
        ("name-empty", Some((Kind::NameEmpty, 12))),
        ("name-4096", None),
        ("name-4097", Some((Kind::NameTooLong(4097), 12))),
        ("name-not-utf8", None),
        ("name-at", None),
        (
            "write-past-end",
            Some((Kind::PastEnd { size: 1 << 20 }, 21)),
        ),
        ("length-zero", Some((Kind::EmptyExtent, 21))),
        ("length-huge", Some((Kind::PastEnd { size: 1 << 20 }, 21))),
        ("out-of-order", Some((Kind::OutOfOrder { end: 65546 }, 48))),
        ("metadata-late", Some((Kind::SizeMissing, 12))),
        ("to-twice", Some((Kind::Repeated(DiffField::To), 18))),
        ("shrink", None),
    ])
}

#[test]
fn each_damaged_stream_is_refused_with_its_kind_and_offset() {
    for (name, expected) in expected() {
        let stream = bytes(&format!("bad/{name}.diff"));
        let found = read(&stream).err().map(|error| (error.kind, error.offset));
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn every_stream_that_ceph_refuses_is_refused() {
    let observed: Value = serde_json::from_slice(&bytes("bad/observed.json")).unwrap();
    let observed = observed.as_object().unwrap();
    let expected = expected();
    assert!(observed.keys().all(|name| expected.contains_key(&name[..])));
    for (name, fault) in expected {
        let taken = observed[name]["file"]["rc"] == 0;
        let of_the_image = ["from-missing", "to-exists"].contains(&name);
        assert!(taken || fault.is_some() || of_the_image, "{name}");
    }
}

#[test]
fn snapshot_names_are_read_as_bytes() {
    for (name, expected) in [
        ("name-at", b"a@b/c".to_vec()),
        ("name-not-utf8", vec![0xff, 0xfe]),
        ("name-4096", vec![b'n'; 4096]),
    ] {
        let stream = bytes(&format!("bad/{name}.diff"));
        assert_eq!(read(&stream).unwrap()[0].0.to, Some(expected), "{name}");
    }
}

/// Cuts each stream after each of its first 699 bytes, then after every 4999th, and before the last
/// one.
#[test]
fn a_stream_of_ceph_cut_anywhere_is_refused_as_cut_short() {
    for name in [
        "std-full-s1.diff",
        "std-inc-s1-s7.diff",
        "std.rbd2",
        "meta.rbd2",
    ] {
        let whole = bytes(name);
        let skim = |stream: &[u8]| {
            let mut reader = DiffReader::open(stream)?;
            while reader.next_diff()?.is_some() {
                while reader.next_extent()?.is_some() {}
            }
            Ok(())
        };
        assert!(skim(&whole).is_ok());
        let places = (1..700).chain((700..whole.len()).step_by(4999));
        for cut in places.chain([whole.len() - 1]) {
            let error: cuttlebone::format::DiffError = skim(&whole[..cut]).unwrap_err();
            assert!(
                matches!(error.kind, Kind::Cut(_)),
                "{name} at {cut}: {error}"
            );
            assert_eq!(error.offset, cut as u64, "{name}");
        }
    }
}
