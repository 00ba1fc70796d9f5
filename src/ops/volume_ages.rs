//! The newest backup of each volume, and its age.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::format::RbdIdentity;
use crate::repo::{Backup, Records};

/// Clocks of hosts may differ by this much. A backup whose time is further ahead of the current
/// time counts as from the future.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(10);

/// A volume and its newest backup.
#[derive(Debug, Clone)]
pub struct VolumeAge<'a> {
    /// The name of the volume.
    pub volume: &'a str,
    /// The newest backup whose time is not in the future; `None` if all are from the future.
    pub newest: Option<&'a Backup>,
    /// The time since that backup began; `None` if there is no such backup.
    pub age: Option<Duration>,
    /// The number of newer backups that do not count, since their times are in the future. Their
    /// real times are not known. If one of them counted, the volume would not become overdue.
    pub from_future: usize,
    /// Whether the volume is no longer backed up: the backup `newest` is by a full key and has the
    /// label [`RETIRED`](Self::RETIRED).
    pub is_retired: bool,
    /// The image of the volume's newest backup of an image in a cluster; `None` if there is no such
    /// backup.
    pub image: Option<&'a RbdIdentity>,
}

impl VolumeAge<'_> {
    /// The key and the value of a label. A volume whose newest backup is by a full key and has this
    /// label is never overdue.
    pub const RETIRED: (&'static str, &'static str) = ("status", "retired");

    /// Returns whether the volume is not retired, and no backup has been made since this time.
    /// Backups from the future do not count.
    #[must_use]
    pub fn is_overdue(&self, earliest: Timestamp) -> bool {
        !self.is_retired && self.newest.is_none_or(|newest| newest.time < earliest)
    }
}

/// Returns the age of each volume, in the order of the names.
#[must_use]
pub fn volume_ages(records: &Records, now: Timestamp) -> Vec<VolumeAge<'_>> {
    let latest = now.saturating_add(CLOCK_SLACK).unwrap_or(now);
    let age_of = |volume| {
        let newest_first = || records.of_volume(volume).rev();
        let newest = newest_first().find(|backup| backup.time <= latest);
        let from_future = newest_first().take_while(|backup| backup.time > latest);
        let (key, value) = VolumeAge::RETIRED;
        let has_label = |backup: &Backup| {
            backup
                .record
                .labels
                .get(key)
                .is_some_and(|found| found == value)
        };
        let age = newest.map(|backup| now.duration_since(backup.time));
        VolumeAge {
            volume,
            newest,
            age: age.map(not_negative),
            from_future: from_future.count(),
            // A later backup without the label shows that the volume is backed up again. Only a
            // full key can end the warning: a thief with a write key must not be able to do so.
            is_retired: newest.is_some_and(|newest| newest.is_full && has_label(newest)),
            image: newest_first().find_map(|backup| backup.record.source.as_ref()?.rbd.as_ref()),
        }
    };
    records.volumes().map(age_of).collect()
}

/// Returns a duration, or zero instead of a negative one.
fn not_negative(age: SignedDuration) -> Duration {
    Duration::try_from(age).unwrap_or_default()
}
