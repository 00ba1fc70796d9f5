//! The command `restore`, if its target is an image in a Ceph cluster.

use std::time::Instant;

use crate::app::{
    Attempt, Failure, ImageMode, Message, RepositorySettings, RestoreImageRequest, RestoreSummary,
    RestoredImage, notice_several_newest, notice_state, open_records, refuse_if_lost,
};
use crate::cli::console::Console;
use crate::ops;
use crate::volume::{LiveImage, RbdClient};

pub(super) fn restore_image(
    console: &Console,
    settings: &RepositorySettings,
    request: RestoreImageRequest,
) -> Result<(), Failure> {
    let started = Instant::now();
    let session = &console.session;
    let (project, records) = open_records(session, settings, Attempt::Restore)?;
    let backup = records.select_surely(&request.backup)?;
    refuse_if_lost(session, settings, &project, &request.backup, backup)?;
    if records.newest(&request.backup).is_some() {
        notice_several_newest(session, &records, &request.backup);
    }
    notice_state(session, &project, &records, backup);
    let client = RbdClient::new(request.cluster);
    let image = LiveImage::new(&client, &request.image);
    let context = session.context(Some(&settings.cache_dir));
    let (restored, image) = match request.mode {
        ImageMode::New(target) => {
            let restored = ops::restore_image(&project, backup, &image, &target, &context)?;
            (restored, RestoredImage::default())
        }
        ImageMode::InPlace(options) => {
            let report =
                ops::restore_image_in_place(&project, &records, backup, &image, options, &context)?;
            let image = RestoredImage {
                bytes_compared: Some(report.compared),
                safety_snapshot: report.safety_snapshot,
                earlier_snapshots: report.earlier_snapshots,
                snapshots: None,
            };
            (report.restored, image)
        }
        ImageMode::Series { from, target } => {
            let from = from.map(|from| records.select_surely(&from)).transpose()?;
            let backups = ops::series(&records, from, backup)?;
            for backup in &backups {
                let id = backup.id.to_string();
                refuse_if_lost(session, settings, &project, &id, backup)?;
            }
            let (restored, snapshots) =
                ops::restore_series(&project, &backups, &image, &target, &context)?;
            let image = RestoredImage {
                snapshots: Some(snapshots),
                ..RestoredImage::default()
            };
            (restored, image)
        }
    };
    console.meter.finish();
    console.output.show(&Message::Restore(RestoreSummary {
        backup_id: backup.id.to_string(),
        volume: backup.record.volume.name.clone(),
        target: format!("rbd:{}", request.image),
        size: backup.record.content.size,
        bytes_written: restored.written,
        bytes_fetched: restored.fetched,
        bytes_missing: 0,
        bytes_cut: None,
        bytes_after_end: None,
        image,
        duration: started.elapsed().as_secs_f64(),
    }))
}
