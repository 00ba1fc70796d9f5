//! Audits. Each names packs that write keys stored, and that a process with a full key has read and
//! found undamaged. Section 18 (Audit) of `docs/format.md`.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;

use super::error::RepoError;
use super::leases::Worker;
use super::project::Project;
use crate::base::ObjectHash;
use crate::format::{AuditBody, AuditInfo};

/// The packs that the audits of a project name.
pub struct Audits(HashSet<ObjectHash>);

impl Audits {
    /// Reads all audits. Ignores audits that cannot be read.
    pub fn load(project: &Project) -> Result<Self, RepoError> {
        let mut packs = HashSet::new();
        for loaded in project.load_all::<AuditBody>()? {
            packs.extend(loaded.body.into_iter().flat_map(|audit| audit.body.packs));
        }
        Ok(Self(packs))
    }

    /// Returns the packs.
    #[must_use]
    pub fn into_packs(self) -> HashSet<ObjectHash> {
        self.0
    }

    /// Stores audits, which state that these packs were read and found undamaged. Stores several if
    /// there are more packs than one audit may name, and none if `packs` is empty.
    pub(super) fn put(
        project: &Project,
        packs: &BTreeSet<ObjectHash>,
        worker: Worker<'_>,
    ) -> Result<(), RepoError> {
        let packs: Vec<_> = packs.iter().copied().collect();
        for packs in packs.chunks(AuditBody::PACKS_MAX) {
            project.put(&AuditBody {
                about: AuditInfo {
                    requires: Vec::new(),
                    time: Timestamp::now().to_string(),
                    host: worker.host.map(str::to_owned),
                    tool: Some(worker.tool.to_owned()),
                    result: "whole".to_owned(),
                },
                packs: packs.to_vec(),
            })?;
        }
        Ok(())
    }
}
