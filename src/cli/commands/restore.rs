//! The command `restore`.

use std::time::Instant;

use crate::app::{
    Attempt, Failure, Message, RepositorySettings, RestoreRequest, RestoreSummary, WriteTo,
    load_records, notice_several_newest, open_project,
};
use crate::cli::console::Console;
use crate::ops::{self, OpsError};
use crate::volume::{StreamTarget, Target, open_target};

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
    let target: Box<dyn Target> = match &request.target {
        WriteTo::Stdout => {
            let stdout = std::io::stdout();
            Box::new(StreamTarget::new(stdout, "standard output", size))
        }
        WriteTo::Path(path) => open_target(path, size, request.existing).map_err(OpsError::from)?,
    };
    let context = console.session.context(Some(&settings.cache_dir));
    let report = ops::restore(&project, backup, &*target, &context)?;
    console.meter.finish();
    console.output.show(&Message::Restore(RestoreSummary {
        backup_id: backup.id.to_string(),
        volume: backup.record.volume.name.clone(),
        target: request.target.to_string(),
        size: backup.record.content.size,
        bytes_written: report.written,
        bytes_fetched: report.fetched,
        duration: started.elapsed().as_secs_f64(),
    }))?;
    console.output.detail(&[
        ("Backup", Some(backup.id.to_string())),
        ("Root", Some(backup.root.to_string())),
        ("Repository", Some(settings.location.to_string())),
        ("Cache", Some(cache_path(&project, settings))),
        ("Threads", Some(console.session.threads.to_string())),
    ])
}
