//! Deletes from a copy the objects that the log removes.

use super::project::{Listed, is_removed};
use super::task::Task;
use crate::base::ProjectId;
use crate::format::LogKind;
use crate::ops::error::OpsError;
use crate::repo::{ObjectKind, ObjectRef, PublicLog};

/// The order in which objects are deleted, by kind. A removed record counts as long as it exists,
/// so it is deleted before its data. Parity is deleted last.
const ORDER: [LogKind; 6] = [
    LogKind::Record,
    LogKind::Void,
    LogKind::ChunkPack,
    LogKind::TreePack,
    LogKind::Segment,
    LogKind::Audit,
];

impl Task<'_> {
    /// Deletes from the target the objects that an entry of the log removes and that the source no
    /// longer has. Deletes only objects of the kinds in [`ORDER`], and their parity.
    pub(super) fn mirror(
        &mut self,
        project: ProjectId,
        logs: &[&PublicLog],
        listed: &Listed,
    ) -> Result<(), OpsError> {
        let directory = ObjectKind::Project.directory(project) + "/";
        let mut removed = Vec::new();
        for (name, size) in &self.present {
            if !name.as_str().starts_with(&directory) {
                continue;
            }
            let Some((object, _)) = ObjectRef::parse(name) else {
                continue;
            };
            let order = match object {
                ObjectRef::Parity(..) => Some(ORDER.len()),
                _ => object
                    .log_item()
                    .and_then(|item| ORDER.iter().position(|kind| *kind == item.kind)),
            };
            if let (true, Some(order)) = (is_removed(&object, logs) && !listed.has(&object), order)
            {
                removed.push((order, name.clone(), object, *size));
            }
        }
        removed.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        for (_, name, object, size) in removed {
            self.context.cancel.check()?;
            self.target.delete(object)?;
            self.present.remove(&name);
            self.report.files_removed += 1;
            self.report.bytes_removed += size;
        }
        Ok(())
    }
}
