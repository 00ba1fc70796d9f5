//! Random sequences of backups, forgets, prunes, pauses and crashes, against a plain model: kept
//! backups restore, and all other data is deleted in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cuttlebone::base::ObjectHash;
use cuttlebone::ops::{self, BackupOptions, MaxUnused, OpsError, PruneOptions};
use cuttlebone::repo::PackSizes;
use cuttlebone::storage::{Fault, FaultBackend, Moment, Plan};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{
    EXPIRED, GRACE, HOUR, assert_tidy, forget, limits, merging, open, pack_names, prune, try_forget,
};
use crate::repo::model::config;
use crate::repo::{BLOCK, BLOCK_LEN, Host, Image, KIB, LEAF, TestRepo, noise, options};

const VOLUMES: [&str; 3] = ["a disk", "another", "a third"];

#[derive(Debug, Clone)]
enum Step {
    /// Changes a volume and backs it up.
    BackUp(usize, Vec<Write>, Conditions),
    Forget(Vec<Index>, Conditions),
    Prune(PruneOptions, Conditions),
    /// Lets time pass.
    Age(Duration),
}

/// Writes a block of noise, or of zeros if there is no seed. There are few places and seeds, so
/// that content repeats and volumes share it.
#[derive(Debug, Clone, Copy)]
struct Write {
    leaf: u64,
    block: u64,
    seed: Option<u64>,
}

/// The host on which a step runs, and the fault at which the store crashes.
#[derive(Debug, Clone, Copy)]
struct Conditions {
    with_cache: bool,
    crash: Option<Plan>,
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let plan = prop_oneof![
        (1..80_u64).prop_map(|n| Plan::at(n, Fault::Die(Moment::Before))),
        (1..25_u64).prop_map(|n| Plan::at_write(n, Fault::Die(Moment::Before))),
        (1..25_u64).prop_map(|n| Plan::at_write(n, Fault::Die(Moment::After))),
        (1..25_u64).prop_map(|n| Plan::at_write(n, Fault::Tear)),
    ];
    (any::<bool>(), prop::option::weighted(0.25, plan))
        .prop_map(|(with_cache, crash)| Conditions { with_cache, crash })
}

fn step() -> impl Strategy<Value = Step> {
    let seed = prop::option::weighted(0.8, 0..8_u64);
    let write =
        (0..3_u64, 0..4_u64, seed).prop_map(|(leaf, block, seed)| Write { leaf, block, seed });
    let max_unused = select(vec![
        MaxUnused::Bytes(0),
        MaxUnused::Bytes(6000),
        MaxUnused::Percent(30.0),
        MaxUnused::Unlimited,
    ]);
    let max_repack = prop::option::weighted(0.3, 0..30_000_u64);
    let grace = select(vec![Duration::ZERO, GRACE]);
    let options = (grace, max_unused, max_repack, any::<bool>()).prop_map(
        |(grace, max_unused, max_repack, merge_small)| PruneOptions {
            max_repack,
            merge_small,
            ..limits(grace, max_unused)
        },
    );
    let back_up = (0..VOLUMES.len(), vec(write, 0..6), conditions());
    let forget = (vec(any::<Index>(), 1..4), conditions());
    let prune = (options, conditions());
    prop_oneof![
        5 => back_up.prop_map(|(volume, writes, c)| Step::BackUp(volume, writes, c)),
        3 => forget.prop_map(|(which, c)| Step::Forget(which, c)),
        4 => prune.prop_map(|(options, c)| Step::Prune(options, c)),
        3 => select(vec![EXPIRED, HOUR, GRACE]).prop_map(Step::Age),
    ]
}

struct World {
    store: FaultBackend,
    test_repo: TestRepo,
    /// One host without a cache and one with a cache, which survives crashes of the store.
    hosts: [Host; 2],
    images: [Image; 3],
    kept: BTreeMap<ObjectHash, Image>,
    /// Backups that an interrupted forget was to remove.
    half_forgotten: BTreeSet<ObjectHash>,
    /// Whether a prune has crashed and its lease may not have expired yet.
    prune_died: bool,
    /// Whether a forget has crashed and its lease may not have expired yet.
    forget_died: bool,
}

impl World {
    fn new() -> Self {
        let store = FaultBackend::new();
        let test_repo = TestRepo::init(store.clone(), 4 * KIB).unwrap();
        let mut hosts = [Host::without_cache(), Host::with_cache()];
        // With one thread, a planned fault hits the same call each time.
        for host in &mut hosts {
            host.threads = 1;
        }
        Self {
            store,
            test_repo,
            hosts,
            images: [(); 3].map(|()| Image::new(3 * LEAF)),
            kept: BTreeMap::new(),
            half_forgotten: BTreeSet::new(),
            prune_died: false,
            forget_died: false,
        }
    }

    fn host(&self, conditions: Conditions) -> &Host {
        &self.hosts[usize::from(conditions.with_cache)]
    }

    /// Runs a step under these conditions. Returns `None` if the store crashed meanwhile.
    fn run<T>(
        &mut self,
        conditions: Conditions,
        work: impl FnOnce(&Self) -> Result<T, OpsError>,
    ) -> Option<Result<T, OpsError>> {
        let Some(plan) = conditions.crash else {
            return Some(work(self));
        };
        self.store.set_plan(plan);
        let done = work(self);
        let crashed = !self.store.is_planned();
        self.store = self.store.crash();
        self.test_repo = open(&self.store);
        (!crashed).then_some(done)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::BackUp(volume, writes, conditions) => {
                self.back_up(*volume, writes, *conditions);
            }
            Step::Forget(which, conditions) => self.forget(which, *conditions),
            Step::Prune(options, conditions) => self.prune(options, *conditions),
            Step::Age(by) => {
                self.store.age(*by);
                self.prune_died = false;
                self.forget_died = false;
            }
        }
    }

    fn back_up(&mut self, volume: usize, writes: &[Write], conditions: Conditions) {
        let image = &mut self.images[volume];
        for write in writes {
            let bytes = write
                .seed
                .map_or(vec![0; BLOCK_LEN], |seed| noise(seed, BLOCK_LEN));
            image.write(write.leaf * LEAF + write.block * BLOCK, &bytes);
        }
        let image = image.clone();
        let options = BackupOptions {
            pack_sizes: PackSizes::new(10 * KIB, 1, 2),
            ..options(VOLUMES[volume])
        };
        let done = self.run(conditions, |world| {
            let host = world.host(conditions);
            host.run(&world.test_repo, host.image(&image)?, &options)
        });
        if let Some(done) = done {
            self.kept.insert(done.unwrap().id, image);
            return;
        }
        // The record of the new backup may have been stored before the crash.
        for backup in self.test_repo.backups() {
            self.kept.entry(backup.id).or_insert_with(|| image.clone());
        }
        self.assert_restores();
    }

    fn forget(&mut self, which: &[Index], conditions: Conditions) {
        if self.kept.is_empty() {
            return;
        }
        let ids: Vec<_> = self.kept.keys().copied().collect();
        let mut gone: Vec<_> = which.iter().map(|index| *index.get(&ids)).collect();
        gone.sort_unstable();
        gone.dedup();
        match self.run(conditions, |world| try_forget(&world.test_repo, &gone)) {
            Some(Ok(())) => self.kept.retain(|id, _| !gone.contains(id)),
            // The lease of the interrupted forget may state that it keeps a backup that this forget
            // would remove.
            Some(Err(OpsError::LostRace { .. })) if self.forget_died => {}
            Some(Err(error)) => panic!("{error:?}"),
            None => {
                self.half_forgotten.extend(gone);
                self.forget_died = true;
            }
        }
        // A later forget or prune completes an interrupted forget.
        let left = self.test_repo.backups();
        let is_left = |id: &ObjectHash| left.iter().any(|backup| backup.id == *id);
        self.kept
            .retain(|id, _| !self.half_forgotten.contains(id) || is_left(id));
    }

    fn prune(&mut self, options: &PruneOptions, conditions: Conditions) {
        let done = self.run(conditions, |world| {
            let context = world.host(conditions).context();
            ops::plan_prune(&world.test_repo.project, options, false, &context)?.run()
        });
        match done {
            Some(Ok(_)) => {}
            Some(Err(OpsError::PruneRuns { .. })) if self.prune_died => {}
            // A prune refuses to run if there are packs but no backup.
            Some(Err(OpsError::NoBackups { .. })) if self.kept.is_empty() => {}
            Some(Err(error)) => panic!("{error:?}"),
            None => self.prune_died = true,
        }
        self.assert_restores();
    }

    /// Asserts that exactly the kept backups exist, that all restore, and that a check finds
    /// nothing.
    fn assert_restores(&self) {
        let backups = self.test_repo.backups();
        let mut ids: Vec<_> = backups.iter().map(|backup| backup.id).collect();
        ids.sort_unstable();
        assert!(ids.iter().eq(self.kept.keys()), "{ids:?}");
        for host in &self.hosts {
            for backup in &backups {
                let restored = host.restore_image(&self.test_repo, backup).unwrap();
                assert_eq!(restored, self.kept[&backup.id]);
            }
            host.check_clean(&self.test_repo, "in between");
        }
    }

    /// Asserts that a prune merges small packs, and that the next one finds nothing to do.
    fn assert_merging_ends(&self) {
        let mut options = merging(limits(Duration::ZERO, MaxUnused::Bytes(0)));
        options.accept_loss.all = self.kept.is_empty();
        let context = self.hosts[0].context();
        let prune = || ops::plan_prune(&self.test_repo.project, &options, false, &context);
        prune().and_then(ops::Prune::run).unwrap();
        self.assert_restores();
        assert_tidy(&self.test_repo, &self.store, "merged");
        assert!(
            pack_names(&self.store).len() < 40,
            "{:?}",
            pack_names(&self.store)
        );
        let report = prune().and_then(ops::Prune::run).unwrap();
        assert_eq!((report.merged.packs, report.repacked.packs), (0, 0));
        assert_eq!((report.deleted.packs, report.bytes_written), (0, 0));
    }

    /// Asserts that one prune leaves only used data after the leases of crashed processes have
    /// expired.
    fn assert_ends_tidy(self) {
        self.store.age(EXPIRED);
        let mut options = limits(Duration::ZERO, MaxUnused::Bytes(0));
        // Without a backup, a prune deletes data only if the user accepts that.
        options.accept_loss.all = self.kept.is_empty();
        let context = self.hosts[1].context();
        let prune_all = ops::plan_prune(&self.test_repo.project, &options, false, &context);
        prune_all.and_then(ops::Prune::run).unwrap();
        self.assert_restores();
        assert_tidy(&self.test_repo, &self.store, "at the end");
        self.assert_merging_ends();
        forget(&self.test_repo, &self.kept.into_keys().collect::<Vec<_>>());
        prune(&self.test_repo, &self.hosts[0], Duration::ZERO).unwrap();
        assert_tidy(&self.test_repo, &self.store, "without backups");
    }
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn kept_backups_restore_and_all_other_data_is_deleted(steps in vec(step(), 1..20)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.assert_ends_tidy();
    }
}
