//! Random sequences of operations, against a plain model of their results.

use std::collections::{BTreeSet, HashMap};
use std::fs;

use cuttlebone::base::{ObjectHash, Root, VolumeId};
use cuttlebone::ops::{self, BackupOptions, OpsError};
use cuttlebone::repo::{Backup, PackSizes, Records, RepoErrorKind};
use cuttlebone::storage::{Backend, MemoryBackend};
use cuttlebone::volume::{Existing, RawImage, open_target};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{
    BLOCK, Host, Image, Input, KIB, LEAF, RecordingObserver, TestRepo, back_up, noise, options,
};

/// The names of the volumes that are images, and of those that are streams.
const IMAGES: [&str; 2] = ["a disk", "another"];
const STREAMS: [&str; 2] = ["a dump", "another dump"];
/// Larger images are not restored to a stream, since the test would hold all their bytes in memory.
const SMALL: u64 = 40 << 20;

#[derive(Debug, Clone)]
enum Step {
    /// Writes noise, or zeros if there is no seed. There are few seeds, so that content repeats.
    Write(Index, Place, usize, Option<u8>),
    /// Copies a chunk elsewhere.
    Copy(Index, Place, Place),
    Resize(Index, u64),
    BackUp(Index, Option<Index>, Way),
    /// Replaces bytes of a stream. The first number is the place, in 256ths of the stream. The
    /// others are the number of bytes to remove, the number of bytes to insert, and their seed.
    Splice(Index, u8, usize, usize, u8),
    BackUpStream(Index, Way),
    Restore(Index, Target),
    Compare(Index, Index),
}

/// A place in an image: in this leaf (modulo the number of leaves), or this number of bytes before
/// the end of the image.
#[derive(Debug, Clone, Copy)]
enum Place {
    Leaf(u8, u32),
    BeforeEnd(u32),
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Plain,
    Reread,
    DryRun,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    New,
    InPlace { size: u64, seed: u8 },
    Stream,
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        4 => (any::<u8>(), any::<u32>()).prop_map(|(leaf, at)| Place::Leaf(leaf, at)),
        1 => (0..200_000_u32).prop_map(Place::BeforeEnd),
    ]
}

impl Place {
    fn offset(self, image: &Image) -> u64 {
        match self {
            Self::Leaf(leaf, at) => {
                let leaves = image.size.div_ceil(LEAF).max(1);
                // Half of the places are near the end of the leaf.
                let at = u64::from(at);
                let within = if at % 2 == 0 {
                    LEAF - 1 - at / 2 % 70_000
                } else {
                    at % LEAF
                };
                u64::from(leaf) % leaves * LEAF + within
            }
            Self::BeforeEnd(before) => image.size.saturating_sub(before.into()),
        }
    }
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => Just(0),
        2 => 1..BLOCK,
        2 => (0..9_u64, 0..3_u64).prop_map(|(leaves, odd)| (leaves * LEAF + odd).saturating_sub(1)),
        4 => 0..SMALL,
        1 => (65 * LEAF)..(70 * LEAF),
        1 => (4097 * LEAF)..(4100 * LEAF),
    ]
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![6 => Just(Way::Plain), 1 => Just(Way::Reread), 1 => Just(Way::DryRun)]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::New),
        (0..SMALL / 4, any::<u8>()).prop_map(|(size, seed)| Target::InPlace { size, seed }),
        Just(Target::Stream),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    let seed = || prop::option::weighted(0.7, 0..6_u8);
    prop_oneof![
        6 => (index(), place(), 1..300 * KIB, seed())
            .prop_map(|(v, at, len, seed)| Step::Write(v, at, len, seed)),
        1 => (index(), place(), place()).prop_map(|(v, from, to)| Step::Copy(v, from, to)),
        2 => (index(), size()).prop_map(|(v, size)| Step::Resize(v, size)),
        6 => (index(), prop::option::weighted(0.2, index()), way())
            .prop_map(|(v, base, way)| Step::BackUp(v, base, way)),
        2 => (index(), any::<u8>(), 0..50 * KIB, 0..300 * KIB, 0..6_u8)
            .prop_map(|(v, at, out, put, seed)| Step::Splice(v, at, out, put, seed)),
        2 => (index(), way()).prop_map(|(v, way)| Step::BackUpStream(v, way)),
        4 => (index(), target()).prop_map(|(b, target)| Step::Restore(b, target)),
        2 => (index(), index()).prop_map(|(a, b)| Step::Compare(a, b)),
    ]
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Image(Image),
    Stream(Vec<u8>),
}

/// A backup in the model.
struct Made {
    volume: &'static str,
    content: Content,
}

/// A repository with one host, and its model: the current images and streams, and the content of
/// every backup that was made.
///
/// Each operation works on the repository and on the model, and compares the results. A backup must
/// be complete, store no chunk that the repository already holds, and restore to its content in
/// each way. At the end, all backups are restored and checked.
struct World {
    store: MemoryBackend,
    test_repo: TestRepo,
    host: Host,
    chunk: u64,
    images: [Image; 2],
    streams: [Vec<u8>; 2],
    made: Vec<(ObjectHash, Made)>,
}

impl World {
    fn new(chunk: usize, with_cache: bool) -> Self {
        let store = MemoryBackend::new();
        let test_repo = TestRepo::init(store.clone(), chunk).unwrap();
        let host = if with_cache {
            Host::with_cache()
        } else {
            Host::without_cache()
        };
        Self {
            store,
            test_repo,
            host,
            chunk: chunk as u64,
            images: [Image::new(3 * LEAF + 12_345), Image::new(0)],
            streams: [noise(0, 700 * KIB), Vec::new()],
            made: Vec::new(),
        }
    }

    fn names(&self) -> BTreeSet<String> {
        let listed = self.store.list("").unwrap();
        listed
            .into_iter()
            .map(|object| object.name.to_string())
            .collect()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(volume, place, len, seed) => {
                let image = volume.get_mut(&mut self.images);
                let bytes = seed.map_or_else(|| vec![0; *len], |seed| noise(seed.into(), *len));
                let mut at = place.offset(image);
                if *len % 2 == 0 {
                    at -= at % 4096;
                }
                image.write(at, &bytes);
            }
            Step::Copy(volume, from, to) => {
                let image = volume.get_mut(&mut self.images);
                let aligned = |place: &Place| place.offset(image) / self.chunk * self.chunk;
                let bytes = image.read(aligned(from), usize::try_from(self.chunk).unwrap());
                let to = aligned(to);
                image.write(to, &bytes);
            }
            Step::Resize(volume, size) => volume.get_mut(&mut self.images).resize(*size),
            Step::BackUp(volume, base, way) => {
                let number = volume.index(IMAGES.len());
                let image = self.images[number].clone();
                let path = self.host.path("image");
                image.write_to(&path);
                let input = || Box::new(RawImage::open(&path).unwrap()) as Input;
                self.back_up(
                    IMAGES[number],
                    &input,
                    base.as_ref(),
                    *way,
                    Content::Image(image),
                );
            }
            Step::Splice(volume, at, out, put, seed) => {
                let stream = volume.get_mut(&mut self.streams);
                let start = stream.len() * usize::from(*at) / 256;
                let end = (start + out).min(stream.len());
                let bytes = if *seed == 0 {
                    vec![0; *put]
                } else {
                    noise((*seed).into(), *put)
                };
                stream.splice(start..end, bytes);
            }
            Step::BackUpStream(volume, way) => {
                let number = volume.index(STREAMS.len());
                let stream = self.streams[number].clone();
                let input = || super::stream(&stream);
                self.back_up(
                    STREAMS[number],
                    &input,
                    None,
                    *way,
                    Content::Stream(stream.clone()),
                );
            }
            Step::Restore(backup, target) if !self.made.is_empty() => {
                self.restore(backup.index(self.made.len()), *target);
            }
            Step::Compare(a, b) if !self.made.is_empty() => {
                self.compare(a.index(self.made.len()), b.index(self.made.len()));
            }
            Step::Restore(..) | Step::Compare(..) => {}
        }
    }

    fn back_up(
        &mut self,
        volume: &'static str,
        input: &dyn Fn() -> Input,
        base: Option<&Index>,
        way: Way,
        content: Content,
    ) {
        let mut options = options(volume);
        options.base = match base {
            Some(base) if !self.made.is_empty() => {
                Some(self.made[base.index(self.made.len())].0.to_string())
            }
            _ => None,
        };
        options.reread = matches!(way, Way::Reread);
        options.dry_run = matches!(way, Way::DryRun);
        if self.made.len() % 2 == 1 {
            options.pack_sizes = PackSizes::default();
        }
        let run = |options: &BackupOptions| {
            back_up(
                &self.test_repo.project,
                input(),
                options,
                &self.host.context(),
            )
        };
        let before = self.names();
        let tried = run(&options);
        if let (Some(base), Err(error)) = (base, &tried) {
            // A base is refused only if it is a stream and the new backup an image, or the reverse.
            let base = &self.made[base.index(self.made.len())].1.content;
            assert_ne!(
                std::mem::discriminant(base),
                std::mem::discriminant(&content)
            );
            assert!(matches!(error, OpsError::BaseKind { .. }), "{error}");
            return;
        }
        let mut report = tried.unwrap();
        if options.dry_run {
            assert_eq!(
                (report.id, self.names()),
                (None, before),
                "a dry run stores nothing"
            );
            options.dry_run = false;
            let real = run(&options).unwrap();
            let counts = |r: &ops::BackupReport| {
                (r.counts.changed, r.counts.new, r.counts.chunks_new, r.size)
            };
            assert_eq!(
                counts(&real),
                counts(&report),
                "a dry run predicts the counts of the backup"
            );
            report = real;
        }
        let known = self.made.iter().any(|(_, made)| made.content == content);
        assert!(
            !known || report.counts.chunks_new == 0,
            "stored chunks are not stored again"
        );
        self.made
            .push((report.id.unwrap(), Made { volume, content }));
    }

    fn restore(&self, number: usize, target: Target) {
        let (id, made) = &self.made[number];
        let backup = self.test_repo.backup(*id);
        match (&made.content, target) {
            (Content::Stream(stream), _) => {
                assert!(self.host.restore(&self.test_repo, &backup).unwrap() == *stream);
            }
            (Content::Image(image), Target::Stream) if image.size <= SMALL => {
                assert!(self.host.restore(&self.test_repo, &backup).unwrap() == image.bytes());
            }
            (Content::Image(image), Target::InPlace { size, seed }) => {
                let path = self.host.path("target");
                // The target already has part of the content.
                let mut garbage = image.clone();
                garbage.resize(size);
                garbage.write(size / 3, &noise(u64::from(seed) + 100, 500 * KIB));
                garbage.write_to(&path);
                let restore = || {
                    let target = open_target(&path, image.size, Existing::Update).unwrap();
                    ops::restore(
                        &self.test_repo.project,
                        &backup,
                        &*target,
                        &self.host.context(),
                    )
                };
                restore().unwrap();
                assert_eq!(Image::read_from(&path), *image);
                assert_eq!(restore().unwrap().written, 0, "nothing was left to do");
                fs::remove_file(&path).unwrap();
            }
            (Content::Image(image), _) => {
                assert_eq!(
                    self.host.restore_image(&self.test_repo, &backup).unwrap(),
                    *image
                );
            }
        }
    }

    fn compare(&self, a: usize, b: usize) {
        let ((id_a, a), (id_b, b)) = (&self.made[a], &self.made[b]);
        let mut found = Vec::new();
        let report = ops::compare(
            &self.test_repo.project,
            &self.test_repo.backup(*id_a),
            &self.test_repo.backup(*id_b),
            &self.host.context(),
            |extent| {
                found.push((extent.offset, extent.len));
                Ok::<(), OpsError>(())
            },
        )
        .unwrap();
        assert_eq!(report.extents, found.len() as u64);
        assert_eq!(report.bytes, found.iter().map(|(_, len)| len).sum::<u64>());
        assert_eq!(report.identical, a.content == b.content);
        let expected = match (&a.content, &b.content) {
            _ if report.identical => Vec::new(),
            (Content::Image(a), Content::Image(b)) => self.differences(a, b),
            (a, b) => {
                let size = |content: &Content| match content {
                    Content::Image(image) => image.size,
                    Content::Stream(stream) => stream.len() as u64,
                };
                vec![(0, size(a).max(size(b)))]
            }
        };
        assert_eq!(found, expected);
    }

    /// Returns the extents (offset and length in bytes) of the chunks that differ.
    fn differences(&self, a: &Image, b: &Image) -> Vec<(u64, u64)> {
        let blocks: BTreeSet<_> = a.blocks.keys().chain(b.blocks.keys()).collect();
        let chunks: BTreeSet<_> = blocks
            .into_iter()
            .filter(|block| a.blocks.get(block) != b.blocks.get(block))
            .map(|block| block * BLOCK / self.chunk)
            .collect();
        let mut extents: Vec<(u64, u64)> = Vec::new();
        for chunk in chunks {
            let offset = chunk * self.chunk;
            let len = self.chunk.min(a.size.max(b.size) - offset);
            match extents.last_mut() {
                Some(last) if last.0 + last.1 == offset => last.1 += len,
                _ => extents.push((offset, len)),
            }
        }
        extents
    }

    /// Asserts that all backups are listed and can be selected, that equal contents have equal
    /// roots, and that check finds nothing.
    fn assert_consistent(&self) {
        let test_repo = TestRepo::open(self.store.clone(), &RecordingObserver::default()).unwrap();
        let records = Records::load(&test_repo.project).unwrap();
        let listed: Vec<_> = records.all().iter().map(|backup| backup.id).collect();
        let made: Vec<_> = self.made.iter().map(|(id, _)| *id).collect();
        assert_eq!(listed, made, "all backups are listed, oldest first");
        assert!(records.damaged().is_empty() && records.vanished().is_empty());
        for volume in IMAGES.into_iter().chain(STREAMS) {
            self.selects(&records, volume);
        }

        let roots: Vec<(Root, &Content)> = records
            .all()
            .iter()
            .zip(&self.made)
            .map(|(backup, (_, made))| (backup.root, &made.content))
            .collect();
        for (number, (root, content)) in roots.iter().enumerate() {
            for (other_root, other) in &roots[..number] {
                assert_eq!(
                    root == other_root,
                    content == other,
                    "roots are equal if and only if contents are"
                );
            }
        }
        for number in 0..self.made.len() {
            self.restore(number, Target::New);
        }
        self.host.check_clean(&test_repo, "at the end");
    }

    fn selects(&self, records: &Records, volume: &str) {
        let of: Vec<_> = self
            .made
            .iter()
            .filter(|(_, made)| made.volume == volume)
            .collect();
        for (back, (id, _)) in of.iter().rev().enumerate() {
            let selected = |selector: &str| records.select(selector).unwrap().id;
            assert_eq!(selected(&format!("{volume}~{back}")), *id);
            assert_eq!(selected(&id.to_string()), *id);
            if back == 0 {
                assert_eq!(selected(volume), *id);
            }
        }
        let beyond = records.select(&format!("{volume}~{}", of.len()));
        assert_eq!(beyond.unwrap_err().kind(), RepoErrorKind::NotFound);
        let ids: HashMap<VolumeId, usize> = records
            .of_volume(volume)
            .map(|backup: &Backup| (backup.volume, 1))
            .collect();
        assert!(ids.len() <= 1, "a volume keeps its id");
    }
}

fn run(chunk: usize, with_cache: bool, steps: &[Step]) {
    let mut world = World::new(chunk, with_cache);
    for step in steps {
        world.step(step);
    }
    world.assert_consistent();
}

/// Runs this many cases, or the number in the environment variable `PROPTEST_CASES`.
pub(super) fn config(cases: u32) -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: wanted.and_then(|n| n.parse().ok()).unwrap_or(cases),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn random_operations_with_small_chunks_agree_with_the_model(
        steps in vec(step(), 1..25),
        cache: bool,
    ) {
        run(4 * KIB, cache, &steps);
    }

    #[test]
    fn random_operations_with_chunks_of_the_default_size_agree_with_the_model(
        steps in vec(step(), 1..25),
        cache: bool,
    ) {
        run(64 * KIB, cache, &steps);
    }

    #[test]
    fn random_operations_with_chunks_of_a_leaf_agree_with_the_model(
        steps in vec(step(), 1..25),
        cache: bool,
    ) {
        run(4096 * KIB, cache, &steps);
    }
}
