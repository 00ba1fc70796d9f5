//! The operation `copy`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::copies::{Copies, origin};
use super::once::Once;
use super::report::{CopyOptions, EachCopy};
use super::volume::CopyTask;
use crate::base::{BlobId, ObjectHash, Role};
use crate::ops::backup::options::{Accept, BackupOptions};
use crate::ops::backup::present::Present;
use crate::ops::backup::record::load;
use crate::ops::context::{Context, READER};
use crate::ops::error::OpsError;
use crate::ops::image_backups::trusted;
use crate::repo::{Backup, BlobReader, IndexContent, Project, ReadSession, Records, RepoError};

/// Copies backups of `source` to `target`, and calls `each` with the result for each backup.
/// `records` are the backups of the source, and `selected` are the ids of the backups to copy.
/// Stops when `each` returns `Break`.
///
/// Fails, and stores nothing, if one of the volumes may not be copied to the target. Otherwise,
/// first reports the backups that may not be copied. Does not copy backups that the target has
/// already. If such a copy is known to have lost data, the result for the backup is an error. If a
/// backup is damaged, the others are still copied. Each copy is committed as soon as it is
/// complete. After a failure, the operation can be repeated, and uses all data that was stored.
pub fn copy(
    source: &Project,
    records: &Records,
    selected: &[ObjectHash],
    target: &Project,
    options: &CopyOptions,
    context: &Context<'_>,
    each: &mut EachCopy<'_>,
) -> Result<(), OpsError> {
    if source.id == target.id {
        return Err(OpsError::SameProject);
    }
    source.keys.require(Role::Full).map_err(RepoError::from)?;
    let context = &Context {
        observer: Arc::new(Once::new(Arc::clone(&context.observer))),
        ..context.clone()
    };
    let present = load(target, context)?;
    let mut plans = Vec::new();
    for (name, backups) in by_volume(records, selected) {
        let to = options.volume.as_deref().unwrap_or(name);
        target.may_back_up(to, &*context.observer)?;
        if options.volume.is_none() {
            require_same_volume((source, records), (target, &present), to, &backups)?;
        }
        plans.push(Plan {
            to,
            copies: Copies::find(target, &present, to),
            backups,
        });
    }
    let mut task = CopyTask {
        source,
        records,
        target,
        context,
        lost: HashSet::new(),
        each,
        content: None,
    };
    for plan in &mut plans {
        let refused = task.refuse(&plan.copies, &mut plan.backups, options.accept_write_keys);
        if refused.is_break() {
            return Ok(());
        }
    }
    (task.lost, task.content) = lost_copies(source, target, &plans, options, context)?;
    let mut session = None;
    // Backups by write keys come last: they may be false, and copying one may take arbitrarily
    // long.
    for is_trusted in [true, false] {
        for plan in &plans {
            let mut backups = plan.backups.clone();
            backups.retain(|backup| trusted(source, backup) == is_trusted);
            let has = |backup: &&Backup| plan.copies.of(source, backup).is_some();
            let flow = if options.dry_run || backups.iter().all(has) {
                task.show_volume(&plan.copies, &backups, plan.to)
            } else {
                let session = match &mut session {
                    Some(session) => session,
                    none @ None => {
                        let tops = tops(records, &plans);
                        let (cache, observer) = (context.cache, &context.observer);
                        let opened = ReadSession::open(source, &tops, READER, cache, observer)?;
                        none.insert(opened)
                    }
                };
                let from = BlobReader::under(session).stopped_by(context.cancel);
                let options = backup_options(plan.to, options);
                task.copy_volume(&from, &plan.copies, &backups, &options)?
            };
            if flow.is_break() {
                return Ok(());
            }
        }
    }
    if let Some(session) = session {
        Arc::clone(session.index()).close();
    }
    Ok(())
}

/// Returns the copies of the selected backups that exist already, but have lost data. Finds only
/// losses that a listing of the packs shows, or that were noted on this host. Also returns the
/// content of the target's index, if that index is in memory.
fn lost_copies(
    source: &Project,
    target: &Project,
    plans: &[Plan<'_>],
    options: &CopyOptions,
    context: &Context<'_>,
) -> Result<(HashSet<ObjectHash>, Option<IndexContent>), OpsError> {
    let existing = plans.iter().flat_map(|plan| {
        let of_plan = plan.backups.iter();
        of_plan.filter_map(|backup| plan.copies.of(source, backup))
    });
    let existing: Vec<&Backup> = existing.collect();
    let Some(first) = existing.first() else {
        return Ok((HashSet::new(), None));
    };
    let options = backup_options(&first.record.volume.name, options);
    let found = Present::find(context.index(target)?, None, &options, context)?;
    let lost = found.lost_among(&existing)?;
    Ok((lost, found.into_content()))
}

/// The selected backups of one volume of the source, oldest first.
struct Plan<'a> {
    /// The volume in the target.
    to: &'a str,
    /// The copies that the volume in the target has.
    copies: Copies,
    backups: Vec<&'a Backup>,
}

/// Returns the selected backups of each volume in the source, oldest first, each once.
fn by_volume<'a>(
    records: &'a Records,
    selected: &[ObjectHash],
) -> BTreeMap<&'a str, Vec<&'a Backup>> {
    let mut places: Vec<_> = selected
        .iter()
        .filter_map(|id| records.place(*id))
        .collect();
    places.sort_unstable();
    places.dedup();
    let mut volumes: BTreeMap<&str, Vec<&Backup>> = BTreeMap::new();
    for place in places {
        let backup = &records.all()[place];
        volumes
            .entry(&backup.record.volume.name)
            .or_default()
            .push(backup);
    }
    volumes
}

/// Fails if the target has a volume of this name with another id than the volume to copy. Does not
/// fail if that volume has a copy of a backup of the volume to copy.
fn require_same_volume(
    (source, records): (&Project, &Records),
    (target, present): (&Project, &Records),
    name: &str,
    backups: &[&Backup],
) -> Result<(), OpsError> {
    let mut there = present.of_volume(name).peekable();
    let all = records.of_volume(name);
    let origins: HashSet<_> = all.map(|backup| origin(source, backup)).collect();
    let is_same = |found: &Backup| {
        let has_id = backups.iter().any(|backup| backup.volume == found.volume);
        has_id || origins.contains(&origin(target, found))
    };
    if there.peek().is_none() || there.any(is_same) {
        return Ok(());
    }
    Err(OpsError::OtherVolume {
        volume: name.to_owned(),
    })
}

/// Returns the top nodes of all trees of these volumes in the source. A copy also reads trees that
/// are not selected: it compares a backup with other backups of its volume.
fn tops(records: &Records, plans: &[Plan<'_>]) -> Vec<BlobId> {
    let selected = plans.iter().flat_map(|plan| &plan.backups);
    let selected = selected.flat_map(|backup| backup.tops());
    let volumes = plans.iter().filter_map(|plan| plan.backups.first());
    let others = volumes.flat_map(|backup| records.of_volume(&backup.record.volume.name));
    let mut tops: Vec<_> = selected.collect();
    // The selected backups come first, since a lease names only a limited number of trees.
    tops.extend(others.flat_map(Backup::tops));
    let mut seen = HashSet::new();
    tops.retain(|top| seen.insert(*top));
    tops
}

/// Returns the options for storing the copies of one volume.
fn backup_options(volume: &str, options: &CopyOptions) -> BackupOptions {
    BackupOptions {
        compression: options.compression,
        pack_sizes: options.pack_sizes,
        verify_writes: options.verify_writes,
        accept: Accept {
            empty: true,
            diff_as_content: true,
            new_content: true,
            times: false,
        },
        ..BackupOptions::of_record(volume, options.host.as_deref())
    }
}
