//! The command `stats`.

use crate::app::{Attempt, Failure, Message, RepositorySettings, Stats, open_project};
use crate::cli::console::Console;
use crate::ops;

pub(super) fn stats(console: &Console, settings: &RepositorySettings) -> Result<(), Failure> {
    let (_, project) = open_project(&console.session, settings, Attempt::Stats)?;
    let report = ops::stats(
        &project,
        &console.session.context(Some(&settings.cache_dir)),
    )?;
    console.meter.finish();
    console.output.show(&Message::Stats(Stats {
        volumes: report.volumes,
        backups: report.backups,
        bytes_backed_up: report.backed_up,
        chunks: report.chunks,
        bytes_unique: report.unique,
        bytes_stored: report.stored,
        packs: report.packs,
    }))
}
