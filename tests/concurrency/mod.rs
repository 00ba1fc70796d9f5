//! A model of the protocol of `docs/concurrency.md`. The tests search all states that a few
//! backups, prunes, readers and `forget`s can reach, with a crash or a stop at any step.
//!
//! The model omits steps that other processes cannot see, or cannot distinguish from waiting. These
//! are the crash of a process that has stored nothing, the entries of the log, the records that a
//! prune deletes, and the refusal of a second prune. The model also omits the age of packs: any
//! pack may look old.
//! The modules `forgets`, `log`, `provenance`, `replica` and `voids` are separate models.

mod forgets;
mod log;
mod model;
mod provenance;
mod pruner;
mod reader;
mod replica;
mod search;
mod store;
mod voids;
mod writer;

use self::model::{Broken, LateCommit, Role, Rule, Scenario};
use self::search::{breaks, has_fault};
use self::store::{Mark, Set, Store, one};

// Blobs, by number: two chunks (X, Y) and three nodes, with their children.
const X: u8 = 0;
const N: u8 = 1; // child: X
const Y: u8 = 2;
const T: u8 = 3; // children: N and Y
const A: u8 = 4; // child: N
const CHILDREN: [Set; 8] = [0, one(0), 0, one(1) | one(2), one(1), 0, 0, 0];
/// The blobs of a tree that the store holds at the beginning.
const OLD: Set = one(0) | one(1);

const PRUNE: Role = Role::Pruner { repacks: None };

const fn forget(record: u8) -> Role {
    Role::Forgetter { record }
}

const fn reader(record: u8) -> Role {
    Role::Reader { record }
}

/// A backup that stores this record.
const fn backup(record: u8) -> Role {
    writer(record, None, 0)
}

const fn backup_on(base: u8, record: u8) -> Role {
    writer(record, Some(base), 0)
}

/// A backup that uses packs that an earlier run stored and that no segment names.
const fn backup_that_adopts(packs: Set, record: u8) -> Role {
    writer(record, None, packs)
}

const fn writer(record: u8, base: Option<u8>, adopts: Set) -> Role {
    let stores = [2 * record, 2 * record + 1];
    Role::Writer {
        record,
        base,
        adopts,
        stores,
    }
}

/// Pack 0 exists, and no segment names it.
fn orphaned() -> Store {
    let mut store = Store::default();
    store.put_pack(0, OLD);
    store
}

/// A segment names pack 0, but no record uses it.
fn unused() -> Store {
    let mut store = orphaned();
    store.put_segment(one(0), 0);
    store
}

/// Record 0 uses all of pack 0.
fn used() -> Store {
    Store {
        records: one(0),
        ..unused()
    }
}

/// Record 0 uses two of the three blobs in pack 0.
fn half_used() -> Store {
    let mut store = used();
    store.put_pack(0, OLD | one(Y.into()));
    store
}

/// Pack 1 holds all blobs that record 0 uses. Pack 0 holds one of them, too.
fn twice() -> Store {
    let mut store = used();
    store.put_pack(0, one(X.into()));
    store.put_pack(1, OLD);
    store.put_segment(one(1), 0);
    store
}

/// Packs 0 and 1 each hold all blobs that record 0 uses. Pack 0 is marked, and a segment names only
/// pack 1.
fn marked_once() -> Store {
    let mut store = Store {
        records: one(0),
        ..orphaned()
    };
    store.put_pack(1, OLD);
    store.put_segment(one(1), 0);
    store.put_mark(Mark {
        packs: one(0),
        records: one(0),
        ..Mark::default()
    });
    store
}

fn scenario(name: &'static str, store: Store, tops: &[u8], roles: &[Role]) -> Scenario {
    let mut all = [X; 8];
    all[..tops.len()].copy_from_slice(tops);
    Scenario {
        name,
        broken: Broken::default(),
        store,
        children: CHILDREN,
        tops: all,
        roles: roles.to_vec(),
        grace: false,
        lapses: None,
        rounds: 2,
        thorough: false,
        has_unnamed: false,
        at_rest: true,
        late_commit: None,
    }
}

fn thorough(scenario: Scenario) -> Scenario {
    Scenario {
        thorough: true,
        ..scenario
    }
}

fn with_grace(scenario: Scenario) -> Scenario {
    Scenario {
        grace: true,
        ..scenario
    }
}

/// Returns the scenario, changed so that the actor with this number may be stopped until its lease
/// has lapsed.
fn lapsing(actor: usize, scenario: Scenario) -> Scenario {
    Scenario {
        lapses: Some(actor),
        ..scenario
    }
}

// Each scenario lists the tops of the trees of records 0, 1 and 2, in this order.

fn new() -> Scenario {
    thorough(scenario(
        "a backup, a prune",
        unused(),
        &[N, A],
        &[backup(1), PRUNE],
    ))
}

fn new_prunes() -> Scenario {
    scenario(
        "a backup, two prunes",
        unused(),
        &[N, N],
        &[backup(1), PRUNE, PRUNE],
    )
}

fn based() -> Scenario {
    let roles = [backup_on(0, 1), forget(0), PRUNE];
    thorough(scenario(
        "a backup on a base, a prune",
        used(),
        &[N, T],
        &roles,
    ))
}

fn based_prunes() -> Scenario {
    let roles = [backup_on(0, 1), forget(0), PRUNE, PRUNE];
    scenario("a backup on a base, two prunes", used(), &[N, N], &roles)
}

fn based_on_new() -> Scenario {
    let roles = [backup(1), backup_on(1, 2), forget(1), PRUNE];
    scenario(
        "a backup on a base that is new",
        unused(),
        &[N, N, N],
        &roles,
    )
}

/// A backup on a base that is not stored yet when the backup begins.
fn based_on_newer() -> Scenario {
    let roles = [backup(1), backup_on(1, 2), forget(1), PRUNE];
    let scenario = scenario(
        "a backup on a base that is stored after it began",
        Store::default(),
        &[N, N, N],
        &roles,
    );
    Scenario {
        rounds: 1,
        ..scenario
    }
}

fn adopting() -> Scenario {
    let roles = [backup_that_adopts(one(0), 1), backup(2), PRUNE];
    let scenario = scenario(
        "a backup that adopts, a backup, a prune",
        orphaned(),
        &[N, N, N],
        &roles,
    );
    Scenario {
        rounds: 1,
        ..scenario
    }
}

fn adopting_prunes() -> Scenario {
    let roles = [backup_that_adopts(one(0), 1), PRUNE, PRUNE];
    scenario(
        "a backup that adopts, two prunes",
        orphaned(),
        &[N, N],
        &roles,
    )
}

fn stored_twice() -> Scenario {
    let roles = [backup_on(0, 1), forget(0), PRUNE, PRUNE];
    scenario("data that is stored twice", twice(), &[N, N], &roles)
}

fn repacking() -> Scenario {
    let prune = Role::Pruner {
        repacks: Some((7, one(0))),
    };
    scenario(
        "packs that are packed again",
        half_used(),
        &[N, T],
        &[backup_on(0, 1), prune],
    )
}

/// A base whose packs no segment names. The backup stores new data.
fn unnamed() -> Scenario {
    let store = Store {
        records: one(0),
        ..orphaned()
    };
    let roles = [backup_on(0, 1), forget(0), PRUNE, PRUNE];
    let scenario = scenario("packs that no segment names", store, &[N, T], &roles);
    Scenario {
        has_unnamed: true,
        ..with_grace(scenario)
    }
}

/// An interrupted prune has left a mark and a superseded segment.
fn interrupted() -> Scenario {
    let mut store = marked_once();
    let superseded = store.put_segment(one(0) | one(1), 0);
    store.put_segment(one(1), superseded);
    let roles = [backup_on(0, 1), forget(0), PRUNE];
    scenario("what an interrupted prune left", store, &[N, T], &roles)
}

fn grace_new() -> Scenario {
    with_grace(Scenario {
        name: "a backup, prunes with grace",
        ..new_prunes()
    })
}

fn grace_based() -> Scenario {
    with_grace(Scenario {
        name: "a backup on a base, prunes with grace",
        ..based_prunes()
    })
}

fn grace_marked() -> Scenario {
    let roles = [backup_on(0, 1), forget(0), PRUNE, PRUNE];
    with_grace(scenario(
        "data in two packs, one of them marked",
        marked_once(),
        &[N, N],
        &roles,
    ))
}

fn lapse_new() -> Scenario {
    lapsing(
        0,
        scenario("a stopped backup", unused(), &[N, A], &[backup(1), PRUNE]),
    )
}

fn lapse_prunes() -> Scenario {
    lapsing(
        0,
        Scenario {
            name: "a stopped backup, two prunes",
            ..new_prunes()
        },
    )
}

fn lapse_adopting() -> Scenario {
    let roles = [backup_that_adopts(one(0), 1), PRUNE];
    lapsing(
        0,
        scenario("a stopped backup that adopts", orphaned(), &[N, N], &roles),
    )
}

fn lapse_of_prune() -> Scenario {
    lapsing(
        1,
        Scenario {
            name: "a stopped prune, another, a backup",
            ..new_prunes()
        },
    )
}

fn reading() -> Scenario {
    let roles = [reader(0), forget(0), PRUNE, PRUNE];
    scenario("a reader, two prunes", used(), &[N], &roles)
}

fn reading_twice_stored() -> Scenario {
    let roles = [reader(0), forget(0), PRUNE, PRUNE];
    scenario(
        "a reader of data that is stored twice",
        twice(),
        &[N],
        &roles,
    )
}

fn reading_marked() -> Scenario {
    let roles = [reader(0), forget(0), PRUNE, PRUNE];
    with_grace(scenario(
        "a reader of data in two packs, one of them marked",
        marked_once(),
        &[N],
        &roles,
    ))
}

fn reading_repacked() -> Scenario {
    let prune = Role::Pruner {
        repacks: Some((7, one(0))),
    };
    scenario(
        "a reader of packs that are packed again",
        half_used(),
        &[N],
        &[reader(0), prune, PRUNE],
    )
}

fn reading_with_grace() -> Scenario {
    with_grace(Scenario {
        name: "a reader, prunes with grace",
        ..reading()
    })
}

fn reading_alongside_a_backup() -> Scenario {
    let roles = [reader(0), forget(0), backup_on(0, 1), PRUNE];
    scenario("a reader, a backup, a prune", used(), &[N, T], &roles)
}

fn lapse_of_reader() -> Scenario {
    lapsing(
        0,
        Scenario {
            name: "a stopped reader of packs that are packed again",
            ..reading_repacked()
        },
    )
}

/// The writer is stopped while it stores its record.
fn late(late_commit: LateCommit) -> Scenario {
    let scenario = Scenario {
        name: "a record that comes late",
        ..lapse_prunes()
    };
    Scenario {
        late_commit: Some(late_commit),
        at_rest: false,
        ..scenario
    }
}

#[track_caller]
fn holds(scenario: &Scenario) {
    search::holds(scenario.name, scenario);
}

#[test]
fn a_backup_and_a_prune_at_the_same_time_lose_no_data() {
    for scenario in [
        new(),
        based(),
        based_on_new(),
        based_on_newer(),
        adopting(),
        repacking(),
    ] {
        holds(&scenario);
    }
}

#[test]
fn a_backup_and_two_prunes_at_the_same_time_lose_no_data() {
    for scenario in [
        new_prunes(),
        based_prunes(),
        adopting_prunes(),
        stored_twice(),
        interrupted(),
    ] {
        holds(&scenario);
    }
}

#[test]
fn backups_and_prunes_with_a_grace_period_lose_no_data() {
    for scenario in [grace_new(), grace_based(), grace_marked(), unnamed()] {
        holds(&scenario);
    }
}

#[test]
fn a_backup_that_was_paused_for_long_loses_no_data() {
    for scenario in [lapse_new(), lapse_prunes(), lapse_adopting()] {
        holds(&scenario);
    }
}

#[test]
fn a_prune_that_was_paused_for_long_loses_no_data() {
    holds(&lapse_of_prune());
}

#[test]
fn prunes_delete_nothing_that_readers_read() {
    for scenario in [
        reading(),
        reading_twice_stored(),
        reading_marked(),
        reading_repacked(),
        reading_with_grace(),
        reading_alongside_a_backup(),
    ] {
        holds(&scenario);
    }
}

#[test]
fn a_reader_that_was_paused_for_long_reads_the_index_again() {
    holds(&lapse_of_reader());
}

/// A writer is stopped in the call that stores its record, and looks at the store afterwards. If it
/// crashes before it looks, the protocol cannot prevent damage. The search must find this damage,
/// which shows that the model includes such crashes.
#[test]
fn a_backup_paused_in_its_commit_is_safe_unless_it_crashes_before_it_looks_again() {
    holds(&late(LateCommit::Looked));
    assert!(has_fault(&late(LateCommit::Crashed)));
}

/// If any one of the rules is broken, the protocol fails, and the search finds the steps that lead
/// to this.
#[test]
fn no_rule_can_be_omitted() {
    let broken: [(Rule, fn() -> Scenario); 35] = [
        (Rule::FirstLookBeforeBase, based),
        (Rule::FirstIndexBeforeMarks, based_on_new),
        (Rule::MarkedIsNotReliedOn, new_prunes),
        (Rule::UnseenBaseIsWalked, based_on_new),
        (Rule::RelyBeforeNaming, adopting_prunes),
        (Rule::MarksBeforePresence, adopting_prunes),
        (Rule::OwnPacksAlike, new),
        (Rule::IntendBeforeCheck, new),
        (Rule::MarksBeforeNames, new_prunes),
        (Rule::LostNames, new),
        (Rule::RewritesCount, based_on_newer),
        (Rule::LapsedNamesNothing, lapse_adopting),
        (Rule::NewLeaseAfterLapse, lapse_prunes),
        (Rule::LapseIsRemembered, lapse_new),
        (Rule::OnePruner, new_prunes),
        (Rule::LeasesBeforeRecords, new),
        (Rule::LeasesBeforeIndex, adopting_prunes),
        (Rule::UnmarkedIsKept, grace_marked),
        (Rule::MarkBeforeLastLook, new),
        (Rule::MarkBeforeUnnaming, new),
        (Rule::UnnameBeforeDelete, new),
        (Rule::RescueBeforeUnmark, new_prunes),
        (Rule::DeleteBeforeUnmark, adopting_prunes),
        (Rule::MarkStays, unnamed),
        (Rule::MarkStaysThoughUsed, unnamed),
        (Rule::NamedIsSpared, new),
        (Rule::SupersedeAll, interrupted),
        (Rule::LapsedPrunerStops, lapse_of_prune),
        (Rule::IntentsAreUsed, new),
        (Rule::ReliedOnIsUsed, adopting_prunes),
        (Rule::ReadTreesStay, reading),
        (Rule::ReaderLeaseFirst, reading_repacked),
        (Rule::ReaderListsMarks, reading),
        (Rule::ReaderMarksBeforeIndex, reading),
        (Rule::LapsedReaderLooksAgain, lapse_of_reader),
    ];
    for (rule, scenario) in broken {
        let scenario = Scenario {
            broken: Broken::rule(rule),
            at_rest: false,
            ..scenario()
        };
        breaks(rule, &scenario);
    }
}
