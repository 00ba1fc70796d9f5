//! The sealed objects of a project, by the type of their body.

use super::error::RepoError;
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::parallel::parallel_map;
use super::project::Project;
use crate::base::{ObjectHash, ProjectId};
use crate::format::{BackupRecord, FormatError, IndexSegment, LeaseBody, MarkBody, Tombstone};
use crate::storage::ObjectInfo;

/// The body of an object that is sealed under the project's object key.
pub(super) trait Body: Sized + Send {
    /// The kind of the object.
    const KIND: ObjectKind;
    /// The longest body, in bytes.
    const LEN_MAX: usize;

    /// Encodes the body.
    fn encode(&self) -> Vec<u8>;
    /// Decodes a body.
    fn decode(bytes: &[u8]) -> Result<Self, FormatError>;
}

/// A body whose object is named by its hash.
pub(super) trait HashedBody: Body {
    /// The object with this hash in a project.
    const OBJECT: fn(ProjectId, ObjectHash) -> ObjectRef;
}

/// An object that was loaded.
pub(super) struct Loaded<T> {
    /// The object.
    pub(super) object: ObjectRef,
    /// Its size, and when it was put.
    pub(super) listed: ObjectInfo,
    /// Its body, or the damage.
    pub(super) body: Result<T, RepoError>,
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

body!(IndexSegment, Index, named by its hash);
body!(BackupRecord, Backup, named by its hash);
body!(Tombstone, Tombstone, named by its hash);
body!(MarkBody, Mark, named by its hash);
body!(LeaseBody, Lease);

impl Project {
    /// Lists the project's objects of this kind. Second copies are left out.
    pub(super) fn list(&self, kind: ObjectKind) -> Result<Vec<(ObjectRef, ObjectInfo)>, RepoError> {
        let listed = self.objects.list(&kind.directory(self.id))?;
        let objects = listed
            .into_iter()
            .filter(|(object, copy, _)| object.kind() == kind && !copy)
            .map(|(object, _, listed)| (object, listed));
        Ok(objects.collect())
    }

    /// Reads and opens one object.
    pub(super) fn read<T: Body>(&self, object: ObjectRef) -> Result<T, RepoError> {
        let key = (self.id, self.keys.object());
        let magic = T::KIND.info().magic;
        let body = match object.hash() {
            Some(hash) => self
                .objects
                .get_sealed(object, hash, magic, key, T::LEN_MAX)?,
            None => self.objects.get_marker(object, magic, key, T::LEN_MAX)?,
        };
        T::decode(&body).map_err(|e| RepoError::format(object, e))
    }

    /// Reads and opens these objects, several at a time, in their order. Leaves out those that were
    /// deleted since they were listed. A damaged object does not harm the others; one that needs a
    /// newer version of this program, and a failure of the store, fail the call.
    pub(super) fn load<T: Body>(
        &self,
        listed: Vec<(ObjectRef, ObjectInfo)>,
    ) -> Result<Vec<Loaded<T>>, RepoError> {
        let bodies = parallel_map(&listed, |(object, _)| match self.read(*object) {
            Ok(body) => Ok(Some(Ok(body))),
            Err(e) if e.is_missing() => Ok(None),
            Err(e @ RepoError::Damaged { .. }) => Ok(Some(Err(e))),
            Err(e) => Err(e),
        })?;
        let loaded = listed.into_iter().zip(bodies);
        let loaded = loaded.filter_map(|((object, listed), body)| {
            Some(Loaded {
                object,
                listed,
                body: body?,
            })
        });
        Ok(loaded.collect())
    }

    /// Lists and loads all objects with this type of body.
    pub(super) fn load_all<T: Body>(&self) -> Result<Vec<Loaded<T>>, RepoError> {
        self.load(self.list(T::KIND)?)
    }

    /// Seals a body and stores it under its hash, which is returned. Durable when it returns.
    pub(super) fn put<T: HashedBody>(&self, body: &T) -> Result<ObjectHash, RepoError> {
        self.put_encoded::<T>(&body.encode(), |_| {})
    }

    /// Seals and stores a body that is encoded already. Calls `note` with the hash before the
    /// object is stored: even if that fails, the object may be in the store.
    pub(super) fn put_encoded<T: HashedBody>(
        &self,
        body: &[u8],
        note: impl Fn(ObjectHash),
    ) -> Result<ObjectHash, RepoError> {
        let object = |hash| {
            note(hash);
            T::OBJECT(self.id, hash)
        };
        let key = (self.id, self.keys.object());
        let magic = T::KIND.info().magic;
        self.objects.put_sealed(object, magic, key, body)
    }
}

#[cfg(test)]
mod tests {
    use super::super::object_kind::SealedWith;
    use super::*;

    #[test]
    fn every_body_is_sealed_with_the_object_key() {
        for kind in [
            IndexSegment::KIND,
            BackupRecord::KIND,
            Tombstone::KIND,
            MarkBody::KIND,
            LeaseBody::KIND,
        ] {
            assert_eq!(kind.info().sealed_with, SealedWith::ObjectKey, "{kind:?}");
        }
    }
}
