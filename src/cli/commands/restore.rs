//! The command `restore`.

use std::io::Write;
use std::ops::Range;
use std::time::Instant;

use crate::app::{
    Attempt, Code, Extent, Failure, Message, RepositorySettings, RestoreRequest, RestoreSummary,
    WriteTo, count, load_records, notice_several_newest, open_project, rescue_map,
};
use crate::cli::console::Console;
use crate::ops::{self, OnDamage, OpsError};
use crate::repo::{Backup, RepoError};
use crate::volume::{
    Existing, OutputFile, OutputStream, StreamTarget, Target, VolumeError, open_target,
};

use super::cache::cache_path;

pub(super) fn restore(
    console: &Console,
    settings: &RepositorySettings,
    request: &RestoreRequest,
) -> Result<(), Failure> {
    let started = Instant::now();
    let (_, project) = open_project(&console.session, settings, Attempt::Restore)?;
    let records = load_records(&console.session, &project)?;
    let backup = records.select(&request.backup)?;
    if records.newest(&request.backup).is_some() {
        notice_several_newest(&console.session, &records, &request.backup);
    }
    let size = backup.record.content.size;
    let map = request.map.as_ref().map(OutputFile::create_new);
    let map = map.transpose().map_err(OpsError::from)?;
    let target: Box<dyn Target> = match &request.target {
        WriteTo::Stdout => {
            let stdout = std::io::stdout();
            Box::new(StreamTarget::new(stdout, "standard output", size))
        }
        WriteTo::Path(path) => open_target(path, size, request.existing).map_err(OpsError::from)?,
    };
    let on_damage = match (request.keep_going, request.existing) {
        (false, _) => OnDamage::Stop,
        (true, Existing::Update) => OnDamage::Keep,
        (true, Existing::Refuse | Existing::Replace) => OnDamage::Zero,
    };
    let context = console.session.context(Some(&settings.cache_dir));
    let report = ops::restore_despite(on_damage, &project, backup, &*target, &context)?;
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
        Some(damage) => Err(incomplete(backup, &holes, on_damage, &damage)),
        None => Ok(()),
    }
}

fn write_map(mut map: OutputFile, text: &str) -> Result<(), VolumeError> {
    let written = map.write_all(text.as_bytes());
    written.map_err(|error| VolumeError::writing(map.name(), error))?;
    map.finish()
}

/// Returns the failure of a restore that went on despite damage.
fn incomplete(
    backup: &Backup,
    holes: &[Extent],
    on_damage: OnDamage,
    damage: &RepoError,
) -> Failure {
    let bytes: u64 = holes.iter().map(|hole| hole.length).sum();
    let volume = &backup.record.volume.name;
    let places = count(holes.len() as u64, "place");
    let message = format!("{bytes} bytes of volume “{volume}” in {places} could not be restored");
    let hint = match on_damage {
        OnDamage::Keep => "the target keeps its old content there",
        OnDamage::Stop | OnDamage::Zero => "they are zeros in the target",
    };
    Failure::new(Code::Damage, message)
        .caused_by(Some(damage))
        .hint(format!("{hint}; an older backup may have them"))
}
