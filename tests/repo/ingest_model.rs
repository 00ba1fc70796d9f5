//! Compares backups of random chains of RBD diffs with a plain model of the image.

use std::collections::BTreeSet;

use cuttlebone::ops::{Accept, BackupOptions};
use cuttlebone::storage::MemoryBackend;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::ingest::{Extents, apply, diff, ingest};
use super::{BLOCK, Host, Image, LEAF, TestRepo, options};

#[derive(Debug, Clone)]
struct Step {
    /// The earlier snapshot that is the base; `None` for a full diff.
    from: Option<Index>,
    size: u64,
    /// For each extent, the gap before it and its length in bytes, and the seed of its noise.
    /// Without a seed, the extent is zeros.
    extents: Vec<(u32, usize, Option<u8>)>,
    /// Whether the diff ends at the current state of the image, and not at a snapshot.
    is_head: bool,
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => Just(0),
        2 => 1..200_000_u64,
        5 => 0..5 * LEAF,
        2 => (0..6_u64, 0..3_u64).prop_map(|(leaves, odd)| (leaves * LEAF + odd).saturating_sub(1)),
        1 => (64 * LEAF)..(66 * LEAF),
        1 => Just(1 << 44),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let gap = prop_oneof![2 => 0..10_u32, 3 => 0..200_000_u32, 2 => 0..9_000_000_u32];
    let len = prop_oneof![2 => 1..600_usize, 3 => 1..100_000_usize, 1 => 1..1_000_000_usize,
        1 => prop::sample::select(vec![4096_usize, 65_536, 131_072])];
    let extent = (gap, len, prop::option::weighted(0.7, 0..4_u8));
    (
        prop::option::weighted(0.9, any::<Index>()),
        size(),
        vec(extent, 0..8),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(from, size, extents, is_head)| Step {
            from,
            size,
            extents,
            is_head,
        })
}

/// Returns the size in bytes of all chunks in which two images differ.
fn different_chunks(a: &Image, b: &Image, chunk: usize) -> u64 {
    let blocks = a.blocks.keys().chain(b.blocks.keys());
    let different = blocks.filter(|block| a.blocks.get(block) != b.blocks.get(block));
    let chunks: BTreeSet<u64> = different
        .map(|block| block * BLOCK / chunk as u64)
        .collect();
    chunks.len() as u64 * chunk as u64
}

fn play(steps: &[Step], keep_size: &[bool], chunk: usize) {
    let (test_repo, host) = (
        TestRepo::init(MemoryBackend::new(), chunk).unwrap(),
        Host::with_cache(),
    );
    let mut chain: Vec<(String, Image)> = Vec::new();
    let (mut whole, mut newest) = (Image::new(0), Image::new(0));
    for (number, step) in steps.iter().enumerate() {
        let base = step
            .from
            .filter(|_| !chain.is_empty())
            .map(|from| from.get(&chain));
        let mut image = base.map_or_else(|| Image::new(0), |(_, image)| image.clone());
        let keeps = keep_size[number % keep_size.len()] && base.is_some();
        let size = if keeps { image.size } else { step.size };
        let mut extents = Extents::new();
        let mut at = 0;
        for (gap, len, seed) in &step.extents {
            let offset = at + u64::from(*gap);
            // Extents of zeros may be far longer than those of data.
            let len = if seed.is_none() { len * 40 } else { *len };
            let len = len.min(usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX));
            if len > 0 {
                extents.push((offset, len, *seed));
                at = offset + len as u64;
            }
        }
        apply(&mut image, size, &extents);
        let from = base.map(|(name, _)| name.clone());
        let to = (!step.is_head).then(|| format!("s{number}"));
        let stream = diff(from.as_deref(), to.as_deref(), size, &extents);
        let options = BackupOptions {
            // Name the base, since it may not be the newest backup.
            base: from.map(|from| format!("v@{from}")),
            accept: Accept {
                empty: true,
                new_content: true,
                times: false,
                ..Accept::default()
            },
            ..options("v")
        };
        let reports = ingest(&host, &test_repo, &stream, &options).unwrap();
        // A full diff is compared with the newest backup.
        let before = base.map_or_else(|| newest.clone(), |(_, image)| image.clone());
        newest = image.clone();
        let changed = different_chunks(&before, &image, chunk);
        assert_eq!(reports[0].counts.changed, changed, "step {number}");
        let made = test_repo.backup(reports[0].id.unwrap());
        let found = host.restore_image(&test_repo, &made).unwrap();
        assert!(
            found == image,
            "step {number}: {found:?} instead of {image:?}"
        );
        if let Some(to) = to {
            chain.push((to, image.clone()));
        }
        // The same content has the same root, whether it is backed up as diffs or as an image.
        if size < 1 << 40 {
            let backup = host.back_up(&test_repo, "whole", &image).unwrap();
            assert_eq!(backup.chunks_new, 0, "step {number}");
            let backup = test_repo.backup(backup.id);
            assert_eq!(backup.root, made.root, "step {number}");
            let changed = different_chunks(&whole, &image, chunk);
            assert_eq!(backup.record.counts.changed, changed, "step {number}");
            whole = image;
        }
    }
    host.check_clean(&test_repo, "all steps");
}

proptest! {
    #![proptest_config(super::model::config(48))]

    #[test]
    fn chains_of_diffs_restore_as_the_model_predicts(
        steps in vec(step(), 1..7),
        keep_size in vec(prop::bool::weighted(0.6), 1..7),
        chunk in prop::sample::select(vec![4_usize << 10, 64 << 10, 1 << 20]),
    ) {
        play(&steps, &keep_size, chunk);
    }
}
