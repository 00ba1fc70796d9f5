//! The rules of a policy: their types, how they are parsed and printed, and the periods of the
//! calendar. The rules have the same meaning as in restic (`doc/060_forget.rst` and
//! `internal/data/snapshot_policy.go` in its repository).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Timestamp, Zoned};

/// A rule that keeps some backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The newest backup of each of the last `Count` periods that have one.
    Last(Period, Count),
    /// All backups within this span before the newest one.
    Within(Span),
    /// The newest backup of each period within a span before the newest backup.
    PeriodWithin(Period, Span),
    /// Backups with this label.
    Label(LabelMatch),
}

/// A period of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// No period: each backup counts.
    Each,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday to Sunday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// A number of backups to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// At most this number. A rule with 0 has no effect.
    Most(u64),
    /// All of them.
    All,
}

/// A length of time: 2y5m7d3h is two years, five months, seven days and three hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Years of the calendar.
    pub years: u32,
    /// Months of the calendar.
    pub months: u32,
    /// Days of the calendar, whether they have 24 hours or not.
    pub days: u32,
    /// Hours of 60 minutes.
    pub hours: u32,
}

/// A label to compare with those of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMatch {
    /// The name of the label.
    pub key: String,
    /// The value that the label must have; `None` for any value.
    pub value: Option<String>,
}

/// The reason to keep a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It has the label `protected`.
    Protected,
    /// Its time is in the future.
    Future,
    /// Its time is before that of a backup that it follows.
    Earlier,
    /// Its writer withdrew it.
    Voided,
    /// A rule keeps it.
    Rule(Rule),
    /// The rule has no count, or has not used it up, and this is the oldest backup.
    Oldest(Rule),
    /// Nothing else keeps any of the volume's backups that the key of this backup or a full key
    /// signed. This backup is the newest of these.
    LastOfVolume,
}

impl Reason {
    /// Returns whether the rules ignore the backup, because its time or its content is not
    /// reliable.
    #[must_use]
    pub fn is_uncounted(&self) -> bool {
        matches!(self, Self::Future | Self::Earlier | Self::Voided)
    }
}

impl Period {
    /// Returns numbers that are equal for two times if and only if both times are in the same
    /// period. An hour that the clock repeats is one hour. Returns `None` for [`Each`](Self::Each).
    pub(super) fn of(self, time: &Zoned) -> Option<[i16; 4]> {
        let [month, day, hour] = [time.month(), time.day(), time.hour()].map(i16::from);
        let week = time.date().iso_week_date();
        Some(match self {
            Self::Each => return None,
            Self::Hour => [time.year(), month, day, hour],
            Self::Day => [time.year(), month, day, 0],
            Self::Week => [week.year(), i16::from(week.week()), 0, 0],
            Self::Month => [time.year(), month, 0, 0],
            Self::Year => [time.year(), 0, 0, 0],
        })
    }
}

impl LabelMatch {
    /// Returns whether one of these labels fits.
    #[must_use]
    pub fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.key);
        found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found))
    }
}

impl Span {
    /// Returns the time that is this span before `time`. Returns `None` if a [`Timestamp`] cannot
    /// represent that time. A day that a month does not have counts as a day of the next month, as
    /// in restic and Go. For example, one month before 31 March is 3 March, or 2 March in leap
    /// years.
    #[must_use]
    pub fn before(&self, time: &Zoned) -> Option<Timestamp> {
        let months = i64::from(time.year()) * 12 + i64::from(time.month())
            - 1
            - i64::from(self.years) * 12
            - i64::from(self.months);
        let year = i16::try_from(months.div_euclid(12)).ok()?;
        let month = i8::try_from(months.rem_euclid(12) + 1).ok()?;
        let days = i64::from(time.day()) - 1 - i64::from(self.days);
        let date = Date::new(year, month, 1).ok()?;
        let days = jiff::Span::new().try_days(days).ok()?;
        let date = date.checked_add(days).ok()?;
        let day = DateTime::from_parts(date, time.time());
        let day = day.to_zoned(time.time_zone().clone()).ok()?;
        let hours = SignedDuration::from_hours(i64::from(self.hours));
        day.timestamp().checked_sub(hours).ok()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protected => f.write_str("protected"),
            Self::Future => f.write_str("from the future"),
            Self::Earlier => f.write_str("earlier than a backup that it follows"),
            Self::Voided => f.write_str("withdrawn by its writer"),
            Self::Rule(rule) => rule.fmt(f),
            Self::Oldest(rule) => write!(f, "oldest {rule}"),
            Self::LastOfVolume => f.write_str("last of its volume"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last(period, _) => period.fmt(f),
            Self::Within(span) => write!(f, "within {span}"),
            Self::PeriodWithin(period, span) => write!(f, "{period} within {span}"),
            Self::Label(label) => write!(f, "label {label}"),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Each => "last",
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        })
    }
}

impl fmt::Display for LabelMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.years, 'y'),
            (self.months, 'm'),
            (self.days, 'd'),
            (self.hours, 'h'),
        ];
        for (number, unit) in parts.into_iter().filter(|(number, _)| *number > 0) {
            write!(f, "{number}{unit}")?;
        }
        Ok(())
    }
}

/// A text is not a valid parameter of a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParsePolicyError(&'static str);

impl FromStr for Count {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "unlimited" | "-1" => Ok(Self::All),
            _ if text.starts_with('+') => Err(()),
            _ => text.parse().map(Self::Most).map_err(|_| ()),
        }
        .map_err(|()| ParsePolicyError("a number or “unlimited” is needed"))
    }
}

impl FromStr for Span {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const NEEDED: ParsePolicyError =
            ParsePolicyError("a span such as 2y5m7d3h (years, months, days, hours) is needed");
        let mut span = Self::default();
        let mut given = [false; 4];
        let mut rest = text;
        while let Some(unit) = rest.find(|c: char| !c.is_ascii_digit()) {
            let (number, after) = rest.split_at(unit);
            let number: u32 = number.parse().map_err(|_| NEEDED)?;
            let (place, field) = match after.as_bytes().first() {
                Some(b'y') => (0, &mut span.years),
                Some(b'm') => (1, &mut span.months),
                Some(b'd') => (2, &mut span.days),
                Some(b'h') => (3, &mut span.hours),
                _ => return Err(NEEDED),
            };
            if std::mem::replace(&mut given[place], true) {
                return Err(NEEDED);
            }
            *field = number;
            rest = after.get(1..).unwrap_or_default();
        }
        if rest.is_empty() && !text.is_empty() {
            Ok(span)
        } else {
            Err(NEEDED)
        }
    }
}

impl FromStr for LabelMatch {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        if key.is_empty() {
            return Err(ParsePolicyError("write KEY=VALUE, or KEY for any value"));
        }
        Ok(Self {
            key: key.to_owned(),
            value,
        })
    }
}
