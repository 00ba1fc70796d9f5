//! The damage that a prune finds and that does not stop it.

use std::collections::HashSet;
use std::sync::Arc;

use super::in_use::Walked;
use crate::base::{ObjectHash, ProjectId};
use crate::ops::affected::AffectedBackup;
use crate::ops::check::Finding;
use crate::repo::{Backup, ObjectRef, Records};

/// Returns damaged files of records that the log removes or accepts as lost, backups with damaged
/// trees, and backups that lack chunks.
pub(super) fn findings(
    project: ProjectId,
    records: &Records,
    walked: &Walked,
    lacking: &[AffectedBackup],
) -> Vec<Finding> {
    let ignored = records
        .ignored()
        .map(|(object, problem)| Finding::ObjectDamaged {
            object,
            problem: Arc::clone(problem),
        });
    let broken = walked.broken.iter().map(|(backup, problem)| {
        let object = ObjectRef::Backup(project, *backup);
        let problem = Arc::clone(problem);
        Finding::ObjectDamaged { object, problem }
    });
    let lacking = lacking.iter().cloned().map(Finding::BackupAffected);
    ignored.chain(broken).chain(lacking).collect()
}

/// Returns the backups that lack chunks, and those with damaged trees. Leaves out backups that
/// their writers withdrew or that the log removes.
pub(super) fn affected(
    records: &Records,
    walked: &Walked,
    lacking: &[AffectedBackup],
) -> Vec<ObjectHash> {
    let mut ids: HashSet<_> = lacking.iter().map(|backup| backup.id).collect();
    ids.extend(walked.broken.iter().map(|(backup, _)| *backup));
    let counts = |backup: &&Backup| {
        let is_obsolete = records.is_voided(backup) || records.is_removed(backup);
        ids.contains(&backup.id) && !is_obsolete
    };
    let affected = records.all().iter().filter(counts);
    affected.map(|backup| backup.id).collect()
}
