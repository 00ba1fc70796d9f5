//! The command `backup`.

use std::path::Path;
use std::time::Instant;

use crate::app::{
    Attempt, BackupRequest, BackupSource, BackupSummary, ClientMemory, Code, Failure, Message,
    MetDamageEntry, ReadFrom, RepositorySettings, VolumeName, affected_entry, count, hole_extents,
    host_name, lost_parts, open_or_create, printable, project, short_id,
};
use crate::base::{Notice, child_command};
use crate::cli::console::Console;
use crate::ops::{self, BackupReport};
use crate::repo;
use crate::volume::{
    CommandSource, DiffSource, InputFile, InputStream, ListedImage, RawImage, Source, StreamSource,
};

use super::cache::cache_path;
use super::diff_files::{open_diff, stdin};
use super::restore::{describe, interrupted_restore};

pub(super) fn backup(
    console: &Console,
    settings: &RepositorySettings,
    request: BackupRequest,
) -> Result<(), Failure> {
    let started = Instant::now();
    // Open the source first: a typo must not ask for a password or create a repository.
    if !request.allow_interrupted_restore {
        refuse_interrupted_restore(console, &request.source)?;
    }
    let mut source = open_source(console, &request.source)?;
    let create = request.init && !request.dry_run;
    let (repository, is_new) = open_or_create(&console.session, settings, Attempt::Backup, create)?;
    if is_new {
        let (at, project) = (&settings.location, &settings.project);
        console.meter.note(&format!(
            "there was no repository: created {at} with project {project}"
        ));
    }
    let project = project(&console.session, settings, Attempt::Backup, &repository)?;
    let (volume, volume_chosen) = match request.volume {
        VolumeName::Chosen(name) => (name, true),
        VolumeName::OfFile(name) => (name, false),
    };
    let options = ops::BackupOptions {
        volume,
        volume_chosen,
        base: request.base,
        force_base: request.force_base,
        labels: request.labels,
        dry_run: request.dry_run,
        compression: request.compression,
        pack_sizes: repo::PackSizes::default(),
        verify_writes: request.verify_writes,
        reread: request.reread,
        verify_sample: match request.source {
            BackupSource::Listed { verify_sample, .. } => verify_sample,
            BackupSource::Whole(_) | BackupSource::Diff(_) | BackupSource::Command(_) => 0,
        },
        accept: request.accept,
        stated: request.stated,
        host: Some(host_name()),
    };
    let context = console.session.context(Some(&settings.cache_dir));
    let reports = ops::backup(&project, &mut *source, &options, &context)?;
    console.meter.finish();
    let memory = ClientMemory::new(&console.session, settings);
    for id in reports
        .iter()
        .filter(|report| !report.existing)
        .filter_map(|report| report.id)
    {
        memory.remember_backup(&project, id, &options.volume);
    }
    for report in &reports {
        let summary = summary(report, &options.volume, started.elapsed().as_secs_f64());
        console.output.show(&Message::Backup(summary))?;
    }
    let damage = reports
        .iter()
        .find_map(|report| damaged(report, &options.volume));
    let Some(newest) = reports.last() else {
        return Ok(());
    };
    console.output.detail(&[
        ("Backup", newest.id.map(|id| id.to_string())),
        ("Base", newest.base.map(|id| id.to_string())),
        ("Repository", Some(settings.location.to_string())),
        ("Project", Some(settings.project.clone())),
        ("Cache", Some(cache_path(&project, settings))),
        ("Threads", Some(console.session.threads.to_string())),
    ])?;
    damage.map_or(Ok(()), Err)
}

/// Returns the failure of a backup that was stored, but found damage of the repository: it cannot
/// be restored completely, or the backup before it could not.
fn damaged(report: &BackupReport, volume: &str) -> Option<Failure> {
    let damage = report.damage.as_ref()?;
    let backup = match report.id {
        Some(id) => format!(
            "backup {} of {}",
            short_id(&id.to_string()),
            printable(volume)
        ),
        None => format!("the dry run of {}", printable(volume)),
    };
    let packs = count(damage.packs, "pack");
    let missing = format!("the repository lacks {packs} that its index names");
    if !damage.holes.is_empty() {
        let lost = lost_parts(&damage.holes, report.size, &[]);
        let message = format!("{backup} is stored, but {missing}: {lost}");
        return Some(Failure::new(Code::Damage, message).hint(
            "it builds on a damaged backup, and the source did not have these parts: back up the \
             whole image once. “cuttlebone check” shows which other backups are damaged",
        ));
    }
    let base = damage.base.as_ref()?;
    let lost = lost_parts(&base.holes, base.size, &base.attachments);
    let base = short_id(&base.id.to_string()).to_owned();
    let message =
        format!("{backup} is complete, but {missing}: of the backup {base} before it, {lost}");
    Some(Failure::new(Code::Damage, message).hint(
        "the data that the source still has was stored again. “cuttlebone check” shows which data \
         is still missing, and which other backups are damaged. Find out why files are missing",
    ))
}

/// Fails if the source is the target of an interrupted restore, since its content is a mixture of
/// old and restored data.
fn refuse_interrupted_restore(console: &Console, source: &BackupSource) -> Result<(), Failure> {
    let (BackupSource::Whole(ReadFrom::Path(image)) | BackupSource::Listed { image, .. }) = source
    else {
        return Ok(());
    };
    let Some(mark) = interrupted_restore(console, image) else {
        return Ok(());
    };
    let message = format!("{} holds {}", image.display(), describe(&mark));
    Err(Failure::new(Code::Failed, message).hint(
        "no backup was created; complete the restore with --in-place, or back up what is there \
         with --allow-interrupted-restore",
    ))
}

fn open_source(console: &Console, source: &BackupSource) -> Result<Box<dyn Source>, Failure> {
    Ok(match source {
        BackupSource::Whole(ReadFrom::Stdin) => Box::new(StreamSource::new(stdin()?)),
        BackupSource::Whole(ReadFrom::Path(path)) => Box::new(open_image(console, path)?),
        BackupSource::Command(command) => {
            let mut shell = child_command("sh");
            shell.arg("-c").arg(command);
            Box::new(CommandSource::new(shell))
        }
        BackupSource::Diff(source) => {
            let stream: Box<dyn InputStream> = match source {
                // A file as standard input can be read twice.
                ReadFrom::Stdin => match InputFile::stdin() {
                    Some(file) => Box::new(file),
                    None => open_diff(source)?,
                },
                ReadFrom::Path(_) => open_diff(source)?,
            };
            ops::examine_diff(&*stream, &console.session.context(None))?;
            Box::new(DiffSource::new(stream))
        }
        BackupSource::Listed { image, extents, .. } => {
            let image = open_image(console, image)?;
            let extents = ops::read_extents(&mut *open_diff(extents)?, &console.session.cancel)?;
            Box::new(ListedImage::new(image, extents))
        }
    })
}

/// Opens an image, and warns of a device that others may write to.
fn open_image(console: &Console, path: &Path) -> Result<RawImage, Failure> {
    let image = RawImage::open(path)?;
    if let Some(user) = image.writer() {
        let device = path.display().to_string();
        let notice = Notice::SourceInUse { device, user };
        console.session.observer.notice(notice);
    }
    Ok(image)
}

fn summary(report: &BackupReport, volume: &str, duration: f64) -> BackupSummary {
    BackupSummary {
        backup_id: report.id.map(|id| id.to_string()),
        volume: volume.to_owned(),
        snapshot: report.snapshot.clone(),
        existing: report.existing,
        size: report.size,
        bytes_changed: report.counts.changed,
        bytes_read: report.counts.read,
        bytes_new: report.counts.new,
        bytes_stored: report.counts.stored,
        chunks_new: report.counts.chunks_new,
        chunks_verified: report.verified,
        duration,
        base: report.base.map(|id| id.to_string()),
        base_by_name: report.base_by_name,
        damage: report.damage.as_ref().map(|damage| MetDamageEntry {
            packs_missing: damage.packs,
            base: damage.base.as_ref().map(affected_entry),
            extents: hole_extents(&damage.holes),
        }),
    }
}
