//! Chooses the base: the backup with which a new one is compared, or on which it builds.

use super::options::BackupOptions;
use crate::base::ObjectHash;
use crate::format::{ByteString, ContentKind, DiffHeader, SourceInfo};
use crate::ops::error::{Described, OpsError, describe};
use crate::ops::image_backups::trusted;
use crate::repo::{Backup, History, Project, Records, Top};
use crate::volume::{ImageIdentity, ImageKind, ImageSource};

/// For a source that is read completely, returns the backup with which it is compared. This is the
/// backup that the user named, or the volume's newest one with this kind of content. Returns `None`
/// if the volume has no such backup. The comparison only saves work: with any base, the new backup
/// is correct.
///
/// A backup by another write key is a base only if the user names it. Nobody has verified that its
/// packs hold the blobs that its tree names.
pub(super) fn choose_base<'a>(
    project: &Project,
    records: &'a Records,
    options: &BackupOptions,
    kind: ContentKind,
) -> Result<Option<&'a Backup>, OpsError> {
    let Some(selector) = &options.base else {
        let fits = |b: &&Backup| b.record.content.kind == kind && trusted(project, b);
        return Ok(records.of_volume(&options.volume).rfind(fits));
    };
    select_kind(records, selector, kind).map(Some)
}

/// Returns the base of a list of extents. This is the backup that the user named, or else a backup
/// of the snapshot that the user gave as the start of the changes. Returns `None` if the user says
/// that the list names all data. All content outside of the listed extents is taken from the base.
pub(super) fn list_base<'a>(
    project: &Project,
    records: &'a Records,
    options: &BackupOptions,
) -> Result<Option<&'a Backup>, OpsError> {
    let stated = &options.stated;
    match (&options.base, &stated.from_snapshot) {
        (Some(selector), from) => select_base(records, options, selector, from.as_ref()).map(Some),
        (None, Some(from)) => newest_of(project, records, options, from).map(Some),
        (None, None) if stated.from_nothing => Ok(None),
        (None, None) => Err(OpsError::ListWithoutStart),
    }
}

/// Returns the backup that the user named. Fails if its content is of another kind, or if it was
/// withdrawn.
fn select_kind<'a>(
    records: &'a Records,
    selector: &str,
    kind: ContentKind,
) -> Result<&'a Backup, OpsError> {
    let base = records.select(selector)?;
    if records.is_voided(base) {
        return Err(OpsError::BaseWithdrawn {
            base: selector.to_owned(),
        });
    }
    let found = base.record.content.kind;
    if found == kind {
        Ok(base)
    } else {
        Err(OpsError::BaseKind {
            base: selector.to_owned(),
            found: describe(found),
            needed: describe(kind),
        })
    }
}

/// Returns the backup that the user named as the base of changes. It must be an image of the same
/// volume. `from` is the snapshot from which the changes start. If it is known, the backup must be
/// of this snapshot. With [`BackupOptions::force_base`], the backup may be any image.
fn select_base<'a>(
    records: &'a Records,
    options: &BackupOptions,
    selector: &str,
    from: Option<&ByteString>,
) -> Result<&'a Backup, OpsError> {
    let base = select_kind(records, selector, ContentKind::Image)?;
    if options.force_base {
        return Ok(base);
    }
    if base.record.volume.name != options.volume {
        return Err(OpsError::BaseOfOtherVolume {
            base: selector.to_owned(),
            volume: options.volume.clone(),
            other: base.record.volume.name.clone(),
        });
    }
    match from {
        Some(from) if base.snapshot() != Some(from) => Err(OpsError::BaseOfOtherSnapshot {
            base: selector.to_owned(),
            snapshot: from.to_string(),
            other: base.snapshot().map(ToString::to_string),
        }),
        _ => Ok(base),
    }
}

/// Returns the newest backup of the volume. Fails if it is not an image of the snapshot `from`, or
/// if another write key made it.
///
/// The volume may already have a backup of the snapshot to which the changes lead. Then no new
/// backup is committed, so an older backup of `from` is accepted, too.
fn newest_of<'a>(
    project: &Project,
    records: &'a Records,
    options: &BackupOptions,
    from: &ByteString,
) -> Result<&'a Backup, OpsError> {
    let volume = &options.volume;
    let newest = one_newest(records, volume)?;
    let is_of = |backup: &&Backup| backup.snapshot() == Some(from);
    let to = &options.stated.to_snapshot;
    let mut of_to = of_snapshot(records, volume, to.as_ref());
    let repeated = to.is_some() && of_to.any(|backup| trusted(project, backup));
    let older = || of_snapshot(records, volume, Some(from)).next_back();
    let base = match records.tips(volume).into_iter().find(is_of) {
        Some(base) => base,
        None => match (older(), newest) {
            (Some(older), _) if repeated => older,
            (Some(older), Some(newest)) => {
                return Err(not_newest(volume, from, older, newest));
            }
            _ => return Err(no_base(records, volume, from, true)),
        },
    };
    if base.record.content.kind != ContentKind::Image {
        return Err(OpsError::BaseKind {
            base: base.id.to_string(),
            found: describe(base.record.content.kind),
            needed: describe(ContentKind::Image),
        });
    }
    if !trusted(project, base) {
        return Err(OpsError::BaseOfOtherKey {
            volume: volume.clone(),
            backup: base.id,
        });
    }
    Ok(base)
}

/// Returns the error for changes that start from a snapshot of which the volume has no backup.
/// `listed` is true if a list of extents names the changes, and false for a diff.
fn no_base(records: &Records, volume: &str, from: &ByteString, listed: bool) -> OpsError {
    let known = records.of_volume(volume).filter_map(|backup| {
        let snapshot = backup.snapshot()?;
        Some(snapshot.to_string())
    });
    OpsError::NoBase {
        volume: volume.to_owned(),
        snapshot: from.to_string(),
        known: known.collect(),
        empty: records.of_volume(volume).next().is_none(),
        listed,
    }
}

/// Returns the error for changes that start from a snapshot whose backup is not the newest one of
/// the volume. A later snapshot may have the same name, and the changes may start from that one.
fn not_newest(volume: &str, from: &ByteString, base: &Backup, newest: &Backup) -> OpsError {
    OpsError::BaseNotNewest {
        volume: volume.to_owned(),
        snapshot: from.to_string(),
        base: Box::new(described(base)),
        newest: Box::new(described(newest)),
    }
}

fn described(backup: &Backup) -> Described {
    Described {
        id: backup.id.to_string(),
        time: backup.time,
        host: backup.record.host.clone(),
    }
}

/// Returns the newest backup of the volume, or `None` if there is no backup. Fails if there is a
/// [gap](no_gap) in the history. Also fails if several backups that no other backup follows have
/// different contents.
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
            backups: Box::new([newest, other].map(described)),
        }),
    }
}

/// Fails if a backup of the volume follows one that has vanished. Ignores backups that another
/// write key made, since they may name anything.
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

/// Fails if the last backup of the volume states another path than `source`. Does nothing if one of
/// the two states no path. To be called if the program derived the name of the volume from that of
/// the file: two files may have the same name.
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

/// Looks at the last backup of the volume that states its source. Fails if it was made from an
/// image of a cluster, unless the user accepts new content. The new backup is of a path or a
/// stream, which probably has other content. The next backup of the image would then have the
/// wrong base.
pub(super) fn not_of_cluster(
    records: &Records,
    options: &BackupOptions,
    source: &str,
) -> Result<(), OpsError> {
    let mut before = records.of_volume(&options.volume).rev();
    let before = before.find_map(|backup| backup.record.source.as_ref());
    match before.and_then(|source| source.rbd.as_ref()) {
        Some(rbd) if !options.accept.new_content => Err(OpsError::OtherStated {
            volume: options.volume.clone(),
            what: "the source",
            before: rbd.to_string(),
            now: source.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The user can state the image id and the name of the source. Compares each with the last one that
/// a backup of the volume states. Fails if one of them differs, unless the user accepts new
/// content.
pub(super) fn same_stated(records: &Records, options: &BackupOptions) -> Result<(), OpsError> {
    type Field = fn(&SourceInfo) -> Option<&str>;
    let stated = &options.stated;
    let fields: [(_, _, Field); 2] = [
        ("the image id", &stated.image_id, |s| s.image_id.as_deref()),
        ("the source", &stated.name, |s| s.name.as_deref()),
    ];
    for (what, now, field) in fields {
        let sources = records.of_volume(&options.volume).rev();
        let mut sources = sources.filter_map(|backup| backup.record.source.as_ref());
        if let (Some(now), Some(before)) = (now, sources.find_map(field))
            && now != before
            && !options.accept.new_content
        {
            return Err(OpsError::OtherStated {
                volume: options.volume.clone(),
                what,
                before: before.to_owned(),
                now: now.clone(),
            });
        }
    }
    Ok(())
}

/// Returns whether the image is the file that `base` was made from, and was certainly not written
/// to since then. Host, device, inode, size and times must be the same. When `base` was made, the
/// times must have been so old that a later write would change them. The file system must be known
/// to change the times with every write, unless the user accepts times as proof. Returns false for
/// a device, and with --reread.
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
        updates_times: now.updates_times,
    };
    !options.reread
        && (now.updates_times || options.accept.times)
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
    /// The size of the content, in bytes.
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

/// Returns the backup on which a diff builds: the one that the user named, or else the newest
/// backup of the volume. It must be of the snapshot from which the diff starts, unless the user
/// forces the named backup. An older backup is accepted if the volume already has a backup of the
/// snapshot to which the diff leads.
///
/// A backup by another write key is accepted only if the user names it. Returns `None` for a full
/// diff, and fails if the user named a base for it.
pub(super) fn find_base<'a>(
    project: &Project,
    records: &'a Records,
    options: &BackupOptions,
    header: &DiffHeader,
) -> Result<Option<&'a Backup>, OpsError> {
    let from = match (&header.from, &options.base) {
        (Some(from), _) => ByteString::from(&from[..]),
        (None, None) => return Ok(None),
        (None, Some(base)) => {
            return Err(OpsError::NeedsNoBase { base: base.clone() });
        }
    };
    if let Some(selector) = &options.base {
        return select_base(records, options, selector, Some(&from)).map(Some);
    }
    let volume = &options.volume;
    let of_other_key = |backup: &Backup| OpsError::BaseOfOtherKey {
        volume: volume.clone(),
        backup: backup.id,
    };
    let is_trusted = |backup: &&Backup| trusted(project, backup);
    let mut found = of_snapshot(records, volume, Some(&from))
        .rev()
        .filter(is_trusted);
    let Some(newest) = found.next() else {
        if let Some(other) = of_snapshot(records, volume, Some(&from)).next_back() {
            return Err(of_other_key(other));
        }
        // The backup of this snapshot may have vanished.
        no_gap(records, volume)?;
        return Err(no_base(records, volume, &from, false));
    };
    if let Some(other) = found.find(|backup| backup.root != newest.root) {
        return Err(OpsError::AmbiguousBase {
            volume: volume.clone(),
            snapshot: from.to_string(),
            backups: [newest, other].map(|backup| backup.id.to_string()),
        });
    }
    let to = header.to.as_ref().map(|to| ByteString::from(&to[..]));
    let repeated =
        || to.is_some() && of_snapshot(records, volume, to.as_ref()).any(|b| is_trusted(&b));
    match records.newest(volume) {
        Some(last) if !is_newest(records, volume, newest) && !repeated() => {
            if !trusted(project, last) {
                return Err(of_other_key(last));
            }
            Err(not_newest(volume, &from, newest, last))
        }
        _ => Ok(Some(newest)),
    }
}

/// Returns the backups of a volume that are of this snapshot, oldest first. With `None`, returns
/// the backups that are of no snapshot.
fn of_snapshot<'a>(
    records: &'a Records,
    volume: &str,
    snapshot: Option<&ByteString>,
) -> impl DoubleEndedIterator<Item = &'a Backup> {
    let backups = records.of_volume(volume);
    backups.filter(move |backup| backup.snapshot() == snapshot)
}

/// Returns whether a backup is the newest of its volume, or one of several newest ones. Ignores
/// later backups that build on this backup and are of the head of the image, which is no snapshot.
/// No diff starts from the head, so the next diff may build on this backup, too.
fn is_newest(records: &Records, volume: &str, backup: &Backup) -> bool {
    let is_head = |later: &Backup| {
        let source = later.record.source.as_ref();
        let from_it = |source: &SourceInfo| source.from_snapshot.as_ref() == backup.snapshot();
        later.record.base == Some(backup.id)
            && later.snapshot().is_none()
            && source.is_some_and(from_it)
    };
    let mut later = records
        .of_volume(volume)
        .rev()
        .take_while(|b| b.id != backup.id);
    records.tips(volume).iter().any(|tip| tip.id == backup.id) || later.all(is_head)
}

/// Returns whether the image ids show that the diff and `base` are of the same image. Otherwise,
/// only the name of a snapshot connects them.
pub(super) fn same_image_id(options: &BackupOptions, base: &Backup) -> bool {
    let source = base.record.source.as_ref();
    let before = source.and_then(|source| source.image_id.as_ref());
    before.is_some() && before == options.stated.image_id.as_ref()
}
