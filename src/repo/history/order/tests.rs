use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A record that a test made.
#[derive(Debug, Clone)]
struct Made {
    id: ObjectHash,
    follows: Vec<ObjectHash>,
    replaces: Option<ObjectHash>,
    shows_gaps: bool,
    /// Seconds since 1970; `None` if it is forgotten.
    time: Option<i64>,
}

fn id(number: u64) -> ObjectHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    ObjectHash::from_bytes(bytes)
}

fn number(id: ObjectHash) -> u64 {
    u64::from_be_bytes(id.as_bytes()[..8].try_into().unwrap())
}

fn made(number: u64, follows: &[u64], time: i64) -> Made {
    Made {
        id: id(number),
        follows: follows.iter().map(|&number| id(number)).collect(),
        replaces: None,
        shows_gaps: true,
        time: Some(time),
    }
}

fn forgotten(number: u64, follows: &[u64]) -> Made {
    Made {
        time: None,
        ..made(number, follows, 0)
    }
}

fn history<'a>(records: impl IntoIterator<Item = &'a Made>) -> History {
    let records: Vec<_> = records
        .into_iter()
        .map(|made| OrderedRecord {
            id: made.id,
            follows: &made.follows,
            replaces: made.replaces,
            shows_gaps: made.shows_gaps,
            time: made.time.map(|time| Timestamp::from_second(time).unwrap()),
        })
        .collect();
    History::new(&records, |_| false)
}

fn newest_first(history: &History) -> Vec<u64> {
    history.counted().map(number).collect()
}

fn unfollowed(history: &History) -> Vec<u64> {
    history.unfollowed().map(number).collect()
}

#[test]
fn a_record_is_newer_than_the_record_that_it_follows_even_if_clocks_are_wrong() {
    let all = [made(1, &[], 500), made(2, &[1], 3), made(3, &[2], 40)];
    let history = history(&all);
    assert_eq!(newest_first(&history), [3, 2, 1]);
    assert_eq!(unfollowed(&history), [3]);
}

#[test]
fn the_time_and_then_the_id_decide_between_records_of_which_neither_follows_the_other() {
    let all = [
        made(1, &[], 10),
        made(2, &[1], 20),
        made(3, &[1], 30),
        made(4, &[1], 20),
    ];
    let history = history(&all);
    assert_eq!(newest_first(&history), [3, 4, 2, 1]);
    assert_eq!(unfollowed(&history), [3, 4, 2]);
    let of_tips = history.tips(|_| true).into_iter().map(number);
    assert_eq!(of_tips.collect::<Vec<_>>(), [3, 4, 2]);
}

#[test]
fn a_forgotten_record_still_orders_the_records_before_and_after_it() {
    // The clock was wrong when record 1 was made. Only record 2, which no longer exists, shows that
    // record 3 is newer.
    let all = [made(1, &[], 900), forgotten(2, &[1]), made(3, &[2], 5)];
    let history = history(&all);
    assert_eq!(newest_first(&history), [3, 1]);
    assert!(history.gaps().is_empty());
}

#[test]
fn a_new_backup_follows_the_newest_record_even_if_this_record_is_forgotten() {
    let all = [made(1, &[], 5), forgotten(2, &[1])];
    let history = history(&all);
    assert_eq!(unfollowed(&history), [2]);
    let tips = history.tips(|_| true);
    assert_eq!(tips, [id(1)], "a forgotten record is not a tip");
}

#[test]
fn a_followed_record_that_neither_exists_nor_is_forgotten_is_a_gap() {
    let all = [made(3, &[1, 2], 30), made(2, &[], 20)];
    assert_eq!(history(&all).gaps(), [id(1)]);
    let records = all.iter().map(|made| OrderedRecord {
        id: made.id,
        follows: &made.follows,
        replaces: None,
        time: Some(Timestamp::UNIX_EPOCH),
        shows_gaps: true,
    });
    let elsewhere = History::new(&records.collect::<Vec<_>>(), |other| *other == id(1));
    assert!(elsewhere.gaps().is_empty(), "another volume has record 1");
}

#[test]
fn a_missing_record_that_only_another_write_key_names_is_not_a_gap() {
    let by_thief = Made {
        shows_gaps: false,
        ..made(4, &[1, 3], 40)
    };
    let all = [made(3, &[2], 30), by_thief];
    let history = history(&all);
    assert_eq!(history.gaps(), [id(2)]);
    assert_eq!(newest_first(&history), [4, 3]);
}

#[test]
fn a_record_that_replaces_another_one_takes_its_place() {
    let labelled = Made {
        replaces: Some(id(1)),
        ..made(9, &[], 10)
    };
    let before = [made(1, &[], 10), made(2, &[1], 20), labelled.clone()];
    let history_before = history(&before);
    assert_eq!(newest_first(&history_before), [2, 9, 1]);
    assert_eq!(
        unfollowed(&history_before),
        [2],
        "a new backup follows neither the replaced record nor the one that replaced it"
    );
    // The same holds if the replaced record is deleted, with or without an entry in the log.
    let with_log = [forgotten(1, &[]), before[1].clone(), labelled.clone()];
    assert_eq!(newest_first(&history(&with_log)), [2, 9]);
    let without = [before[1].clone(), labelled.clone()];
    assert_eq!(newest_first(&history(&without)), [2, 9]);
    assert!(history(&without).gaps().is_empty());
    // The same holds if record 9, which replaced record 1, is replaced, too.
    let again = Made {
        replaces: Some(id(9)),
        ..made(8, &[], 10)
    };
    let gone = Made {
        time: None,
        ..labelled
    };
    let twice = [forgotten(1, &[]), before[1].clone(), gone, again];
    assert_eq!(newest_first(&history(&twice)), [2, 8]);
    assert_eq!(unfollowed(&history(&twice)), [2]);
}

#[test]
fn records_that_follow_each_other_in_a_circle_are_all_kept() {
    let circle = Made {
        replaces: Some(id(1)),
        ..made(9, &[2], 10)
    };
    let all = [made(1, &[], 10), made(2, &[1], 20), circle, made(5, &[], 1)];
    let history = history(&all);
    let mut found = newest_first(&history);
    assert_eq!(found[0], 5);
    found.sort_unstable();
    assert_eq!(found, [1, 2, 5, 9]);
    for (place, entry) in history.entries().iter().enumerate() {
        assert!(entry.follows.iter().all(|&older| older > place));
    }
}

#[test]
fn a_hundred_thousand_records_are_put_in_order_in_seconds() {
    let many = 100_000;
    let begun = std::time::Instant::now();
    let chain: Vec<_> = (1..=many).map(|n| made(n, &[n - 1], 0)).collect();
    assert_eq!(
        newest_first(&history(&chain)),
        (1..=many).rev().collect::<Vec<_>>()
    );
    let apart: Vec<_> = (1..=many).map(|n| made(n, &[], 7)).collect();
    assert_eq!(
        newest_first(&history(&apart)),
        (1..=many).rev().collect::<Vec<_>>()
    );
    let all: Vec<u64> = (1..=many).collect();
    let merged: Vec<_> = apart.into_iter().chain([made(many + 1, &all, 0)]).collect();
    assert_eq!(newest_first(&history(&merged))[0], many + 1);
    assert!(begun.elapsed().as_secs() < 30);
}

/// A copy of a repository: the records that it has, and those that it has forgotten.
#[derive(Debug, Clone, Default)]
struct Site {
    records: BTreeMap<u64, Made>,
    forgotten: BTreeMap<u64, Made>,
}

impl Site {
    fn all(&self) -> impl Iterator<Item = &Made> {
        self.records.values().chain(self.forgotten.values())
    }

    fn forget(&mut self, number: u64) {
        let mut made = self.records.remove(&number).unwrap();
        made.time = None;
        self.forgotten.insert(number, made);
    }

    /// Adds the records of another copy. Then removes those that one of the copies has forgotten.
    fn merge(&mut self, other: &Self) {
        self.forgotten.extend(other.forgotten.clone());
        self.records.extend(other.records.clone());
        self.records.retain(|n, _| !self.forgotten.contains_key(n));
    }
}

/// Returns the existing records, newest first, by a slow but simple implementation of the order.
fn plainly(site: &Site) -> Vec<u64> {
    let mut left: Vec<&Made> = site.all().collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let is_free = |made: &&&Made| !left.iter().any(|other| other.follows.contains(&made.id));
        let free: Vec<&Made> = left.iter().filter(is_free).copied().collect();
        let next = free.iter().find(|made| made.time.is_none());
        let next = next.or_else(|| free.iter().max_by_key(|made| (made.time, made.id)));
        let next = next.unwrap().id;
        order.extend(
            site.records
                .contains_key(&number(next))
                .then(|| number(next)),
        );
        left.retain(|made| made.id != next);
    }
    order
}

/// Returns all records that this one follows, directly or through others.
fn ancestors(of: u64, follows: &BTreeMap<u64, Vec<ObjectHash>>) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut todo = vec![of];
    while let Some(next) = todo.pop() {
        for older in follows
            .get(&next)
            .into_iter()
            .flatten()
            .copied()
            .map(number)
        {
            if found.insert(older) {
                todo.push(older);
            }
        }
    }
    found
}

/// A generator of numbers (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % end as u64).unwrap()
    }
}

#[test]
fn with_three_sites_and_wrong_clocks_the_record_that_follows_all_others_is_the_newest() {
    for seed in 0..4000 {
        let mut random = Random(seed);
        let mut sites: [Site; 3] = Default::default();
        let skews: [i64; 3] =
            std::array::from_fn(|_| [0, 0, 48 * 3600, -8760 * 3600][random.below(4)]);
        let mut follows: BTreeMap<u64, Vec<ObjectHash>> = BTreeMap::new();
        let (mut now, mut last) = (1_000_000_000, 0);
        for _ in 0..3 + random.below(27) {
            now += 3600 * i64::try_from(1 + random.below(30)).unwrap();
            let at = random.below(3);
            match random.below(20) {
                0..12 => {
                    last += 1;
                    let seen: Vec<u64> = unfollowed(&history(sites[at].all()));
                    let new = made(last, &seen, now + skews[at]);
                    follows.insert(last, new.follows.clone());
                    sites[at].records.insert(last, new);
                    let order = newest_first(&history(sites[at].all()));
                    assert_eq!(order[0], last, "seed {seed}");
                }
                12..15 => {
                    let present: Vec<u64> = sites[at].records.keys().copied().collect();
                    if !present.is_empty() {
                        let number = present[random.below(present.len())];
                        sites[at].forget(number);
                    }
                }
                _ => {
                    let other = sites[random.below(3)].clone();
                    sites[at].merge(&other);
                }
            }
            let found = history(sites[at].all());
            let order = newest_first(&found);
            assert_eq!(order, plainly(&sites[at]), "seed {seed}");
            assert!(found.gaps().is_empty(), "seed {seed}");
            let places: BTreeMap<u64, usize> = order.iter().copied().zip(0..).collect();
            for (newer, place) in &places {
                for older in ancestors(*newer, &follows) {
                    let after = places.get(&older).is_none_or(|older| older > place);
                    assert!(after, "seed {seed}: {newer} follows {older}");
                }
            }
        }
    }
}
