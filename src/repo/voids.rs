//! Voids, which withdraw records. Section 17 (Void) of `docs/format.md`.
//!
//! A write key cannot remove a record, since only full keys sign the log. So a client with a write
//! key stores a void instead, and the record stays. A record with a void is never the newest of its
//! volume and never a base. A prune removes such a record if its tree is incomplete.

use std::collections::HashMap;

use jiff::Timestamp;

use super::error::RepoError;
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::project::Project;
use crate::base::{ObjectHash, SignerId};
use crate::format::VoidBody;

/// The voids of a project.
#[derive(Debug, Default)]
pub struct Voids {
    /// The voids, by the record that they name.
    by_record: HashMap<ObjectHash, Vec<Void>>,
    /// Voids that do not count, since the key that signed them was revoked.
    revoked: Vec<ObjectHash>,
    damaged: Vec<RepoError>,
}

/// One void.
#[derive(Debug, Clone, Copy)]
struct Void {
    hash: ObjectHash,
    signer: SignerId,
}

impl Voids {
    /// Reads all voids. The errors of damaged ones are kept separately. Foreign ones are left out.
    pub fn load(project: &Project) -> Result<Self, RepoError> {
        let mut voids = Self::default();
        let listed = project.list(ObjectKind::Void)?;
        let mut revoked = Vec::new();
        let foreign = |error: RepoError| {
            let of_revoked = error.object_hash().filter(|_| error.is_of_revoked_key());
            revoked.extend(of_revoked);
        };
        let loaded = project.load_with::<VoidBody>(listed, foreign)?;
        voids.revoked = revoked;
        for loaded in loaded {
            let (ObjectRef::Void(_, hash), Ok(signed)) = (loaded.object, &loaded.body) else {
                voids.damaged.extend(loaded.body.err());
                continue;
            };
            let of_record = voids.by_record.entry(signed.body.record).or_default();
            of_record.push(Void {
                hash,
                signer: signed.signer,
            });
        }
        Ok(voids)
    }

    /// Returns whether the signer of this record withdrew it. A void of another signer does not
    /// count.
    #[must_use]
    pub fn names(&self, record: ObjectHash, signer: &SignerId) -> bool {
        self.of(record).any(|void| void.signer == *signer)
    }

    /// Returns the voids that do not count, since the key that signed them was revoked.
    #[must_use]
    pub fn revoked(&self) -> &[ObjectHash] {
        &self.revoked
    }

    /// Returns the records that voids name, whether or not they exist.
    pub fn records(&self) -> impl Iterator<Item = ObjectHash> {
        self.by_record.keys().copied()
    }

    /// Returns all voids that name a record, of any signer.
    pub fn naming(&self, record: ObjectHash) -> impl Iterator<Item = ObjectHash> {
        self.of(record).map(|void| void.hash)
    }

    /// Returns the voids that name this record and that its signer did not sign.
    pub fn foreign(
        &self,
        record: ObjectHash,
        signer: &SignerId,
    ) -> impl Iterator<Item = ObjectHash> {
        let others = self.of(record).filter(move |void| void.signer != *signer);
        others.map(|void| void.hash)
    }

    fn of(&self, record: ObjectHash) -> impl Iterator<Item = &Void> {
        self.by_record.get(&record).into_iter().flatten()
    }

    /// Returns the errors of the voids that could not be read.
    #[must_use]
    pub fn damaged(&self) -> &[RepoError] {
        &self.damaged
    }

    /// Takes the errors of voids that cannot be read.
    pub fn take_damaged(&mut self) -> Vec<RepoError> {
        std::mem::take(&mut self.damaged)
    }

    /// Withdraws a record that this client signed. When the function returns, the void is durable.
    /// Returns the hash that names the void.
    pub fn put(
        project: &Project,
        record: ObjectHash,
        reason: &str,
    ) -> Result<ObjectHash, RepoError> {
        project.put(&VoidBody {
            requires: Vec::new(),
            record,
            reason: Some(reason.to_owned()),
            time: Timestamp::now().into(),
        })
    }
}
