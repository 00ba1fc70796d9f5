//! The command `copy`.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::app::{
    Attempt, ClientMemory, Code, CopiedBackup, CopyRequest, CopySelection, CopySummary, Failure,
    Message, RepositorySettings, Session, count, history_lost, host_name, open_project,
    open_records, refuse_if_lost, shell_word, short_id,
};
use crate::base::ObjectHash;
use crate::cli::console::Console;
use crate::ops::{self, CopyOptions, CopyReport, OpsError};
use crate::repo::{Backup, PackSizes, Project, Records};

use super::failed::Failed;

/// The next step after some backups could not be copied.
const AGAIN: &str = "the reasons and the next steps are above. All other backups are copied";

pub(super) fn copy(
    console: &Console,
    settings: &RepositorySettings,
    request: &CopyRequest,
) -> Result<(), Failure> {
    let started = Instant::now();
    let session = &console.session;
    let there = settings.target(&request.target)?;
    let is_same_place = settings.location.canonical() == there.location.canonical();
    if is_same_place && settings.project == there.project {
        return Err(OpsError::SameProject.into());
    }
    let (source, records) = open_records(session, settings, Attempt::Copy)?;
    let selected = select(console, settings, &source, &records, &request.selection)?;
    require_one_volume(request, &records, &selected)?;
    let (_, target) = open_project(session, &there, Attempt::StoreCopies)
        .map_err(|failure| with_init(failure, session, &there))?;
    let options = CopyOptions {
        volume: request.volume.clone(),
        accept_write_keys: request.accept_write_keys,
        dry_run: request.dry_run,
        compression: request.compression,
        pack_sizes: PackSizes::default(),
        verify_writes: request.verify_writes,
        host: Some(host_name()),
    };
    let mut run = Run {
        console,
        memory: ClientMemory::new(session, &there),
        target: &target,
        failed: Failed::new(AGAIN, selected.len() > 1),
        only_damage: true,
        lost_copies: 0,
        was_refused: false,
        by_write_keys: 0,
        last: Instant::now(),
        summary: CopySummary {
            target: there.location.to_string(),
            project: there.project.clone(),
            backups_copied: 0,
            backups_existing: 0,
            backups_failed: 0,
            bytes_read: 0,
            bytes_new: 0,
            bytes_stored: 0,
            dry_run: request.dry_run,
            duration: 0.0,
        },
    };
    let mut shown = Ok(());
    let context = session.context(Some(&settings.cache_dir));
    let copied = ops::copy(
        &source,
        &records,
        &selected,
        &target,
        &options,
        &context,
        &mut |backup, result| match run.show(backup, result) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                shown = Err(failure);
                ControlFlow::Break(())
            }
        },
    );
    console.meter.finish();
    shown?;
    copied?;
    run.finish(started)?;
    match &request.selection {
        CopySelection::Some { volumes, .. } if volumes.is_empty() => Ok(()),
        _ => require_complete(session, settings, &source, &records),
    }
}

/// Fails if the source may lack backups, although the user asked for all of the project or of a
/// volume. It may lack some if this host noticed a loss, if a certificate is missing, or if a
/// record is missing or unreadable.
fn require_complete(
    session: &Session,
    settings: &RepositorySettings,
    source: &Project,
    records: &Records,
) -> Result<(), Failure> {
    let lost = ClientMemory::new(session, settings).recorded(source);
    if !lost.is_empty() {
        return Err(history_lost(&settings.location, &lost));
    }
    let certificates = ops::lost_certificates(source)?;
    if !certificates.is_empty() {
        let names: Vec<_> = certificates.iter().map(ToString::to_string).collect();
        let message = format!(
            "the source lacks {}: backups of these keys do not count, so they were not copied",
            names.join(", ")
        );
        return Err(Failure::new(Code::Damage, message).hint(
            "copy the files from another copy of the repository (projects/*/writers/NAME, and \
             NAME.copy), and run the command again",
        ));
    }
    match records.lost().len() {
        0 => Ok(()),
        lost => Err(incomplete(lost as u64)),
    }
}

/// Returns the ids of the backups to copy. Leaves out withdrawn and forgotten backups, unless the
/// user names them. Copying such a backup fails later, unless the target already has a copy of it.
fn select(
    console: &Console,
    settings: &RepositorySettings,
    source: &Project,
    records: &Records,
    selection: &CopySelection,
) -> Result<Vec<ObjectHash>, Failure> {
    let counts = |backup: &&Backup| !records.is_voided(backup) && !records.is_removed(backup);
    let (backups, volumes) = match selection {
        CopySelection::All => {
            let all = records.listed().filter(counts);
            return Ok(all.map(|backup| backup.id).collect());
        }
        CopySelection::Some { backups, volumes } => (backups, volumes),
    };
    let mut selected = Vec::new();
    for backup in backups {
        let found = records.select_surely(backup)?;
        refuse_if_lost(&console.session, settings, source, backup, found)?;
        selected.push(found.id);
    }
    for volume in volumes {
        let mut of_volume = records.of_volume(volume).peekable();
        if of_volume.peek().is_none() {
            let volume = volume.clone();
            return Err(OpsError::NoVolume { volume }.into());
        }
        selected.extend(of_volume.filter(counts).map(|backup| backup.id));
    }
    selected.sort_unstable();
    selected.dedup();
    Ok(selected)
}

/// Fails if the user names the volume of the target, but the backups are of several volumes.
fn require_one_volume(
    request: &CopyRequest,
    records: &Records,
    selected: &[ObjectHash],
) -> Result<(), Failure> {
    let backups = selected.iter().filter_map(|id| records.get(*id));
    let mut volumes: Vec<_> = backups.map(|backup| &backup.record.volume.name).collect();
    volumes.sort_unstable();
    volumes.dedup();
    if request.volume.is_none() || volumes.len() < 2 {
        return Ok(());
    }
    let text = "--to-volume names one volume, but the backups are of several";
    Err(Failure::usage(text).hint("copy the backups of each volume with a command of its own"))
}

/// If the failure is that there is no repository, adds a hint with the command that makes one. Adds
/// no hint if this host saw a repository there before, because its disk may not be mounted.
fn with_init(failure: Failure, session: &Session, there: &RepositorySettings) -> Failure {
    let was_seen = || ClientMemory::new(session, there).repository().is_some();
    if failure.code != Code::NoRepository || was_seen() {
        return failure;
    }
    let location = shell_word(&there.location.to_string());
    failure.hint(format!(
        "check the path, or make a repository there: cuttlebone -r {location} init"
    ))
}

/// Returns the failure of a copy of all backups, if `lost` records of the source are missing or
/// cannot be read.
fn incomplete(lost: u64) -> Failure {
    let message = format!(
        "all backups that can be read are copied, but {} cannot be read",
        count(lost, "record")
    );
    Failure::new(Code::Damage, message).hint("“cuttlebone check” shows them")
}

/// The state of the command while backups are copied.
struct Run<'a> {
    console: &'a Console,
    /// The client memory of the target.
    memory: ClientMemory<'a>,
    target: &'a Project,
    failed: Failed,
    /// Whether all failures so far are damage.
    only_damage: bool,
    /// The number of backups whose copies in the target have lost data.
    lost_copies: u64,
    /// Whether a backup of a write key was refused.
    was_refused: bool,
    /// The number of copied backups that a write key has signed.
    by_write_keys: u64,
    /// When the work on the previous backup ended.
    last: Instant,
    summary: CopySummary,
}

impl Run<'_> {
    /// Shows the result for one backup. Returns a failure if the command must not continue with the
    /// next one.
    fn show(
        &mut self,
        backup: &Backup,
        result: Result<CopyReport, OpsError>,
    ) -> Result<(), Failure> {
        self.console.meter.finish();
        let report = match result {
            Ok(report) => report,
            Err(error) => {
                let id = backup.id.to_string();
                let name = format!("{} ({})", short_id(&id), backup.record.volume.name);
                self.summary.backups_failed += 1;
                self.lost_copies += u64::from(matches!(error, OpsError::CopyLost { .. }));
                let is_refused = matches!(error, OpsError::CopyOfWriteKey { .. });
                let mut failure = Failure::from(error);
                self.only_damage &= failure.code == Code::Damage;
                if is_refused && std::mem::replace(&mut self.was_refused, true) {
                    // Give the long hint once.
                    failure.hint = None;
                }
                return self.failed.add(self.console, name, failure);
            }
        };
        let is_new = !report.existing;
        if let Some(copy) = report.id.filter(|_| is_new) {
            self.memory
                .remember_backup(self.target, copy, &report.volume, backup.time);
        }
        let (counts, summary) = (&report.counts, &mut self.summary);
        summary.backups_copied += u64::from(is_new);
        summary.backups_existing += u64::from(report.existing);
        summary.bytes_read += counts.read;
        summary.bytes_new += counts.new;
        summary.bytes_stored += counts.stored;
        self.by_write_keys += u64::from(is_new && !backup.is_full);
        let message = Message::Copied(CopiedBackup {
            source_id: backup.id.to_string(),
            backup_id: report.id.map(|id| id.to_string()),
            volume: report.volume,
            time: backup.time,
            size: backup.record.content.size,
            existing: report.existing,
            base: report.base.map(|base| base.to_string()),
            bytes_read: counts.read,
            bytes_new: counts.new,
            bytes_stored: counts.stored,
            chunks_new: counts.chunks_new,
            duration: self.last.elapsed().as_secs_f64(),
        });
        self.last = Instant::now();
        self.console.output.show(&message)
    }

    /// Shows the result of the command. Fails if any backup could not be copied.
    fn finish(mut self, started: Instant) -> Result<(), Failure> {
        if self.by_write_keys > 0 && !self.summary.dry_run {
            self.console.output.notice(&format!(
                "write keys signed {} of the copied backups. The copies do not show this, since \
                 the key of the target signed them",
                self.by_write_keys
            ));
        }
        self.summary.duration = started.elapsed().as_secs_f64();
        let done = self.summary.backups_copied + self.summary.backups_existing;
        self.console.output.show(&Message::Copy(self.summary))?;
        let done = usize::try_from(done).unwrap_or(usize::MAX);
        let only_lost_copies = self.lost_copies == self.failed.names.len() as u64;
        self.failed
            .result(done)
            .map_err(|failure| match failure.code {
                Code::Failed if self.only_damage => Failure {
                    code: Code::Damage,
                    ..failure
                },
                // These backups have copies, but the copies have lost data: the target is damaged.
                Code::Partly if only_lost_copies => Failure {
                    code: Code::Damage,
                    ..failure
                },
                _ => failure,
            })
    }
}
