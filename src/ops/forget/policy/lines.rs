//! Tests policies on histories that are not one line: hosts back up at the same time, clocks are
//! wrong, or backups are forged.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::model::any_rule;
use super::*;
use crate::ops::forget::rule::Period;

/// A history, oldest first. The position of a backup identifies it.
#[derive(Default)]
struct Made {
    /// The time in hours, and the number of the write key; `None` for a full key.
    backups: Vec<(i64, Option<u8>)>,
    follows: Vec<Vec<usize>>,
    labels: BTreeMap<String, String>,
}

/// A full key.
const FULL: Option<u8> = None;
/// The key of the forger.
const FORGER: Option<u8> = Some(6);

impl Made {
    fn add(
        &mut self,
        hours: i64,
        key: Option<u8>,
        follows: impl IntoIterator<Item = usize>,
    ) -> usize {
        self.backups.push((hours, key));
        self.follows.push(follows.into_iter().collect());
        self.backups.len() - 1
    }

    /// Adds a line of daily backups by a full key, at this hour of each day. Returns their
    /// positions.
    fn add_daily(&mut self, days: i64, hour: i64) -> BTreeSet<usize> {
        self.add_daily_by(FULL, days, hour)
    }

    fn add_daily_by(&mut self, key: Option<u8>, days: i64, hour: i64) -> BTreeSet<usize> {
        let mut newest = None;
        let line = (0..days).map(|day| {
            newest = Some(self.add(24 * day + hour, key, newest));
            self.backups.len() - 1
        });
        line.collect()
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(hours * 3600).unwrap()
    }

    fn decide(&self, rules: impl IntoIterator<Item = Rule>, now: i64) -> Vec<Vec<Reason>> {
        let last = self.backups.len().saturating_sub(1);
        let turned: Vec<Vec<usize>> = self
            .follows
            .iter()
            .map(|follows| follows.iter().map(|older| last - older).collect())
            .collect();
        let links: Vec<_> = self
            .backups
            .iter()
            .zip(&turned)
            .rev()
            .map(|(&(hours, key), follows)| Link {
                backup: Some(Candidate {
                    time: Self::at(hours),
                    labels: &self.labels,
                    key: key.map(|key| SignerId::from_bytes([key; 32])),
                }),
                follows,
            })
            .collect();
        let policy = Policy::new(rules);
        let mut reasons = policy.decide(&links, Self::at(now), &TimeZone::UTC);
        reasons.reverse();
        reasons
    }

    /// Returns the backups that rules keep.
    fn kept(&self, rules: impl IntoIterator<Item = Rule>, now: i64) -> BTreeSet<usize> {
        let reasons = self.decide(rules, now);
        let places = reasons.iter().enumerate();
        let kept = places.filter(|(_, reasons)| !reasons.is_empty());
        kept.map(|(place, _)| place).collect()
    }

    /// Returns a history with only the backups of these keys, as if a full key had made all of
    /// them. Also returns the position of each of them in `self`. If all backups between a backup
    /// and an older one are left out, the backup follows the older one directly in the returned
    /// history.
    fn only(&self, keys: &[Option<u8>]) -> (Self, Vec<usize>) {
        let counts = |place: &usize| keys.contains(&self.backups[*place].1);
        let places: Vec<usize> = (0..self.backups.len()).filter(counts).collect();
        let mut only = Self::default();
        for &place in &places {
            let mut todo = self.follows[place].clone();
            let mut follows = BTreeSet::new();
            while let Some(older) = todo.pop() {
                match places.binary_search(&older) {
                    Ok(own) => drop(follows.insert(own)),
                    Err(_) => todo.extend(&self.follows[older]),
                }
            }
            only.add(self.backups[place].0, FULL, follows);
        }
        (only, places)
    }

    /// Returns the backups that no other follows.
    fn unfollowed(&self) -> BTreeSet<usize> {
        let followed: BTreeSet<usize> = self.follows.iter().flatten().copied().collect();
        (0..self.backups.len())
            .filter(|place| !followed.contains(place))
            .collect()
    }

    /// Returns the backups that keep-daily keeps, and those that it does not count.
    fn daily(&self, count: u64, now: i64) -> (BTreeSet<usize>, Vec<usize>) {
        let reasons = self.decide([Rule::Last(Period::Day, Count::Most(count))], now);
        let places = |fits: &dyn Fn(&[Reason]) -> bool| -> Vec<usize> {
            (0..reasons.len())
                .filter(|place| fits(&reasons[*place]))
                .collect()
        };
        let kept = places(&|reasons| !reasons.is_empty()).into_iter().collect();
        let uncounted = places(&|reasons| reasons.iter().any(Reason::is_uncounted));
        (kept, uncounted)
    }
}

/// The end of the thirtieth day, in hours.
const DAY_30: i64 = 24 * 30;

#[test]
fn forged_backups_on_other_lines_cause_no_removal_of_a_genuine_one() {
    let mut made = Made::default();
    let genuine = made.add_daily(30, 2);
    let fakes: Vec<_> = (0..30)
        .map(|day| made.add(24 * day + 23, FORGER, []))
        .collect();
    let (kept, uncounted) = made.daily(30, DAY_30);
    assert!(kept.is_superset(&genuine));
    assert!(uncounted.is_empty());
    // Even when the next genuine backup follows them, they cause no genuine backup to be removed.
    made.add(
        DAY_30 + 2,
        FULL,
        fakes.into_iter().chain(genuine.last().copied()),
    );
    let (kept, _) = made.daily(31, DAY_30 + 3);
    assert!(kept.is_superset(&genuine));
}

#[test]
fn forged_backups_that_follow_the_newest_cause_no_removal_of_a_genuine_one() {
    let mut made = Made::default();
    let genuine = made.add_daily(30, 2);
    let mut newest = *genuine.last().unwrap();
    for day in 0..30 {
        newest = made.add(24 * day + 23, FORGER, [newest]);
    }
    let (kept, uncounted) = made.daily(30, DAY_30);
    assert!(kept.is_superset(&genuine));
    assert_eq!(
        uncounted.len(),
        29,
        "all forged backups except that of the last day"
    );
    made.add(DAY_30 + 2, FULL, [newest]);
    let (kept, _) = made.daily(31, DAY_30 + 3);
    assert!(kept.is_superset(&genuine));
}

#[test]
fn forged_backups_that_each_follow_an_old_one_cause_no_removal_of_a_genuine_one() {
    for key in [FORGER, FULL] {
        let mut made = Made::default();
        let genuine = made.add_daily(30, 2);
        let follow = |made: &mut Made, day: i64| {
            let old = usize::try_from(day).unwrap();
            made.add(24 * day + 23, key, [old])
        };
        let fakes: Vec<_> = (0..29).map(|day| follow(&mut made, day)).collect();
        let (kept, uncounted) = made.daily(30, DAY_30);
        assert!(kept.is_superset(&genuine));
        assert!(uncounted.is_empty());
        made.add(
            DAY_30 + 2,
            FULL,
            fakes.into_iter().chain(genuine.last().copied()),
        );
        let (kept, _) = made.daily(31, DAY_30 + 3);
        assert!(kept.is_superset(&genuine));
    }
}

#[test]
fn a_clock_that_was_wrong_once_causes_no_removal() {
    for (ahead, uncounted) in [(48, 11), (24 * 30_000, 10), (-24 * 365 * 50, 10)] {
        let mut made = Made::default();
        made.add_daily(40, 2);
        made.backups[10].0 += ahead;
        let (kept, found) = made.daily(30, 24 * 40);
        assert_eq!(found, [uncounted], "{ahead} hours ahead");
        let counted: BTreeSet<usize> = (12..40).collect();
        assert!(kept.is_superset(&counted), "{ahead} hours ahead");
        assert_eq!(kept.len(), 31, "{ahead} hours ahead");
    }
}

#[test]
fn two_lines_are_thinned_separately_until_newer_backups_follow_both() {
    let mut made = Made::default();
    let first = made.add_daily(10, 2);
    let second = made.add_daily(10, 4);
    let (kept, _) = made.daily(3, 24 * 10);
    let of = |line: &BTreeSet<usize>| line.iter().rev().take(3).copied().collect::<BTreeSet<_>>();
    assert_eq!(kept, &of(&first) | &of(&second));
    let mut newest = vec![*first.last().unwrap(), *second.last().unwrap()];
    for day in 10..13 {
        newest = vec![made.add(24 * day + 2, FULL, newest)];
    }
    let (kept, _) = made.daily(3, 24 * 13);
    assert_eq!(kept, BTreeSet::from([20, 21, 22]));
}

#[test]
fn backups_by_two_keys_share_the_days_of_one_line() {
    let mut made = Made::default();
    let mut newest = None;
    for day in 0..10 {
        newest = Some(made.add(24 * day + 2, FORGER, newest));
        newest = Some(made.add(24 * day + 4, Some(9), newest));
    }
    let (kept, _) = made.daily(3, 24 * 10);
    assert_eq!(
        kept,
        (14..20).collect(),
        "the newest backups of both keys, on each of three days"
    );
}

/// Rules that a thief of a write key might try to exploit. Each of them keeps all of 30 genuine
/// daily backups.
fn rules_of_30() -> Vec<Rule> {
    let span: Span = "30d".parse().unwrap();
    vec![
        Rule::Last(Period::Each, Count::Most(30)),
        Rule::Last(Period::Hour, Count::Most(30)),
        Rule::Last(Period::Day, Count::Most(30)),
        Rule::Within(span),
        Rule::PeriodWithin(Period::Day, span),
    ]
}

#[test]
fn no_rule_removes_a_genuine_backup_because_of_thirty_forged_ones() {
    let shapes: [fn(usize, usize) -> Vec<usize>; 4] = [
        |_, _| Vec::new(),
        |newest, _| vec![newest],
        |_, place| vec![place],
        |newest, place| vec![place, newest],
    ];
    // The times of the forged backups are at the ends of the 30 days, in the last 60 hours of these
    // days, in the next 30 days, or in the 30 days from day 70 on.
    let times: [fn(i64) -> i64; 4] = [
        |number| 24 * number + 23,
        |number| DAY_30 - 60 + 2 * number,
        |number| DAY_30 + 24 * number,
        |number| DAY_30 + 24 * (number + 40),
    ];
    for genuine_key in [FULL, Some(1)] {
        for shape in shapes {
            for time in times {
                for rule in rules_of_30() {
                    let mut made = Made::default();
                    let genuine = made.add_daily_by(genuine_key, 30, 2);
                    let mut newest = 29;
                    for number in 0..30 {
                        let old = usize::try_from(number).unwrap();
                        newest = made.add(time(number), FORGER, shape(newest, old));
                    }
                    for now in [DAY_30 - 20, DAY_30 + 24 * 35, DAY_30 + 24 * 100] {
                        let kept = made.kept([rule.clone()], now);
                        assert!(kept.is_superset(&genuine), "{rule:?} at {now}: {kept:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_forged_backup_that_follows_the_newest_does_not_move_the_start_of_a_span() {
    for key in [FULL, Some(1)] {
        let mut made = Made::default();
        let genuine = made.add_daily_by(key, 10, 2);
        // The forged backup has a time in the future. `forget` runs once before that time, and once
        // after it.
        made.add(24 * 60, FORGER, [9]);
        for now in [24 * 10, 24 * 100] {
            let kept = made.kept([Rule::Within("9d1h".parse().unwrap())], now);
            assert!(kept.is_superset(&genuine), "at {now}: {kept:?}");
        }
    }
}

#[test]
fn a_genuine_backup_that_follows_a_forged_one_from_the_future_counts() {
    let mut made = Made::default();
    made.add_daily(10, 2);
    made.add(24 * 20, FORGER, [9]);
    for day in 10..20 {
        let newest = made.backups.len() - 1;
        made.add(24 * day + 2, FULL, [newest]);
    }
    let (kept, uncounted) = made.daily(5, 24 * 30);
    assert!(uncounted.is_empty());
    assert_eq!(kept, BTreeSet::from([10, 16, 17, 18, 19, 20]));
}

#[test]
fn forged_backups_do_not_use_up_the_count_of_a_rule() {
    let mut made = Made::default();
    let mut newest = None;
    for week in 0..4 {
        newest = Some(made.add(24 * 7 * week + 2, Some(1), newest));
    }
    for hour in 0..30 {
        newest = Some(made.add(24 * 22 + 5 * hour, FORGER, newest));
    }
    for period in [Period::Hour, Period::Day, Period::Week, Period::Each] {
        let kept = made.kept([Rule::Last(period, Count::Most(4))], 24 * 60);
        assert!(kept.is_superset(&(0..4).collect()), "{period:?}");
    }
}

#[test]
fn a_forged_backup_is_not_the_last_of_a_volume_in_the_place_of_a_genuine_one() {
    let mut made = Made::default();
    let genuine = made.add(0, FULL, []);
    let by_key = made.add(24, Some(1), [genuine]);
    let forged = made.add(48, FORGER, [by_key]);
    made.add(72, FORGER, [forged]);
    let label = "why=upgrade".parse().unwrap();
    assert_eq!(
        made.kept([Rule::Label(label)], 100),
        BTreeSet::from([genuine, by_key, 3])
    );
}

#[test]
fn backups_by_a_full_key_can_cause_the_removal_of_write_key_backups_that_they_follow() {
    let mut made = Made::default();
    let mut newest = None;
    for day in 0..10 {
        let key = if day < 5 { Some(1) } else { FULL };
        newest = Some(made.add(24 * day + 2, key, newest));
    }
    let (kept, _) = made.daily(3, 24 * 10);
    assert_eq!(kept, BTreeSet::from([7, 8, 9]));
}

#[test]
fn a_forged_backup_on_a_line_of_its_own_causes_no_genuine_one_to_be_kept() {
    let mut made = Made::default();
    made.add_daily(10, 2);
    made.add(24 * 2 + 5, FORGER, [2]);
    let (kept, _) = made.daily(3, 24 * 10);
    assert_eq!(
        kept,
        BTreeSet::from([7, 8, 9, 10]),
        "the forged backup keeps only itself"
    );
}

/// Returns every way to this backup from a backup that no other follows, each way newest first.
fn ways(made: &Made, to: usize) -> Vec<Vec<usize>> {
    let followers: Vec<usize> = (0..made.follows.len())
        .filter(|newer| made.follows[*newer].contains(&to))
        .collect();
    if followers.is_empty() {
        return vec![vec![to]];
    }
    let before = followers.into_iter().flat_map(|newer| ways(made, newer));
    before
        .map(|mut way| {
            way.push(to);
            way
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(400)
    })]

    #[test]
    fn a_backup_is_kept_if_a_rule_keeps_it_on_any_way_from_the_newest(
        steps in prop::collection::vec(
            (-30..40_i64, prop::collection::vec(0..9_usize, 0..3)),
            1..9,
        ),
        count in 1..5_u64,
    ) {
        let mut made = Made::default();
        let mut now = 10_000;
        for (place, (step, back)) in steps.into_iter().enumerate() {
            now += step;
            let follows = back.into_iter().filter(|older| *older < place);
            let follows: BTreeSet<usize> = follows.collect();
            made.add(now, FULL, follows);
        }
        let (kept, uncounted) = made.daily(count, 10_100);
        let mut expected: BTreeSet<usize> = uncounted.iter().copied().collect();
        for place in (0..made.backups.len()).filter(|place| !uncounted.contains(place)) {
            let day = |place: &usize| made.backups[*place].0.div_euclid(24);
            let older = ancestors(&made, place);
            let is_oldest = older.iter().all(|older| uncounted.contains(older));
            let keeps = |way: &Vec<usize>| {
                let before = way[..way.len() - 1].iter();
                let counted = before.filter(|place| !uncounted.contains(place));
                let mut days: Vec<i64> = counted.map(day).collect();
                days.dedup();
                let is_new = days.last() != Some(&day(&place));
                (is_new || is_oldest) && (days.len() as u64) < count
            };
            if ways(&made, place).iter().any(keeps) {
                expected.insert(place);
            }
        }
        if expected.is_empty() {
            expected.insert(made.backups.len() - 1);
        }
        prop_assert_eq!(kept, expected);
    }
}

fn any_key() -> impl Strategy<Value = Option<u8>> {
    prop::sample::select(vec![FULL, Some(1), Some(2), FORGER])
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(400)
    })]

    #[test]
    fn only_backups_by_its_own_key_and_full_keys_decide_on_a_backup(
        rules in prop::collection::vec(any_rule(), 1..4),
        steps in prop::collection::vec(
            (-30..40_i64, any_key(), prop::collection::vec(0..30_usize, 0..3)),
            1..30,
        ),
    ) {
        let mut made = Made::default();
        let mut now = 10_000;
        for (place, (step, key, back)) in steps.into_iter().enumerate() {
            now += step;
            let follows = back.into_iter().filter(|older| *older < place);
            made.add(now, key, follows.collect::<BTreeSet<_>>());
        }
        let decided = made.decide(rules.clone(), 10_300);
        for key in [FULL, Some(1), Some(2), FORGER] {
            let (only, places) = made.only(&[FULL, key]);
            let alone = only.decide(rules.clone(), 10_300);
            for (place, alone) in places.into_iter().zip(alone) {
                if made.backups[place].1 == key {
                    prop_assert_eq!(&decided[place], &alone, "backup {} by {:?}", place, key);
                }
            }
        }
    }

    #[test]
    fn forged_backups_cause_no_removal_of_a_genuine_one(
        rules in prop::collection::vec(any_rule(), 1..4),
        steps in prop::collection::vec(
            (0..40_i64, any_key(), -500..500_i64, prop::collection::vec(0..40_usize, 0..3)),
            1..40,
        ),
    ) {
        let mut made = Made::default();
        let mut now = 10_000;
        for (place, (step, key, lie, back)) in steps.into_iter().enumerate() {
            now += step;
            if key == FORGER {
                let follows = back.into_iter().filter(|older| *older < place);
                made.add(now + lie, key, follows.collect::<BTreeSet<_>>());
            } else {
                let follows = made.unfollowed();
                made.add(now, key, follows);
            }
        }
        let mut genuine = Made::default();
        let mut places = Vec::new();
        for (place, &(hours, key)) in made.backups.iter().enumerate() {
            if key != FORGER {
                let follows = genuine.unfollowed();
                genuine.add(hours, key, follows);
                places.push(place);
            }
        }
        for now in [now, now + 1000] {
            let kept = made.kept(rules.clone(), now);
            for place in genuine.kept(rules.clone(), now) {
                prop_assert!(kept.contains(&places[place]), "backup {}", places[place]);
            }
        }
    }
}

/// Returns all backups that this one follows, directly or through others.
fn ancestors(made: &Made, of: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for &older in &made.follows[of] {
        found.insert(older);
        found.extend(ancestors(made, older));
    }
    found
}
