//! The kinds of objects that parity protects.

use crate::base::ObjectHash;
use crate::crypto::hash;
use crate::format::ParityObject;
use crate::repo::object_kind::ObjectKind;

/// Returns the number of a kind in parity objects. If the log can name objects of this kind, the
/// log has the same number for them. Returns `None` for kinds that are not protected.
pub(super) const fn number(kind: ObjectKind) -> Option<u8> {
    Some(match kind {
        ObjectKind::Backup => 1,
        ObjectKind::Index => 2,
        ObjectKind::Pack => 3,
        ObjectKind::Tree => 4,
        ObjectKind::Certificate => 5,
        ObjectKind::Settings => 6,
        ObjectKind::Void => 7,
        ObjectKind::Audit => 8,
        ObjectKind::Log => 16,
        ObjectKind::Key => 17,
        ObjectKind::Project => 18,
        ObjectKind::Repository => 19,
        // Leases, marks and batches exist only for a short time. The ledger only decides which
        // packs a check may skip. Parity can be made again from the object that it protects.
        ObjectKind::Lease
        | ObjectKind::Mark
        | ObjectKind::Ledger
        | ObjectKind::Batch
        | ObjectKind::Parity => {
            return None;
        }
    })
}

/// Returns whether `parity` protects an object of this kind with the hash `of`. `parity` may be
/// only the header and the hashes at the beginning of a parity object.
#[must_use]
pub fn protects(parity: &[u8], kind: ObjectKind, of: ObjectHash) -> bool {
    let object = ParityObject::read(parity, |b| hash(&[b]));
    object.is_ok_and(|object| Some(object.header.kind) == number(kind) && object.header.of == of)
}

/// Returns whether parity protects objects of this kind.
#[must_use]
pub const fn is_protected(kind: ObjectKind) -> bool {
    number(kind).is_some()
}
