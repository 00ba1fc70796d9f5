//! The command `list`.

use std::collections::{BTreeSet, HashMap};

use crate::app::{
    Attempt, BackupEntry, Failure, ListRequest, RepositorySettings, notice_several_newest,
    open_records,
};
use crate::base::Notice;
use crate::cli::console::Console;
use crate::ops::OpsError;
use crate::repo::{Backup, Records};

pub(super) fn list(
    console: &Console,
    settings: &RepositorySettings,
    request: &ListRequest,
) -> Result<(), Failure> {
    let (_, records) = open_records(&console.session, settings, Attempt::List)?;
    let volume = request.volume.as_deref();
    let of_volume = |b: &&Backup| volume.is_none_or(|name| b.record.volume.name == name);
    let fits = request.filter();
    let fits = |b: &&Backup| fits(b.record.host.as_deref(), b.time, &b.record.labels);
    let found: Vec<_> = records.listed().filter(of_volume).collect();
    let is_unknown = found.is_empty();
    let found = found.into_iter().filter(fits).collect();
    let found = newest_of_each(found, request.latest);
    let entries: Vec<_> = found
        .into_iter()
        .map(|backup| entry(&records, backup))
        .collect();
    // A script, which uses JSON, may ask for the backups of a new volume. It gets an empty list.
    if let (Some(name), true, false) = (volume, is_unknown, console.output.is_json()) {
        let volume = name.to_owned();
        return Err(OpsError::NoVolume { volume }.into());
    }
    if let Some(host) = request.host.as_deref() {
        notice_unknown_host(console, &records, host);
    }
    for name in records.volumes() {
        if volume.is_none_or(|volume| volume == name) {
            notice_several_newest(&console.session, &records, name);
        }
    }
    console.meter.finish();
    console.output.backups(&entries)
}

/// Sends a notice if no backup was made by `host`.
fn notice_unknown_host(console: &Console, records: &Records, host: &str) {
    let hosts = records.listed().filter_map(|b| b.record.host.as_deref());
    let known: BTreeSet<&str> = hosts.collect();
    if !known.contains(host) {
        console.session.observer.notice(Notice::NoBackupOfHost {
            host: host.to_owned(),
            known: known.into_iter().map(str::to_owned).collect(),
        });
    }
}

/// Returns the newest `latest` backups of each volume; all if `latest` is `None`. Oldest first,
/// like `found`.
fn newest_of_each(found: Vec<&Backup>, latest: Option<u64>) -> Vec<&Backup> {
    let Some(latest) = latest else {
        return found;
    };
    let mut counts: HashMap<&str, u64> = HashMap::new();
    let mut newest: Vec<_> = found.into_iter().rev().collect();
    newest.retain(|backup| {
        let count = counts.entry(&backup.record.volume.name).or_default();
        *count += 1;
        *count <= latest
    });
    newest.reverse();
    newest
}

/// Describes a backup as an entry of a list.
pub(super) fn entry(records: &Records, backup: &Backup) -> BackupEntry {
    BackupEntry {
        backup_id: backup.id.to_string(),
        volume: backup.record.volume.name.clone(),
        snapshot: backup.snapshot().cloned(),
        time: backup.time,
        size: backup.record.content.size,
        bytes_stored: Some(backup.record.counts.stored),
        host: backup.record.host.clone(),
        labels: backup.record.labels.clone(),
        withdrawn: records.is_voided(backup),
        forgotten: records.is_removed(backup),
    }
}
