//! Reads and stores the sealed objects of a project. Each kind of object has its type of body.

use std::collections::HashSet;

use super::envelope::Signed;
use super::error::{Damage, ForeignReason, RepoError, RepoErrorKind};
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::parallel::parallel_map;
use super::project::Project;
use crate::base::{ObjectHash, ProjectId, Silent};
use crate::crypto::object_hash;
use crate::format::{
    AuditBody, BackupRecord, Certificate, FormatError, IndexSegment, LeaseBody, LedgerBody,
    MarkBody, ProjectSettings, SealedObject, VoidBody,
};
use crate::storage::ObjectInfo;

/// The body of an object that is sealed under the project's object key.
pub(super) trait Body: Sized + Send {
    /// The kind of the object.
    const KIND: ObjectKind;
    /// The maximum length of a body, in bytes.
    const LEN_MAX: usize;

    /// Encodes the body.
    fn encode(&self) -> Vec<u8>;
    /// Decodes a body.
    fn decode(bytes: &[u8]) -> Result<Self, FormatError>;
}

/// A body whose object is named by its hash.
pub(super) trait HashedBody: Body {
    /// Returns the object with this hash in a project.
    const OBJECT: fn(ProjectId, ObjectHash) -> ObjectRef;
}

/// An object that was loaded.
pub(super) struct Loaded<T> {
    /// The object.
    pub(super) object: ObjectRef,
    /// Its size, and the time when it was stored.
    pub(super) listed: ObjectInfo,
    /// Its body and its signer, or the error from reading the object.
    pub(super) body: Result<Signed<T>, RepoError>,
    /// The hash of its bytes, if it could be read.
    pub(super) hash: Option<ObjectHash>,
}

macro_rules! body {
    ($type:ident, $kind:ident) => {
        impl Body for $type {
            const KIND: ObjectKind = ObjectKind::$kind;
            const LEN_MAX: usize = Self::BODY_MAX;

            fn encode(&self) -> Vec<u8> {
                $type::encode(self)
            }

            fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
                $type::decode(bytes)
            }
        }
    };
    ($type:ident, $kind:ident, named by its hash) => {
        body!($type, $kind);

        impl HashedBody for $type {
            const OBJECT: fn(ProjectId, ObjectHash) -> ObjectRef = ObjectRef::$kind;
        }
    };
}

body!(ProjectSettings, Settings, named by its hash);
body!(Certificate, Certificate, named by its hash);
body!(IndexSegment, Index, named by its hash);
body!(BackupRecord, Backup, named by its hash);
body!(VoidBody, Void, named by its hash);
body!(MarkBody, Mark, named by its hash);
body!(AuditBody, Audit, named by its hash);
body!(LedgerBody, Ledger, named by its hash);
body!(LeaseBody, Lease);

impl Project {
    /// Lists the project's objects of this kind. An object that is kept twice is listed once, even
    /// if the first copy is lost.
    pub(super) fn list(&self, kind: ObjectKind) -> Result<Vec<(ObjectRef, ObjectInfo)>, RepoError> {
        let mut listed = self.objects.list(&kind.directory(self.id))?;
        // Sort first copies before second ones.
        listed.sort_by_key(|(_, copy, _)| *copy);
        let mut seen = HashSet::new();
        listed.retain(|(object, ..)| object.kind() == kind && seen.insert(*object));
        let objects = listed.into_iter();
        Ok(objects
            .map(|(object, _, listed)| (object, listed))
            .collect())
    }

    /// Reads, opens and verifies one object.
    pub(super) fn read<T: Body>(&self, object: ObjectRef) -> Result<T, RepoError> {
        Ok(self.read_signed(object)?.body)
    }

    /// Reads, opens and verifies one object. Returns its signer, too.
    pub(super) fn read_signed<T: Body>(&self, object: ObjectRef) -> Result<Signed<T>, RepoError> {
        Ok(self.read_with_hash(object)?.0)
    }

    /// Reads, opens and verifies one object. Returns the hash of its bytes, too.
    fn read_with_hash<T: Body>(
        &self,
        object: ObjectRef,
    ) -> Result<(Signed<T>, ObjectHash), RepoError> {
        let limit = SealedObject::len_max(T::LEN_MAX) as u64;
        let (opened, hash) = match object.hash() {
            Some(hash) if T::KIND.info().kept_twice => {
                let opened = self.objects.get_twice(object, limit, &Silent, |bytes| {
                    self.open_hashed(object, hash, bytes, T::LEN_MAX)
                });
                (opened?, hash)
            }
            Some(hash) => {
                let bytes = self.objects.get_hashed(object, hash, limit)?;
                (self.open(object, &bytes, T::LEN_MAX)?, hash)
            }
            None => match self.objects.get_with_hash(object, limit) {
                Ok((bytes, hash)) => (self.open(object, &bytes, T::LEN_MAX)?, hash),
                Err(RepoError::Damaged {
                    source: Damage::TooLarge,
                    ..
                }) => {
                    let reason = ForeignReason::NotSealed;
                    return Err(RepoError::Foreign { object, reason });
                }
                Err(error) => return Err(error),
            },
        };
        let Signed { signer, body } = opened;
        match T::decode(&body) {
            Ok(body) => Ok((Signed { signer, body }, hash)),
            Err(e) => Err(self.refused(object, &signer, e)),
        }
    }

    /// Reads and opens these objects, several at a time. Returns them in the same order. Leaves out
    /// those that were deleted since they were listed, and those that are foreign. A damaged object
    /// does not affect the others. Fails if an object needs a newer version of this program, or if
    /// the store fails.
    pub(super) fn load<T: Body>(
        &self,
        listed: Vec<(ObjectRef, ObjectInfo)>,
    ) -> Result<Vec<Loaded<T>>, RepoError> {
        self.load_with(listed, |_| {})
    }

    /// Does the same as [`load`](Self::load), and calls `foreign` with the error of each foreign
    /// object.
    pub(super) fn load_with<T: Body>(
        &self,
        listed: Vec<(ObjectRef, ObjectInfo)>,
        mut foreign: impl FnMut(RepoError),
    ) -> Result<Vec<Loaded<T>>, RepoError> {
        let bodies = parallel_map(&listed, |(object, _)| match self.read_with_hash(*object) {
            Ok(read) => Ok(Some(Ok(read))),
            Err(e) if e.is_missing() => Ok(None),
            Err(e @ (RepoError::Damaged { .. } | RepoError::Foreign { .. })) => Ok(Some(Err(e))),
            Err(e) => Err(e),
        })?;
        let mut loaded = Vec::with_capacity(bodies.len());
        for ((object, listed), body) in listed.into_iter().zip(bodies) {
            match body {
                None => {}
                Some(Err(e @ RepoError::Foreign { .. })) => foreign(e),
                Some(read) => {
                    let hash = read.as_ref().ok().map(|(_, hash)| *hash);
                    loaded.push(Loaded {
                        object,
                        listed,
                        body: read.map(|(body, _)| body),
                        hash,
                    });
                }
            }
        }
        Ok(loaded)
    }

    /// Seals a body and stores it as an object of this kind. Does not check the body. Returns the
    /// hash of the object.
    pub fn put_sealed(
        &self,
        object: fn(ProjectId, ObjectHash) -> ObjectRef,
        body: &[u8],
    ) -> Result<ObjectHash, RepoError> {
        let kind = object(self.id, ObjectHash::from_bytes([0; 32])).kind();
        self.put_noted(object, kind, body, |_| {})
    }

    fn put_noted(
        &self,
        object: fn(ProjectId, ObjectHash) -> ObjectRef,
        kind: ObjectKind,
        body: &[u8],
        note: impl Fn(ObjectHash),
    ) -> Result<ObjectHash, RepoError> {
        let sealed = self.seal(kind, body)?;
        let hash = object_hash(&[&sealed]);
        note(hash);
        let object = object(self.id, hash);
        self.objects.put_hashed(object, hash, &sealed)?;
        Ok(hash)
    }

    /// Seals a body and stores it as this object, whose name is not a hash. Replaces an object with
    /// that name; if the store cannot do this, fails.
    pub(super) fn put_marker(&self, object: ObjectRef, body: &[u8]) -> Result<(), RepoError> {
        let sealed = self.seal(object.kind(), body)?;
        Ok(self.objects.backend().put(&object.name(), &[&sealed])?)
    }

    /// Lists and loads all objects with this type of body.
    pub(super) fn load_all<T: Body>(&self) -> Result<Vec<Loaded<T>>, RepoError> {
        self.load(self.list(T::KIND)?)
    }

    /// Returns the hashes of the objects of a kind that can be opened and whose signers may sign
    /// this kind. The kind must be sealed under the object key and named by hashes.
    pub fn intact(&self, kind: ObjectKind) -> Result<Vec<ObjectHash>, RepoError> {
        const BODY_MAX: usize = 64 << 20;
        let listed = self.list(kind)?;
        let limit = SealedObject::len_max(BODY_MAX) as u64;
        let opened = parallel_map(&listed, |(object, _)| {
            let Some(hash) = object.hash() else {
                return Ok(None);
            };
            let bytes = self.objects.get_hashed(*object, hash, limit);
            match bytes.and_then(|bytes| self.open_hashed(*object, hash, &bytes, BODY_MAX)) {
                Ok(_) => Ok(Some(hash)),
                Err(RepoError::Storage(error)) => Err(RepoError::Storage(error)),
                Err(_) => Ok(None),
            }
        })?;
        Ok(opened.into_iter().flatten().collect())
    }

    /// Returns the errors of foreign settings, certificates, voids, marks, audits, ledger entries
    /// and leases. [`Records`](super::history::Records) and [`Log`](super::log::Log) keep the
    /// errors of foreign records and log entries.
    pub fn find_foreign(&self) -> Result<Vec<RepoError>, RepoError> {
        let mut foreign = Vec::new();
        self.find_foreign_of::<ProjectSettings>(&mut foreign)?;
        self.find_foreign_of::<Certificate>(&mut foreign)?;
        self.find_foreign_of::<VoidBody>(&mut foreign)?;
        self.find_foreign_of::<MarkBody>(&mut foreign)?;
        self.find_foreign_of::<AuditBody>(&mut foreign)?;
        self.find_foreign_of::<LedgerBody>(&mut foreign)?;
        self.find_foreign_of::<LeaseBody>(&mut foreign)?;
        Ok(foreign)
    }

    /// Returns the errors of damaged audits and of damaged ledger entries.
    pub fn damaged_audits(&self) -> Result<Vec<RepoError>, RepoError> {
        let is_damaged =
            |error: &RepoError| error.kind() == RepoErrorKind::Damaged && !error.is_missing();
        let mut damaged = self.find_errors_of::<AuditBody>(is_damaged)?;
        damaged.extend(self.find_errors_of::<LedgerBody>(is_damaged)?);
        Ok(damaged)
    }

    fn find_foreign_of<T: Body>(&self, foreign: &mut Vec<RepoError>) -> Result<(), RepoError> {
        let is_foreign = |error: &RepoError| matches!(error, RepoError::Foreign { .. });
        foreign.extend(self.find_errors_of::<T>(is_foreign)?);
        Ok(())
    }

    /// Reads all objects with this type of body, keeps none of them, and returns those errors for
    /// which `is_wanted` returns true.
    fn find_errors_of<T: Body>(
        &self,
        is_wanted: impl Fn(&RepoError) -> bool + Sync,
    ) -> Result<Vec<RepoError>, RepoError> {
        let listed = self.list(T::KIND)?;
        let errors = parallel_map(&listed, |(object, _)| match self.read::<T>(*object) {
            Err(error) if is_wanted(&error) => Ok(Some(error)),
            Err(RepoError::Storage(error)) => Err(RepoError::Storage(error)),
            _ => Ok(None),
        })?;
        Ok(errors.into_iter().flatten().collect())
    }

    /// Seals a body and stores it under its hash. Returns the hash. When the function returns, the
    /// object is durable.
    pub(super) fn put<T: HashedBody>(&self, body: &T) -> Result<ObjectHash, RepoError> {
        self.put_encoded::<T>(&body.encode(), |_| {})
    }

    /// Seals and stores an encoded body. Calls `note` with the hash before the object is stored,
    /// since even a failed call may have stored it.
    pub(super) fn put_encoded<T: HashedBody>(
        &self,
        body: &[u8],
        note: impl Fn(ObjectHash),
    ) -> Result<ObjectHash, RepoError> {
        self.put_noted(T::OBJECT, T::KIND, body, note)
    }
}

#[cfg(test)]
mod tests {
    use super::super::object_kind::SealedWith;
    use super::*;

    #[test]
    fn every_body_is_sealed_with_the_object_key_and_signed() {
        for kind in [
            ProjectSettings::KIND,
            Certificate::KIND,
            IndexSegment::KIND,
            BackupRecord::KIND,
            VoidBody::KIND,
            MarkBody::KIND,
            AuditBody::KIND,
            LedgerBody::KIND,
            LeaseBody::KIND,
        ] {
            assert_eq!(kind.info().sealed_with, SealedWith::ObjectKey, "{kind:?}");
            assert!(kind.info().signed_by.is_some(), "{kind:?}");
        }
    }
}
