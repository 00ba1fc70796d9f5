//! Audits: the packs of other signers that a full key read and found whole. Section 18 of
//! `docs/format.md`.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;

use super::error::RepoError;
use super::lease::Worker;
use super::project::Project;
use crate::base::ObjectHash;
use crate::format::{AuditBody, AuditInfo};

/// The packs that audits name.
pub struct Audits(HashSet<ObjectHash>);

impl Audits {
    /// Reads all audits. One that cannot be read vouches for nothing.
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
    /// States that these packs were read and found whole.
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
