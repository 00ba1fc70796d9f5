//! The command `stats`.

use crate::app::{Attempt, Failure, Message, RepositorySettings, Stats, VolumeStats, open_project};
use crate::cli::console::Console;
use crate::ops;

pub(super) fn stats(
    console: &Console,
    settings: &RepositorySettings,
    volume: Option<String>,
) -> Result<(), Failure> {
    let (_, project) = open_project(&console.session, settings, Attempt::Stats)?;
    let context = console.session.context(Some(&settings.cache_dir));
    let message = if let Some(volume) = volume {
        let report = ops::volume_stats(&project, &volume, &context)?;
        Message::VolumeStats(VolumeStats {
            volume,
            backups: report.backups,
            bytes_backed_up: report.backed_up,
            bytes_exclusive: report.space.exclusive,
            bytes_shared: report.space.shared,
        })
    } else {
        let report = ops::stats(&project, &context)?;
        Message::Stats(Stats {
            volumes: report.volumes,
            backups: report.backups,
            bytes_backed_up: report.backed_up,
            chunks: report.chunks,
            bytes_unique: report.unique,
            bytes_stored: report.stored,
            bytes_used: report.used,
            packs: report.packs,
        })
    };
    console.meter.finish();
    console.output.show(&message)
}
