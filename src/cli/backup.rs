//! The command `backup`.

use std::time::Instant;

use super::access::Access;
use super::commands::{cache_path, context, host, open_or_make, project};
use super::failure::Failure;
use super::message::{BackupSummary, Message};
use super::request::{Backup, BackupSource, Compression, Source, VolumeName};
use super::{Session, diff};
use crate::ops::{self, BackupReport, DiffSource, Input, Listed};
use crate::repo;
use crate::volume::{InputFile, RawImage};

/// What is read, opened.
enum Opened {
    Whole(Input),
    Diff(DiffSource<'static>),
}

pub(super) fn perform(session: &Session, access: &Access, request: Backup) -> Result<(), Failure> {
    let started = Instant::now();
    // The source first: a typo should not cost a password, or make a repository.
    let source = open(session, &request.source)?;
    let repository = open_or_make(session, access, request.init && !request.dry_run)?;
    let project = project(session, access, &repository)?;
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
        compression: match request.compression {
            Compression::Off => repo::Compression::Off,
            Compression::Level(level) => repo::Compression::Level(level),
        },
        pack_targets: repo::PackSizes::default(),
        reread: request.reread,
        host: Some(host()),
    };
    let context = context(session, access);
    let reports = match source {
        Opened::Whole(input) => vec![ops::backup(&project, input, &options, &context)?],
        Opened::Diff(source) => ops::backup_diff(&project, source, &options, &context)?,
    };
    session.meter.finish();
    for report in &reports {
        let summary = summary(report, &options.volume, started.elapsed().as_secs_f64());
        session.output.show(&Message::Backup(summary))?;
    }
    let Some(newest) = reports.last() else {
        return Ok(());
    };
    session.output.detail(&[
        ("Backup", newest.id.map(|id| id.to_string())),
        ("Base", newest.base.map(|id| id.to_string())),
        ("Repository", Some(access.location.to_string())),
        ("Project", Some(access.project.clone())),
        ("Cache", Some(cache_path(&project, access))),
        ("Threads", Some(session.settings.threads.to_string())),
    ])
}

fn open(session: &Session, source: &BackupSource) -> Result<Opened, Failure> {
    Ok(match source {
        BackupSource::Whole(Source::Stdin) => {
            Opened::Whole(Input::Stream(Box::new(diff::stdin()?)))
        }
        BackupSource::Whole(Source::Path(path)) => {
            Opened::Whole(Input::Image(RawImage::open(path)?))
        }
        BackupSource::Diff(source) => {
            let source = match source {
                Source::Stdin => match InputFile::stdin() {
                    Some(file) => DiffSource::File(file),
                    None => diff::open(source)?,
                },
                Source::Path(_) => diff::open(source)?,
            };
            ops::examine_diff(&source, &diff::context(session))?;
            Opened::Diff(source)
        }
        BackupSource::Listed {
            image,
            extents,
            verify_sample,
        } => Opened::Whole(Input::Listed(Listed {
            image: RawImage::open(image)?,
            extents: ops::read_extents(diff::open(extents)?, &session.cancel)?,
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
