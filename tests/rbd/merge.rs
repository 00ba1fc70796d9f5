//! `ops::merge_diffs`, compared with Ceph's merge of the same diffs and with applying them in turn.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cuttlebone::base::{Cancel, Silent};
use cuttlebone::format::{DiffHeader, Extent, ExtentKind};
use cuttlebone::ops::{Context, MergeReport, OpsError, merge_diffs};
use cuttlebone::volume::{
    InputFile, InputStream, NamedInput, NamedOutput, OutputFile, OutputStream, VolumeError,
};
use proptest::prelude::*;
use tempfile::tempdir;

use super::{Diff, apply, bytes, digest, fixture, images, read, stream, streams};

type Sources = Vec<Box<dyn InputStream>>;

fn file(path: impl AsRef<Path>) -> Box<dyn InputStream> {
    Box::new(InputFile::open(path).unwrap())
}

fn pipe(stream: Vec<u8>, name: &str) -> Box<dyn InputStream> {
    Box::new(NamedInput::new(std::io::Cursor::new(stream), name))
}

fn merge_to(sources: Sources, to: &mut dyn OutputStream) -> Result<MergeReport, OpsError> {
    let context = Context {
        observer: Arc::new(Silent),
        cancel: &Cancel::default(),
        threads: 1,
        cache: None,
    };
    merge_diffs(sources, to, &context)
}

/// Merges into the file, if it could be opened.
fn merge_into(
    sources: Sources,
    file: Result<OutputFile, VolumeError>,
) -> Result<MergeReport, OpsError> {
    merge_to(sources, &mut file?)
}

fn merge(sources: Sources) -> Result<Vec<u8>, OpsError> {
    let mut output = Vec::new();
    let report = merge_to(sources, &mut NamedOutput::new(&mut output, "a buffer"))?;
    assert_eq!(report.written, output.len() as u64);
    let diffs = read(&output).expect("a valid stream");
    let (header, extents) = &diffs[0];
    assert_eq!(*header, report.header);
    assert_eq!(report.extents, extents.len() as u64);
    let bytes = extents.iter().map(|(e, _)| e.length).sum::<u64>();
    assert_eq!(report.data + report.zeros, bytes);
    Ok(output)
}

fn merge_streams(streams: &[Vec<u8>]) -> Result<Vec<u8>, OpsError> {
    let source = |stream: &Vec<u8>| pipe(stream.clone(), "a diff");
    merge(streams.iter().map(source).collect())
}

fn merge_fixtures(names: &[&str]) -> Result<Vec<u8>, OpsError> {
    let open = |name: &&str| file(fixture(name));
    merge(names.iter().map(open).collect())
}

fn one(stream: &[u8]) -> Diff {
    read(stream).expect("a diff").remove(0)
}

/// Returns the effect of a diff on an image of `base` bytes: the value that the diff sets for each
/// byte, or none if it keeps the old value.
fn effect((header, extents): &Diff, base: u64) -> Vec<Option<u8>> {
    let before = |at| if at < base { None } else { Some(0) };
    let mut effect: Vec<_> = (0..header.size).map(before).collect();
    for (extent, data) in extents {
        for at in extent.offset..extent.end() {
            let at_data = usize::try_from(at - extent.offset).unwrap();
            let byte = data.get(at_data).copied().unwrap_or(0);
            effect[usize::try_from(at).unwrap()] = Some(byte);
        }
    }
    effect
}

#[test]
fn a_merge_has_the_same_effect_as_ceph_s_merge() {
    let images = images();
    let mut seen = 0;
    for known in streams() {
        let name = known["file"].as_str().unwrap();
        let command = known["command"].as_str().unwrap();
        let Some(files) = command.strip_prefix("rbd merge-diff ") else {
            continue;
        };
        let files: Vec<&str> = files.split(' ').collect();
        let ours = one(&merge_fixtures(&files[..2]).expect(name));
        let ceph = one(&bytes(files[2]));
        assert_eq!(ours.0, ceph.0, "{name}");
        let base = known["base_size"].as_u64().unwrap();
        assert!(effect(&ours, base) == effect(&ceph, base), "{name}");

        let mut image = images[known["base"]["blake2b"].as_str().unwrap()].clone();
        apply(&mut image, &ours);
        assert_eq!(known["result"]["blake2b"], digest(&image), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 3);
}

const CHAIN: [&str; 7] = [
    "std-inc-s1-s2.diff",
    "std-inc-s2-s3-grow.diff",
    "std-inc-s3-s4-shrink.diff",
    "std-inc-s4-s5-empty.diff",
    "std-inc-s5-s6-utf8.diff",
    "std-inc-s6-s7-regrow.diff",
    "std-inc-s7-head.diff",
];

/// Merges every part of a chain of Ceph's diffs, in which the image grows, shrinks and grows again.
#[test]
fn any_part_of_a_chain_can_be_merged() {
    for start in 0..CHAIN.len() {
        for end in start + 1..=CHAIN.len() {
            let names = &CHAIN[start..end];
            let parts: Vec<Diff> = names.iter().map(|name| one(&bytes(name))).collect();
            let merged = one(&merge_fixtures(names).expect("a chain"));
            assert_eq!(merged.0.from, parts[0].0.from);
            assert_eq!(merged.0.to, parts[parts.len() - 1].0.to);
            // No byte of the base is zero.
            let mut expected = vec![0xaa; 10 << 20];
            let mut found = expected.clone();
            for part in &parts {
                apply(&mut expected, part);
            }
            apply(&mut found, &merged);
            assert!(found == expected, "{names:?}");
        }
    }
}

#[test]
fn a_full_diff_merged_with_its_chain_gives_the_head() {
    let names = [&["std-full-s1.diff"][..], &CHAIN].concat();
    let merged = one(&merge_fixtures(&names).unwrap());
    assert_eq!((&merged.0.from, &merged.0.to), (&None, &None));
    let mut image = Vec::new();
    apply(&mut image, &merged);
    let mut expected = Vec::new();
    apply(&mut expected, &one(&bytes("std-full-head.diff")));
    assert!(image == expected);
}

#[test]
fn all_diffs_of_a_v2_stream_are_merged() {
    for known in ["std.rbd2", "stripe.rbd2", "meta.rbd2"] {
        let merged = one(&merge_fixtures(&[known]).expect(known));
        let mut image = Vec::new();
        apply(&mut image, &merged);
        let fixture = streams().into_iter().find(|f| f["file"] == known).unwrap();
        assert_eq!(fixture["result"]["blake2b"], digest(&image), "{known}");
    }
    let piped = pipe(bytes("meta.rbd2"), "a pipe");
    assert!(matches!(
        merge(vec![piped]),
        Err(OpsError::NotSeekable { .. })
    ));
}

#[test]
fn an_error_names_the_diffs_that_do_not_follow_each_other() {
    let refused = |names: &[&str]| match merge_fixtures(names) {
        Err(error @ OpsError::NotFollowing { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let text = refused(&["std-inc-s1-s2.diff", "std-inc-s3-s4-shrink.diff"]);
    for expected in [
        "std-inc-s3-s4-shrink.diff begins at snapshot “s3-grown”",
        "std-inc-s1-s2.diff ends at snapshot “s2”",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let text = refused(&["std-inc-s1-s2.diff", "std-full-s2.diff"]);
    assert!(text.contains("the empty image"), "{text}");
    // Two diffs to the head do not follow each other, although neither names a snapshot.
    let text = refused(&["std-full-head.diff", "std-full-head.diff"]);
    assert!(text.contains("the image's head"), "{text}");
    refused(&["meta.rbd2", "std-inc-s1-s2.diff"]);
    // Two names with different bytes are different snapshots, even if they look the same.
    let text = merge_streams(&[
        stream(&header(None, Some(b"\xff"), 1), &[]),
        stream(&header(Some(b"0xff"), None, 1), &[]),
    ]);
    assert!(matches!(text, Err(OpsError::NotFollowing { .. })));
}

/// A merge refuses a damaged input even if the damage is after all data that the result needs.
#[test]
fn a_damaged_input_leaves_no_output() {
    let directory = tempdir().unwrap();
    let target = directory.path().join("merged.diff");
    let whole = bytes("std-inc-s2-s3-grow.diff");
    let damaged = |stream: Vec<u8>, target: &Path| {
        let sources = vec![
            file(fixture("std-inc-s1-s2.diff")),
            pipe(stream, "the second"),
            file(fixture("std-inc-s3-s4-shrink.diff")),
        ];
        match merge_into(sources, OutputFile::create_new(target)) {
            Err(OpsError::DamagedDiff { name, .. }) => assert_eq!(name, "the second"),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    };
    damaged(whole[..whole.len() - 1].to_vec(), &target);
    damaged(whole[..whole.len() - 9000].to_vec(), &target);
    damaged([&whole[..], b"e"].concat(), &target);

    let image = bytes("std.rbd2");
    let cut = directory.path().join("cut.rbd2");
    fs::write(&cut, &image[..image.len() - 1]).unwrap();
    let source = file(&cut);
    let result = merge_into(vec![source], OutputFile::create_new(&target));
    assert!(matches!(result, Err(OpsError::DamagedDiff { .. })));
    assert!(!target.exists());
}

#[test]
fn a_merged_file_appears_complete_or_not_at_all() {
    let directory = tempdir().unwrap();
    let target = directory.path().join("merged.diff");
    let sources = || {
        let open = |name: &&str| file(fixture(name));
        CHAIN.iter().map(open).collect()
    };
    merge_into(sources(), OutputFile::create_new(&target)).unwrap();
    let first = fs::read(&target).unwrap();
    assert!(read(&first).is_ok());
    assert!(merge_into(sources(), OutputFile::create_new(&target)).is_err());
    fs::write(&target, "old").unwrap();
    merge_into(sources(), OutputFile::replace(&target)).unwrap();
    assert_eq!(fs::read(&target).unwrap(), first);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

fn header(from: Option<&[u8]>, to: Option<&[u8]>, size: u64) -> DiffHeader {
    DiffHeader {
        from: from.map(<[u8]>::to_vec),
        to: to.map(<[u8]>::to_vec),
        size,
        protected: None,
    }
}

/// The size of an image, and the gap before each extent, its length and its fill. An extent without
/// a fill has zeros.
type Layout = (u64, Vec<(u64, u64, Option<u8>)>);

fn layout() -> impl Strategy<Value = Layout> {
    let fill = prop::option::of(1u8..);
    (
        0u64..60,
        prop::collection::vec((0u64..9, 1u64..12, fill), 0..8),
    )
}

/// Returns a chain of diffs. The first one starts from the empty image if `full` is true. Each diff
/// ends before its first extent that does not fit into the image.
fn chain(layouts: Vec<Layout>, full: bool) -> Vec<Diff> {
    let diff = |(number, (size, extents)): (usize, Layout)| {
        let mut made: Vec<(Extent, Vec<u8>)> = Vec::new();
        let mut at = 0;
        for (gap, length, fill) in extents {
            at += gap;
            if at + length > size {
                break;
            }
            let kind = fill.map_or(ExtentKind::Zero, |_| ExtentKind::Data);
            let extent = Extent {
                offset: at,
                length,
                kind,
            };
            // Adjacent bytes of an extent differ.
            let bytes = fill.map(|fill| {
                (0..length)
                    .map(|i| fill.wrapping_add(i.to_le_bytes()[0]))
                    .collect()
            });
            made.push((extent, bytes.unwrap_or_default()));
            at += length;
        }
        let from = (number > 0 || !full).then(|| format!("s{number}").into_bytes());
        let to = format!("s{}", number + 1).into_bytes();
        (header(from.as_deref(), Some(&to), size), made)
    };
    layouts.into_iter().enumerate().map(diff).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_merge_has_the_effect_of_all_diffs_in_turn(
        layouts in prop::collection::vec(layout(), 1..6),
        base in prop::option::of(0usize..70),
    ) {
        let chain = chain(layouts, base.is_none());
        let streams: Vec<_> = chain.iter().map(|(h, extents)| stream(h, extents)).collect();
        let merged = one(&merge_streams(&streams).expect("a chain"));
        let mut expected = vec![0xaa; base.unwrap_or(0)];
        let mut found = expected.clone();
        for diff in &chain {
            apply(&mut expected, diff);
        }
        apply(&mut found, &merged);
        prop_assert_eq!(found, expected);
        // Adjacent extents of zeros are joined.
        for pair in merged.1.windows(2) {
            let zeros = pair.iter().all(|(e, _)| e.kind == ExtentKind::Zero);
            prop_assert!(!zeros || pair[0].0.end() < pair[1].0.offset);
        }
    }

    #[test]
    fn the_order_of_merging_parts_does_not_matter(
        layouts in prop::collection::vec(layout(), 3..4),
        base in 0usize..70,
    ) {
        let chain = chain(layouts, false);
        let streams: Vec<_> = chain.iter().map(|(h, extents)| stream(h, extents)).collect();
        let left = merge_streams(&[merge_streams(&streams[..2]).expect("two"), streams[2].clone()]);
        let later = merge_streams(&streams[1..]).expect("two");
        let right = merge_streams(&[streams[0].clone(), later]);
        let effect = |merged: Vec<u8>| effect(&one(&merged), base as u64);
        prop_assert_eq!(effect(left.expect("a chain")), effect(right.expect("a chain")));
    }
}
