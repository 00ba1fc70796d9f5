//! The first inputs of the fuzzer: for each target except `rbd_diff` and `ingest`, some that are
//! valid or almost valid.

use cuttlebone::base::{BlobId, ObjectHash, Root};
use cuttlebone::format::{
    BackupRecord, Batch, BatchedKind, Blob, BlobKind, ByteString, Children, Codec, Content,
    ContentKind, Contents, Counts, IndexSegment, LogEntry, LogItem, LogKind, Magic,
    NewBatchedObject, PackHead, PackKey, PackListing, Payload, ProjectSettings, Run, SourceInfo,
    StreamEntries, StreamEntry, VolumeInfo,
};
use cuttlebone::repo::{Compression, Compressor};

use crate::fixture::{self, PROJECT, PlainRun};
use crate::hostile::reference;

mod hostile;
mod parity;
mod statements;
mod texts;

/// A file of the corpus.
#[derive(Debug)]
pub struct Seed {
    /// Its target.
    pub target: &'static str,
    /// Its name, which describes it.
    pub name: &'static str,
    /// The input.
    pub bytes: Vec<u8>,
}

/// Returns all seeds, which are the same in every run.
#[must_use]
pub fn all() -> Vec<Seed> {
    let groups: [(&str, Named); 19] = [
        ("repository_file", repository_files()),
        ("key_slot", key_slots()),
        ("project_object", project_objects()),
        ("settings", all_settings()),
        ("certificate", certificates()),
        ("sealed_object", sealed_objects()),
        ("pack", packs()),
        ("index_segment", index_segments()),
        ("node", nodes()),
        ("record", records()),
        ("void", voids()),
        ("image_metadata", texts::image_metadata()),
        ("log", logs()),
        ("audit", statements::audits()),
        ("ledger", statements::ledgers()),
        ("parity", parity::parities()),
        ("names", texts::names()),
        ("hostile_repository", hostile::repositories()),
        ("extents", texts::extent_lists()),
    ];
    let seeds = groups.into_iter().flat_map(|(target, seeds)| {
        let seed = move |(name, bytes)| Seed {
            target,
            name,
            bytes,
        };
        seeds.into_iter().map(seed)
    });
    seeds.collect()
}

type Named = Vec<(&'static str, Vec<u8>)>;

/// Returns the bytes without the last `by`.
fn cut(bytes: &[u8], by: usize) -> Vec<u8> {
    bytes[..bytes.len() - by].to_vec()
}

/// Returns the bytes with the one at `at` set to `value`.
fn with(bytes: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] = value;
    bytes
}

fn repository_files() -> Named {
    let file = fixture::repository_file(1_800_000_000);
    vec![
        ("newer", with(&file, 8, 2)),
        ("feature", with(&file, 13, 1)),
        ("long", [&file[..], &[0]].concat()),
        ("short", cut(&file, 1)),
        ("latest", fixture::repository_file(u64::MAX)),
        ("whole", file),
    ]
}

fn key_slots() -> Named {
    let slot = fixture::key_slot(&fixture::slot_info().encode());
    vec![
        ("project", with(&slot, 16, 1)),
        ("role", with(&slot, 17, 1)),
        ("much-memory", with(&slot, 23, 0xff)),
        ("short", cut(&slot, 3)),
        ("least", fixture::key_slot(b"")),
        ("info", fixture::slot_info().encode()),
        ("info-empty", b"{}".to_vec()),
        (
            "info-more",
            br#"{"label":"\u00e9\n","x":[1,{"y":null}]}"#.to_vec(),
        ),
        ("info-type", br#"{"label":1}"#.to_vec()),
        ("whole", slot),
    ]
}

fn project_objects() -> Named {
    let object = fixture::project_object();
    vec![
        ("long", [&object[..], &[0]].concat()),
        ("short", cut(&object, 1)),
        ("secret", with(&object, 50, 0)),
        ("authority", with(&object, 90, 0)),
        ("newer", with(&object, 8, 2)),
        ("whole", object),
    ]
}

fn all_settings() -> Named {
    let changed = |change: fn(&mut ProjectSettings)| {
        let mut settings = fixture::settings();
        settings.revision = 2;
        change(&mut settings);
        settings.encode()
    };
    vec![
        ("usual", fixture::settings().encode()),
        ("later", changed(|_| {})),
        ("odd-chunks", changed(|s| s.chunk_size = 65_537)),
        ("renamed", changed(|s| s.name = "other".into())),
        ("newer", changed(|s| s.requires = vec!["sparse".into()])),
        ("latest", changed(|s| s.revision = u64::MAX)),
        ("revision-zero", changed(|s| s.revision = 0)),
        ("trust", changed(|s| s.trust = Some("project".into()))),
        ("none", b"null".to_vec()),
    ]
}

fn certificates() -> Named {
    let id = "cd".repeat(32);
    let text = |role: &str, more: &str| {
        let time = "2026-11-21T12:00:00Z";
        format!(r#"{{"role":"{role}","slot":"{id}","created":"{time}"{more}}}"#).into_bytes()
    };
    let signer = format!(r#","signer":"{id}""#);
    vec![
        ("full", text("full", "")),
        ("full-signer", text("full", &signer)),
        ("verify", text("verify", &signer)),
        (
            "write",
            text(
                "write",
                &format!(r#"{signer},"volumes":["web-*","db?",""]"#),
            ),
        ),
        (
            "write-stars",
            text("write", &format!(r#"{signer},"volumes":["*a*b?*"]"#)),
        ),
        ("write-no-signer", text("write", "")),
        (
            "features",
            text(
                "write",
                &format!(r#"{signer},"features":["x"],"label":"y"}}"#),
            ),
        ),
        ("read", text("read", &signer)),
        ("newer", text("write", r#","requires":["x"]"#)),
    ]
}

fn voids() -> Named {
    let id = "cd".repeat(32);
    let text = |more: &str| format!(r#"{{"record":"{id}"{more}}}"#).into_bytes();
    vec![
        (
            "whole",
            text(r#","reason":"paused","time":"2026-11-21T12:00:00Z""#),
        ),
        ("least", text(r#","time":"2026-11-21T12:00:00+01:00""#)),
        ("no-time", text("")),
        ("time", text(r#","time":"now""#)),
        ("newer", text(r#","requires":["x"]"#)),
    ]
}

fn logs() -> Named {
    let item = |kind, byte| LogItem {
        kind,
        hash: ObjectHash::from_bytes([byte; 32]),
    };
    let entry = LogEntry {
        number: 3,
        time: 1_800_000_000,
        summary: false,
        previous: vec![ObjectHash::from_bytes([1; 32])],
        added: vec![item(LogKind::Record, 2), item(LogKind::Segment, 1)],
        removed: vec![item(LogKind::ChunkPack, 3)],
    };
    let summary = LogEntry {
        summary: true,
        ..entry.clone()
    };
    let whole = entry.encode(PROJECT, 0);
    vec![
        ("first", first_entry().encode(PROJECT, 0)),
        ("summary", summary.encode(PROJECT, 0)),
        ("sealed", [entry.encode(PROJECT, 52), vec![5; 52]].concat()),
        ("counts", with(&whole, 59, 0x80)),
        ("flags", with(&whole, 48, 2)),
        ("kind", with(&whole, 100, 77)),
        ("other-project", with(&whole, 20, 0)),
        ("short", cut(&whole, 1)),
        ("long", [&whole[..], &[0]].concat()),
        ("stored", [&whole[..], &[0; 64]].concat()),
        (
            "details",
            br#"{"host":"h","lost":[],"revoked":[],"removed_records":[]}"#.to_vec(),
        ),
        ("details-newer", br#"{"requires":["x"]}"#.to_vec()),
        ("batch", batch()),
        ("whole", whole),
    ]
}

fn batch() -> Vec<u8> {
    let item = |kind, byte, bytes: &[u8]| NewBatchedObject {
        kind,
        hash: ObjectHash::from_bytes([byte; 32]),
        bytes: bytes.to_vec(),
    };
    let items = [
        item(BatchedKind::Entry, 2, b"entry"),
        item(BatchedKind::Record, 1, b""),
    ];
    Batch::encode(PROJECT, &items)
}

fn first_entry() -> LogEntry {
    LogEntry {
        number: 1,
        ..LogEntry::default()
    }
}

/// Compresses the bytes into one Zstandard frame.
fn frame(plain: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut compressor = Compressor::new(Compression::default()).expect("memory is enough");
    let (codec, frame) = compressor.compress(plain, &mut buffer);
    assert_eq!(codec, Codec::Zstd);
    frame.to_vec()
}

fn sealed_objects() -> Named {
    let keys = fixture::project_keys();
    let plain = b"all work and no play ".repeat(20);
    let stored = frame(&plain);
    let payload = |codec, plain_len, body: &[u8]| {
        Payload {
            codec,
            plain_len,
            padding: 0,
            body,
        }
        .encode_unsigned()
    };
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2][..], &stored].concat();
    vec![
        ("index", fixture::sealed_body(&keys, Magic::Index, &plain)),
        ("backup", fixture::sealed_body(&keys, Magic::Backup, b"{}")),
        ("payload-raw", payload(Codec::Raw, plain.len(), &plain)),
        ("payload-empty", payload(Codec::Raw, 0, b"")),
        ("payload-zstd", payload(Codec::Zstd, plain.len(), &stored)),
        ("zstd-more", payload(Codec::Zstd, plain.len() + 1, &stored)),
        ("zstd-less", payload(Codec::Zstd, plain.len() - 1, &stored)),
        (
            "zstd-cut",
            payload(Codec::Zstd, plain.len(), &cut(&stored, 2)),
        ),
        (
            "zstd-bomb",
            payload(Codec::Zstd, 100, &frame(&vec![0; 4 << 20])),
        ),
        (
            "zstd-two",
            payload(Codec::Zstd, 2 * plain.len(), &stored.repeat(2)),
        ),
        (
            "zstd-skippable",
            payload(Codec::Zstd, plain.len(), &skippable),
        ),
        ("limit", payload(Codec::Zstd, 64 << 20, &stored)),
        ("padded", padded(&plain, 9)),
        ("padding-largest", with(&padded(&plain, 9), 11, 0xff)),
        ("padding-one", with(&padded(b"x", 9), 14, 1)),
    ]
}

/// Returns a payload with this body and with this number of bytes of padding.
fn padded(body: &[u8], padding: usize) -> Vec<u8> {
    Payload {
        codec: Codec::Raw,
        plain_len: body.len(),
        padding,
        body,
    }
    .encode_unsigned()
}

fn run(codec: Codec, stored_len: u32, blobs: &[(u32, u8)]) -> Run {
    let blob = |(plain_len, number): &(u32, u8)| Blob {
        plain_len: *plain_len,
        id: reference(*number),
    };
    Run {
        codec,
        stored_len,
        check: [0; 16],
        blobs: blobs.iter().map(blob).collect(),
    }
}

fn contents() -> Contents {
    Contents {
        kind: BlobKind::Chunk,
        key: PackKey::Project,
        gap: 0,
        runs: vec![
            run(Codec::Raw, 4112, &[(4096, 0)]),
            run(Codec::Zstd, 17, &[(65_536, 1), (1, 2), (65_536, 3)]),
            run(Codec::Raw, 18, &[(1, 4), (1, 4)]),
        ],
    }
}

/// Returns contents whose runs were changed by `change`.
fn contents_with(change: impl Fn(&mut Vec<Run>)) -> Vec<u8> {
    let mut contents = contents();
    change(&mut contents.runs);
    contents.encode()
}

fn packs() -> Named {
    let keys = fixture::project_keys();
    let mut first = PlainRun::raw(reference(0), b"one");
    let second = PlainRun::raw(reference(1), b"two");
    assert!(first.join(second.clone()).is_ok());
    let whole = fixture::pack(&keys, [9; 16], BlobKind::Node, &[first, second]);
    let full = run(Codec::Raw, (4 << 20) + 16, &[(4 << 20, 0)]);
    let many = run(Codec::Raw, 1025 + 16, &[(1, 0); 1025]);
    vec![
        ("whole-contents-damaged", with(&whole, whole.len() - 9, 0)),
        ("whole-contents-short", with(&whole, whole.len() - 4, 20)),
        ("whole-cut", cut(&whole, 1)),
        ("whole", whole),
        ("head", PackHead { random: [9; 16] }.encode().to_vec()),
        ("contents-kind", with(&contents().encode(), 0, 3)),
        ("contents-count", with(&contents().encode(), 4, 4)),
        ("contents-many", with(&contents().encode(), 7, 255)),
        ("contents-session", with(&contents().encode(), 1, 1)),
        ("contents-gap", with(&contents().encode(), 8, 200)),
        ("contents-gap-large", with(&contents().encode(), 11, 255)),
        ("contents-empty", contents_with(Vec::clear)),
        (
            "contents-too-large",
            contents_with(|runs| runs.resize(67, full.clone())),
        ),
        ("run-empty", contents_with(|runs| runs[2].blobs.clear())),
        (
            "run-too-long",
            contents_with(|runs| runs[1].blobs[1].plain_len = 4 << 20),
        ),
        (
            "run-overflow",
            contents_with(|runs| runs[1].blobs[1].plain_len = u32::MAX),
        ),
        (
            "run-blob-empty",
            contents_with(|runs| runs[1].blobs[1].plain_len = 0),
        ),
        ("run-too-many", contents_with(|runs| runs[2] = many.clone())),
        (
            "run-stored-less",
            contents_with(|runs| runs[1].stored_len = 16),
        ),
        (
            "run-stored-more",
            contents_with(|runs| runs[1].stored_len = 131_090),
        ),
        ("contents", contents().encode()),
    ]
}

fn segment() -> IndexSegment {
    let listing = |number| PackListing {
        pack: ObjectHash::from_bytes(*reference(number).as_bytes()),
        random: [number; 16],
        signer: *fixture::project_keys().authority(),
        contents: contents(),
    };
    IndexSegment {
        packs: vec![listing(0), listing(1)],
        superseded: vec![ObjectHash::from_bytes([5; 32])],
    }
}

fn index_segments() -> Named {
    let whole = segment().encode();
    let mut twice = segment();
    twice.packs[1] = twice.packs[0].clone();
    let mut same = segment();
    let blobs = same.packs[0].contents.runs.iter_mut();
    for (number, blob) in (0..).zip(blobs.flat_map(|run| &mut run.blobs)) {
        let mut id = [8; 32];
        id[31] = number;
        blob.id = BlobId::from_bytes(id);
    }
    same.packs[1].contents.runs = vec![contents().runs[2].clone(); 5];
    let mut hollow = segment();
    hollow.packs[1].contents.runs.clear();
    vec![
        ("empty", IndexSegment::default().encode()),
        ("pack-twice", twice.encode()),
        ("blobs-twice", same.encode()),
        ("pack-empty", hollow.encode()),
        ("count", with(&whole, 3, 0x80)),
        ("long", [&whole[..], &[0]].concat()),
        ("short", cut(&whole, 1)),
        ("whole", whole),
    ]
}

/// Returns a leaf or branch of an image with this width, and with children at these places. Each
/// child is a reference to a blob.
fn children(level: u8, width: usize, places: &[(usize, u8)]) -> Vec<u8> {
    let mut ids = vec![None; width];
    for (place, number) in places {
        ids[*place] = Some(reference(*number));
    }
    let mut out = Vec::new();
    Children { level, ids }.encode_into(&mut out);
    out
}

fn stream(level: u8, entries: &[(u64, Option<u8>)]) -> Vec<u8> {
    let entries = entries.iter().map(|(len, number)| StreamEntry {
        len: *len,
        id: number.map(reference),
    });
    let entries = entries.collect();
    let mut out = Vec::new();
    StreamEntries { level, entries }.encode_into(&mut out);
    out
}

fn nodes() -> Named {
    let leaf = children(0, 64, &[(0, 0), (7, 1), (63, 2)]);
    vec![
        ("image-leaf-one", children(0, 1, &[(0, 0)])),
        ("image-leaf-wide", children(0, 1024, &[(1, 0), (1023, 1)])),
        ("image-leaf-padding", with(&children(0, 2, &[(1, 0)]), 4, 6)),
        ("image-leaf-empty", children(0, 8, &[])),
        ("image-leaf-odd", with(&leaf, 2, 63)),
        ("image-leaf-short", cut(&leaf, 1)),
        ("image-leaf", leaf),
        ("branch", children(1, 64, &[(0, 0), (1, 0), (63, 1)])),
        ("branch-top", children(7, 64, &[(63, 0)])),
        ("branch-too-high", children(8, 64, &[(0, 0)])),
        (
            "leaf",
            stream(0, &[(4096, Some(0)), (1 << 20, None), (1, Some(1))]),
        ),
        ("leaf-too-long", stream(0, &[((4 << 20) + 1, Some(0))])),
        (
            "stream-branch",
            stream(15, &[(1 << 40, Some(0)), (3, Some(1))]),
        ),
        (
            "stream-overflow",
            stream(1, &[(u64::MAX, Some(0)), (1, Some(1))]),
        ),
        ("stream-zeros", stream(1, &[(1, None)])),
    ]
}

fn backup(kind: ContentKind, size: u64, chunk_size: u32, top: Option<u8>) -> BackupRecord {
    BackupRecord {
        requires: Vec::new(),
        volume: VolumeInfo {
            id: "0123456789abcdef".repeat(2).parse().expect("an id"),
            name: "vm-1/root".into(),
        },
        content: Content {
            kind,
            size,
            chunk_size,
            top: top.map(reference),
            root: Root::from_bytes([0; 32]),
        },
        time: "2026-11-21T12:00:00.5Z".parse().expect("a time"),
        finished: "2026-11-21T13:00:01+01:00".parse().expect("a time"),
        host: Some("host".into()),
        base: Some(ObjectHash::from_bytes([0x11; 32])),
        follows: Vec::new(),
        replaces: None,
        original: None,
        heads: vec![ObjectHash::from_bytes([0x11; 32])],
        marks: Vec::new(),
        labels: [("keep".to_owned(), "yes".to_owned())].into(),
        source: Some(SourceInfo {
            kind: "file".into(),
            path: Some(ByteString::from(&b"/srv/\xff.img"[..])),
            inode: Some((1, u64::MAX)),
            changed_ns: Some((i64::MIN, i64::MAX)),
            settled: true,
            ..SourceInfo::default()
        }),
        attachments: Vec::new(),
        counts: Counts::default(),
        tool: Some("cuttlebone 0.1.0".into()),
    }
}

fn records() -> Named {
    let image = backup(ContentKind::Image, 10 << 30, 64 << 10, Some(0));
    let mut newer = image.clone();
    newer.requires = vec!["holes".into()];
    let timeless =
        String::from_utf8_lossy(&image.encode()).replace(&image.time.to_string(), "yesterday");
    let mut odd = image.clone();
    odd.content.chunk_size = 3;
    let least = concat!(
        r#"{"volume":{"id":"00000000000000000000000000000000","name":""},"#,
        r#""content":{"kind":"image","size":0,"chunk_size":4096,"top":null,"root":""},"#,
        r#""time":"2026-11-21T12:00:00Z","finished":""}"#
    );
    let least = least.as_bytes();
    vec![
        (
            "stream",
            backup(ContentKind::Stream, 5, 0, Some(0)).encode(),
        ),
        (
            "largest",
            backup(ContentKind::Image, u64::MAX - (4 << 20) + 1, 4096, None).encode(),
        ),
        (
            "too-large",
            backup(ContentKind::Image, u64::MAX, 4096, None).encode(),
        ),
        ("newer", newer.encode()),
        ("time", timeless.into_bytes()),
        ("odd-chunks", odd.encode()),
        ("least", least.to_vec()),
        ("short", cut(&image.encode(), 1)),
        ("image", image.encode()),
        ("lease", lease("cd")),
        ("lease-id", lease("CD")),
        (
            "lease-least",
            br#"{"work":"prune","running_seconds":0}"#.to_vec(),
        ),
        ("mark", mark("2026-11-21T12:00:00Z")),
        ("mark-time", mark("2026-11-21 12:00:00Z")),
    ]
}

/// Returns a lease in which every id is `id`.
fn lease(id: &str) -> Vec<u8> {
    let id = id.repeat(32);
    let process = r#"{"boot":"b","namespace":"pid:[4026531836]","pid":1,"started":2}"#;
    format!(
        concat!(
            r#"{{"work":"backup","running_seconds":9,"packs":["{id}"],"tops":["{id}"],"#,
            r#""host":"host","process":{process}}}"#
        ),
        id = id,
        process = process
    )
    .into()
}

fn mark(time: &str) -> Vec<u8> {
    let id = "cd".repeat(32);
    format!(r#"{{"packs":["{id}"],"segments":["{id}"],"time":"{time}","tool":"cuttlebone 0.1.0"}}"#)
        .into()
}
