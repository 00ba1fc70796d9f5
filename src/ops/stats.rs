//! Statistics of a project, or of one of its volumes.

use std::collections::HashSet;

use super::context::Context;
use super::error::OpsError;
use super::space::{Space, space};
use crate::format::BlobKind;
use crate::repo::{Project, Records, RepoError};

/// Statistics of a project. All sizes are in bytes.
#[derive(Debug, Default)]
pub struct StatsReport {
    /// The number of volumes with a backup. Backups with the same name are of the same volume.
    pub volumes: u64,
    /// The number of backups.
    pub backups: u64,
    /// The sum of the sizes of all backups.
    pub backed_up: u64,
    /// The number of chunks in the packs of the index that the store has.
    pub chunks: u64,
    /// The sum of the uncompressed sizes of these chunks.
    pub unique: u64,
    /// The size of all packs in the store, including those of interrupted backups.
    pub stored: u64,
    /// The part of this size that backups use.
    pub used: u64,
    /// The number of packs in the store.
    pub packs: u64,
    /// Why some records, nodes and packs could not be read. Such objects do not count, except that
    /// `stored` and `packs` include packs that are too short.
    pub unread: Vec<RepoError>,
}

/// Statistics of a volume. All sizes are in bytes.
#[derive(Debug)]
pub struct VolumeStats {
    /// The number of its backups.
    pub backups: u64,
    /// The sum of the sizes of its backups.
    pub backed_up: u64,
    /// The space that its backups use, alone and together with other volumes.
    pub space: Space,
    /// Why some records, nodes and packs could not be read. Such objects do not count.
    pub unread: Vec<RepoError>,
}

/// Counts the packs in the store, the chunks in the index, and the backups. Reads the trees of all
/// backups.
pub fn stats(project: &Project, context: &Context<'_>) -> Result<StatsReport, OpsError> {
    let mut records = Records::load(project)?;
    let mut unread = records.take_damaged();
    let all = records.all();
    let used = space(project, &records, |_| true, context)?;
    unread.extend(used.unread);
    let volumes: HashSet<_> = all.iter().map(|b| &b.record.volume.name).collect();
    let mut report = StatsReport {
        volumes: volumes.len() as u64,
        backups: all.len() as u64,
        backed_up: all.iter().map(|b| b.record.content.size).sum(),
        used: used.space.exclusive,
        unread,
        ..StatsReport::default()
    };
    let index = context.index(project)?;
    for pack in index.list_packs()? {
        report.packs += 1;
        report.stored += pack.info.size;
    }
    index.each_pack(|pack| {
        context.cancel.check()?;
        if pack.contents.kind == BlobKind::Chunk && !used.lost.contains(&pack.pack) {
            for blob in pack.contents.blobs() {
                report.chunks += 1;
                report.unique += u64::from(blob.plain_len);
            }
        }
        Ok(())
    })?;
    index.close();
    Ok(report)
}

/// Counts the backups of a volume, and the space that they use. Reads the trees of all backups.
/// Fails if the volume has no backup.
pub fn volume_stats(
    project: &Project,
    volume: &str,
    context: &Context<'_>,
) -> Result<VolumeStats, OpsError> {
    let mut records = Records::load(project)?;
    let mut unread = records.take_damaged();
    let of_volume = || records.of_volume(volume);
    if of_volume().next().is_none() {
        return Err(OpsError::NoVolume {
            volume: volume.to_owned(),
        });
    }
    let is_ours = |backup: &crate::repo::Backup| backup.record.volume.name == volume;
    let space = space(project, &records, is_ours, context)?;
    unread.extend(space.unread);
    Ok(VolumeStats {
        backups: of_volume().count() as u64,
        backed_up: of_volume().map(|b| b.record.content.size).sum(),
        space: space.space,
        unread,
    })
}
