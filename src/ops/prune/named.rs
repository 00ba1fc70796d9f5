//! Adds the records that a prune keeps, and the certificates, to the log. From then on, processes
//! notice if one of them vanishes, even if only write keys made records.

use std::collections::HashSet;

use super::in_use::Walked;
use crate::base::{ObjectHash, Silent};
use crate::format::{LogItem, LogKind};
use crate::ops::error::OpsError;
use crate::ops::history::unnamed;
use crate::repo::{Log, NewEntry, Project, Worker};

/// Appends an entry with those of these records and certificates that the log does not name yet.
/// Leaves out the records that the prune removes. If the log names all of them, appends no entry.
pub(super) fn name(
    project: &Project,
    log: &mut Log,
    walked: &Walked,
    records: &[ObjectHash],
    by: Worker<'_>,
) -> Result<(), OpsError> {
    let obsolete: HashSet<ObjectHash> = walked.obsolete.iter().map(|backup| backup.id).collect();
    let records = records.iter().filter(|id| !obsolete.contains(id));
    let certificates = project.certificates(&Silent)?;
    let certificates = certificates.all().iter().map(|certified| certified.name);
    let item = |kind| move |hash| LogItem { kind, hash };
    let items = records.copied().map(item(LogKind::Record));
    let items = items.chain(certificates.map(item(LogKind::Certificate)));
    let entry = NewEntry {
        added: unnamed(log, items),
        ..NewEntry::default()
    };
    Ok(log.append(project, entry, by)?)
}
