use std::io::{self, Read};

use proptest::prelude::*;

use super::record::NAME_MAX;
use super::*;

/// A v1 stream of these records.
fn v1(records: &[&[u8]]) -> Vec<u8> {
    [b"rbd diff v1\n", &records.concat()[..]].concat()
}

/// A v2 stream of this header and these diffs, each a list of records.
fn v2(image: &[&[u8]], diffs: &[&[&[u8]]]) -> Vec<u8> {
    let mut stream = b"rbd image v2\n".to_vec();
    stream.extend(image.concat());
    stream.extend(b"Erbd image diffs v2\n");
    stream.extend((diffs.len() as u64).to_le_bytes());
    for records in diffs {
        stream.extend(b"rbd diff v2\n");
        stream.extend(records.concat());
    }
    stream
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

/// A record of v2 that states this length.
fn stated(tag: u8, length: u64, content: &[u8]) -> Vec<u8> {
    [&[tag], &length.to_le_bytes()[..], content].concat()
}

/// A v1 record as v2 has it.
fn long(record: &[u8]) -> Vec<u8> {
    stated(record[0], record.len() as u64 - 1, &record[1..])
}

fn u64s(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A diff with its extents and their data.
type Diff = (DiffHeader, Vec<(Extent, Vec<u8>)>);

/// Reads all that there is, the data in pieces of `piece` bytes.
fn read_all<R: Read>(input: R, piece: usize) -> Result<Vec<Diff>, DiffError> {
    let mut reader = DiffReader::open(input)?;
    let mut diffs = Vec::new();
    while let Some(header) = reader.next_diff()? {
        let mut extents = Vec::new();
        while let Some(extent) = reader.next_extent()? {
            let mut data = Vec::new();
            while extent.kind == ExtentKind::Data && (data.len() as u64) < extent.length {
                let left = usize::try_from(extent.length).expect("what a test makes");
                let mut buffer = vec![0; piece.min(left - data.len())];
                reader.read_data(&mut buffer)?;
                data.extend(buffer);
            }
            extents.push((extent, data));
        }
        diffs.push((header, extents));
    }
    assert!(reader.next_diff()?.is_none(), "the end stays the end");
    Ok(diffs)
}

/// Passes over all data.
fn skim(stream: &[u8]) -> Result<u64, DiffError> {
    let mut reader = DiffReader::open(stream)?;
    while reader.next_diff()?.is_some() {
        while reader.next_extent()?.is_some() {}
    }
    Ok(reader.offset())
}

#[track_caller]
fn refused(stream: &[u8], kind: &DiffErrorKind, offset: usize) {
    let error = skim(stream).expect_err("it is no good");
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
fn a_diff_is_read_as_it_is() {
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
fn wherever_it_is_cut_it_says_so() {
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
fn a_v1_stream_is_refused_for_each_fault() {
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
fn names_are_bytes_and_fields_come_in_any_order() {
    let odd = [&b"a@b/c\n\xff"[..], &[b'n'; NAME_MAX as usize - 7]].concat();
    let stream = v1(&[&size(1), &name(b't', &odd), &name(b'f', b"\xfe"), b"e"]);
    let diffs = read_all(&stream[..], 1).expect("a diff");
    assert_eq!(diffs[0].0.to.as_ref(), Some(&odd));
    assert_eq!(diffs[0].0.from.as_deref(), Some(&b"\xfe"[..]));
}

/// Two snapshots and the head.
fn image(protection: &[u8]) -> Vec<u8> {
    let metadata = [&4u32.to_le_bytes()[..], b"key\xff", &0u32.to_le_bytes()].concat();
    let header = [
        &stated(b'O', 8, &u64s(&[22]))[..],
        &stated(b'M', 12, &metadata),
        &stated(b'?', 3, b"new"),
        &stated(b'T', 8, &u64s(&[61])),
    ];
    let w = stated(b'w', 16 + 4, &[&u64s(&[0, 4])[..], b"data"].concat());
    v2(
        &header,
        &[
            &[
                &long(&name(b't', b"a")),
                protection,
                &long(&size(8)),
                &w,
                b"e",
            ],
            &[
                &long(&name(b'f', b"a")),
                &long(&name(b't', b"b")),
                &long(&size(9)),
                b"e",
            ],
            &[
                &long(&size(9)),
                &long(&name(b'f', b"b")),
                &long(&extent(b'z', 1, 8)),
                b"e",
            ],
        ],
    )
}

#[test]
fn a_v2_stream_is_read_as_it_is() {
    // What Ceph 16 writes, what later ones do, and what none should.
    for length in [8, 1, u64::MAX] {
        let stream = image(&stated(b'p', length, b"\x01"));
        let mut reader = DiffReader::open(&stream[..]).expect("an image");
        assert_eq!((reader.version(), reader.diffs()), (DiffVersion::V2, 3));
        let image = reader.image().expect("a description");
        let expected = ImageDescription {
            order: Some(22),
            features: Some(61),
            metadata: vec![(b"key\xff".to_vec(), Vec::new())],
            ..ImageDescription::default()
        };
        assert_eq!(*image, expected);

        let diffs = read_all(&stream[..], 3).expect("three diffs");
        let headers: Vec<_> = diffs.iter().map(|(header, _)| header).collect();
        assert_eq!(headers[0].protected, Some(true));
        assert_eq!(headers[1].protected, None);
        assert_eq!((headers[1].size, &headers[1].from), (9, &headers[0].to));
        assert_eq!(headers[2].to, None);
        assert_eq!(diffs[0].1[0].1, b"data");

        // Another reader can go on wherever a diff begins.
        let mut seen = 0;
        while let Some(place) = reader.place() {
            let at = usize::try_from(place.offset()).expect("a short stream");
            let mut other = DiffReader::resume(&stream[at..], place);
            let header = other.next_diff().expect("a diff");
            assert_eq!(header, reader.next_diff().expect("the same diff"));
            assert!(reader.place().is_none());
            while let Some(extent) = reader.next_extent().expect("an extent") {
                assert_eq!(other.next_extent().expect("the same"), Some(extent));
            }
            seen += 1;
        }
        assert_eq!(seen, 3);
        assert!(reader.next_diff().expect("the end").is_none());
    }
}

#[test]
fn a_v2_stream_cut_anywhere_is_not_whole() {
    let whole = image(b"");
    for cut in 1..whole.len() {
        let error = skim(&whole[..cut]).expect_err("cut");
        assert!(matches!(error.kind, DiffErrorKind::Cut(_)), "{error}");
        assert_eq!(error.offset, cut as u64);
    }
    let long = [&whole[..], b"e"].concat();
    refused(&long, &DiffErrorKind::Trailing, whole.len());
}

#[test]
fn a_v2_header_is_refused_for_each_fault() {
    use DiffErrorKind as Kind;
    let order = |order| stated(b'O', 8, &u64s(&[order]));
    let entry = |key: u32, value: u32, stated_length| {
        let content = [&key.to_le_bytes()[..], b"kk", &value.to_le_bytes(), b"v"].concat();
        stated(b'M', stated_length, &content)
    };
    let inner = |length| Kind::InnerLength { tag: b'M', length };
    let wrong = |tag, length| Kind::WrongLength { tag, length };
    for (records, kind, offset) in [
        (vec![order(11)], Kind::BadValue(DiffField::Order, 11), 13),
        (vec![order(26)], Kind::BadValue(DiffField::Order, 26), 13),
        (
            vec![order(1 << 40)],
            Kind::BadValue(DiffField::Order, 1 << 40),
            13,
        ),
        (
            vec![order(22), order(22)],
            Kind::Repeated(DiffField::Order),
            30,
        ),
        (vec![stated(b'C', 7, b"")], wrong(b'C', 7), 13),
        (vec![entry(2, 1, 7)], wrong(b'M', 7), 13),
        (vec![entry(4, 1, 11)], inner(4), 13),
        (vec![entry(2, 0, 11)], inner(0), 13),
        (vec![entry(u32::MAX, 1, 11)], inner(u64::from(u32::MAX)), 13),
        (vec![entry(2, 1, u64::MAX)], Kind::MetadataTooLong, 13),
        (vec![entry(2, 1, 1 << 20)], Kind::MetadataTooLong, 13),
    ] {
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        refused(&v2(&records, &[]), &kind, offset);
    }
    refused(&v2(&[], &[]), &Kind::NoDiffs, 33);
    refused(
        b"rbd image v2\nErbd image diffs v3\n",
        &Kind::WrongBanner,
        14,
    );
    let huge = b"rbd image v2\nZ\xff\xff\xff\xff\xff\xff\xff\xff1234";
    refused(huge, &Kind::Cut(CutIn::ImageHeader), huge.len());

    // Many small entries take memory too.
    let empty = stated(b'M', 8, &[0; 8]);
    let many = vec![&empty[..]; 5000];
    assert_eq!(
        skim(&v2(&many, &[])).expect_err("many").kind,
        Kind::MetadataTooLong
    );
}

#[test]
fn a_v2_diff_is_refused_for_each_fault() {
    use DiffErrorKind as Kind;
    let wrong = |tag, length| Kind::WrongLength { tag, length };
    let head = long(&size(8));
    let (t, f) = (
        |n: &[u8]| long(&name(b't', n)),
        |n: &[u8]| long(&name(b'f', n)),
    );
    // The first diff begins at 41, its first record at 53.
    for (records, kind, offset) in [
        (vec![stated(b's', 9, &u64s(&[8]))], wrong(b's', 9), 53),
        (vec![stated(b'f', 3, b"")], wrong(b'f', 3), 53),
        (
            vec![stated(b't', 6, b"\x01\0\0\0ab")],
            Kind::InnerLength {
                tag: b't',
                length: 1,
            },
            53,
        ),
        (
            vec![stated(b't', 4 + 4097, &[1, 16, 0, 0])],
            Kind::NameTooLong(4097),
            53,
        ),
        (
            vec![head.clone(), stated(b'z', 17, &u64s(&[0, 1]))],
            wrong(b'z', 17),
            70,
        ),
        (
            vec![head.clone(), stated(b'w', 16, &u64s(&[0, 1]))],
            wrong(b'w', 16),
            70,
        ),
        (
            vec![head.clone(), stated(b'w', 15, &u64s(&[0, u64::MAX]))],
            wrong(b'w', 15),
            70,
        ),
        (
            vec![stated(b'p', 8, b"\x02")],
            Kind::BadValue(DiffField::Protected, 2),
            53,
        ),
        (
            vec![head.clone(), stated(b'z', 16, &u64s(&[0, 1])), t(b"a")],
            Kind::LateMetadata(DiffField::To),
            95,
        ),
        (
            vec![t(b"a"), head.clone(), b"e".to_vec()],
            Kind::HeadNamed,
            53,
        ),
        (
            vec![f(b"a"), head.clone(), b"e".to_vec()],
            Kind::BrokenChain {
                expected: None,
                found: Some(b"a".to_vec()),
            },
            53,
        ),
    ] {
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        refused(&v2(&[], &[&records]), &kind, offset);
    }
    let diff = [&t(b"a")[..], &head, b"e"];
    let unnamed = [&head[..], b"e"];
    refused(&v2(&[], &[&unnamed, &unnamed]), &Kind::SnapshotMissing, 41);
    let broken = |found: Option<&[u8]>| Kind::BrokenChain {
        expected: Some(b"a".to_vec()),
        found: found.map(<[u8]>::to_vec),
    };
    let second = 41 + 12 + 14 + 17 + 1;
    refused(&v2(&[], &[&diff, &unnamed]), &broken(None), second);
    let wrong_base = [&head[..], &f(b"b"), b"e"];
    let at = second + 12 + 17;
    refused(&v2(&[], &[&diff, &wrong_base]), &broken(Some(b"b")), at);

    let mut few = v2(&[], &[&diff]);
    few[33] = 2;
    let cut = CutIn::Diffs {
        whole: 1,
        stated: 2,
    };
    refused(&few, &Kind::Cut(cut), few.len());
    let v1_inside = [&v2(&[], &[])[..33], &u64s(&[1]), &good()].concat();
    refused(&v1_inside, &Kind::WrongBanner, 41);
}

#[test]
fn what_the_caller_does_wrong_is_an_error() {
    let misused = |error: DiffError| matches!(error.kind, DiffErrorKind::Misuse(_));
    let stream = good();
    let open = || DiffReader::open(&stream[..]).expect("a diff");
    assert!(misused(open().next_extent().expect_err("no diff yet")));
    assert!(misused(
        open().read_data(&mut [0]).expect_err("no diff yet")
    ));
    let mut reader = open();
    reader.next_diff().expect("a diff");
    assert!(misused(reader.next_diff().expect_err("it is not read")));
    let mut reader = open();
    reader.next_diff().expect("a diff");
    reader.next_extent().expect("an extent");
    assert!(misused(
        reader.read_data(&mut [0; 6]).expect_err("too much")
    ));
    assert!(misused(reader.next_extent().expect_err("it failed")));

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
fn the_writer_refuses_what_a_reader_would() {
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
    writer.zero(20, 80).expect("what was refused left no trace");
    let written = writer.finish().expect("a diff");
    assert_eq!(read_all(&written[..], 1).expect("a diff")[0].1.len(), 2);
}

/// Gives what it has in single bytes with interruptions, and then an error instead of the end.
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
            (_, None, _) => Err(io::Error::other("the disk burns")),
            (_, _, None) => Ok(0),
        }
    }
}

#[test]
fn an_input_that_fails_is_not_one_that_ends() {
    let stream = good();
    for there in 0..=stream.len() {
        let error = read_all(Flaky(&stream[..there], false), 2).expect_err("it burns");
        assert_eq!(
            (error.kind, error.offset),
            (DiffErrorKind::Read, there as u64)
        );
        assert_eq!(error.source.expect("why").to_string(), "the disk burns");
    }
}

#[test]
fn messages_name_what_is_not_text() {
    let kind = DiffErrorKind::BrokenChain {
        expected: Some(vec![0xff, b'a']),
        found: None,
    };
    let text = kind.at(7).to_string();
    assert_eq!(
        text,
        "a diff begins at the empty image, but should at “0xff61” (byte 7)"
    );
}

fn any_name() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(1u8.., 1..20))
}

/// Extents as gaps, lengths and data.
fn any_extents() -> impl Strategy<Value = Vec<(u64, u64, Option<Vec<u8>>)>> {
    let data = prop::option::of(prop::collection::vec(any::<u8>(), 1..50));
    prop::collection::vec((0u64..3, 1u64..1 << 40, data), 0..12)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
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
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), v2 in any::<bool>()) {
        let banner: &[u8] = if v2 { b"rbd image v2\n" } else { b"rbd diff v1\n" };
        let _ = skim(&[banner, &bytes].concat());
    }
}
