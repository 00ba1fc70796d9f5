//! Runs `tree.json` and `whole.json`: reads all bytes of backups from a store.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Case, Outcome, Refused, fixture, load, unhex};
use cuttlebone::base::{BlobId, Silent};
use cuttlebone::format::{BlobKind, ContentKind};
use cuttlebone::repo::{
    Backup, BlobReader, ImageReader, Index, ObjectRef, Project, Records, RepoError, Repository,
};
use cuttlebone::storage::{Backend, MemoryBackend, Name};

/// The maximum size of a content that is hashed, in bytes.
const HASHED_MAX: u64 = 64 << 20;

/// Returns the offset and length of each chunk of a backup, and the hash of the content. The hash
/// is `None` if the content is larger than [`HASHED_MAX`]. Reads chunks as a restore does: from any
/// pack that contains an undamaged copy. Each chunk must have the length that its place requires.
fn read(project: &Project, backup: &Backup) -> Result<(Vec<Value>, Option<String>), RepoError> {
    let index = Index::in_memory(project, Arc::new(Silent))?;
    let blobs = BlobReader::new(&index);
    let reader = ImageReader::new(&blobs, backup);
    let content = &backup.record.content;
    let (mut pieces, mut hasher, mut at) = (Vec::new(), blake3::Hasher::new(), 0);
    let is_small = content.size <= HASHED_MAX;
    let zeros = |hasher: &mut blake3::Hasher, len: u64| {
        if is_small {
            hasher.update(&vec![0; usize::try_from(len).unwrap()]);
        }
    };
    reader.each_chunk(|chunk| {
        let plain = blobs.chunk(&chunk.id)?;
        let whole = match content.kind {
            ContentKind::Image => content.chunk_size,
            ContentKind::Stream => chunk.len,
        };
        if plain.len() != whole as usize {
            return Err(RepoError::Tree);
        }
        pieces.push(json!({ "offset": chunk.offset, "length": chunk.len }));
        zeros(&mut hasher, chunk.offset - at);
        hasher.update(&plain[..chunk.len as usize]);
        at = chunk.offset + u64::from(chunk.len);
        Ok(())
    })?;
    zeros(&mut hasher, content.size - at);
    Ok((pieces, is_small.then(|| hasher.finalize().to_string())))
}

/// Returns the error kinds of the vectors that this error may stand for. If no copy of a blob or
/// object is undamaged, the vectors may call it missing.
fn refused(error: &RepoError) -> Refused {
    match error {
        RepoError::Damaged { .. } => Refused {
            kinds: &[
                "missing",
                "bad-root",
                "not-canonical",
                "bad-value",
                "limit-exceeded",
            ],
            ..error.into()
        },
        _ => error.into(),
    }
}

pub(super) fn tree(case: &Case) -> Outcome {
    let (store, project) = fixture::project(case);
    let (mut chunks, mut nodes): (Vec<(BlobId, Vec<u8>)>, Vec<_>) = Default::default();
    for blob in case.inputs["blobs"].as_array().unwrap() {
        let number = |member: &str, or| blob.get(member).map_or(or, |n| n.as_u64().unwrap());
        let plain = unhex(blob["plain"].as_str().unwrap());
        let mut plain = plain.repeat(usize::try_from(number("times", 1)).unwrap());
        let len = usize::try_from(number("length", 0)).unwrap();
        plain.resize(plain.len().max(len), 0);
        match blob["kind"].as_str().unwrap() {
            "chunk" => chunks.push((project.chunk_keys()?.id(&plain), plain)),
            "node" => nodes.push((project.keys.node_id(&plain), plain)),
            other => panic!("{other}"),
        }
    }
    fixture::add_blobs(&store, &project, BlobKind::Chunk, &chunks);
    fixture::add_blobs(&store, &project, BlobKind::Node, &nodes);
    let time = "2026-11-21T10:00:00Z";
    let record = json!({
        "volume": { "id": hex::encode([1; 16]), "name": "volume" },
        "content": case.inputs["content"],
        "time": time,
        "finished": time,
    });
    let body = record.to_string();
    let stored = project.put_sealed(ObjectRef::Backup, body.as_bytes());
    stored.unwrap();

    let records = Records::load(&project)?;
    if let [damage] = records.damaged() {
        return Err(refused(damage));
    }
    let backup = records.select("volume")?;
    let (pieces, hash) = read(&project, backup).map_err(|e| refused(&e))?;
    Ok(match hash {
        Some(hash) => json!({ "pieces": pieces, "blake3": hash }),
        None => json!({ "pieces": pieces }),
    })
}

pub(super) fn whole(case: &Case) -> Outcome {
    let store = MemoryBackend::new();
    let shared = load("whole").swap_remove(0);
    let files = shared.inputs["files"].as_object().unwrap();
    for (path, bytes) in files
        .iter()
        .chain(case.inputs["changes"].as_object().unwrap())
    {
        // A store does not list a file whose path is not a valid `Name`.
        let Ok(name) = Name::new(path.as_str()) else {
            continue;
        };
        match bytes.as_str() {
            Some(bytes) => store.put(&name, &[&unhex(bytes)]).unwrap(),
            None => store.delete(&name).unwrap(),
        }
    }
    let password = case.bytes("password").unwrap();
    let read_all = || {
        let repository = Repository::open(Arc::new(store), &password, &Silent)?;
        let project = repository.project("main", &Silent)?;
        let records = Records::load(&project)?;
        let backup = records.select(case.text("volume"))?;
        let (_, hash) = read(&project, backup)?;
        let record = serde_json::to_value(&backup.record).unwrap();
        Ok(json!({ "record": record, "blake3": hash }))
    };
    read_all().map_err(|e| refused(&e))
}
