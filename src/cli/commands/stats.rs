//! The command `stats`.

use crate::app::{
    Attempt, Code, Failure, Message, RepositorySettings, Stats, VolumeStats, count, notice_damaged,
    open_project,
};
use crate::cli::console::Console;
use crate::ops;

pub(super) fn stats(
    console: &Console,
    settings: &RepositorySettings,
    volume: Option<String>,
) -> Result<(), Failure> {
    let (_, project) = open_project(&console.session, settings, Attempt::Stats)?;
    let context = console.session.context(Some(&settings.cache_dir));
    let (message, unread) = if let Some(volume) = volume {
        let report = ops::volume_stats(&project, &volume, &context)?;
        let message = Message::VolumeStats(VolumeStats {
            volume,
            backups: report.backups,
            bytes_backed_up: report.backed_up,
            bytes_exclusive: report.space.exclusive,
            bytes_shared: report.space.shared,
            unreadable: report.unread.len() as u64,
        });
        (message, report.unread)
    } else {
        let report = ops::stats(&project, &context)?;
        let message = Message::Stats(Stats {
            volumes: report.volumes,
            backups: report.backups,
            bytes_backed_up: report.backed_up,
            chunks: report.chunks,
            bytes_unique: report.unique,
            bytes_stored: report.stored,
            bytes_used: report.used,
            packs: report.packs,
            unreadable: report.unread.len() as u64,
        });
        (message, report.unread)
    };
    notice_damaged(&console.session, &unread);
    console.meter.finish();
    console.output.show(&message)?;
    if unread.is_empty() {
        return Ok(());
    }
    let objects = count(unread.len() as u64, "object");
    Err(Failure::new(
        Code::Damage,
        format!("the figures do not include {objects} that could not be read"),
    )
    .hint("run “cuttlebone check” to see which backups are affected"))
}
