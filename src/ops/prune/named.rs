//! Adds the records that a prune keeps, and the certificates of keys, to the log. From then on,
//! processes notice if one of them vanishes, even if no record of a full key names it. Also adds
//! new packs and the index segments. So the log names the replacement of an object before it
//! removes the object. A check without a key covers the same data after a prune as before. Removes
//! from the log the packs of chunks that do not exist and that no backup needs. After that, a check
//! without a key no longer requires them.

use std::collections::HashSet;

use super::in_use::Walked;
use super::items::segment_item;
use crate::base::{ObjectHash, Silent};
use crate::format::{LogItem, LogKind};
use crate::ops::error::OpsError;
use crate::ops::history::unnamed;
use crate::repo::{Index, Log, NewEntry, Worker};

/// Appends an entry with the given records, the new packs, the certificates and the index segments,
/// except those that the log names already. Leaves out the records that the prune removes. The
/// entry removes those of the `lost` packs of chunks that the log names. If there is nothing to add
/// or to remove, appends no entry.
pub(super) fn name(
    index: &Index,
    log: &mut Log,
    walked: &Walked,
    records: &[ObjectHash],
    (packs, lost): (Vec<LogItem>, &[ObjectHash]),
    by: Worker<'_>,
) -> Result<(), OpsError> {
    let project = index.project();
    let obsolete: HashSet<ObjectHash> = walked.obsolete.iter().map(|backup| backup.id).collect();
    let records = records.iter().filter(|id| !obsolete.contains(id));
    let certificates = project.certificates(&Silent)?;
    let certificates = certificates.all().iter().map(|certified| certified.name);
    let item = |kind| move |hash| LogItem { kind, hash };
    let items = records.copied().map(item(LogKind::Record));
    let items = items.chain(certificates.map(item(LogKind::Certificate)));
    let items = items
        .chain(packs)
        .chain(index.segments()?.into_iter().map(segment_item));
    // A node of a missing pack may now be in fewer than two packs. So the log still names a missing
    // pack of nodes.
    let is_lost = |item: &LogItem| item.kind == LogKind::ChunkPack && lost.contains(&item.hash);
    let entry = NewEntry {
        added: unnamed(log, items),
        removed: log.set().into_iter().filter(is_lost).collect(),
        ..NewEntry::default()
    };
    Ok(log.append(project, entry, by)?)
}
