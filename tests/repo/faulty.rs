//! Authentic trees that no version of this program writes. `check` must report the backups that
//! cannot be restored because of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cuttlebone::base::{BlobId, ObjectHash, VolumeId};
use cuttlebone::format::{
    BackupRecord, Children, Content, ContentKind, Counts, RecordTime, StreamEntries, StreamEntry,
    VolumeInfo, root_description,
};
use cuttlebone::repo::{
    BlobReader, CommitCheck, Index, NodeStore, PackedNodes, Packer, PackerOptions, PruneGuard,
    Records, RepoError, UnindexedPacks, Worker,
};
use cuttlebone::storage::MemoryBackend;

use super::{CHUNK, Host, LEAF, RecordingObserver, TestRepo, noise};

/// The number of chunks in a leaf.
const CHUNKS: usize = (4 << 20) / CHUNK;

/// Writes chunks, nodes and records that are authentic (sealed with the project's keys) but may be
/// invalid.
///
/// Use it through [`commit`]. Its closure gets a forger and stores chunks and nodes bottom-up. Each
/// call returns the id for the node above. The closure returns a claim for each backup: the top of
/// its tree, its size, and its chunk size. Each claim becomes a record.
///
///     let backups = commit(&test_repo, |forger| {
///         let chunk = forger.chunk(&noise(1, CHUNK));
///         vec![(forger.children(0, CHUNKS, &[chunk]), 100, CHUNK)]
///     });
struct Forger<'a> {
    test_repo: &'a TestRepo,
    packer: &'a Packer<'a>,
    nodes: &'a PackedNodes<'a>,
}

impl Forger<'_> {
    fn chunk(&self, plain: &[u8]) -> BlobId {
        let id = self.test_repo.project.chunk_keys().unwrap().id(plain);
        let mut worker = self.packer.worker().unwrap();
        let chunk = [(id, 0..plain.len())];
        self.packer.store_chunks(&mut worker, plain, chunk).unwrap();
        self.packer.flush(&mut worker).unwrap();
        id
    }

    /// Stores a node with these children, followed by zeros up to `width`.
    fn children(&self, level: u8, width: usize, first: &[BlobId]) -> BlobId {
        let mut ids: Vec<_> = first.iter().copied().map(Some).collect();
        ids.resize(width, None);
        let mut plain = Vec::new();
        Children { level, ids }.encode_into(&mut plain);
        self.nodes.store(&plain).unwrap()
    }

    fn entries(&self, level: u8, entries: &[(BlobId, u64)]) -> BlobId {
        let entry = |&(id, len)| StreamEntry { len, id: Some(id) };
        let entries = entries.iter().map(entry).collect();
        let mut plain = Vec::new();
        StreamEntries { level, entries }.encode_into(&mut plain);
        self.nodes.store(&plain).unwrap()
    }
}

/// The content that a record states: the top of its tree, its size, and its chunk size (0 for a
/// stream).
type Claim = (BlobId, u64, usize);

/// Commits a record for each forged content, each one day after the previous one.
fn commit(test_repo: &TestRepo, forge: impl FnOnce(&Forger<'_>) -> Vec<Claim>) -> Vec<ObjectHash> {
    let project = &test_repo.project;
    let notices = Arc::new(RecordingObserver::default());
    let index = Index::in_memory(project, notices.clone()).unwrap();
    let reader = BlobReader::new(&index);
    let options = PackerOptions::default();
    let (claims, receipt, _) = Packer::scope(&index, UnindexedPacks::none().0, options, |packer| {
        let nodes = PackedNodes {
            reader: &reader,
            packer,
            keys: &project.keys,
        };
        Ok::<_, RepoError>(forge(&Forger {
            test_repo,
            packer,
            nodes: &nodes,
        }))
    })
    .unwrap();
    let worker = Worker {
        host: None,
        tool: "forger",
    };
    let mut guard = PruneGuard::begin(project, worker).unwrap();
    let CommitCheck::Permitted(cleared) = guard.clear(&index, &[]).unwrap() else {
        panic!("no other process is running");
    };
    let record = |(day, (top, size, chunk_size)): (usize, Claim)| {
        let kind = match chunk_size {
            0 => ContentKind::Stream,
            _ => ContentKind::Image,
        };
        let chunk_size = u32::try_from(chunk_size).unwrap();
        let described = root_description(kind, size, chunk_size, Some(&top));
        let time = format!("2027-01-{:02}T08:00:00Z", day + 1);
        let time: RecordTime = time.parse().unwrap();
        let record = BackupRecord {
            requires: Vec::new(),
            volume: VolumeInfo {
                id: VolumeId::from_bytes([0; 16]),
                name: "forged".into(),
            },
            content: Content {
                kind,
                size,
                chunk_size,
                top: Some(top),
                root: project.keys.root(&described),
            },
            time: time.clone(),
            finished: time,
            host: None,
            base: None,
            follows: Vec::new(),
            replaces: None,
            original: None,
            heads: Vec::new(),
            marks: Vec::new(),
            labels: BTreeMap::new(),
            source: None,
            attachments: Vec::new(),
            counts: Counts::default(),
            tool: None,
        };
        Records::commit(project, &record, receipt.as_ref().unwrap(), &cleared).unwrap()
    };
    claims.into_iter().enumerate().map(record).collect()
}

/// Asserts that only the first backup is whole. Returns the findings about the others, as text.
fn assert_only_the_first_is_whole(test_repo: &TestRepo, backups: &[ObjectHash]) -> String {
    let host = Host::without_cache();
    let mut text = String::new();
    for read_data in [false, true] {
        let (report, findings) = host.check(test_repo, read_data);
        assert_eq!(report.backups, backups.len() as u64);
        assert_eq!(report.backups_affected, backups[1..], "{findings:#?}");
        assert_eq!(report.packs_damaged, 0, "the packs are intact");
        text = format!("{findings:?}");
    }
    host.restore(test_repo, &test_repo.backup(backups[0]))
        .unwrap();
    text
}

#[test]
fn restore_and_check_reject_a_chunk_of_the_wrong_length() {
    let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let backups = commit(&test_repo, |forger| {
        let chunks = [CHUNK, CHUNK / 2, CHUNK + 1, 1].map(|len| forger.chunk(&noise(1, len)));
        // The last chunk has the full length even if the image ends within the chunk.
        let image = |chunk| (forger.children(0, CHUNKS, &[chunk]), 100, CHUNK);
        chunks.map(image).to_vec()
    });
    let text = assert_only_the_first_is_whole(&test_repo, &backups);
    assert!(
        text.contains("WrongLength") && text.contains("expected: 65536, found: 32768"),
        "{text}"
    );
}

#[test]
fn restore_and_check_reject_a_stream_entry_with_a_wrong_length() {
    let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let backups = commit(&test_repo, |forger| {
        let (a, b) = (forger.chunk(&noise(1, 1000)), forger.chunk(&noise(2, 2000)));
        let stream = |a_len, b_len| {
            let leaf = forger.entries(0, &[(a, a_len), (b, b_len)]);
            (forger.entries(1, &[(leaf, 3000)]), 3000, 0)
        };
        vec![stream(1000, 2000), stream(2000, 1000), stream(999, 2001)]
    });
    let text = assert_only_the_first_is_whole(&test_repo, &backups);
    assert!(
        text.contains("WrongLength") && text.contains("expected: 2000, found: 1000"),
        "{text}"
    );
}

#[test]
fn restore_and_check_reject_a_valid_node_in_the_wrong_place() {
    let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let backups = commit(&test_repo, |forger| {
        let chunk = forger.chunk(&noise(1, CHUNK));
        let leaf = forger.children(0, CHUNKS, &[chunk]);
        let branch = forger.children(1, 64, &[leaf]);
        // `missing` lacks level 1. In `twice`, only the first of two subtrees lacks level 1.
        let missing = forger.children(2, 64, &[leaf]);
        let above = forger.children(2, 64, &[branch]);
        let twice = forger.children(3, 64, &[forger.children(2, 64, &[leaf]), above]);
        vec![
            (above, 65 * LEAF, CHUNK),
            (missing, 65 * LEAF, CHUNK),
            (twice, 64 * 65 * LEAF, CHUNK),
            (leaf, LEAF, CHUNK / 2),
            (leaf, LEAF, 0),
        ]
    });
    assert_only_the_first_is_whole(&test_repo, &backups);
}

#[test]
fn an_image_with_another_chunk_size_than_the_project_can_be_restored() {
    let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let content = noise(1, CHUNK / 4);
    let backups = commit(&test_repo, |forger| {
        let chunk = forger.chunk(&content);
        let leaf = forger.children(0, 4 * CHUNKS, &[chunk]);
        vec![(leaf, content.len() as u64, CHUNK / 4)]
    });
    let host = Host::without_cache();
    host.check_clean(&test_repo, "a record states its own chunk size");
    let restored = host
        .restore(&test_repo, &test_repo.backup(backups[0]))
        .unwrap();
    assert!(restored == content);
}
