use jiff::civil;

use super::*;
use crate::ops::forget::rule::{LabelMatch, Period};

/// Decides about backups, each of which follows the one before. The backups and the results are in
/// the same order, oldest first.
pub(super) fn decide_line(
    policy: &Policy,
    backups: &[Candidate<'_>],
    now: Timestamp,
    zone: &TimeZone,
) -> Vec<Vec<Reason>> {
    let places: Vec<Vec<usize>> = (1..=backups.len())
        .map(|next| {
            Some(next)
                .filter(|next| *next < backups.len())
                .into_iter()
                .collect()
        })
        .collect();
    let links: Vec<_> = backups
        .iter()
        .rev()
        .zip(&places)
        .map(|(backup, follows)| Link {
            backup: Some(*backup),
            follows,
        })
        .collect();
    let mut reasons = policy.decide(&links, now, zone);
    reasons.reverse();
    reasons
}

/// The time zone of Central Europe, made without a table of zones. Summer time lasts from the last
/// Sunday in March to the last Sunday in October.
pub(super) fn cet() -> TimeZone {
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

/// Parses a time in UTC such as “2026-11-21T10:00”, with or without seconds.
fn time(text: &str) -> Timestamp {
    let time: civil::DateTime = text.parse().unwrap();
    time.to_zoned(TimeZone::UTC).unwrap().timestamp()
}

const NOW: &str = "2030-01-01T00:00";

/// Checks a policy. Each line is a backup, oldest first: its time in UTC, its labels, `=>`, and the
/// reasons to keep it, or `-`.
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
            key: None,
        })
        .collect();
    let policy = Policy::new(policy.split(", ").map(rule));
    let decided = decide_line(&policy, &candidates, time(now), zone);
    let found: Vec<String> = lines
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
    assert_eq!(found, lines);
}

#[track_caller]
fn utc(policy: &str, table: &str) {
    case(policy, NOW, &TimeZone::UTC, table);
}

#[test]
fn last_keeps_this_number_of_backups() {
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
fn the_newest_backup_of_a_period_is_kept() {
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
fn a_rule_whose_count_is_not_used_up_keeps_the_oldest_backup() {
    utc(
        "monthly 3",
        "2026-11-05T10:00 => oldest monthly
         2026-11-12T10:00 => -
         2026-11-20T10:00 => monthly",
    );
    // The newest backup uses up the count.
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
fn rules_count_separately_and_a_backup_is_kept_if_any_matches() {
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
fn weeks_are_counted_as_in_iso_8601() {
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
    // Both times are in week 47, but of different years.
    utc(
        "weekly 2",
        "2025-11-19T10:00 => weekly
         2026-11-18T10:00 => weekly",
    );
}

#[test]
fn periods_begin_in_the_given_time_zone() {
    // Local times in March: 28th 23:30, 29th 00:30, 29th 23:30 (a day of 23 hours), 30th 00:30.
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
    // In this zone, Monday begins at 23:00 on Sunday in UTC.
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
fn an_hour_that_the_clock_repeats_counts_once() {
    // Local times: 01:30, 02:30 in summer time, 02:30 in winter time, 03:30.
    case(
        "hourly 3",
        NOW,
        &cet(),
        "2026-10-24T23:30 => hourly
         2026-10-25T00:30 => -
         2026-10-25T01:30 => hourly
         2026-10-25T02:30 => hourly",
    );
    // The time 02:30 does not exist on this day.
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
fn unlimited_keeps_a_backup_of_every_period() {
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
fn spans_count_back_from_the_newest_backup() {
    utc(
        "within 2y5m7d3h",
        "2024-06-14T06:59:59 => -
         2024-06-14T07:00 => -
         2024-06-14T07:00:01 => within 2y5m7d3h
         2026-11-21T10:00 => within 2y5m7d3h",
    );
    // 31 February does not exist. It counts as 3 March, or as 2 March in a leap year.
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
    // The span begins before all times that the program can represent.
    utc(
        "within 4000000000y",
        "0001-01-01T00:00 => within 4000000000y
         2026-11-21T10:00 => within 4000000000y",
    );
}

#[test]
fn days_of_a_span_are_calendar_days() {
    // From noon of 28 March to noon of 29 March, only 23 hours pass.
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
fn rules_of_a_period_can_be_limited_to_a_span() {
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
fn backups_from_the_future_are_kept_and_not_counted() {
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
    // A backup from the future does not count as the newest one of its month.
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
fn backups_with_a_given_label_are_kept() {
    utc(
        "label why=upgrade, label pin, last 1",
        "2026-11-01T00:00 why=upgrade => label why=upgrade
         2026-11-02T00:00 why=Upgrade => -
         2026-11-03T00:00 pin= => label pin
         2026-11-04T00:00 pin=no why=upgrade => label why=upgrade, label pin
         2026-11-05T00:00 => last",
    );
    // Backups with a label count for the other rules, too.
    utc(
        "label pin, daily 2",
        "2026-11-01T00:00 => -
         2026-11-02T00:00 => daily
         2026-11-03T00:00 pin=1 => label pin, daily",
    );
}

#[test]
fn protected_backups_are_kept() {
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
fn the_newest_backup_is_kept_if_no_other_one_is() {
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
fn rules_without_effect_are_ignored() {
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
fn parameters_parse_from_their_own_text() {
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
