//! Streams of version 2.

use super::*;

/// Returns a v2 stream of this header and these diffs, each a list of records.
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

/// Returns a v2 record that states this length.
fn stated(tag: u8, length: u64, content: &[u8]) -> Vec<u8> {
    [&[tag], &length.to_le_bytes()[..], content].concat()
}

/// Returns a v1 record in the form of v2.
fn long(record: &[u8]) -> Vec<u8> {
    stated(record[0], record.len() as u64 - 1, &record[1..])
}

fn u64s(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Returns a stream of two snapshots and of the image itself (its head). `protection` is the record
/// `p` of the first snapshot, or empty.
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
fn a_v2_stream_is_read_with_its_image_and_all_diffs() {
    // The length that the record `p` (whether the snapshot is protected) states: in Ceph 16, in
    // later versions, and a length that no version writes.
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
        let features = [
            "layering",
            "exclusive-lock",
            "object-map",
            "fast-diff",
            "deep-flatten",
        ];
        assert_eq!(image.feature_names(), features);

        let diffs = read_all(&stream[..], 3).expect("three diffs");
        let headers: Vec<_> = diffs.iter().map(|(header, _)| header).collect();
        assert_eq!(headers[0].protected, Some(true));
        assert_eq!(headers[1].protected, None);
        assert_eq!((headers[1].size, &headers[1].from), (9, &headers[0].to));
        assert_eq!(headers[2].to, None);
        assert_eq!(diffs[0].1[0].1, b"data");

        // Another reader can resume at the beginning of each diff.
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
fn a_v2_stream_cut_anywhere_is_refused_as_cut_short() {
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
fn each_fault_of_a_v2_image_header_is_refused_with_its_kind_and_offset() {
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
        (vec![entry(2, 1, 16 << 20)], Kind::MetadataTooLong, 13),
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

    // Many small entries are refused, too, since they also take much memory.
    let empty = stated(b'M', 8, &[0; 8]);
    let many = vec![&empty[..]; 250_000];
    assert_eq!(
        skim(&v2(&many, &[])).expect_err("many").kind,
        Kind::MetadataTooLong
    );
}

#[test]
fn each_fault_of_a_v2_diff_is_refused_with_its_kind_and_offset() {
    use DiffErrorKind as Kind;
    let wrong = |tag, length| Kind::WrongLength { tag, length };
    let head = long(&size(8));
    let (t, f) = (
        |n: &[u8]| long(&name(b't', n)),
        |n: &[u8]| long(&name(b'f', n)),
    );
    // The first diff begins at byte 41, its first record at byte 53.
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
