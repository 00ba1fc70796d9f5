//! The command `list`.

use crate::app::{
    Attempt, BackupEntry, Failure, RepositorySettings, load_records, notice_several_newest,
    open_project,
};
use crate::cli::console::Console;
use crate::ops::OpsError;
use crate::repo::Backup;

pub(super) fn list(
    console: &Console,
    settings: &RepositorySettings,
    volume: Option<&str>,
) -> Result<(), Failure> {
    let (_, project) = open_project(&console.session, settings, Attempt::List)?;
    let records = load_records(&console.session, &project)?;
    let wanted = |b: &&Backup| volume.is_none_or(|name| b.record.volume.name == name);
    let entries: Vec<_> = records.listed().filter(wanted).map(entry).collect();
    // A script may ask for the backups of a new volume. It gets an empty list, not an error.
    if let (Some(name), true, false) = (volume, entries.is_empty(), console.output.is_json()) {
        let volume = name.to_owned();
        return Err(OpsError::NoVolume { volume }.into());
    }
    for name in records.volumes() {
        if volume.is_none_or(|volume| volume == name) {
            notice_several_newest(&console.session, &records, name);
        }
    }
    console.meter.finish();
    console.output.backups(&entries)
}

/// Describes a backup in one line of a list.
pub(super) fn entry(backup: &Backup) -> BackupEntry {
    BackupEntry {
        backup_id: backup.id.to_string(),
        volume: backup.record.volume.name.clone(),
        snapshot: backup.snapshot().cloned(),
        time: backup.time,
        size: backup.record.content.size,
        bytes_stored: Some(backup.record.counts.stored),
        host: backup.record.host.clone(),
        labels: backup.record.labels.clone(),
    }
}
