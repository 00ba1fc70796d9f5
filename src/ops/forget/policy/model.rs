//! A slow implementation of policies that follows their definitions literally. A test compares it
//! with the fast one.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::tests::{cet, decide_line};
use super::*;
use crate::ops::forget::rule::{LabelMatch, Period};

/// Returns the name of the period that contains a time, as a calendar would print it. For
/// [`Period::Each`], returns `number`.
fn name(period: Period, time: &Zoned, number: usize) -> String {
    let format = match period {
        Period::Each => return number.to_string(),
        Period::Hour => "%Y-%m-%d %H",
        Period::Day => "%Y-%m-%d",
        Period::Week => "%G-W%V",
        Period::Month => "%Y-%m",
        Period::Year => "%Y",
    };
    time.strftime(format).to_string()
}

/// Returns the time that is a span before `time`. Goes back month by month, day by day, hour by
/// hour.
fn before(time: &Zoned, span: Span) -> Timestamp {
    let mut first = time.date().first_of_month();
    for _ in 0..span.years * 12 + span.months {
        first = first.yesterday().unwrap().first_of_month();
    }
    let mut date = first;
    for _ in 1..time.day() {
        date = date.tomorrow().unwrap();
    }
    for _ in 0..span.days {
        date = date.yesterday().unwrap();
    }
    let day = date.to_datetime(time.time());
    let mut then = day.to_zoned(time.time_zone().clone()).unwrap().timestamp();
    for _ in 0..span.hours {
        then -= SignedDuration::from_hours(1);
    }
    then
}

/// Returns the places of the backups that a rule keeps. `line` has the backups with their places,
/// newest first.
fn kept(rule: &Rule, line: &[(usize, &Candidate<'_>, Zoned)]) -> BTreeSet<usize> {
    let newest = line.first().map(|(.., time)| time.clone());
    let young =
        |span: &Span, time: &Zoned| time.timestamp() > before(newest.as_ref().unwrap(), *span);
    let of_periods = |period: Period, count: usize, places: Vec<usize>| {
        let mut names = Vec::new();
        let mut kept = BTreeSet::new();
        for (number, (place, _, time)) in line.iter().enumerate() {
            let name = name(period, time, number);
            if places.contains(place) && !names.contains(&name) && names.len() < count {
                names.push(name);
                kept.insert(*place);
            }
        }
        let oldest = line.last().map(|(place, ..)| *place);
        if names.len() < count {
            kept.extend(oldest.filter(|place| places.contains(place)));
        }
        kept
    };
    let those = |fits: &dyn Fn(&Candidate<'_>, &Zoned) -> bool| {
        let line = line.iter().filter(|(_, backup, time)| fits(backup, time));
        line.map(|(place, ..)| *place).collect::<Vec<_>>()
    };
    match rule {
        Rule::Last(period, Count::All) => of_periods(*period, usize::MAX, those(&|_, _| true)),
        Rule::Last(period, Count::Most(n)) => {
            of_periods(*period, usize::try_from(*n).unwrap(), those(&|_, _| true))
        }
        Rule::Within(span) => those(&|_, time| young(span, time)).into_iter().collect(),
        Rule::PeriodWithin(period, span) => {
            of_periods(*period, usize::MAX, those(&|_, time| young(span, time)))
        }
        Rule::Label(label) => those(&|backup, _| {
            let mut labels = backup.labels.iter();
            labels.any(|(k, v)| *k == label.key && label.value.as_ref().is_none_or(|l| l == v))
        })
        .into_iter()
        .collect(),
    }
}

fn decide(
    rules: &[Rule],
    backups: &[Candidate<'_>],
    now: Timestamp,
    zone: &TimeZone,
) -> BTreeSet<usize> {
    let numbered = backups.iter().enumerate().rev();
    let line: Vec<_> = numbered
        .clone()
        .filter(|(_, b)| b.time <= now)
        .map(|(place, b)| (place, b, b.time.to_zoned(zone.clone())))
        .collect();
    let mut stay: BTreeSet<usize> = rules.iter().flat_map(|rule| kept(rule, &line)).collect();
    stay.extend(
        numbered
            .filter(|(_, b)| b.time > now || b.is_protected())
            .map(|(place, _)| place),
    );
    if stay.is_empty() {
        stay.extend(backups.len().checked_sub(1));
    }
    stay
}

pub(super) fn any_rule() -> impl Strategy<Value = Rule> {
    let period = || {
        prop::sample::select(vec![
            Period::Each,
            Period::Hour,
            Period::Day,
            Period::Week,
            Period::Month,
            Period::Year,
        ])
    };
    let count = prop_oneof![5 => (1..9_u64).prop_map(Count::Most), 1 => Just(Count::All)];
    let span = || {
        (0..3_u32, 0..15_u32, 0..70_u32, 0..50_u32)
            .prop_filter("some time", |(y, m, d, h)| y + m + d + h > 0)
            .prop_map(|(years, months, days, hours)| Span {
                years,
                months,
                days,
                hours,
            })
    };
    let label = prop::option::of("[ab]").prop_map(|value| LabelMatch {
        key: "k".to_owned(),
        value,
    });
    prop_oneof![
        6 => (period(), count).prop_map(|(p, c)| Rule::Last(p, c)),
        2 => span().prop_map(Rule::Within),
        2 => (period(), span()).prop_map(|(p, s)| Rule::PeriodWithin(p, s)),
        1 => label.prop_map(Rule::Label),
    ]
}

/// The time from one backup to the next, in seconds: from none to more than a year.
fn any_step() -> impl Strategy<Value = i64> {
    prop_oneof![
        1 => Just(0_i64),
        3 => 1..3600_i64,
        3 => 3600..86_400_i64,
        2 => 86_400..864_000_i64,
        1 => 864_000..40_000_000_i64,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(400)
    })]

    #[test]
    fn a_policy_keeps_the_same_backups_as_the_model(
        rules in prop::collection::vec(any_rule(), 1..5),
        steps in prop::collection::vec(
            (any_step(), prop::option::weighted(0.1, "[ab]"), 0..30_u8),
            0..60,
        ),
        start in 1_600_000_000..1_800_000_000_i64,
        young in 0..4_usize,
        summer: bool,
    ) {
        let zone = if summer { cet() } else { TimeZone::UTC };
        let mut at = start;
        let mut backups = Vec::new();
        for (step, label, odds) in steps {
            at += step;
            let label = label.map(|value| ("k".into(), value));
            let mut labels: BTreeMap<String, String> = label.into_iter().collect();
            if odds == 0 {
                labels.insert("protected".into(), "yes".into());
            }
            backups.push((Timestamp::from_second(at).unwrap(), labels));
        }
        let candidates: Vec<_> = backups
            .iter()
            .map(|(time, labels)| Candidate { time: *time, labels, key: None })
            .collect();
        let newest = candidates.len().saturating_sub(1 + young);
        let now = candidates.get(newest).map_or(Timestamp::UNIX_EPOCH, |c| c.time);
        let decided = decide_line(&Policy::new(rules.clone()), &candidates, now, &zone);
        let stay: BTreeSet<usize> = decided
            .iter()
            .enumerate()
            .filter(|(_, reasons)| !reasons.is_empty())
            .map(|(place, _)| place)
            .collect();
        prop_assert_eq!(stay, decide(&rules, &candidates, now, &zone));
    }
}
