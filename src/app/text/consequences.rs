//! The text about the consequences of damage.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use crate::app::check_message::AffectedEntry;
use crate::app::damage_message::{Consequences, VolumeDamage};
use crate::app::human::{count, printable, short_id, time};

use super::finding::lost_parts_of;

/// The maximum number of entries to show of each list of backups, volumes or steps.
const SHOWN: usize = 8;

/// Names an affected backup by its volume, time and id.
pub(super) fn backup_name(backup: &AffectedEntry, zone: &TimeZone) -> String {
    let (volume, time) = (&backup.volume, time(backup.time, zone));
    format!("{volume} of {time} ({})", short_id(&backup.backup_id))
}

/// Describes which parts of each backup are lost because one pack is damaged.
pub(super) fn affects(backups: &[AffectedEntry], zone: &TimeZone) -> String {
    if backups.is_empty() {
        return "  no backup is affected: all data in it that backups need is in other files, too\n"
            .to_owned();
    }
    let mut text = String::new();
    for backup in backups.iter().take(SHOWN) {
        let name = printable(&backup_name(backup, zone));
        let _ = writeln!(text, "  {name}: {}", printable(&lost_parts_of(backup)));
    }
    more(&mut text, backups.len(), "backup");
    text
}

/// Describes for each volume with damage how many backups are affected, and which is the newest
/// whole one. Then lists the next steps.
pub(super) fn consequences(damage: &Consequences, zone: &TimeZone) -> String {
    let mut text = String::new();
    for volume in damage.volumes.iter().take(SHOWN) {
        let _ = writeln!(text, "{}", volume_damage(volume, zone));
    }
    more(&mut text, damage.volumes.len(), "volume");
    if !damage.next.is_empty() {
        text += "next, until a check finds no damage:\n";
    }
    for step in damage.next.iter().take(SHOWN) {
        let command = printable(&step.command);
        let _ = writeln!(text, "  {command}\n    {}", step.purpose);
    }
    more(&mut text, damage.next.len(), "command");
    text
}

fn volume_damage(volume: &VolumeDamage, zone: &TimeZone) -> String {
    let all = count(volume.affected + volume.whole, "backup");
    let newest = match (&volume.newest_whole, volume.newest_whole_time) {
        (Some(id), Some(at)) => {
            format!(
                "the newest whole one is of {} ({})",
                time(at, zone),
                short_id(id)
            )
        }
        _ => "none is whole".to_owned(),
    };
    let name = printable(&volume.volume);
    format!("{name}: {} of {all} affected; {newest}", volume.affected)
}

fn more(text: &mut String, all: usize, one: &str) {
    if let Some(more) = all.checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {} more", count(more as u64, one));
    }
}
