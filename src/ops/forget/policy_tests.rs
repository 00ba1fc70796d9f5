use std::collections::BTreeSet;

use jiff::civil;
use proptest::prelude::*;

use super::*;

/// Central Europe without a table of zones: summer time from the last Sunday in March to that in October.
fn cet() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn rule(text: &str) -> Rule {
    let period = |word| match word {
        "last" => Period::Each,
        "hourly" => Period::Hour,
        "daily" => Period::Day,
        "weekly" => Period::Week,
        "monthly" => Period::Month,
        _ => Period::Year,
    };
    match text.split(' ').collect::<Vec<_>>()[..] {
        ["within", span] => Rule::Within(span.parse().unwrap()),
        ["label", label] => Rule::Label(label.parse().unwrap()),
        [word, "within", span] => Rule::PeriodWithin(period(word), span.parse().unwrap()),
        [word, count] => Rule::Last(period(word), count.parse().unwrap()),
        _ => unreachable!("{text}"),
    }
}

/// “2026-11-21T10:00”, or with seconds; UTC.
fn time(text: &str) -> Timestamp {
    let time: civil::DateTime = text.parse().unwrap();
    time.to_zoned(TimeZone::UTC).unwrap().timestamp()
}

const NOW: &str = "2030-01-01T00:00";

/// Each line is a backup, oldest first: its time in UTC, its labels, `=>`, and why it stays, or `-`.
#[track_caller]
fn case(policy: &str, now: &str, zone: &TimeZone, table: &str) {
    let lines: Vec<_> = table
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let mut backups = Vec::new();
    for line in &lines {
        let (backup, _) = line.split_once(" => ").unwrap();
        let mut words = backup.split_whitespace();
        let made = time(words.next().unwrap());
        let labels: BTreeMap<String, String> = words
            .map(|word| word.split_once('=').unwrap())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        backups.push((made, labels));
    }
    let candidates: Vec<_> = backups
        .iter()
        .map(|(time, labels)| Candidate {
            time: *time,
            labels,
        })
        .collect();
    let policy = Policy::new(policy.split(", ").map(rule));
    let decided = policy.decide(&candidates, time(now), zone);
    let told: Vec<String> = lines
        .iter()
        .zip(&decided)
        .map(|(line, reasons)| {
            let backup = line.split_once(" => ").unwrap().0;
            let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            let reasons = if reasons.is_empty() {
                "-".to_owned()
            } else {
                reasons.join(", ")
            };
            format!("{backup} => {reasons}")
        })
        .collect();
    assert_eq!(told, lines);
}

#[track_caller]
fn utc(policy: &str, table: &str) {
    case(policy, NOW, &TimeZone::UTC, table);
}

#[test]
fn the_last_ones() {
    utc(
        "last 2",
        "2026-11-18T10:00 => -
         2026-11-19T10:00 => -
         2026-11-20T10:00 => last
         2026-11-20T10:00 => last",
    );
    utc(
        "last 9",
        "2026-11-18T10:00 => last
         2026-11-20T10:00 => last",
    );
}

#[test]
fn of_several_in_a_period_the_newest_stays() {
    utc(
        "daily 2",
        "2026-11-19T09:00 => -
         2026-11-20T10:00 => -
         2026-11-20T22:00 => daily
         2026-11-21T08:00 => -
         2026-11-21T23:00 => daily",
    );
    utc(
        "hourly 2",
        "2026-11-21T07:59:59 => -
         2026-11-21T08:00 => -
         2026-11-21T08:59:59 => hourly
         2026-11-21T09:00 => hourly",
    );
    utc(
        "monthly 2, yearly 1",
        "2025-12-31T23:59 => -
         2026-01-01T00:00 => -
         2026-01-31T23:59 => monthly
         2026-02-01T00:00 => monthly, yearly",
    );
}

#[test]
fn periods_without_a_backup_do_not_count() {
    utc(
        "daily 3",
        "2025-03-01T10:00 => -
         2026-11-10T10:00 => daily
         2026-11-20T10:00 => daily
         2026-11-21T10:00 => daily",
    );
    utc(
        "yearly 2",
        "2011-06-01T00:00 => -
         2012-06-01T00:00 => yearly
         2026-06-01T00:00 => yearly",
    );
}

#[test]
fn the_oldest_stays_as_long_as_a_count_is_left() {
    utc(
        "monthly 3",
        "2026-11-05T10:00 => oldest monthly
         2026-11-12T10:00 => -
         2026-11-20T10:00 => monthly",
    );
    // Used up by the very one before.
    utc(
        "monthly 1",
        "2026-11-05T10:00 => -
         2026-11-20T10:00 => monthly",
    );
    utc(
        "daily 3, monthly 2, yearly 2",
        "2026-10-30T10:00 => oldest yearly
         2026-10-31T10:00 => daily, monthly
         2026-11-01T10:00 => daily
         2026-11-02T09:00 => -
         2026-11-02T10:00 => daily, monthly, yearly",
    );
}

#[test]
fn rules_count_apart_and_any_of_them_keeps() {
    // 21 November 2026 is a Saturday.
    utc(
        "last 1, daily 2, weekly 3",
        "2026-11-02T12:00 => -
         2026-11-08T12:00 => weekly
         2026-11-09T12:00 => -
         2026-11-15T12:00 => weekly
         2026-11-16T12:00 => -
         2026-11-20T12:00 => daily
         2026-11-21T12:00 => last, daily, weekly",
    );
    utc(
        "last 2, hourly 2, daily 2, weekly 2, monthly 2, yearly 2",
        "2024-01-01T00:00 => -
         2025-12-28T10:00 => yearly
         2026-10-31T10:00 => monthly
         2026-11-15T10:00 => weekly
         2026-11-20T10:00 => daily
         2026-11-21T10:10 => hourly
         2026-11-21T11:05 => last
         2026-11-21T11:10 => last, hourly, daily, weekly, monthly, yearly",
    );
}

#[test]
fn weeks_are_those_of_iso_8601() {
    // 2026 has 53 weeks; the last one is from 28 December to 3 January.
    utc(
        "weekly 3",
        "2026-12-20T10:00 => -
         2026-12-27T23:59 => weekly
         2026-12-28T00:00 => -
         2026-12-31T10:00 => -
         2027-01-01T10:00 => -
         2027-01-03T23:59 => weekly
         2027-01-04T00:00 => weekly",
    );
    utc(
        "weekly 2, yearly 2",
        "2026-12-27T10:00 => -
         2026-12-31T10:00 => yearly
         2027-01-03T10:00 => weekly
         2027-01-04T10:00 => weekly, yearly",
    );
    // The first week of 2025 begins on 30 December 2024.
    utc(
        "weekly 3",
        "2024-12-29T10:00 => weekly
         2024-12-30T10:00 => -
         2025-01-05T10:00 => weekly
         2025-01-06T10:00 => weekly",
    );
    // 1 January 2023, a Sunday, is in the last week of 2022.
    utc(
        "weekly 2",
        "2022-12-26T10:00 => -
         2023-01-01T10:00 => weekly
         2023-01-02T10:00 => weekly",
    );
    // The 47th week of two years.
    utc(
        "weekly 2",
        "2025-11-19T10:00 => weekly
         2026-11-18T10:00 => weekly",
    );
}

#[test]
fn boundaries_are_those_of_the_zone() {
    // Local: 28th 23:30, 29th 00:30, 29th 23:30 (a day of 23 hours), 30th 00:30.
    let table = "
        2026-03-28T22:30 => daily
        2026-03-28T23:30 => -
        2026-03-29T21:30 => daily
        2026-03-29T22:30 => daily";
    case("daily 3", NOW, &cet(), table);
    utc(
        "daily 3",
        "2026-03-28T22:30 => oldest daily
         2026-03-28T23:30 => daily
         2026-03-29T21:30 => -
         2026-03-29T22:30 => daily",
    );
    // A day of 25 hours: 25 October from 00:00 CEST to 24:00 CET.
    case(
        "daily 2",
        NOW,
        &cet(),
        "2026-10-24T21:59 => daily
         2026-10-24T22:00 => -
         2026-10-25T22:59 => daily",
    );
    // Sunday evening in UTC is Monday here.
    case(
        "weekly 2",
        NOW,
        &cet(),
        "2026-11-15T22:59 => weekly
         2026-11-15T23:00 => -
         2026-11-21T10:00 => weekly",
    );
}

#[test]
fn an_hour_that_comes_twice_is_one() {
    // Local: 01:30, 02:30 in summer time, 02:30 in winter time, 03:30.
    case(
        "hourly 3",
        NOW,
        &cet(),
        "2026-10-24T23:30 => hourly
         2026-10-25T00:30 => -
         2026-10-25T01:30 => hourly
         2026-10-25T02:30 => hourly",
    );
    // 02:30 does not come at all on this day.
    case(
        "hourly 3",
        NOW,
        &cet(),
        "2026-03-28T23:30 => -
         2026-03-29T00:30 => hourly
         2026-03-29T01:30 => hourly
         2026-03-29T02:30 => hourly",
    );
}

#[test]
fn without_limit_all_periods_count() {
    utc(
        "daily unlimited",
        "2026-11-19T08:00 => oldest daily
         2026-11-19T12:00 => -
         2026-11-19T20:00 => daily
         2026-11-21T10:00 => daily",
    );
    utc(
        "last -1",
        "2001-01-01T00:00 => last
         2026-11-21T10:00 => last",
    );
}

#[test]
fn spans_go_back_from_the_newest() {
    utc(
        "within 2y5m7d3h",
        "2024-06-14T06:59:59 => -
         2024-06-14T07:00 => -
         2024-06-14T07:00:01 => within 2y5m7d3h
         2026-11-21T10:00 => within 2y5m7d3h",
    );
    // There is no 31 February: it is 3 March, or the 2nd in a leap year.
    utc(
        "within 1m",
        "2026-02-28T12:00 => -
         2026-03-03T12:00 => -
         2026-03-03T12:01 => within 1m
         2026-03-31T12:00 => within 1m",
    );
    utc(
        "within 1m",
        "2024-03-02T12:00 => -
         2024-03-02T12:01 => within 1m
         2024-03-31T12:00 => within 1m",
    );
    utc(
        "within 1y",
        "2023-03-01T12:00 => -
         2023-03-01T12:00:01 => within 1y
         2024-02-29T12:00 => within 1y",
    );
    utc(
        "within 11m",
        "2025-12-21T10:00 => -
         2025-12-21T10:00:01 => within 11m
         2026-11-21T10:00 => within 11m",
    );
    utc(
        "within 13m35d",
        "2025-09-16T10:00 => -
         2025-09-16T10:00:01 => within 13m35d
         2026-11-21T10:00 => within 13m35d",
    );
    // Before all time.
    utc(
        "within 4000000000y",
        "0001-01-01T00:00 => within 4000000000y
         2026-11-21T10:00 => within 4000000000y",
    );
}

#[test]
fn days_of_a_span_are_those_of_the_calendar() {
    // From noon to noon are 23 hours here.
    case(
        "within 1d",
        NOW,
        &cet(),
        "2026-03-28T11:00 => -
         2026-03-28T11:00:01 => within 1d
         2026-03-29T10:00 => within 1d",
    );
    case(
        "within 24h",
        NOW,
        &cet(),
        "2026-03-28T10:00 => -
         2026-03-28T10:00:01 => within 24h
         2026-03-29T10:00 => within 24h",
    );
}

#[test]
fn periods_within_a_span() {
    utc(
        "daily within 2d",
        "2026-11-18T10:00 => -
         2026-11-19T12:00 => -
         2026-11-19T13:00 => -
         2026-11-19T14:00 => daily within 2d
         2026-11-20T10:00 => daily within 2d
         2026-11-21T11:00 => -
         2026-11-21T12:00 => daily within 2d",
    );
    utc(
        "daily within 9d, weekly within 1m, hourly within 3h",
        "2026-11-20T08:00 => oldest daily within 9d, oldest weekly within 1m
         2026-11-20T09:00 => daily within 9d
         2026-11-21T07:10 => -
         2026-11-21T07:20 => hourly within 3h
         2026-11-21T10:00 => daily within 9d, weekly within 1m, hourly within 3h",
    );
    utc(
        "monthly within 1y, yearly within 5y",
        "2020-05-01T00:00 => -
         2025-06-30T00:00 => yearly within 5y
         2026-05-01T00:00 => -
         2026-05-31T00:00 => monthly within 1y
         2026-06-30T00:00 => monthly within 1y, yearly within 5y",
    );
}

#[test]
fn the_future_does_not_count_and_stays() {
    case(
        "last 1, within 1d",
        "2026-11-21T12:00",
        &TimeZone::UTC,
        "2026-11-20T12:00 => -
         2026-11-20T12:00:01 => within 1d
         2026-11-21T12:00 => last, within 1d
         2026-11-21T12:00:01 => from the future
         2099-01-01T00:00 => from the future",
    );
    case(
        "daily 1",
        "2026-11-21T12:00",
        &TimeZone::UTC,
        "2026-12-01T00:00 => from the future
         2026-12-02T00:00 => from the future",
    );
    // It is no newest one, and what is left does not end there.
    case(
        "monthly 2",
        "2026-11-21T12:00",
        &TimeZone::UTC,
        "2026-11-01T00:00 => oldest monthly
         2026-11-02T00:00 => -
         2026-11-03T00:00 => monthly
         2026-11-30T00:00 protected=1 => protected, from the future",
    );
}

#[test]
fn labels_keep() {
    utc(
        "label why=upgrade, label pin, last 1",
        "2026-11-01T00:00 why=upgrade => label why=upgrade
         2026-11-02T00:00 why=Upgrade => -
         2026-11-03T00:00 pin= => label pin
         2026-11-04T00:00 pin=no why=upgrade => label why=upgrade, label pin
         2026-11-05T00:00 => last",
    );
    // They count all the same.
    utc(
        "label pin, daily 2",
        "2026-11-01T00:00 => -
         2026-11-02T00:00 => daily
         2026-11-03T00:00 pin=1 => label pin, daily",
    );
}

#[test]
fn what_is_protected_stays() {
    utc(
        "last 1",
        "2026-11-01T00:00 protected=yes => protected
         2026-11-02T00:00 protected= => protected
         2026-11-03T00:00 protected=false => -
         2026-11-04T00:00 protected=False => protected
         2026-11-05T00:00 => last",
    );
}

#[test]
fn something_always_stays() {
    utc(
        "label pin",
        "2026-11-01T00:00 => -
         2026-11-02T00:00 => last of its volume",
    );
    utc(
        "label pin",
        "2026-11-01T00:00 protected= => protected
         2026-11-02T00:00 => -",
    );
    let nothing = Policy::default();
    assert!(nothing.decide(&[], time(NOW), &TimeZone::UTC).is_empty());
}

#[test]
fn rules_that_say_nothing_are_none() {
    for (rules, empty) in [
        ("last 0, hourly 0", true),
        ("within 0h, daily within 0y0m", true),
        ("last 0, yearly 1", false),
        ("daily unlimited", false),
        ("label x", false),
    ] {
        let policy = Policy::new(rules.split(", ").map(rule));
        assert_eq!(policy.is_empty(), empty, "{rules}");
    }
}

#[test]
fn parameters_are_read_as_they_are_shown() {
    for text in ["2y5m7d3h", "1y", "400d", "1h", "7d3h"] {
        assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
    }
    assert_eq!("3h2d".parse::<Span>().unwrap().to_string(), "2d3h");
    for bad in [
        "",
        "7",
        "d",
        "7w",
        "-1d",
        "1d2d",
        "1d ",
        "1d5",
        "1.5d",
        "99999999999y",
        "7D",
        "7é",
    ] {
        assert!(bad.parse::<Span>().is_err(), "{bad}");
    }
    assert_eq!("unlimited".parse(), Ok(Count::All));
    assert_eq!("-1".parse(), Ok(Count::All));
    assert_eq!("0".parse(), Ok(Count::Most(0)));
    for bad in ["", "-2", "+1", "1.0", "all", "18446744073709551616"] {
        assert!(bad.parse::<Count>().is_err(), "{bad}");
    }
    for text in ["a", "a=", "a=b", "a=b=c"] {
        assert_eq!(text.parse::<LabelMatch>().unwrap().to_string(), text);
    }
    assert!("=b".parse::<LabelMatch>().is_err());
}

/// The same, by the definitions, however slow.
mod model {
    use super::*;

    /// The name of a period, as a calendar would print it.
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

    /// Goes back month by month, day by day, hour by hour.
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

    /// The places of what a rule keeps.
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

    pub(super) fn decide(
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
}

fn any_rule() -> impl Strategy<Value = Rule> {
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

/// Steps from one backup to the next, in seconds: minutes, hours, days, months.
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
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn it_decides_as_the_model_does(
        rules in prop::collection::vec(any_rule(), 1..5),
        steps in prop::collection::vec((any_step(), prop::option::weighted(0.1, "[ab]"), 0..30_u8), 0..60),
        start in 1_600_000_000..1_800_000_000_i64,
        young in 0..4_usize,
        summer: bool,
    ) {
        let zone = if summer { cet() } else { TimeZone::UTC };
        let mut at = start;
        let mut backups = Vec::new();
        for (step, label, odds) in steps {
            at += step;
            let mut labels: BTreeMap<String, String> = label.map(|v| ("k".into(), v)).into_iter().collect();
            if odds == 0 {
                labels.insert("protected".into(), "yes".into());
            }
            backups.push((Timestamp::from_second(at).unwrap(), labels));
        }
        let candidates: Vec<_> = backups.iter().map(|(time, labels)| Candidate { time: *time, labels }).collect();
        let newest = candidates.len().saturating_sub(1 + young);
        let now = candidates.get(newest).map_or(Timestamp::UNIX_EPOCH, |c| c.time);
        let decided = Policy::new(rules.clone()).decide(&candidates, now, &zone);
        let stay: BTreeSet<usize> =
            decided.iter().enumerate().filter(|(_, reasons)| !reasons.is_empty()).map(|(place, _)| place).collect();
        prop_assert_eq!(stay, model::decide(&rules, &candidates, now, &zone));
    }
}
