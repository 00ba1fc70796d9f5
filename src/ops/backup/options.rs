//! Options and report of a backup.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;

use super::attached_file::AttachedFile;
use crate::base::ObjectHash;
use crate::format::{ByteString, Counts, begins_as_diff};
use crate::ops::affected::AffectedBackup;
use crate::ops::error::OpsError;
use crate::repo::{Compression, PackSizes, VerifyWrites};

/// Options of a backup.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Name of the volume.
    pub volume: String,
    /// Whether the user chose that name. A name that was derived from the file must not join two
    /// sources in one volume.
    pub volume_chosen: bool,
    /// Selects the backup to compare with, or on which a diff builds. If it is `None`, the program
    /// chooses one of the volume.
    pub base: Option<String>,
    /// Accept `base` for a diff or a list of extents even if it is of another volume or of another
    /// snapshot.
    pub force_base: bool,
    /// Labels that the user gave.
    pub labels: BTreeMap<String, String>,
    /// Files that become attachments.
    pub attached: Vec<AttachedFile>,
    /// Read and compare, but store nothing.
    pub dry_run: bool,
    /// The compression of chunks.
    pub compression: Compression,
    /// The sizes at which packs are full.
    pub pack_sizes: PackSizes,
    /// Which runs are opened again before they are stored, to verify them.
    pub verify_writes: VerifyWrites,
    /// Read the whole source even if it was not written to since the base was made. Rely only on
    /// packs that are present, so that lost data is stored again. If packs that the index names are
    /// missing or damaged, every backup does both, even without this option.
    pub reread: bool,
    /// For a source that lists its changed extents: the number of chunks outside these extents to
    /// compare with the base before anything is stored. Each takes 16 bytes of memory.
    pub verify_sample: u64,
    /// The risks that the user accepts.
    pub accept: Accept,
    /// The properties of the source that the user states.
    pub stated: Stated,
    /// The name of this host, for the record; `None` to leave it out.
    pub host: Option<String>,
}

impl BackupOptions {
    /// Returns options for a new record of this volume whose content is in a project already.
    pub(super) fn of_record(volume: &str, host: Option<&str>) -> Self {
        Self {
            volume: volume.to_owned(),
            volume_chosen: true,
            base: None,
            force_base: false,
            labels: BTreeMap::new(),
            attached: Vec::new(),
            dry_run: false,
            compression: Compression::default(),
            pack_sizes: PackSizes::default(),
            verify_writes: VerifyWrites::default(),
            reread: false,
            verify_sample: 0,
            accept: Accept::default(),
            stated: Stated::default(),
            host: host.map(str::to_owned),
        }
    }
}

/// Risks that the user accepts. Most of them are sources that a user usually names by mistake.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accept {
    /// A source of 0 bytes: a device without a medium, or a program that failed.
    pub empty: bool,
    /// A stream or file that begins as an RBD diff does, to be stored as it is.
    pub diff_as_content: bool,
    /// A source with other content than the volume had: another image, or a full diff that shares
    /// almost no data with the newest backup.
    pub new_content: bool,
    /// A file with unchanged times counts as unchanged, even on a file system that is not known to
    /// keep times reliably.
    pub times: bool,
}

/// Properties of a source that the user states, because neither an image nor a list of extents
/// contains them. `None` means that the user did not state a property.
#[derive(Debug, Clone, Default)]
pub struct Stated {
    /// The snapshot at which a list of changed extents starts.
    pub from_snapshot: Option<ByteString>,
    /// Whether the list of extents names all data of the image, and so needs no base.
    pub from_nothing: bool,
    /// The snapshot that the image or stream shows.
    pub to_snapshot: Option<ByteString>,
    /// The id of the image in its cluster: `id` in `rbd info --format json`.
    pub image_id: Option<String>,
    /// The name of the source.
    pub name: Option<String>,
}

/// The result of a backup.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The new backup, or the existing one. `None` if a dry run found no existing one.
    pub id: Option<ObjectHash>,
    /// Whether the volume had this backup already, so that nothing was committed.
    pub existing: bool,
    /// The time of the content.
    pub time: Timestamp,
    /// The snapshot of the source, if the source names one.
    pub snapshot: Option<ByteString>,
    /// The content's size in bytes.
    pub size: u64,
    /// Bytes and chunks that were read, changed and stored.
    pub counts: Counts,
    /// The backup that the source was compared with, or that the changes build on; `None` if there
    /// is none.
    pub base: Option<ObjectHash>,
    /// Whether only the name of a snapshot connects the diff with the backup that it builds on.
    pub base_by_name: bool,
    /// The number of chunks outside of the listed extents that were compared with the base; `None`
    /// without a list of extents.
    pub verified: Option<u64>,
    /// Damage of the repository that was found during this backup; `None` if no data is known to be
    /// lost.
    pub damage: Option<MetDamage>,
    /// Whether the cluster had listed all changes that this backup found. `None` unless this backup
    /// read all data of the image, and the cluster listed its changes.
    pub list_test: Option<ListTest>,
}

/// The result of comparing a list of changes with the changes that a backup found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListTest {
    /// All changes were compared with the list.
    Compared {
        /// An earlier backup. The list names the changes since its snapshot.
        base: ObjectHash,
        /// The changes that the list does not name; `None` if it names all changes.
        missed: Option<MissedChanges>,
    },
    /// The tree of the earlier backup or of the new one could not be read, for this reason.
    Failed(String),
}

/// Changes that a list does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissedChanges {
    /// The total size of the chunks with such changes, in bytes.
    pub bytes: u64,
    /// The offset of the first of these chunks, in bytes.
    pub first: u64,
}

/// Damage of the repository that was found during a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetDamage {
    /// The number of packs in the index that are missing or too short.
    pub packs: u64,
    /// The number of packs with parts that are known to be damaged. No other pack held the content
    /// of these parts.
    pub packs_damaged: u64,
    /// The backup that this one was compared with, if it could not be restored completely. Lost
    /// data that the source still has was stored again.
    pub base: Option<AffectedBackup>,
    /// The parts of this backup that cannot be restored, in bytes, ascending. There are such parts
    /// if the backup builds on a damaged backup, and the source does not have the lost data.
    pub holes: Vec<Range<u64>>,
}

/// Fails if the first bytes of a source are those of an RBD diff, unless the user accepts that a
/// diff is stored as it is. A restore would give the diff, and not the image.
pub(super) fn not_a_diff(
    options: &BackupOptions,
    name: &str,
    first: &[u8],
) -> Result<(), OpsError> {
    if begins_as_diff(first) && !options.accept.diff_as_content {
        return Err(OpsError::DiffAsContent {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// Fails if a source has no bytes, unless the user accepts that.
pub(super) fn not_empty(options: &BackupOptions, name: &str, size: u64) -> Result<(), OpsError> {
    if size == 0 && !options.accept.empty {
        return Err(OpsError::EmptySource {
            name: name.to_owned(),
        });
    }
    Ok(())
}
