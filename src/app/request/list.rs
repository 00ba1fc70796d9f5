//! Requests to list backups.

use std::collections::BTreeMap;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::ops::{LabelMatch, Span};

/// Which backups to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListRequest {
    pub(crate) volume: Option<String>,
    /// A backup must have all of these labels.
    pub(crate) labels: Vec<LabelMatch>,
    /// The host that made the backup; `None` for any host.
    pub(crate) host: Option<String>,
    /// The earliest time at which the backup was made; `None` for any time.
    pub(crate) since: Option<Since>,
    /// How many of the newest backups of each volume to list; `None` for all.
    pub(crate) latest: Option<u64>,
}

/// The earliest time of the backups to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// A span before now.
    Ago(Span),
    /// The beginning of a day in the local time zone.
    Day(Date),
    /// An exact time.
    Moment(Timestamp),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span = text.parse().map(Self::Ago).ok();
        let day = || text.parse().map(Self::Day).ok();
        let moment = || text.parse().map(Self::Moment).ok();
        let is_day = text.len() <= 10;
        span.or_else(|| if is_day { day() } else { moment() })
            .ok_or_else(|| {
                "give a span such as 7d, a day such as 2026-11-28, or a time such as \
                 2026-11-28T10:00:00Z"
                    .to_owned()
            })
    }
}

impl Since {
    /// Returns the earliest time of the backups to list. Returns [`Timestamp::MIN`] if that time is
    /// before the first day of the calendar.
    pub(crate) fn earliest(&self, now: &Zoned) -> Timestamp {
        let found = match self {
            Self::Ago(span) => span.before(now),
            Self::Day(day) => day
                .to_zoned(now.time_zone().clone())
                .ok()
                .map(|day| day.timestamp()),
            Self::Moment(moment) => Some(*moment),
        };
        found.unwrap_or(Timestamp::MIN)
    }
}

impl ListRequest {
    /// Returns a function that decides whether a backup with this host, time and labels is listed.
    /// The function does not apply `volume` and `latest`.
    pub(crate) fn filter(
        &self,
    ) -> impl Fn(Option<&str>, Timestamp, &BTreeMap<String, String>) -> bool {
        let now = Timestamp::now().to_zoned(TimeZone::system());
        let earliest = self.since.map(|since| since.earliest(&now));
        move |host, time, labels| {
            self.host
                .as_deref()
                .is_none_or(|wanted| host == Some(wanted))
                && earliest.is_none_or(|earliest| time >= earliest)
                && self.labels.iter().all(|label| label.fits(labels))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_time_is_a_span_before_now_a_day_or_an_exact_time() {
        let now = "2026-11-28T10:00:00+01:00[+01:00]"
            .parse::<Zoned>()
            .unwrap();
        for (text, expected) in [
            ("7d", "2026-11-21T09:00:00Z"),
            ("1m2h", "2026-10-28T07:00:00Z"),
            ("2026-11-01", "2026-10-31T23:00:00Z"),
            ("2026-11-01T12:00:00Z", "2026-11-01T12:00:00Z"),
            ("2026-11-01T12:00:00+02:00", "2026-11-01T10:00:00Z"),
        ] {
            let since: Since = text.parse().unwrap();
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(since.earliest(&now), expected, "{text}");
        }
        for refused in ["", "7", "yesterday", "2026-13-01", "2026-11-01T12:00"] {
            assert!(refused.parse::<Since>().is_err(), "{refused}");
        }
    }
}
