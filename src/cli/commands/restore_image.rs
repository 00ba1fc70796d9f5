//! The command `restore`, to an image in a Ceph cluster.

use std::time::Instant;

use crate::app::{
    Attempt, Failure, Message, RepositorySettings, RestoreImageRequest, RestoreSummary,
    load_records, notice_several_newest, notice_state, open_project, refuse_if_lost,
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
    let (_, project) = open_project(session, settings, Attempt::Restore)?;
    let records = load_records(session, settings, &project)?;
    let backup = records.select_surely(&request.backup)?;
    refuse_if_lost(session, settings, &project, &request.backup, backup)?;
    if records.newest(&request.backup).is_some() {
        notice_several_newest(session, &records, &request.backup);
    }
    notice_state(session, &records, backup);
    let client = RbdClient::new(request.cluster);
    let image = LiveImage::new(&client, &request.image);
    let context = session.context(Some(&settings.cache_dir));
    let report = ops::restore_image(&project, backup, &image, &context)?;
    console.meter.finish();
    console.output.show(&Message::Restore(RestoreSummary {
        backup_id: backup.id.to_string(),
        volume: backup.record.volume.name.clone(),
        target: format!("rbd:{}", request.image),
        size: backup.record.content.size,
        bytes_written: report.written,
        bytes_fetched: report.fetched,
        bytes_missing: 0,
        bytes_cut: None,
        bytes_after_end: None,
        duration: started.elapsed().as_secs_f64(),
    }))
}
