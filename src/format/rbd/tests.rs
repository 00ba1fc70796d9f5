use std::io::{self, Cursor, Read};

use proptest::prelude::*;

use super::record::NAME_MAX;
use super::*;

mod v2;

/// Returns a v1 stream of these records.
fn v1(records: &[&[u8]]) -> Vec<u8> {
    [b"rbd diff v1\n", &records.concat()[..]].concat()
}

fn name(tag: u8, name: &[u8]) -> Vec<u8> {
    let length = u32::try_from(name.len()).expect("a short name");
    [&[tag], &length.to_le_bytes()[..], name].concat()
}

fn size(size: u64) -> Vec<u8> {
    [&b"s"[..], &size.to_le_bytes()].concat()
}

fn extent(tag: u8, offset: u64, length: u64) -> Vec<u8> {
    [&[tag], &offset.to_le_bytes()[..], &length.to_le_bytes()].concat()
}

/// A diff with its extents and their data.
type Diff = (DiffHeader, Vec<(Extent, Vec<u8>)>);

/// Reads the whole stream, the data in pieces of `piece` bytes.
fn read_all<R: Read>(input: R, piece: usize) -> Result<Vec<Diff>, DiffError> {
    let mut reader = DiffReader::open(input)?;
    let mut diffs = Vec::new();
    while let Some(header) = reader.next_diff()? {
        let mut extents = Vec::new();
        while let Some(extent) = reader.next_extent()? {
            let mut data = Vec::new();
            while extent.kind == ExtentKind::Data && (data.len() as u64) < extent.length {
                let left = usize::try_from(extent.length).expect("a short extent");
                let mut buffer = vec![0; piece.min(left - data.len())];
                reader.read_data(&mut buffer)?;
                data.extend(buffer);
            }
            extents.push((extent, data));
        }
        diffs.push((header, extents));
    }
    assert!(reader.next_diff()?.is_none(), "a diff after the end");
    Ok(diffs)
}

/// Reads the whole stream and skips all data. Returns the length of the stream in bytes.
fn skim(stream: &[u8]) -> Result<u64, DiffError> {
    let mut reader = DiffReader::open(stream)?;
    while reader.next_diff()?.is_some() {
        while reader.next_extent()?.is_some() {}
    }
    Ok(reader.offset())
}

#[track_caller]
fn refused(stream: &[u8], kind: &DiffErrorKind, offset: usize) {
    let error = skim(stream).expect_err("an invalid stream");
    assert_eq!(
        (&error.kind, error.offset),
        (kind, offset as u64),
        "{error}"
    );
    assert!(error.source.is_none());
}

fn good() -> Vec<u8> {
    let data = extent(b'w', 10, 5);
    let records = [&name(b'f', b"a"), &name(b't', b"b"), &size(100), &data];
    let zero = extent(b'z', 15, 85);
    v1(&[&records.map(Vec::as_slice).concat(), b"12345", &zero, b"e"])
}

#[test]
fn a_v1_diff_is_read_with_its_header_extents_and_data() {
    let diffs = read_all(&good()[..], 2).expect("a diff");
    let [(header, extents)] = &diffs[..] else {
        panic!("{diffs:?}")
    };
    assert_eq!(header.from.as_deref(), Some(&b"a"[..]));
    assert_eq!(header.to.as_deref(), Some(&b"b"[..]));
    assert_eq!((header.size, header.protected), (100, None));
    let [(first, data), (second, none)] = &extents[..] else {
        panic!("{extents:?}")
    };
    assert_eq!(
        (first.offset, first.end(), &data[..]),
        (10, 15, &b"12345"[..])
    );
    assert_eq!((second.offset, second.kind), (15, ExtentKind::Zero));
    assert!(none.is_empty());
    assert_eq!(skim(&good()).expect("a diff"), good().len() as u64);
}

#[test]
fn a_v1_stream_cut_anywhere_is_refused_as_cut_short() {
    let whole = good();
    for cut in 1..whole.len() {
        let part = match cut {
            ..12 => CutIn::Banner,
            12 | 18 | 24 | 33 | 55 | 72 => CutIn::Records,
            13..24 => CutIn::Name,
            25..33 => CutIn::Size,
            50..55 => CutIn::Data,
            _ => CutIn::ExtentHeader,
        };
        refused(&whole[..cut], &DiffErrorKind::Cut(part), cut);
        let error = read_all(&whole[..cut], 3).expect_err("cut");
        assert_eq!(
            (error.kind, error.offset),
            (DiffErrorKind::Cut(part), cut as u64)
        );
    }
    refused(b"", &DiffErrorKind::Empty, 0);
}

#[test]
fn data_that_is_skipped_by_seeking_must_exist() {
    // The data of both extents is longer than the buffer, so the reader seeks to skip it.
    let mut whole = good();
    whole.pop();
    whole.truncate(33);
    whole[25..33].copy_from_slice(&(1_u64 << 20).to_le_bytes());
    for offset in [0_u64, 100_000] {
        whole.push(b'w');
        whole.extend_from_slice(&offset.to_le_bytes());
        whole.extend_from_slice(&80_000_u64.to_le_bytes());
        whole.resize(whole.len() + 80_000, 7);
    }
    whole.push(b'e');
    let skim = |stream: &[u8]| {
        let mut reader = DiffReader::open_seekable(Cursor::new(stream))?;
        while reader.next_diff()?.is_some() {
            while reader.next_extent()?.is_some() {}
        }
        Ok::<_, DiffError>(reader.offset())
    };
    assert_eq!(skim(&whole).expect("whole"), whole.len() as u64);
    for cut in [
        34,
        50,
        51,
        40_000,
        80_049,
        80_050,
        80_067,
        80_068,
        whole.len() - 1,
    ] {
        let error = skim(&whole[..cut]).expect_err("cut");
        let read = read_all(&whole[..cut], 3).expect_err("cut");
        assert_eq!(
            (error.kind, error.offset),
            (read.kind, read.offset),
            "{cut}"
        );
    }
}

#[test]
fn each_fault_of_a_v1_stream_is_refused_with_its_kind_and_offset() {
    use DiffErrorKind as Kind;
    let s = size(1000);
    let a = name(b't', b"a");
    let long_name = [b'n'; NAME_MAX as usize + 1];
    let field = DiffField::To;
    for (records, kind, offset) in [
        (vec![&s[..], b"e", b"e"], Kind::Trailing, 22),
        (vec![&s, b"Q"], Kind::UnknownTag(b'Q'), 21),
        (vec![b"p"], Kind::UnknownTag(b'p'), 12),
        (vec![b"e"], Kind::SizeMissing, 12),
        (vec![&a, &extent(b'z', 0, 1)], Kind::SizeMissing, 18),
        (vec![&a, &s, &name(b't', b"b")], Kind::Repeated(field), 27),
        (vec![&s, &s], Kind::Repeated(DiffField::Size), 21),
        (
            vec![&s, &extent(b'z', 0, 1), &a],
            Kind::LateMetadata(field),
            38,
        ),
        (
            vec![&s, &extent(b'z', 5, 5), &extent(b'z', 9, 1)],
            Kind::OutOfOrder { end: 10 },
            38,
        ),
        (
            vec![&s, &extent(b'z', 999, 2)],
            Kind::PastEnd { size: 1000 },
            21,
        ),
        (
            vec![&s, &extent(b'w', 0, 1 << 62)],
            Kind::PastEnd { size: 1000 },
            21,
        ),
        (vec![&s, &extent(b'w', 7, 0)], Kind::EmptyExtent, 21),
        (vec![&s, &extent(b'z', u64::MAX, 1)], Kind::Overflow, 21),
        (vec![&name(b'f', &long_name)], Kind::NameTooLong(4097), 12),
        (
            vec![b"t\xff\xff\xff\xff"],
            Kind::NameTooLong(0xffff_ffff),
            12,
        ),
        (vec![&s, &name(b't', b"")], Kind::NameEmpty, 21),
        (vec![&s, &name(b'f', b"a\0b")], Kind::NameNul, 21),
    ] {
        refused(&v1(&records), &kind, offset);
    }
    refused(b"rbd diff v2\n", &Kind::NotADiff, 0);
    refused(b"rbd image v3\n", &Kind::NotADiff, 0);
    refused(b"\x7fELF", &Kind::NotADiff, 0);
}

#[test]
fn snapshot_names_need_not_be_utf8_and_header_fields_may_have_any_order() {
    let odd = [&b"a@b/c\n\xff"[..], &[b'n'; NAME_MAX as usize - 7]].concat();
    let stream = v1(&[&size(1), &name(b't', &odd), &name(b'f', b"\xfe"), b"e"]);
    let diffs = read_all(&stream[..], 1).expect("a diff");
    assert_eq!(diffs[0].0.to.as_ref(), Some(&odd));
    assert_eq!(diffs[0].0.from.as_deref(), Some(&b"\xfe"[..]));
}

#[test]
fn calls_in_the_wrong_order_fail_as_misuse() {
    let misused = |error: DiffError| matches!(error.kind, DiffErrorKind::Misuse(_));
    let stream = good();
    let open = || DiffReader::open(&stream[..]).expect("a diff");
    assert!(misused(open().next_extent().expect_err("no diff yet")));
    assert!(misused(
        open().read_data(&mut [0]).expect_err("no diff yet")
    ));
    let mut reader = open();
    reader.next_diff().expect("a diff");
    assert!(misused(reader.next_diff().expect_err("a diff is unread")));
    let mut reader = open();
    reader.next_diff().expect("a diff");
    reader.next_extent().expect("an extent");
    assert!(misused(
        reader.read_data(&mut [0; 6]).expect_err("too much")
    ));
    assert!(misused(reader.next_extent().expect_err("a read failed")));
    let mut reader = open();
    reader.next_diff().expect("a diff");
    reader.next_extent().expect("an extent");
    reader.skip_data(4).expect("four bytes");
    let mut last = [0];
    reader.read_data(&mut last).expect("the fifth");
    assert_eq!(&last, b"5");
    assert!(misused(reader.skip_data(1).expect_err("too much")));

    let header = DiffHeader {
        from: None,
        to: None,
        size: 9,
        protected: None,
    };
    let new = || DiffWriter::new(Vec::new(), &header).expect("a header");
    let mut writer = new();
    writer.extent(0, 5).expect("an extent");
    writer.data(b"1234").expect("data");
    assert!(misused(writer.data(b"56").expect_err("too much")));
    assert!(misused(writer.zero(6, 1).expect_err("too little")));
    assert!(misused(writer.finish().expect_err("too little")));
}

#[test]
fn the_writer_refuses_records_that_a_reader_would_refuse() {
    use DiffErrorKind as Kind;
    let header = |name: &[u8]| DiffHeader {
        from: None,
        to: Some(name.to_vec()),
        size: 100,
        protected: None,
    };
    let refuse = |name: &[u8]| {
        DiffWriter::new(Vec::new(), &header(name))
            .expect_err("bad")
            .kind
    };
    assert_eq!(refuse(b""), Kind::NameEmpty);
    assert_eq!(refuse(b"\0"), Kind::NameNul);
    assert_eq!(refuse(&[b'n'; 4097]), Kind::NameTooLong(4097));
    let protected = DiffHeader {
        protected: Some(false),
        ..header(b"a")
    };
    let error = DiffWriter::new(Vec::new(), &protected).expect_err("v1");
    assert_eq!(error.kind, Kind::ProtectionInV1);
    let mut writer = DiffWriter::new(Vec::new(), &header(b"a")).expect("a header");
    writer.zero(10, 10).expect("an extent");
    assert_eq!(
        writer.extent(0, 0).expect_err("empty").kind,
        Kind::EmptyExtent
    );
    assert_eq!(
        writer.zero(19, 5).expect_err("back").kind,
        Kind::OutOfOrder { end: 20 }
    );
    assert_eq!(
        writer.extent(99, 2).expect_err("past").kind,
        Kind::PastEnd { size: 100 }
    );
    assert_eq!(
        writer.zero(u64::MAX, 2).expect_err("overflow").kind,
        Kind::Overflow
    );
    writer
        .zero(20, 80)
        .expect("refused records were not written");
    let written = writer.finish().expect("a diff");
    assert_eq!(read_all(&written[..], 1).expect("a diff")[0].1.len(), 2);
}

/// Returns single bytes, with interruptions in between, and then an error in place of the end. The
/// flag states whether the last read was interrupted.
struct Flaky<'a>(&'a [u8], bool);

impl Read for Flaky<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        match (self.1, self.0.split_first(), buffer.first_mut()) {
            (true, ..) => Err(io::ErrorKind::Interrupted.into()),
            (_, Some((byte, rest)), Some(place)) => {
                (*place, self.0) = (*byte, rest);
                Ok(1)
            }
            (_, None, _) => Err(io::Error::other("the disk fails")),
            (_, _, None) => Ok(0),
        }
    }
}

#[test]
fn a_read_error_is_not_reported_as_a_stream_that_is_cut_short() {
    let stream = good();
    for there in 0..=stream.len() {
        let error = read_all(Flaky(&stream[..there], false), 2).expect_err("the disk fails");
        assert_eq!(
            (error.kind, error.offset),
            (DiffErrorKind::Read, there as u64)
        );
        assert_eq!(
            error.source.expect("a source").to_string(),
            "the disk fails"
        );
    }
}

#[test]
fn messages_escape_names_that_are_not_text() {
    let kind = DiffErrorKind::BrokenChain {
        expected: Some(vec![0xff, b'a']),
        found: None,
    };
    let text = kind.at(7).to_string();
    assert_eq!(
        text,
        "a diff starts from the empty image, but should start from snapshot “0xff61” (byte 7)"
    );
    let shown = DiffBase(Some("a\x1b[2J\\ ✓\u{9b}".as_bytes())).to_string();
    assert_eq!(shown, r"snapshot “a\u{1b}[2J\\ ✓\u{9b}”");
}

fn any_name() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(1u8.., 1..20))
}

/// Generates extents. Each has the number of bytes since the previous extent, a length, and its
/// data. If the data is `None`, the extent is zeros. Otherwise the length is not used.
fn any_extents() -> impl Strategy<Value = Vec<(u64, u64, Option<Vec<u8>>)>> {
    let data = prop::option::of(prop::collection::vec(any::<u8>(), 1..50));
    prop::collection::vec((0u64..3, 1u64..1 << 40, data), 0..12)
}

proptest! {
    #[test]
    fn a_written_diff_is_read_back_unchanged(
        from in any_name(),
        to in any_name(),
        rest in 0u64..5,
        layout in any_extents(),
        piece in 1usize..60,
    ) {
        let mut extents = Vec::new();
        let mut end = 0;
        for (gap, length, data) in layout {
            let (length, kind) = match &data {
                Some(data) => (data.len() as u64, ExtentKind::Data),
                None => (length, ExtentKind::Zero),
            };
            let extent = Extent { offset: end + gap, length, kind };
            end = extent.end();
            extents.push((extent, data.unwrap_or_default()));
        }
        let header = DiffHeader { from, to, size: end + rest, protected: None };
        let mut writer = DiffWriter::new(Vec::new(), &header).expect("a header");
        for (extent, data) in &extents {
            match extent.kind {
                ExtentKind::Zero => writer.zero(extent.offset, extent.length).expect("zeros"),
                ExtentKind::Data => {
                    writer.extent(extent.offset, extent.length).expect("an extent");
                    for part in data.chunks(piece) {
                        writer.data(part).expect("data");
                    }
                }
            }
        }
        let stream = writer.finish().expect("a diff");
        prop_assert_eq!(skim(&stream).expect("whole"), stream.len() as u64);
        prop_assert_eq!(read_all(&stream[..], piece).expect("a diff"), vec![(header, extents)]);
    }

    #[test]
    fn no_input_makes_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        v2 in any::<bool>(),
    ) {
        let banner: &[u8] = if v2 { b"rbd image v2\n" } else { b"rbd diff v1\n" };
        let _ = skim(&[banner, &bytes].concat());
    }
}
