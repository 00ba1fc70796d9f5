//! Decides which backups of a volume a policy keeps, and why. This is a pure function of times,
//! labels, keys, and the order in which backups follow each other.
//!
//! - Each rule counts backups separately, newest first. A backup is kept if any rule keeps it.
//! - A rule with a period keeps the newest backup of each such period: an hour, day, week, month or
//!   year of the calendar. Only periods with a backup count. Weeks are those of ISO 8601, from
//!   Monday to Sunday.
//! - A rule that has not used up its count also keeps the oldest backup. So the kept backups reach
//!   as far back as possible.
//! - Spans are counted back from the newest backup, not from now.
//! - A backup is kept and not counted if its time is in the future, or earlier than that of a
//!   backup that it follows. In these cases, a clock was wrong, or a time is forged.
//!
//! The backups of a volume need not be one line, in which each follows the one before. Two hosts
//! may back up at the same time, or copies of a repository may be merged. A rule begins at each
//! newest backup: one that no other backup follows. From there, it takes every way to older
//! backups, and counts on each way separately. A backup is kept if it is kept on any way. So a
//! backup can cause the removal only of backups that it follows.
//!
//! The backups of a volume may be signed by several keys. A full key can remove backups; a write
//! key cannot. When a rule decides on a backup of a write key, it counts only backups of this key
//! and of full keys. When it decides on a backup of a full key, it counts only backups of full
//! keys. Otherwise the holder of a write key could add backups that follow the genuine ones, and so
//! cause the rule to remove the genuine ones.

use std::collections::{BTreeMap, HashSet};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::rule::{Count, Reason, Rule, Span};
use crate::base::SignerId;

/// Rules for backups to keep, in the order in which reasons are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// A record in the history of a volume.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    /// The backup. `None` if the record is passed over, because it was withdrawn, for example.
    pub backup: Option<Candidate<'a>>,
    /// The positions in the history of the records that this record follows. They are all larger
    /// than the position of this record.
    pub follows: &'a [usize],
}

/// The properties of a backup that a policy uses.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// When the backup began.
    pub time: Timestamp,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The write key that signed it; `None` if a full key signed it.
    pub key: Option<SignerId>,
}

/// The label that protects a backup from every policy.
const PROTECTED: &str = "protected";

impl Candidate<'_> {
    /// Returns whether the backup has the label `protected`, with any value but `false`.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.labels
            .get(PROTECTED)
            .is_some_and(|value| value != "false")
    }
}

impl Policy {
    /// Makes a policy of these rules. Leaves out those without effect: a count of 0, or a span of
    /// no time.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let says_something = |rule: &Rule| match rule {
            Rule::Last(_, count) => *count != Count::Most(0),
            Rule::Within(span) | Rule::PeriodWithin(_, span) => *span != Span::default(),
            Rule::Label(_) => true,
        };
        Self {
            rules: rules.into_iter().filter(says_something).collect(),
        }
    }

    /// Returns whether the policy has no rules. Such a policy keeps only protected backups and
    /// backups that rules do not count. If there are none, it keeps the newest backup.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns, for each record of a volume (newest first), the reasons to keep its backup. If the
    /// list is empty, the backup is to be removed, or the record is passed over. The decision on a
    /// backup depends only on backups by its own key and by full keys. If there is no reason to
    /// keep any of these backups, the newest of them is kept.
    #[must_use]
    pub fn decide(
        &self,
        history: &[Link<'_>],
        now: Timestamp,
        zone: &TimeZone,
    ) -> Vec<Vec<Reason>> {
        let mut decided = vec![Vec::new(); history.len()];
        let backups = history.iter().filter_map(|link| link.backup);
        let keys: HashSet<Option<SignerId>> = backups.map(|backup| backup.key).collect();
        for key in keys {
            let counts = |backup: &Candidate<'_>| backup.key.is_none() || backup.key == key;
            let line: Vec<Link<'_>> = history
                .iter()
                .map(|link| Link {
                    backup: link.backup.filter(counts),
                    follows: link.follows,
                })
                .collect();
            let reasons = self.decide_for_key(&line, now, zone);
            for ((link, reasons), decided) in line.iter().zip(reasons).zip(&mut decided) {
                if link.backup.is_some_and(|backup| backup.key == key) {
                    *decided = reasons;
                }
            }
        }
        decided
    }

    /// Decides on a history in which the backups that do not count for a key are passed over.
    fn decide_for_key(
        &self,
        history: &[Link<'_>],
        now: Timestamp,
        zone: &TimeZone,
    ) -> Vec<Vec<Reason>> {
        let mut reasons = uncounted(history, now);
        let counted: Vec<Option<Counted<'_>>> = history
            .iter()
            .zip(&reasons)
            .map(|(link, reasons)| {
                let backup = link.backup.filter(|_| reasons.is_empty())?;
                let time = backup.time.to_zoned(zone.clone());
                Some(Counted { backup, time })
            })
            .collect();
        for (link, reasons) in history.iter().zip(&mut reasons) {
            if link.backup.is_some_and(|backup| backup.is_protected()) {
                reasons.insert(0, Reason::Protected);
            }
        }
        let oldest = oldest(history, &counted);
        for rule in &self.rules {
            let mut ways: Vec<Vec<Way>> = vec![Vec::new(); history.len()];
            for (place, link) in history.iter().enumerate() {
                let mut to_here = std::mem::take(&mut ways[place]);
                // No way begins at a record that is passed over. Otherwise, the rules would always
                // keep the backups that such a record follows.
                if to_here.is_empty() && link.backup.is_some() {
                    to_here.push(Way::default());
                }
                if let Some(counted) = &counted[place] {
                    reasons[place].extend(counted.kept_by(rule, &to_here, oldest[place]));
                    to_here = counted.count(rule, to_here);
                }
                for &older in link.follows {
                    for way in &to_here {
                        way.join(&mut ways[older]);
                    }
                }
            }
        }
        let mut present = history.iter().zip(&mut reasons);
        if let Some((_, newest)) = present.find(|(link, _)| link.backup.is_some())
            && newest.is_empty()
            && present.all(|(_, reasons)| reasons.is_empty())
        {
            newest.push(Reason::LastOfVolume);
        }
        reasons
    }
}

/// Returns for each record the reasons why rules do not count it. The reasons are a time after
/// `now`, and a time before that of a record that it follows, directly or through others. The
/// comparison with other records ignores times after `now`.
fn uncounted(history: &[Link<'_>], now: Timestamp) -> Vec<Vec<Reason>> {
    let time = |place: usize| history[place].backup.map(|backup| backup.time);
    let mut latest: Vec<Option<Timestamp>> = vec![None; history.len()];
    let mut reasons = vec![Vec::new(); history.len()];
    for (place, link) in history.iter().enumerate().rev() {
        for &older in link.follows {
            let own = time(older).filter(|time| *time <= now);
            latest[place] = latest[place].max(latest[older]).max(own);
        }
        match time(place) {
            Some(time) if time > now => reasons[place].push(Reason::Future),
            Some(time) if latest[place] > Some(time) => reasons[place].push(Reason::Earlier),
            _ => {}
        }
    }
    reasons
}

/// Returns for each record whether it follows no counted backup, directly or through others.
fn oldest(history: &[Link<'_>], counted: &[Option<Counted<'_>>]) -> Vec<bool> {
    let mut oldest = vec![true; history.len()];
    for (place, link) in history.iter().enumerate().rev() {
        let ends = |&older: &usize| counted[older].is_none() && oldest[older];
        oldest[place] = link.follows.iter().all(ends);
    }
    oldest
}

/// The count of a rule on one way to an older backup. The way begins at a backup that no other
/// backup follows.
#[derive(Debug, Clone, Default)]
struct Way {
    /// The number of periods with a backup, or of backups if the rule has no periods.
    used: u64,
    /// The last of these periods. `None` if there is none yet, or if the rule has no periods.
    period: Option<[i16; 4]>,
    /// The rule counts only backups after this time. `None` if the way has no backup yet.
    since: Option<Timestamp>,
}

/// Maximum number of ways to one record that a rule counts separately. A backup that counts joins
/// all ways to it into one. So a record usually has several ways only if several records follow it.
const WAYS_MAX: usize = 16;

impl Way {
    /// Adds this way to those that lead to a record. Joins two ways with the same last period into
    /// one, with the smaller count and the earlier start.
    fn join(&self, ways: &mut Vec<Self>) {
        let Some(same) = ways.iter_mut().find(|way| way.period == self.period) else {
            ways.push(self.clone());
            if ways.len() > WAYS_MAX {
                ways.sort_by_key(|way| way.used);
                ways.truncate(WAYS_MAX);
            }
            return;
        };
        same.used = same.used.min(self.used);
        same.since = same.since.min(self.since);
    }
}

/// A backup that rules count.
struct Counted<'a> {
    backup: Candidate<'a>,
    time: Zoned,
}

impl Counted<'_> {
    /// Returns the reason to keep the backup; `None` if the rule keeps it on none of these ways.
    fn kept_by(&self, rule: &Rule, ways: &[Way], is_oldest: bool) -> Option<Reason> {
        if let Rule::Label(label) = rule {
            let fits = label.fits(self.backup.labels);
            return fits.then(|| Reason::Rule(rule.clone()));
        }
        let period = self.period(rule);
        let in_span = |way: &&Way| way.since.is_none_or(|since| self.backup.time > since);
        let has_left = |used: u64| match rule {
            Rule::Last(_, Count::Most(most)) => used < *most,
            _ => true,
        };
        let is_new = |way: &Way| (period.is_none() || way.period != period) && has_left(way.used);
        let mut in_spans = ways.iter().filter(in_span);
        if in_spans.clone().any(is_new) {
            Some(Reason::Rule(rule.clone()))
        } else if is_oldest && in_spans.any(|way| has_left(way.used)) {
            Some(Reason::Oldest(rule.clone()))
        } else {
            None
        }
    }

    /// Counts this backup on these ways, and returns the ways to the records that it follows.
    fn count(&self, rule: &Rule, ways: Vec<Way>) -> Vec<Way> {
        let period = self.period(rule);
        let mut counted = Vec::new();
        for mut way in ways {
            if period.is_none() || way.period != period {
                way.used += 1;
            }
            way.period = period;
            let since = || self.since(rule).unwrap_or(Timestamp::MIN);
            way.since = Some(way.since.unwrap_or_else(since));
            way.join(&mut counted);
        }
        counted
    }

    fn period(&self, rule: &Rule) -> Option<[i16; 4]> {
        match rule {
            Rule::Last(period, _) | Rule::PeriodWithin(period, _) => period.of(&self.time),
            Rule::Within(_) | Rule::Label(_) => None,
        }
    }

    /// Returns the beginning of the rule's span if this backup is the newest one that counts.
    /// Returns `None` if the rule has no span, or if the span begins before all times that the
    /// program can represent.
    fn since(&self, rule: &Rule) -> Option<Timestamp> {
        match rule {
            Rule::Within(span) | Rule::PeriodWithin(_, span) => Span::before(span, &self.time),
            Rule::Last(..) | Rule::Label(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;

#[cfg(test)]
mod lines;
