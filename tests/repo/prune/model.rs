//! Random sequences of backups, forgets, prunes, time and crashes, against a plain model: what is kept restores,
//! and what is not goes in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cuttlebone::base::ObjectHash;
use cuttlebone::ops::{self, BackupOptions, MaxUnused, OpsError, PruneOptions};
use cuttlebone::repo::PackSizes;
use cuttlebone::storage::{Fault, FaultBackend, Moment, Plan};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{DEAD, GRACE, HOUR, forget, is_tidy, limits, open, prune, try_forget};
use crate::repo::model::config;
use crate::repo::{BLOCK, BLOCK_LEN, Host, Image, KIB, LEAF, TestRepo, noise, options};

const VOLUMES: [&str; 3] = ["a disk", "another", "a third"];

#[derive(Debug, Clone)]
enum Step {
    /// Changes a volume and backs it up.
    BackUp(usize, Vec<Write>, Run),
    Forget(Vec<Index>, Run),
    Prune(PruneOptions, Run),
    /// So much time passes.
    Age(Duration),
}

/// A block of noise, or of zeros if there is no seed, at this place. Few of both make for content that comes back,
/// and that volumes share.
#[derive(Debug, Clone, Copy)]
struct Write {
    leaf: u64,
    block: u64,
    seed: Option<u64>,
}

/// Who does it, and what goes wrong with the store meanwhile.
#[derive(Debug, Clone, Copy)]
struct Run {
    with_cache: bool,
    crash: Option<Plan>,
}

fn run() -> impl Strategy<Value = Run> {
    let plan = prop_oneof![
        (1..80_u64).prop_map(|n| Plan::at(n, Fault::Die(Moment::Before))),
        (1..25_u64).prop_map(|n| Plan::at_write(n, Fault::Die(Moment::Before))),
        (1..25_u64).prop_map(|n| Plan::at_write(n, Fault::Die(Moment::After))),
        (1..25_u64).prop_map(|n| Plan::at_write(n, Fault::Tear)),
    ];
    (any::<bool>(), prop::option::weighted(0.25, plan))
        .prop_map(|(with_cache, crash)| Run { with_cache, crash })
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
    let options = (select(vec![Duration::ZERO, GRACE]), max_unused, max_repack).prop_map(
        |(grace, max_unused, max_repack)| PruneOptions {
            max_repack,
            ..limits(grace, max_unused)
        },
    );
    prop_oneof![
        5 => (0..VOLUMES.len(), vec(write, 0..6), run()).prop_map(|(v, w, run)| Step::BackUp(v, w, run)),
        3 => (vec(any::<Index>(), 1..4), run()).prop_map(|(which, run)| Step::Forget(which, run)),
        4 => (options, run()).prop_map(|(options, run)| Step::Prune(options, run)),
        3 => select(vec![DEAD, HOUR, GRACE]).prop_map(Step::Age),
    ]
}

struct World {
    store: FaultBackend,
    test_repo: TestRepo,
    /// Without a cache, and with one, which no crash of the store touches.
    hosts: [Host; 2],
    images: [Image; 3],
    kept: BTreeMap<ObjectHash, Image>,
    /// Backups that a forget was about to remove when it was cut short.
    given_up: BTreeSet<ObjectHash>,
    /// A prune may have died so short ago that its lease counts.
    prune_died: bool,
}

impl World {
    fn new() -> Self {
        let store = FaultBackend::new();
        let test_repo = TestRepo::init(store.clone(), 4 * KIB).unwrap();
        let mut hosts = [Host::without_cache(), Host::with_cache()];
        // So that a plan comes to pass in the same call each time.
        for host in &mut hosts {
            host.threads = 1;
        }
        Self {
            store,
            test_repo,
            hosts,
            images: [(); 3].map(|()| Image::new(3 * LEAF)),
            kept: BTreeMap::new(),
            given_up: BTreeSet::new(),
            prune_died: false,
        }
    }

    fn host(&self, run: Run) -> &Host {
        &self.hosts[usize::from(run.with_cache)]
    }

    /// Does it, with what goes wrong, if anything does; none if it was cut short.
    fn run<T>(
        &mut self,
        run: Run,
        work: impl FnOnce(&Self) -> Result<T, OpsError>,
    ) -> Option<Result<T, OpsError>> {
        let Some(plan) = run.crash else {
            return Some(work(self));
        };
        self.store.set_plan(plan);
        let done = work(self);
        let cut_short = !self.store.is_planned();
        self.store = self.store.crash();
        self.test_repo = open(&self.store);
        (!cut_short).then_some(done)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::BackUp(volume, writes, run) => self.back_up(*volume, writes, *run),
            Step::Forget(which, run) => self.forget(which, *run),
            Step::Prune(options, run) => self.prune(options, *run),
            Step::Age(by) => {
                self.store.age(*by);
                self.prune_died = false;
            }
        }
    }

    fn back_up(&mut self, volume: usize, writes: &[Write], run: Run) {
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
        let done = self.run(run, |world| {
            let host = world.host(run);
            host.run(&world.test_repo, host.image(&image)?, &options)
        });
        if let Some(done) = done {
            self.kept.insert(done.unwrap().id, image);
            return;
        }
        // Its record may have been stored last.
        for backup in self.test_repo.backups() {
            self.kept.entry(backup.id).or_insert_with(|| image.clone());
        }
        self.is_whole();
    }

    fn forget(&mut self, which: &[Index], run: Run) {
        if self.kept.is_empty() {
            return;
        }
        let ids: Vec<_> = self.kept.keys().copied().collect();
        let mut gone: Vec<_> = which.iter().map(|index| *index.get(&ids)).collect();
        gone.sort_unstable();
        gone.dedup();
        if let Some(done) = self.run(run, |world| try_forget(&world.test_repo, &gone)) {
            done.unwrap();
            self.kept.retain(|id, _| !gone.contains(id));
        } else {
            self.given_up.extend(gone);
        }
        // What was cut short is finished by another run, some day.
        let left = self.test_repo.backups();
        let is_left = |id: &ObjectHash| left.iter().any(|backup| backup.id == *id);
        self.kept
            .retain(|id, _| !self.given_up.contains(id) || is_left(id));
    }

    fn prune(&mut self, options: &PruneOptions, run: Run) {
        let done = self.run(run, |world| {
            let context = world.host(run).context();
            ops::plan_prune(&world.test_repo.project, options, false, &context)?.run()
        });
        match done {
            Some(Ok(_)) => {}
            Some(Err(OpsError::PruneRuns { .. })) if self.prune_died => {}
            Some(Err(error)) => panic!("{error:?}"),
            None => self.prune_died = true,
        }
        self.is_whole();
    }

    /// What is kept is there, and nothing else; all of it restores, and nothing is damaged.
    fn is_whole(&self) {
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

    /// Once all that died is known to be dead, one prune leaves what is used, and nothing else.
    fn ends_tidy(self) {
        self.store.age(DEAD);
        prune(&self.test_repo, &self.hosts[1], Duration::ZERO).unwrap();
        self.is_whole();
        is_tidy(&self.test_repo, &self.store, "at the end");
        forget(&self.test_repo, &self.kept.into_keys().collect::<Vec<_>>());
        prune(&self.test_repo, &self.hosts[0], Duration::ZERO).unwrap();
        is_tidy(&self.test_repo, &self.store, "of nothing");
    }
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn what_is_kept_restores_and_the_rest_goes(steps in vec(step(), 1..20)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.ends_tidy();
    }
}
