//! Tests with streams that a real Ceph has written. `fixtures/FORMAT.md` describes them, and
//! `fixtures/manifest.json` lists them.

mod broken;
mod inspect;
mod merge;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use blake2::{Blake2b512, Digest};
use cuttlebone::format::{
    DiffError, DiffHeader, DiffReader, DiffVersion, DiffWriter, Extent, ExtentKind,
    ImageDescription,
};
use serde_json::{Value, json};

/// A diff with its extents and their data.
pub(super) type Diff = (DiffHeader, Vec<(Extent, Vec<u8>)>);

/// Returns the path of a fixture.
pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/rbd/fixtures")
        .join(name)
}

pub(super) fn bytes(name: &str) -> Vec<u8> {
    fs::read(fixture(name)).expect(name)
}

/// Returns the entries of the manifest for all complete streams.
pub(super) fn streams() -> Vec<Value> {
    let manifest: Value = serde_json::from_slice(&bytes("manifest.json")).unwrap();
    let all = manifest["fixtures"].as_array().unwrap().iter();
    all.filter(|f| f["format"].as_str().unwrap().starts_with("rbd"))
        .cloned()
        .collect()
}

/// Reads a stream to its end, with all its data.
pub(super) fn read(stream: &[u8]) -> Result<Vec<Diff>, DiffError> {
    let mut reader = DiffReader::open(stream)?;
    let mut diffs = Vec::new();
    while let Some(header) = reader.next_diff()? {
        let mut extents = Vec::new();
        while let Some(extent) = reader.next_extent()? {
            let mut data = Vec::new();
            if extent.kind == ExtentKind::Data {
                data.resize(usize::try_from(extent.length).unwrap(), 0);
                reader.read_data(&mut data)?;
            }
            extents.push((extent, data));
        }
        diffs.push((header, extents));
    }
    assert_eq!(reader.offset(), stream.len() as u64);
    Ok(diffs)
}

/// Writes a diff as a stream.
pub(super) fn stream(header: &DiffHeader, extents: &[(Extent, Vec<u8>)]) -> Vec<u8> {
    let mut writer = DiffWriter::new(Vec::new(), header).unwrap();
    for (extent, data) in extents {
        match extent.kind {
            ExtentKind::Zero => writer.zero(extent.offset, extent.length).unwrap(),
            ExtentKind::Data => {
                writer.extent(extent.offset, extent.length).unwrap();
                writer.data(data).unwrap();
            }
        }
    }
    writer.finish().unwrap()
}

/// Writes an image and its diffs as a v2 stream. The first diff starts from the empty image. Each
/// of the others starts where the previous diff ends, and the last diff ends at the image's head.
pub(super) fn stream_v2(diffs: &[Diff]) -> Vec<u8> {
    stream_v2_with(&[], diffs)
}

/// Like [`stream_v2`], for an image with this metadata.
pub(super) fn stream_v2_with(metadata: &[(&[u8], &[u8])], diffs: &[Diff]) -> Vec<u8> {
    let le = |number: usize| (number as u64).to_le_bytes();
    let mut stream = b"rbd image v2\n".to_vec();
    for (key, value) in metadata {
        stream.push(b'M');
        stream.extend(le(8 + key.len() + value.len()));
        for text in [key, value] {
            stream.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
            stream.extend(*text);
        }
    }
    stream.extend(b"Erbd image diffs v2\n");
    stream.extend(le(diffs.len()));
    for (header, extents) in diffs {
        stream.extend(b"rbd diff v2\n");
        for (tag, name) in [(b'f', &header.from), (b't', &header.to)] {
            if let Some(name) = name {
                stream.push(tag);
                stream.extend(le(4 + name.len()));
                stream.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
                stream.extend(name);
            }
        }
        stream.push(b's');
        stream.extend(le(8));
        stream.extend(header.size.to_le_bytes());
        for (extent, data) in extents {
            stream.push(match extent.kind {
                ExtentKind::Data => b'w',
                ExtentKind::Zero => b'z',
            });
            stream.extend(le(16 + data.len()));
            stream.extend(extent.offset.to_le_bytes());
            stream.extend(extent.length.to_le_bytes());
            stream.extend(data);
        }
        stream.push(b'e');
    }
    stream
}

/// Applies a diff to an image, as `rbd import-diff` does.
pub(super) fn apply(image: &mut Vec<u8>, (header, extents): &Diff) {
    let at = |offset: u64| usize::try_from(offset).unwrap();
    image.resize(at(header.size), 0);
    for (extent, data) in extents {
        let range = &mut image[at(extent.offset)..at(extent.end())];
        match extent.kind {
            ExtentKind::Data => range.copy_from_slice(data),
            ExtentKind::Zero => range.fill(0),
        }
    }
}

pub(super) fn digest(image: &[u8]) -> String {
    hex::encode(Blake2b512::digest(image))
}

/// Returns the records of a diff in the form of the manifest.
fn records((header, extents): &Diff) -> Value {
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
    let mut records = Vec::new();
    records.extend(header.from.as_deref().map(|name| json!(["f", text(name)])));
    records.extend(header.to.as_deref().map(|name| json!(["t", text(name)])));
    records.push(json!(["s", header.size]));
    for (extent, _) in extents {
        let tag = match extent.kind {
            ExtentKind::Data => "w",
            ExtentKind::Zero => "z",
        };
        records.push(json!([tag, extent.offset, extent.length]));
    }
    records.push(json!(["e"]));
    records.into()
}

/// Returns images by their digest: those of all full diffs, and those that result from applying the
/// other diffs to them.
pub(super) fn images() -> BTreeMap<String, Vec<u8>> {
    let mut images = BTreeMap::from([(digest(&[]), Vec::new())]);
    let mut left: Vec<Value> = streams()
        .into_iter()
        .filter(|f| f["format"] == "rbd diff v1")
        .collect();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|fixture| {
            let Some(base) = images.get(fixture["base"]["blake2b"].as_str().unwrap()) else {
                return true;
            };
            let mut image = base.clone();
            let name = fixture["file"].as_str().unwrap();
            apply(&mut image, &read(&bytes(name)).expect(name)[0]);
            let found = digest(&image);
            assert_eq!(fixture["result"]["blake2b"], found, "{name}");
            images.insert(found, image);
            false
        });
        assert!(left.len() < before, "no base for {left:?}");
    }
    images
}

#[test]
fn every_v1_diff_has_the_records_of_the_manifest() {
    let mut seen = 0;
    for fixture in streams() {
        let name = fixture["file"].as_str().unwrap();
        if fixture["format"] != "rbd diff v1" {
            continue;
        }
        let diffs = read(&bytes(name)).expect(name);
        assert_eq!(diffs.len(), 1, "{name}");
        assert_eq!(records(&diffs[0]), fixture["records"], "{name}");
        seen += 1;
    }
    assert_eq!(seen, 29);
}

#[test]
fn every_v1_diff_applied_gives_the_image_that_ceph_has() {
    assert!(images().len() > 12);
}

#[test]
fn every_v2_stream_holds_the_snapshots_that_ceph_has() {
    let mut seen = 0;
    for fixture in streams() {
        let name = fixture["file"].as_str().unwrap();
        if fixture["format"] != "rbd image v2" {
            continue;
        }
        let diffs = read(&bytes(name)).expect(name);
        let snapshots = fixture["snapshots"].as_array().unwrap();
        assert_eq!(diffs.len(), snapshots.len() + 1, "{name}");
        let mut image = Vec::new();
        for (diff, snapshot) in diffs.iter().zip(snapshots) {
            apply(&mut image, diff);
            let found = json!({
                "snap": String::from_utf8(diff.0.to.clone().unwrap()).unwrap(),
                "size": diff.0.size,
                "protected": diff.0.protected.unwrap(),
                "blake2b": digest(&image),
                "sha256": snapshot["sha256"],
            });
            assert_eq!(found, *snapshot, "{name}");
        }
        apply(&mut image, diffs.last().unwrap());
        assert_eq!(fixture["result"]["blake2b"], digest(&image), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn a_v2_stream_contains_the_properties_of_its_image() {
    let stream = bytes("meta.rbd2");
    let reader = DiffReader::open(&stream[..]).unwrap();
    let expected = ImageDescription {
        order: Some(16),
        features: Some(61),
        stripe_unit: Some(65536),
        stripe_count: Some(1),
        metadata: vec![
            (b"colour".to_vec(), "blau ✓".as_bytes().to_vec()),
            (b"conf_rbd_cache".to_vec(), b"false".to_vec()),
        ],
    };
    assert_eq!((reader.version(), reader.diffs()), (DiffVersion::V2, 3));
    assert_eq!(reader.image(), Some(&expected));

    let stream = bytes("stripe.rbd2");
    let reader = DiffReader::open(&stream[..]).unwrap();
    let image = reader.image().unwrap();
    assert_eq!(
        (image.stripe_unit, image.stripe_count),
        (Some(16384), Some(4))
    );
}
