//! The backup with which a new one is compared, or on which it builds.

use super::options::BackupOptions;
use crate::base::ObjectHash;
use crate::format::{ByteString, ContentKind, DiffHeader, SourceInfo};
use crate::ops::error::{Described, OpsError, describe};
use crate::repo::{Backup, History, Project, Records, Top};
use crate::volume::{ImageIdentity, ImageKind, ImageSource};

/// Returns the backup to compare with: the one that the user named, or the newest of the volume.
///
/// Of an image that is read as a whole, any base will do: it saves work. A list of extents
/// (`listed`) only says what to read; the rest is the base's. So it must be clear which content the
/// list starts from.
///
/// A backup by another write key is a base only if the user names it: it is not verified that its
/// packs hold what its tree names.
pub(super) fn choose_base<'a>(
    project: &Project,
    records: &'a Records,
    options: &BackupOptions,
    kind: ContentKind,
    listed: bool,
) -> Result<Option<&'a Backup>, OpsError> {
    let Some(selector) = &options.base else {
        let own = project.keys.signing().public();
        let trusts_all = project.settings.trusts_all();
        let trusted = |b: &Backup| trusts_all || b.is_full || b.signer == own;
        if listed {
            let newest = one_newest(records, &options.volume)?;
            if let Some(newest) = newest.filter(|newest| !trusted(newest)) {
                return Err(OpsError::BaseOfOtherKey {
                    volume: options.volume.clone(),
                    backup: newest.id,
                });
            }
        }
        let fits = |b: &&Backup| b.record.content.kind == kind && trusted(b);
        return Ok(records.of_volume(&options.volume).rfind(fits));
    };
    let base = records.select(selector)?;
    let found = base.record.content.kind;
    if found == kind {
        Ok(Some(base))
    } else {
        let (found, needed) = (describe(found), describe(kind));
        Err(OpsError::BaseKind {
            base: selector.clone(),
            found,
            needed,
        })
    }
}

/// Returns the newest backup of the volume. Fails unless it is clear which content is the newest:
/// no record that a backup follows has vanished, and all backups that no other one follows have the
/// same content.
fn one_newest<'a>(records: &'a Records, volume: &str) -> Result<Option<&'a Backup>, OpsError> {
    no_gap(records, volume)?;
    let tips = records.tips(volume);
    let Some(&newest) = tips.first() else {
        return Ok(None);
    };
    match tips.iter().copied().find(|tip| tip.root != newest.root) {
        None => Ok(Some(newest)),
        Some(other) => Err(OpsError::SeveralNewest {
            volume: volume.to_owned(),
            backups: Box::new([newest, other].map(|backup| Described {
                id: backup.id.to_string(),
                time: backup.time,
                host: backup.record.host.clone(),
            })),
        }),
    }
}

/// Fails if a backup of the volume follows one that has vanished.
fn no_gap(records: &Records, volume: &str) -> Result<(), OpsError> {
    let gaps = records.history(volume).map(History::gaps);
    match gaps.and_then(<[_]>::first) {
        None => Ok(()),
        Some(missing) => Err(OpsError::HistoryGap {
            volume: volume.to_owned(),
            missing: *missing,
        }),
    }
}

/// Fails if the volume was last backed up from another file, while only the name of the file chose
/// the volume.
pub(super) fn same_source(
    records: &Records,
    options: &BackupOptions,
    source: &SourceInfo,
) -> Result<(), OpsError> {
    let Some(before) = records.of_volume(&options.volume).next_back() else {
        return Ok(());
    };
    let (Some(was), Some(is)) = (
        before.record.source.as_ref().and_then(|s| s.path.as_ref()),
        &source.path,
    ) else {
        return Ok(());
    };
    if was == is {
        return Ok(());
    }
    let volume = options.volume.clone();
    Err(OpsError::OtherSource {
        volume,
        before: was.to_string(),
        now: is.to_string(),
    })
}

/// Whether the image is the file that `base` was made from, and was certainly not written to since:
/// host, device, inode, size and times are the same, and the times were old enough that a later
/// write would have changed them.
pub(super) fn unwritten_since(
    image: &dyn ImageSource,
    base: &Backup,
    options: &BackupOptions,
) -> bool {
    let (Some(now), Some(then)) = (image.identity(), &base.record.source) else {
        return false;
    };
    let (Some((device, inode)), Some((mtime_ns, ctime_ns))) = (then.inode, then.changed_ns) else {
        return false;
    };
    let then = ImageIdentity {
        path: now.path.clone(),
        kind: if then.kind == "file" {
            ImageKind::File
        } else {
            ImageKind::Device
        },
        device,
        inode,
        size: base.record.content.size,
        mtime_ns,
        ctime_ns,
        settled: then.settled,
    };
    !options.reread
        && options.host.is_some()
        && options.host == base.record.host
        && now.unchanged_since(&then)
}

/// The backup on which a diff builds.
#[derive(Debug, Clone, Copy)]
pub(super) enum AncestorId {
    /// A committed backup.
    Committed(ObjectHash),
    /// The backup of the diff of this number, counted from 0, in the same stream.
    Link(usize),
}

/// The content on which a diff builds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ancestor {
    pub(super) id: AncestorId,
    pub(super) top: Top,
    /// In bytes.
    pub(super) size: u64,
}

impl From<&Backup> for Ancestor {
    fn from(backup: &Backup) -> Self {
        Self {
            id: AncestorId::Committed(backup.id),
            top: backup.tree(),
            size: backup.record.content.size,
        }
    }
}

/// Returns the backup on which a diff builds: the volume's backup of the diff's from-snapshot, or
/// the one that the user named, if it is of that snapshot. Returns none for a diff that builds on
/// nothing.
pub(super) fn find_base(
    records: &Records,
    options: &BackupOptions,
    header: &DiffHeader,
) -> Result<Option<Ancestor>, OpsError> {
    let volume = || options.volume.clone();
    let from = match (&header.from, &options.base) {
        (Some(from), _) => ByteString::from(&from[..]),
        (None, None) => return Ok(None),
        (None, Some(base)) => {
            return Err(OpsError::NeedsNoBase { base: base.clone() });
        }
    };
    let Some(selector) = &options.base else {
        let is_of = |backup: &&Backup| backup.snapshot() == Some(&from);
        let mut found = records.of_volume(&options.volume).filter(is_of).rev();
        let Some(newest) = found.next() else {
            // It may be the one that has vanished.
            no_gap(records, &options.volume)?;
            let known = records.of_volume(&options.volume).filter_map(|backup| {
                let snapshot = backup.snapshot()?;
                Some(snapshot.to_string())
            });
            return Err(OpsError::NoBase {
                volume: volume(),
                snapshot: from.to_string(),
                known: known.collect(),
                empty: records.of_volume(&options.volume).next().is_none(),
            });
        };
        if let Some(other) = found.find(|backup| backup.root != newest.root) {
            return Err(OpsError::AmbiguousBase {
                volume: volume(),
                snapshot: from.to_string(),
                backups: [newest, other].map(|backup| backup.id.to_string()),
            });
        }
        return Ok(Some(newest.into()));
    };
    let base = records.select(selector)?;
    if base.record.content.kind != ContentKind::Image {
        return Err(OpsError::BaseKind {
            base: selector.clone(),
            found: describe(base.record.content.kind),
            needed: describe(ContentKind::Image),
        });
    }
    if options.force_base {
        return Ok(Some(base.into()));
    }
    if base.record.volume.name != options.volume {
        return Err(OpsError::BaseOfOtherVolume {
            base: selector.clone(),
            volume: volume(),
            other: base.record.volume.name.clone(),
        });
    }
    if base.snapshot() != Some(&from) {
        return Err(OpsError::BaseOfOtherSnapshot {
            base: selector.clone(),
            snapshot: from.to_string(),
            other: base.snapshot().map(ToString::to_string),
        });
    }
    Ok(Some(base.into()))
}
