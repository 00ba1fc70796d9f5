//! Index segments of write keys, and superseded segments. No other key may rely on what a segment
//! of a write key states about packs.

use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{BlobId, ObjectHash, Silent};
use cuttlebone::format::{Blob, BlobKind, Codec, IndexSegment, PackListing, Run};
use cuttlebone::ops::{self, MaxUnused, OpsError, PruneOptions, ReadData};
use cuttlebone::repo::{Index, ObjectRef};
use cuttlebone::storage::{Backend, MemoryBackend};

use super::ingest::{apply, diff, ingest};
use super::provenance::writer;
use super::{CHUNK, Host, Image, LEAF, TestRepo, noise, options};

fn index(test_repo: &TestRepo) -> Arc<Index> {
    Index::in_memory(&test_repo.project, Arc::new(Silent)).unwrap()
}

fn listings(test_repo: &TestRepo) -> Vec<PackListing> {
    let mut found = Vec::new();
    index(test_repo)
        .each_pack(|listing| {
            found.push(listing);
            Ok(())
        })
        .unwrap();
    found
}

fn put_segment(test_repo: &TestRepo, segment: &IndexSegment) {
    let stored = test_repo
        .project
        .put_sealed(ObjectRef::Index, &segment.encode());
    stored.unwrap();
}

#[test]
fn false_listings_of_a_write_key_hide_no_pack_and_invent_no_chunk() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, 6 * CHUNK));
    let made = host.back_up(&full, "disk", &image).unwrap();
    let unstored = noise(2, CHUNK);
    let invented = full.project.chunk_keys().unwrap().id(&unstored);
    for round in 0..3 {
        let mut packs = listings(&full);
        for pack in &mut packs {
            for run in &mut pack.contents.runs {
                // If the run has several blobs, list their ids in wrong places. Then reading a blob
                // by this listing fails.
                let blobs = run.blobs.len();
                run.blobs.rotate_left((1 + round) % blobs);
                if pack.contents.kind == BlobKind::Chunk {
                    run.blobs[0].id = invented;
                }
            }
        }
        let superseded = Vec::new();
        put_segment(&writer(&store, 1), &IndexSegment { packs, superseded });
    }
    // Segments are read in no particular order, so try this several times.
    for _ in 0..8 {
        let index = index(&full);
        assert!(index.find_trusted(&invented).unwrap().is_none());
        let restored = host.restore_image(&full, &full.backup(made.id)).unwrap();
        assert!(restored == image);
        let again = host.back_up(&full, "again", &image).unwrap();
        assert_eq!(again.chunks_new, 0);
    }
    let more = Image::new(LEAF).with(0, &unstored);
    assert_eq!(host.back_up(&full, "more", &more).unwrap().chunks_new, 1);
    host.check_clean(&full, "false listings");
}

#[test]
fn the_contents_of_a_pack_decide_between_two_write_keys_that_list_it_differently() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(3, 6 * CHUNK));
    let made = host.back_up(&writer(&store, 1), "disk", &image).unwrap();
    let true_packs = listings(&full);
    let mut packs = true_packs.clone();
    for run in packs.iter_mut().flat_map(|pack| &mut pack.contents.runs) {
        for blob in &mut run.blobs {
            blob.id = BlobId::from_bytes([7; 32]);
        }
    }
    let superseded = Vec::new();
    put_segment(&writer(&store, 2), &IndexSegment { packs, superseded });
    for _ in 0..8 {
        let mut found = listings(&full);
        found.sort_by_key(|listing| listing.pack);
        let mut expected = true_packs.clone();
        expected.sort_by_key(|listing| listing.pack);
        assert_eq!(found, expected);
    }
    let restored = host.restore_image(&full, &full.backup(made.id)).unwrap();
    assert!(restored == image);
}

/// The segment of the full key is deleted, so that only the false segment names the pack.
#[test]
fn a_pack_that_only_a_false_listing_names_is_found_by_its_own_contents() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(8, 6 * CHUNK));
    let made = host.back_up(&full, "disk", &image).unwrap();
    let mut packs = listings(&full);
    for run in packs.iter_mut().flat_map(|pack| &mut pack.contents.runs) {
        for blob in &mut run.blobs {
            blob.id = BlobId::from_bytes([7; 32]);
        }
    }
    for object in store.list("projects").unwrap() {
        if let Some((ObjectRef::Index(..), _)) = ObjectRef::parse(&object.name) {
            store.delete(&object.name).unwrap();
        }
    }
    let superseded = Vec::new();
    put_segment(&writer(&store, 1), &IndexSegment { packs, superseded });
    for host in [Host::without_cache(), Host::with_cache()] {
        let restored = host.restore_image(&full, &full.backup(made.id)).unwrap();
        assert!(restored == image);
    }
}

#[test]
fn a_segment_of_a_write_key_supersedes_nothing() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(4, 6 * CHUNK));
    host.back_up(&full, "disk", &image).unwrap();
    let listed = store.list("projects").unwrap();
    let objects = listed.iter().filter_map(|o| ObjectRef::parse(&o.name));
    let segments = objects.filter_map(|(object, _)| match object {
        ObjectRef::Index(_, hash) => Some(hash),
        _ => None,
    });
    let segment = IndexSegment {
        packs: Vec::new(),
        superseded: segments.collect(),
    };
    put_segment(&writer(&store, 1), &segment);
    assert_eq!(index(&full).replaced_segments().unwrap(), []);
    assert_eq!(host.back_up(&full, "again", &image).unwrap().chunks_new, 0);
    // A full key may supersede segments.
    let superseded = segment.superseded.clone();
    put_segment(&full, &segment);
    let mut replaced = index(&full).replaced_segments().unwrap();
    replaced.retain(|name| superseded.contains(name));
    assert_eq!(replaced.len(), superseded.len());
}

/// A replica may have a superseded segment. A record in the replica may need a pack that only this
/// segment names.
#[test]
fn a_superseded_segment_counts_for_reading_and_not_for_deduplication() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(5, 6 * CHUNK));
    let made = host.back_up(&full, "disk", &image).unwrap();
    let listed = store.list("projects").unwrap();
    let objects = listed.iter().filter_map(|o| ObjectRef::parse(&o.name));
    let segments = objects.filter_map(|(object, _)| match object {
        ObjectRef::Index(_, hash) => Some(hash),
        _ => None,
    });
    let segment = IndexSegment {
        packs: Vec::new(),
        superseded: segments.collect(),
    };
    put_segment(&full, &segment);
    let id = full
        .project
        .chunk_keys()
        .unwrap()
        .id(&noise(5, 6 * CHUNK)[..CHUNK]);
    for host in [Host::without_cache(), Host::with_cache()] {
        let index = index(&full);
        assert!(index.find_trusted(&id).unwrap().is_none());
        assert!(index.find_readable(&id).unwrap().is_some());
        let restored = host.restore_image(&full, &full.backup(made.id)).unwrap();
        assert!(restored == image);
        let (report, findings) = host.check(&full, true);
        assert_eq!(report.backups_affected, [], "{findings:?}");
    }
    let again = host.back_up(&full, "again", &image).unwrap();
    assert_eq!(again.chunks_new, 6);
    let restored = host.restore_image(&full, &full.backup(made.id)).unwrap();
    assert!(restored == image);
    // A prune stores a segment that names the packs that a record needs.
    let options = PruneOptions {
        max_unused: MaxUnused::Unlimited,
        max_repack: None,
        merge_small: false,
        grace: Duration::ZERO,
        accept_loss: ops::AcceptedLoss::default(),
        host: None,
    };
    let context = host.context();
    let plan = ops::plan_prune(&full.project, &options, false, &context).unwrap();
    plan.run().unwrap();
    assert!(index(&full).find_trusted(&id).unwrap().is_some());
    host.check_clean(&full, "pruned");
}

#[test]
fn a_check_of_a_part_also_reads_packs_that_only_a_superseded_segment_names() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(6, 6 * CHUNK));
    host.back_up(&full, "disk", &image).unwrap();
    let listed = store.list("projects").unwrap();
    let objects = listed.iter().filter_map(|o| ObjectRef::parse(&o.name));
    let segments = objects.filter_map(|(object, _)| match object {
        ObjectRef::Index(_, hash) => Some(hash),
        _ => None,
    });
    let superseded = segments.collect();
    let packs = Vec::new();
    put_segment(&full, &IndexSegment { packs, superseded });
    let [all, part] = [None, Some(Duration::ZERO)].map(|unverified_for| {
        let read = ReadData {
            unverified_for,
            ..ReadData::all(None)
        };
        let checked = ops::check(
            &full.repository,
            &full.project,
            Some(&read),
            &host.context(),
            &mut |finding| unreachable!("{finding:?}"),
        );
        checked.unwrap().data.unwrap().packs_verified
    });
    assert_eq!(
        all, 1,
        "the check reads the pack of chunks, which a backup uses"
    );
    assert_eq!(part, 3, "the check also reads the packs of nodes");
}

#[test]
fn a_project_may_trust_all_its_write_keys() {
    let store = MemoryBackend::new();
    let mut full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(6, 4 * CHUNK));
    host.back_up(&writer(&store, 1), "disk", &image).unwrap();
    let mut settings = (*full.project.settings).clone();
    settings.trust = Some("project".into());
    full.project.settings = Arc::new(settings);
    assert_eq!(host.back_up(&full, "copy", &image).unwrap().chunks_new, 0);
}

#[test]
fn a_project_that_trusts_all_its_write_keys_does_not_rely_on_a_revoked_one() {
    let store = MemoryBackend::new();
    let mut full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let thief = writer(&store, 1);
    let hosts = [Host::without_cache(), Host::with_cache()];
    let image = Image::new(LEAF).with(0, &noise(9, 4 * CHUNK));
    let made = hosts[0].back_up(&thief, "disk", &image).unwrap();
    let mut settings = (*full.project.settings).clone();
    settings.trust = Some("project".into());
    full.project.settings = Arc::new(settings);
    for (host, volume) in hosts.iter().zip(["first", "second"]) {
        assert_eq!(host.back_up(&full, volume, &image).unwrap().chunks_new, 0);
    }
    let certificates = full.project.certificates(&Silent).unwrap();
    let signer = thief.project.keys.signing().public();
    let key = certificates.of_signer(&signer).unwrap();
    ops::revoke_key(&full.project, key, vec![made.id], None).unwrap();
    let revoked = store.copy();
    for host in &hosts {
        // Each case begins with the store after the revocation.
        let store = revoked.copy();
        let mut full = TestRepo::open(store.clone(), &Silent).unwrap();
        let mut settings = (*full.project.settings).clone();
        settings.trust = Some("project".into());
        full.project.settings = Arc::new(settings);
        let again = host.back_up(&full, "again", &image).unwrap();
        assert_eq!(again.chunks_new, 4);
    }
}

#[test]
fn the_index_lists_a_pack_once_for_an_id_that_the_pack_holds_many_times() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(10, CHUNK));
    host.back_up(&full, "disk", &image).unwrap();
    let thief = writer(&store, 1);
    let index = index(&full);
    let known = index.state().unwrap().blobs;
    let id = BlobId::from_bytes([5; 32]);
    let blob = Blob { plain_len: 1, id };
    let run = Run {
        codec: Codec::Raw,
        stored_len: 1024 + 16,
        check: [0; 16],
        blobs: vec![blob; 1024],
    };
    let listed = listings(&full).into_iter();
    let mut chunks = listed.filter(|pack| pack.contents.kind == BlobKind::Chunk);
    let mut pack = chunks.next().unwrap();
    pack.pack = ObjectHash::from_bytes([6; 32]);
    pack.contents.runs = vec![run; 8];
    let (packs, superseded) = (vec![pack], Vec::new());
    let body = IndexSegment { packs, superseded }.encode();
    let forged = thief.project.put_sealed(ObjectRef::Index, &body).unwrap();
    index.sync().unwrap();
    assert_eq!(index.state().unwrap().blobs, known + 1);
    assert_eq!(index.find_anywhere(&id).unwrap().len(), 1);

    let (packs, superseded) = (Vec::new(), vec![forged]);
    put_segment(&full, &IndexSegment { packs, superseded });
    let object = ObjectRef::Index(full.project.id, forged);
    full.project.objects.delete(object).unwrap();
    index.sync().unwrap();
    assert_eq!(index.state().unwrap().blobs, known);
    assert_eq!(index.find_anywhere(&id).unwrap().len(), 0);
}

#[test]
fn a_write_key_ingests_whole_chunks_of_a_diff_and_no_parts_of_chunks() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let client = writer(&store, 1);
    let host = Host::without_cache();
    let size = LEAF;
    let mut image = Image::new(size);
    let first = vec![(0, 4 * CHUNK, Some(1))];
    apply(&mut image, size, &first);
    ingest(
        &host,
        &client,
        &diff(None, Some("a"), size, &first),
        &options("disk"),
    )
    .unwrap();
    // Two whole chunks, and the beginning of a chunk that is zero in the base.
    let whole = vec![
        (CHUNK as u64, 2 * CHUNK, Some(2)),
        (8 * CHUNK as u64, 100, Some(3)),
    ];
    apply(&mut image, size, &whole);
    let made = ingest(
        &host,
        &client,
        &diff(Some("a"), Some("b"), size, &whole),
        &options("disk"),
    )
    .unwrap();
    let backup = full.backup(made[0].id.unwrap());
    assert!(host.restore_image(&full, &backup).unwrap() == image);
    let part = vec![(2 * CHUNK as u64 + 10, 20, Some(4))];
    let stream = diff(Some("b"), Some("c"), size, &part);
    let refused = ingest(&host, &client, &stream, &options("disk")).unwrap_err();
    assert!(
        matches!(refused, OpsError::PartOfChunk { offset } if offset == 2 * CHUNK as u64),
        "{refused}"
    );
    assert_eq!(full.backups().len(), 2);
    // A full key builds on the backup of a write key only if the user names it.
    let refused = ingest(&host, &full, &stream, &options("disk")).unwrap_err();
    assert!(
        matches!(refused, OpsError::BaseOfOtherKey { .. }),
        "{refused}"
    );
    let mut named = options("disk");
    named.base = Some(backup.id.to_string());
    ingest(&host, &full, &stream, &named).unwrap();
}
