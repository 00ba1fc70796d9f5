//! The command `backup`.

use std::time::Instant;

use crate::app::{
    BackupRequest, BackupSource, BackupSummary, Failure, Message, ReadFrom, RepositorySettings,
    VolumeName, host_name, open_or_create, project,
};
use crate::cli::console::Console;
use crate::ops::{self, BackupReport, DiffSource, Input, Listed};
use crate::repo;
use crate::volume::{InputFile, RawImage};

use super::cache::cache_path;
use super::diff_files::{open_diff, stdin};

/// An opened source.
enum OpenSource {
    Whole(Input),
    Diff(DiffSource<'static>),
}

pub(super) fn backup(
    console: &Console,
    settings: &RepositorySettings,
    request: BackupRequest,
) -> Result<(), Failure> {
    let started = Instant::now();
    // Open the source first: a typo must not ask for a password or create a repository.
    let source = open_source(console, &request.source)?;
    let repository = open_or_create(&console.session, settings, request.init && !request.dry_run)?;
    let project = project(&console.session, settings, &repository)?;
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
        pack_targets: repo::PackSizes::default(),
        reread: request.reread,
        host: Some(host_name()),
    };
    let context = console.session.context(Some(&settings.cache_dir));
    let reports = match source {
        OpenSource::Whole(input) => vec![ops::backup(&project, input, &options, &context)?],
        OpenSource::Diff(source) => ops::backup_diff(&project, source, &options, &context)?,
    };
    console.meter.finish();
    for report in &reports {
        let summary = summary(report, &options.volume, started.elapsed().as_secs_f64());
        console.output.show(&Message::Backup(summary))?;
    }
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
    ])
}

fn open_source(console: &Console, source: &BackupSource) -> Result<OpenSource, Failure> {
    Ok(match source {
        BackupSource::Whole(ReadFrom::Stdin) => {
            OpenSource::Whole(Input::Stream(Box::new(stdin()?)))
        }
        BackupSource::Whole(ReadFrom::Path(path)) => {
            OpenSource::Whole(Input::Image(RawImage::open(path)?))
        }
        BackupSource::Diff(source) => {
            let source = match source {
                ReadFrom::Stdin => match InputFile::stdin() {
                    Some(file) => DiffSource::File(file),
                    None => open_diff(source)?,
                },
                ReadFrom::Path(_) => open_diff(source)?,
            };
            ops::examine_diff(&source, &console.session.context(None))?;
            OpenSource::Diff(source)
        }
        BackupSource::Listed {
            image,
            extents,
            verify_sample,
        } => OpenSource::Whole(Input::Listed(Listed {
            image: RawImage::open(image)?,
            extents: ops::read_extents(open_diff(extents)?, &console.session.cancel)?,
            samples: *verify_sample,
        })),
    })
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
    }
}
