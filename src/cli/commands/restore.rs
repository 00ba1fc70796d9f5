//! The command `restore`.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::app::{
    Attempt, Code, Extent, Failure, MarkPlaces, Message, RepositorySettings, RestoreMark,
    RestoreRequest, RestoreSummary, RestoredImage, WriteTo, count, notice_several_newest,
    notice_state, open_records, printable, refuse_if_lost, rescue_map, short_id,
};
use crate::base::Notice;
use crate::cli::console::Console;
use crate::ops::{self, OnDamage, OpsError};
use crate::repo::{Backup, RepoError};
use crate::volume::{
    AnnouncedTarget, Existing, OutputFile, OutputStream, StreamTarget, Target, VolumeError,
    VolumeErrorKind, open_target,
};

use super::cache::cache_path;

pub(super) fn restore(
    console: &Console,
    settings: &RepositorySettings,
    request: &RestoreRequest,
) -> Result<(), Failure> {
    let started = Instant::now();
    if let WriteTo::Path(path) = &request.target
        && let Some(mark) = interrupted_restore(console, path)
    {
        let target = path.display();
        console
            .output
            .notice(&format!("{target} holds {}", describe(&mark)));
    }
    let (project, records) = open_records(&console.session, settings, Attempt::Restore)?;
    let backup = records.select_surely(&request.backup)?;
    refuse_if_lost(
        &console.session,
        settings,
        &project,
        &request.backup,
        backup,
    )?;
    if records.newest(&request.backup).is_some() {
        notice_several_newest(&console.session, &records, &request.backup);
    }
    notice_state(&console.session, &project, &records, backup);
    let size = backup.record.content.size;
    let rest = rest_of(request, size);
    let map = request.map.as_ref().map(OutputFile::create_new);
    let map = map.transpose().map_err(OpsError::from)?;
    let target: Box<dyn Target> = match &request.target {
        WriteTo::Stdout => {
            let stdout = std::io::stdout();
            Box::new(StreamTarget::new(stdout, "standard output", size))
        }
        WriteTo::Path(path) => {
            open_target(path, size, request.existing).map_err(unusable_target)?
        }
    };
    if let Some(Rest { bytes, cut }) = rest {
        let target = request.target.to_string();
        let notice = Notice::TargetLarger { target, bytes, cut };
        console.session.observer.notice(notice);
    }
    // A mark is a file that shows that a restore has not ended. A new target needs no mark, since
    // it does not exist until it is complete. Standard output cannot have a mark.
    let marks = match &request.target {
        WriteTo::Path(path) if target.as_read_target().is_some() => {
            MarkPlaces::of(path, &console.session.environment).ok()
        }
        _ => None,
    };
    let (mark, observer) = (mark(backup, request), Arc::clone(&console.session.observer));
    let target = AnnouncedTarget::new(target, || {
        if let Some(Err(error)) = marks.as_ref().map(|marks| marks.write(&mark)) {
            observer.notice(Notice::NoRestoreMark {
                problem: error.to_string(),
            });
        }
    });
    let on_damage = on_damage(request);
    let context = console.session.context(Some(&settings.cache_dir));
    let report = ops::restore_despite(on_damage, &project, backup, &target, &context)?;
    // With old content in the holes, the target is still a mixture of old and restored data.
    if report.damage.is_none() || on_damage != OnDamage::Keep {
        remove_mark(console, request)?;
    }
    console.meter.finish();
    if let Some(map) = map {
        write_map(map, &rescue_map(size, &report.holes)).map_err(OpsError::from)?;
    }
    let extent = |hole: &Range<u64>| Extent {
        offset: hole.start,
        length: hole.end - hole.start,
    };
    let holes: Vec<Extent> = report.holes.iter().map(extent).collect();
    let bytes_missing = holes.iter().map(|hole| hole.length).sum();
    console.output.holes(&holes)?;
    console.output.show(&Message::Restore(RestoreSummary {
        backup_id: backup.id.to_string(),
        volume: backup.record.volume.name.clone(),
        target: request.target.to_string(),
        size,
        bytes_written: report.written,
        bytes_fetched: report.fetched,
        bytes_missing,
        bytes_cut: rest.filter(|rest| rest.cut).map(|rest| rest.bytes),
        bytes_after_end: rest.filter(|rest| !rest.cut).map(|rest| rest.bytes),
        image: RestoredImage::default(),
        duration: started.elapsed().as_secs_f64(),
    }))?;
    console.output.detail(&[
        ("Backup", Some(backup.id.to_string())),
        ("Root", Some(backup.root.to_string())),
        ("Repository", Some(settings.location.to_string())),
        ("Cache", Some(cache_path(&project, settings))),
        ("Threads", Some(console.session.threads.to_string())),
    ])?;
    match report.damage {
        Some(damage) => {
            let is_marked = marks.as_ref().is_some_and(|marks| marks.read().is_some());
            Err(incomplete(backup, &holes, on_damage, is_marked, &damage))
        }
        None => Ok(()),
    }
}

fn on_damage(request: &RestoreRequest) -> OnDamage {
    match (request.keep_going, request.existing) {
        (false, _) => OnDamage::Stop,
        (true, Existing::Update) => OnDamage::Keep,
        (true, Existing::Refuse | Existing::Replace) => OnDamage::Zero,
    }
}

/// The bytes of an existing target that lie after the end of the backup.
#[derive(Debug, Clone, Copy)]
struct Rest {
    bytes: u64,
    /// Whether the restore cuts these bytes off. Otherwise, they stay as they are.
    cut: bool,
}

/// Returns the bytes of the target after the end of a backup of `size` bytes. `None` if there are
/// none, or if the restore does not overwrite an existing target.
fn rest_of(request: &RestoreRequest, size: u64) -> Option<Rest> {
    let WriteTo::Path(path) = &request.target else {
        return None;
    };
    let kind = path.metadata().ok()?.file_type();
    let cut = kind.is_file();
    // A new file has no bytes after the end of the backup.
    let overwrites = match request.existing {
        Existing::Update => cut || kind.is_block_device(),
        Existing::Refuse | Existing::Replace => kind.is_block_device(),
    };
    if !overwrites {
        return None;
    }
    let end = File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0)));
    let bytes = end.ok()?.checked_sub(size).filter(|bytes| *bytes > 0)?;
    Some(Rest { bytes, cut })
}

/// Removes the marks of this restore and of earlier ones to the same target.
fn remove_mark(console: &Console, request: &RestoreRequest) -> Result<(), Failure> {
    if let WriteTo::Path(path) = &request.target
        && let Ok(marks) = MarkPlaces::of(path, &console.session.environment)
    {
        marks.remove().map_err(|error| {
            Failure::new(
                Code::Failed,
                "could not remove the mark of an incomplete restore",
            )
            .caused_by(Some(&error))
        })?;
    }
    Ok(())
}

/// Returns the mark of a restore to this path that was interrupted, left old content in the target,
/// or is still running; `None` if there is none.
pub(super) fn interrupted_restore(console: &Console, path: &Path) -> Option<RestoreMark> {
    MarkPlaces::of(path, &console.session.environment)
        .ok()?
        .read()
}

/// Describes an incomplete restore.
pub(super) fn describe(mark: &RestoreMark) -> String {
    let RestoreMark {
        backup_id,
        volume,
        time,
        ..
    } = mark;
    let id = short_id(backup_id);
    let (volume, time) = (printable(volume), printable(time));
    format!("an incomplete restore of backup {id} of volume “{volume}”, begun at {time}")
}

/// Returns the failure of a target that cannot be opened.
fn unusable_target(error: VolumeError) -> Failure {
    let is_unsuitable = matches!(error.kind, VolumeErrorKind::Unsuitable(_));
    let failure = Failure::from(error);
    if is_unsuitable {
        return failure.hint(
            "give a regular file or a block device, or give “-” and pipe the output to a program",
        );
    }
    failure
}

fn mark(backup: &Backup, request: &RestoreRequest) -> RestoreMark {
    RestoreMark {
        backup_id: backup.id.to_string(),
        volume: backup.record.volume.name.clone(),
        time: Timestamp::now().to_string(),
        target: request.target.to_string(),
    }
}

fn write_map(mut map: OutputFile, text: &str) -> Result<(), VolumeError> {
    let written = map.write_all(text.as_bytes());
    written.map_err(|error| VolumeError::writing(map.name(), error))?;
    map.finish()
}

/// Returns the failure of a restore that continued despite damage. `is_marked` says whether the
/// mark of this restore or of an earlier one stays.
fn incomplete(
    backup: &Backup,
    holes: &[Extent],
    on_damage: OnDamage,
    is_marked: bool,
    damage: &RepoError,
) -> Failure {
    let bytes: u64 = holes.iter().map(|hole| hole.length).sum();
    let volume = &backup.record.volume.name;
    let places = count(holes.len() as u64, "place");
    let message = format!("{bytes} bytes of volume “{volume}” in {places} could not be restored");
    let hint = match on_damage {
        OnDamage::Keep if !is_marked => "the target keeps its old content there",
        OnDamage::Keep => {
            "the target keeps its old content there, so “backup” refuses it until a restore with \
             --in-place is complete"
        }
        OnDamage::Stop | OnDamage::Zero => "they are zeros in the target",
    };
    Failure::new(Code::Damage, message)
        .caused_by(Some(damage))
        .hint(format!("{hint}; an older backup may have these bytes"))
}
