//! `repair packs` saves all undamaged data of damaged packs. A repair that failed at any call can
//! be repeated. The next backup stores the lost data again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{BlobId, ObjectHash};
use cuttlebone::format::{BlobKind, PackListing};
use cuttlebone::ops::{self, PackAction, PackStep, RepairedPacks};
use cuttlebone::repo::{BlobReader, Index, LostChunks, ObjectRef, PlacedRun, read_listing};
use cuttlebone::storage::{Backend, FaultBackend, MemoryBackend};

use super::faults::{CRASHES, FAILURES};
use super::{
    EXPIRED, HOUR, Series, assert_tidy, losses, names, open, pack_object, packs, prune, stored,
};
use crate::repo::{CHUNK, Host, Image, LEAF, TestRepo, noise};

/// Repairs all packs that this host knows to be damaged.
fn repair(test_repo: &TestRepo, host: &Host) -> Result<Vec<PackStep>, ops::OpsError> {
    let context = host.context();
    let repaired = ops::plan_pack_repair(&test_repo.project, None, false, &context)?.run()?;
    Ok(repaired.steps)
}

fn listing(test_repo: &TestRepo, pack: ObjectRef) -> PackListing {
    read_listing(&test_repo.project, pack, None).unwrap()
}

/// Damages a run of the first pack of chunks that has several runs. Returns the pack, and its blobs
/// in the other runs.
fn damage_a_run(test_repo: &TestRepo, store: &MemoryBackend) -> (ObjectHash, Vec<BlobId>) {
    let mut seen = Vec::new();
    for pack in packs(store) {
        let listing = listing(test_repo, pack);
        let runs: Vec<_> = PlacedRun::all_of(listing).collect();
        seen.push((pack.blob_kind(), runs.len()));
        if pack.blob_kind() != Some(BlobKind::Chunk) || runs.len() < 2 {
            continue;
        }
        flip(store, pack, runs[0].range().start);
        let rest = runs[1..].iter().flat_map(PlacedRun::locations);
        let rest = rest.map(|at| at.blob().id).collect();
        return (pack.hash().unwrap(), rest);
    }
    panic!("no pack of chunks has several runs: {seen:?}");
}

fn flip(store: &MemoryBackend, pack: ObjectRef, at: u64) {
    let mut bytes = store.get(&pack.name(), 1 << 30).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 1;
    store.put(&pack.name(), &[&bytes]).unwrap();
}

fn has(store: &dyn Backend, pack: ObjectHash) -> bool {
    let mut packs = packs(store).into_iter();
    packs.any(|object| object.hash() == Some(pack))
}

/// A series of backups with a damaged pack.
struct Damaged {
    series: Series,
    store: MemoryBackend,
    pack: ObjectHash,
    /// The size of the pack, in bytes.
    size: u64,
    /// The undamaged blobs of the pack.
    rest: Vec<BlobId>,
    /// The byte ranges that each affected backup has lost.
    losses: BTreeMap<ObjectHash, Vec<Range<u64>>>,
}

impl Damaged {
    fn new() -> Self {
        // Each pack has space for two chunks. Each leaf has a run of its own.
        let image = Image::new(2 * LEAF).with(0, &noise(1, CHUNK));
        let first = image.with(LEAF, &noise(2, CHUNK));
        let second = first.clone().with(LEAF / 2, &noise(3, CHUNK));
        let series = Series {
            days: vec![first, second],
        };
        let (store, ids) = series.backed_up();
        let test_repo = open(&store);
        let (pack, rest) = damage_a_run(&test_repo, &store);
        let losses = losses(&test_repo);
        assert!(!losses.is_empty() && losses.len() <= ids.len());
        let size = store.size(&pack_object(&store, pack).name()).unwrap();
        Self {
            series,
            store,
            pack,
            size,
            rest,
            losses,
        }
    }

    /// Returns a host that knows of the damage.
    fn host(&self) -> Host {
        let mut host = Host::with_cache();
        host.threads = 1;
        host.check(&open(&self.store), true);
        host
    }

    /// Asserts that the pack was moved to quarantine, and that no more is lost than before. Also
    /// asserts that backups on another host store the lost data again.
    fn assert_repaired<B: Backend + Clone + 'static>(&self, store: &B, when: &str) {
        let test_repo = open(store);
        assert!(!has(store, self.pack), "{when}: the pack is moved");
        let kept = store.list("quarantine").unwrap();
        let name = self.pack.to_string();
        let kept: Vec<_> = kept
            .iter()
            .filter(|o| o.name.last().contains(&name))
            .collect();
        assert_eq!(kept.len(), 1, "{when}");
        assert_eq!(kept[0].size, self.size, "{when}");
        let stored = stored(&test_repo, store);
        for blob in &self.rest {
            assert!(stored.contains_key(blob), "{when}: {blob} was packed again");
        }
        assert_eq!(losses(&test_repo), self.losses, "{when}");
        let other = Host::without_cache();
        for day in &self.series.days {
            other.back_up(&test_repo, "disk", day).unwrap();
        }
        self.series.assert_restores(&test_repo, when);
    }

    fn assert_moved_once(&self, test_repo: &TestRepo) {
        assert!(!has(&self.store, self.pack));
        assert_eq!(losses(test_repo), self.losses);
    }

    /// Asserts that no damage is left after all days are backed up again and a prune has run.
    fn assert_healed(&self) {
        self.assert_repaired(&self.store, "repaired");
        let test_repo = open(&self.store);
        self.store.age(HOUR);
        prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
        self.series.assert_restores(&test_repo, "pruned");
        assert_tidy(&test_repo, &self.store, "pruned");
    }
}

#[test]
fn the_undamaged_data_of_a_damaged_pack_is_packed_again_and_the_pack_is_moved() {
    let damaged = Damaged::new();
    let host = damaged.host();
    let test_repo = open(&damaged.store);
    let before = names(&damaged.store, "packs");
    let context = host.context();
    let plan = ops::plan_pack_repair(&test_repo.project, None, true, &context).unwrap();
    let lacking = plan.lacking().unwrap().into_iter();
    let lacking: BTreeMap<_, _> = lacking.map(|b| (b.id, b.holes)).collect();
    assert_eq!(lacking, damaged.losses);
    let [step] = plan.steps() else {
        panic!("{:?}", plan.steps())
    };
    assert_eq!(step.object, pack_object(&damaged.store, damaged.pack));
    assert_eq!((step.damaged, step.action), (1, PackAction::Repack));
    plan.close();
    assert_eq!(
        names(&damaged.store, "packs"),
        before,
        "a plan changes nothing"
    );
    assert_eq!(names(&damaged.store, "leases"), Vec::<String>::new());

    let steps = repair(&test_repo, &host).unwrap();
    assert!(steps.iter().all(PackStep::is_repacked));
    // A prune keeps all data that is left.
    damaged.store.age(HOUR);
    prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
    damaged.assert_moved_once(&test_repo);
    assert_eq!(
        repair(&test_repo, &host).unwrap(),
        [],
        "nothing is left to repair"
    );
    damaged.assert_healed();
}

#[test]
fn a_repair_of_packs_that_fails_at_any_call_makes_nothing_worse_and_can_be_repeated() {
    let damaged = Damaged::new();
    for (plan_at, fault) in CRASHES.into_iter().chain(FAILURES) {
        let mut calls = 0;
        for n in 1.. {
            let plan = plan_at(n, fault);
            let when = format!("{plan:?}");
            let host = damaged.host();
            let faulty = FaultBackend::holding(&damaged.store);
            let test_repo = open(&faulty);
            faulty.set_plan(plan);
            let _ = repair(&test_repo, &host);
            if faulty.is_planned() {
                break;
            }
            calls += 1;
            drop(test_repo);
            let store = faulty.crash();
            let test_repo = open(&store);
            assert_eq!(losses(&test_repo), damaged.losses, "{when}");
            if has(&store, damaged.pack) {
                let name = pack_object(&store, damaged.pack).name();
                assert_eq!(store.size(&name).unwrap(), damaged.size, "{when}");
            }
            // The lease of the crashed repair expires.
            store.age(EXPIRED);
            let steps = repair(&test_repo, &host).unwrap();
            assert!(steps.iter().all(PackStep::is_repacked), "{when}: {steps:?}");
            damaged.assert_repaired(&store, &when);
        }
        assert!(calls >= 5, "{fault:?}: {calls} calls are too few");
    }
}

/// Returns the offsets of the first two runs of the damaged pack. The first run is damaged.
fn starts(test_repo: &TestRepo, pack: ObjectRef) -> [u64; 2] {
    let runs: Vec<_> = PlacedRun::all_of(listing(test_repo, pack)).collect();
    [runs[0].range().start, runs[1].range().start]
}

#[test]
fn a_chunk_that_was_unreadable_but_is_readable_during_the_repair_is_packed_again() {
    let damaged = Damaged::new();
    let test_repo = open(&damaged.store);
    let pack = pack_object(&damaged.store, damaged.pack);
    let [first, second] = starts(&test_repo, pack);
    flip(&damaged.store, pack, second);
    let host = damaged.host();
    let context = host.context();
    let plan = ops::plan_pack_repair(&test_repo.project, None, false, &context).unwrap();
    assert_eq!(plan.steps()[0].damaged, 2);
    flip(&damaged.store, pack, second);
    let repaired = plan.run().unwrap();
    assert!(repaired.steps.len() == 1 && repaired.steps[0].is_repacked());
    let lacking: Vec<_> = repaired.lacking.iter().map(|backup| backup.id).collect();
    let lost: Vec<_> = damaged.losses.keys().copied().collect();
    assert_eq!(BTreeSet::from_iter(lacking), BTreeSet::from_iter(lost));
    assert!(first < second && !has(&damaged.store, damaged.pack));
    damaged.assert_healed();
}

#[test]
fn a_pack_stays_if_each_attempt_to_read_it_finds_other_damage() {
    let damaged = Damaged::new();
    let test_repo = open(&damaged.store);
    let pack = pack_object(&damaged.store, damaged.pack);
    let [first, second] = starts(&test_repo, pack);
    let host = damaged.host();
    let context = host.context();
    let plan = ops::plan_pack_repair(&test_repo.project, None, false, &context).unwrap();
    assert_eq!(plan.steps()[0].damaged, 1);
    for at in [first, second] {
        flip(&damaged.store, pack, at);
    }
    let repaired = plan.run().unwrap();
    let actions: Vec<_> = repaired.steps.iter().map(|step| step.action).collect();
    assert_eq!(actions, [PackAction::MoreDamage]);
    assert!(has(&damaged.store, damaged.pack));
    flip(&damaged.store, pack, second);
    damaged
        .series
        .assert_restores(&test_repo, "the pack was only unreadable for a while");
}

#[test]
fn a_plan_to_repair_packs_reads_the_log_before_the_index() {
    let damaged = Damaged::new();
    let host = Host::without_cache();
    let faulty = FaultBackend::holding(&damaged.store);
    let test_repo = open(&faulty);
    drop(faulty.take_log());
    let context = host.context();
    let plan = ops::plan_pack_repair(&test_repo.project, None, true, &context).unwrap();
    plan.close();
    let calls = faulty.take_log();
    let first = |directory: &str| {
        let mut names = calls.iter().map(|call| call.name.split('/'));
        names.position(|mut parts| parts.any(|part| part == directory))
    };
    let [log, index] = ["log", "index"].map(|directory| first(directory).unwrap());
    assert!(log < index, "{calls:?}");
}

/// The shared chunk is damaged in both packs. The damage in the second pack is found only when the
/// repair reads this pack.
#[test]
fn each_repair_names_backups_that_lost_data_even_by_damage_that_was_found_late() {
    let shared = SharedChunk::new();
    let test_repo = open(&shared.store);
    let host = Host::with_cache();
    let run = |pack| {
        let mut runs = PlacedRun::all_of(listing(&test_repo, pack));
        let of_chunk = |run: &Arc<PlacedRun>| first_blob(run) == shared.chunk;
        runs.find(of_chunk).unwrap()
    };
    for pack in shared.packs {
        flip(&shared.store, pack, run(pack).range().start);
    }
    let [first, second] = shared.packs;
    note(&test_repo, &host, &run(first));
    let context = host.context();
    let plan = ops::plan_pack_repair(&test_repo.project, None, false, &context).unwrap();
    assert_eq!(plan.lacking().unwrap(), []);
    let mut repaired = plan.run().unwrap();
    let both = BTreeSet::from(shared.backups);
    let lacking = |repaired: &RepairedPacks| {
        let lacking = repaired.lacking.iter().map(|backup| backup.id);
        lacking.collect::<BTreeSet<_>>()
    };
    assert_eq!(lacking(&repaired), both);
    let actions = repaired.steps.iter().map(|step| (step.object, step.action));
    assert_eq!(
        actions.collect::<Vec<_>>(),
        [
            (first, PackAction::Repack),
            (second, PackAction::MoreDamage)
        ]
    );
    for steps in [1, 0] {
        let plan = ops::plan_pack_repair(&test_repo.project, None, false, &context).unwrap();
        repaired = plan.run().unwrap();
        assert_eq!(repaired.steps.len(), steps);
        assert_eq!(lacking(&repaired), both);
    }
    for number in [2, 3] {
        let image = SharedChunk::image(number);
        Host::without_cache()
            .back_up(&test_repo, "disk", &image)
            .unwrap();
    }
    let plan = ops::plan_pack_repair(&test_repo.project, None, false, &context).unwrap();
    repaired = plan.run().unwrap();
    assert!(repaired.steps.is_empty() && repaired.lacking.is_empty());
}

/// Two backups. Each has a chunk of its own. Both have a shared chunk, which is in two packs.
struct SharedChunk {
    store: MemoryBackend,
    packs: [ObjectRef; 2],
    backups: [ObjectHash; 2],
    chunk: BlobId,
}

impl SharedChunk {
    fn image(number: u64) -> Image {
        let shared = Image::new(2 * LEAF).with(0, &noise(1, CHUNK));
        shared.with(LEAF, &noise(number, CHUNK))
    }

    fn new() -> Self {
        let store = MemoryBackend::new();
        TestRepo::init(store.clone(), CHUNK).unwrap();
        let other = store.copy();
        let back_up = |store: &MemoryBackend, number| {
            let made = Host::without_cache().back_up(&open(store), "disk", &Self::image(number));
            made.unwrap().id
        };
        let backups = [back_up(&store, 2), back_up(&other, 3)];
        let packs = [&store, &other].map(|store| {
            let mut found = packs(store);
            found.retain(|pack| pack.blob_kind() == Some(BlobKind::Chunk));
            let [pack] = found[..] else {
                panic!("each host has one pack of chunks");
            };
            pack
        });
        super::copies::add_objects(&store, &other);
        let test_repo = open(&store);
        let [first, second] = packs.map(|pack| {
            let runs = PlacedRun::all_of(listing(&test_repo, pack));
            runs.map(|run| first_blob(&run)).collect::<Vec<_>>()
        });
        let chunk = *first.iter().find(|id| second.contains(id)).unwrap();
        Self {
            store,
            packs,
            backups,
            chunk,
        }
    }
}

fn first_blob(run: &Arc<PlacedRun>) -> BlobId {
    run.locations().next().unwrap().blob().id
}

/// Notes in the host's index that the run is damaged.
fn note(test_repo: &TestRepo, host: &Host, run: &Arc<PlacedRun>) {
    let cache = host.cache.as_deref().unwrap();
    let index = Index::open(&test_repo.project, cache, host.notices.clone()).unwrap();
    let pack = run.locations().next().unwrap().pack();
    index.note_damaged_runs(pack, [run.ordinal()]);
    index.close();
}

/// No host knows yet that the other pack is damaged, too.
#[test]
fn a_chunk_is_packed_again_if_the_other_pack_that_has_it_is_damaged() {
    let shared = SharedChunk::new();
    let [first, second] = shared.packs;
    let test_repo = open(&shared.store);
    let runs = |pack| PlacedRun::all_of(listing(&test_repo, pack)).collect::<Vec<_>>();
    let (of_first, of_second) = (runs(first), runs(second));
    let is_shared = |run: &&Arc<PlacedRun>| first_blob(run) == shared.chunk;
    let host = Host::with_cache();
    let copy = of_second.iter().find(is_shared).unwrap();
    flip(&shared.store, second, copy.range().start);
    for run in of_first.iter().filter(|run| !is_shared(run)) {
        flip(&shared.store, first, run.range().start);
        note(&test_repo, &host, run);
    }
    let steps = repair(&test_repo, &host).unwrap();
    let actions: Vec<_> = steps
        .iter()
        .map(|step| (step.object, step.action))
        .collect();
    let (repack, more) = (PackAction::Repack, PackAction::MoreDamage);
    assert_eq!(actions, [(first, repack), (second, more)]);
    let lost = losses(&test_repo);
    let part = LEAF..LEAF + CHUNK as u64;
    assert_eq!(
        lost,
        [(shared.backups[0], vec![part])].into(),
        "only one chunk is lost"
    );
}

#[test]
fn a_damaged_pack_of_nodes_is_left_to_a_prune() {
    let series = Series::of(2);
    let (store, _) = series.backed_up();
    let test_repo = open(&store);
    let mut nodes = packs(&store).into_iter();
    let nodes = nodes.find(|pack| pack.blob_kind() == Some(BlobKind::Node));
    let nodes = nodes.unwrap();
    let run = PlacedRun::all_of(listing(&test_repo, nodes))
        .next()
        .unwrap();
    flip(&store, nodes, run.range().start);
    let nodes = nodes.hash().unwrap();
    let host = Host::with_cache();
    host.check(&test_repo, true);
    let steps = repair(&test_repo, &host).unwrap();
    let actions: Vec<_> = steps.iter().map(|step| step.action).collect();
    assert_eq!(actions, [PackAction::LeftToPrune]);
    assert!(has(&store, nodes));
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert!(!has(&store, nodes));
    series.assert_restores(&test_repo, "pruned");
}

/// The host knows only of the damage outside of the runs.
#[test]
fn a_pack_that_is_damaged_outside_of_its_runs_and_in_a_used_run_stops_no_prune() {
    let damaged = Damaged::new();
    let test_repo = open(&damaged.store);
    let pack = pack_object(&damaged.store, damaged.pack);
    flip(&damaged.store, pack, damaged.size - 50);
    let host = Host::with_cache();
    let cache = host.cache.as_deref().unwrap();
    let index = Index::open(&test_repo.project, cache, host.notices.clone()).unwrap();
    index.note_damaged_outside_runs(damaged.pack);
    index.close();
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert!(has(&damaged.store, damaged.pack));
    assert_eq!(losses(&test_repo), damaged.losses);
}

#[test]
fn a_reader_finds_chunks_that_a_repair_has_just_moved() {
    let damaged = Damaged::new();
    let host = damaged.host();
    let test_repo = open(&damaged.store);
    let index = || {
        let index = Index::in_memory(&test_repo.project, host.notices.clone()).unwrap();
        assert!(!index.resync().unwrap(), "the index is up to date");
        index
    };
    let [reader, examiner] = [index(), index()];
    let steps = repair(&test_repo, &host).unwrap();
    assert!(steps.iter().all(PackStep::is_repacked) && !damaged.rest.is_empty());
    let blobs = BlobReader::new(&reader);
    let lost = LostChunks::new(&examiner).unwrap();
    for chunk in &damaged.rest {
        blobs.chunk(chunk).unwrap();
        lost.check(chunk).unwrap();
    }
}
