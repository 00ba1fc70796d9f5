//! Key slots: section 5 of `docs/format.md`.

use super::error::{Damage, RepoError};
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::parallel::parallel_map;
use crate::base::{Notice, ObjectHash, Observer, ProjectId};
use crate::crypto::{
    KdfParams, ProjectKeys, RepositoryKeys, SealKey, SealNonce, Secret, object_hash, random,
};
use crate::format::{KeySlot, Scope, SlotInfo, SlotParams};

/// The scope of a key: the repository, or one project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum KeyScope {
    Repository,
    Project(ProjectId),
}

impl KeyScope {
    /// The part of the associated data that identifies the owner of a slot.
    fn owner(self) -> [u8; 16] {
        match self {
            Self::Repository => [0; 16],
            Self::Project(id) => *id.as_bytes(),
        }
    }

    fn slot_scope(self) -> Scope {
        match self {
            Self::Repository => Scope::Repository,
            Self::Project(_) => Scope::Project,
        }
    }

    /// The directory of its key slots.
    fn directory(self) -> String {
        match self {
            Self::Repository => ObjectKind::Key.info().directory.to_owned(),
            Self::Project(id) => ObjectKind::Key.directory(id),
        }
    }

    pub(super) fn object(self, hash: ObjectHash) -> ObjectRef {
        match self {
            Self::Repository => ObjectRef::Key(None, hash),
            Self::Project(id) => ObjectRef::Key(Some(id), hash),
        }
    }
}

/// A key to add.
#[derive(Debug, Clone)]
pub struct NewKey<'a> {
    /// The password.
    pub password: &'a [u8],
    /// The cost of one guess of the password.
    pub kdf: KdfParams,
    /// Its info: label, creation time and so on.
    pub info: SlotInfo,
}

/// A key, as `key list` shows it.
#[derive(Debug, Clone)]
pub struct KeySummary {
    /// The hash that its slot is named by.
    pub id: ObjectHash,
    /// The scope that it unlocks.
    pub scope: KeyScope,
    /// Its info: label, creation time and so on.
    pub info: SlotInfo,
    /// The cost of one guess of the password.
    pub kdf: KdfParams,
    /// Whether this repository was opened with it.
    pub current: bool,
}

/// Seals `secret` under a password and stores the key slot.
pub(super) fn store_slot(
    objects: &Objects,
    scope: KeyScope,
    secret: &Secret,
    key: &NewKey<'_>,
) -> Result<ObjectHash, RepoError> {
    let owner = scope.owner();
    let params = SlotParams {
        scope: scope.slot_scope(),
        memory_kib: key.kdf.memory_kib(),
        passes: key.kdf.passes(),
        lanes: key.kdf.lanes(),
        salt: random()?,
    };
    let wrap = SealKey::new(&key.kdf.derive(key.password, &params.salt)?);
    let context = [&owner[..], &params.encode()].concat();
    let (nonce, sealed) = wrap.seal(&context, secret.expose())?;
    let mut sealed_secret = [0; 48];
    sealed_secret.copy_from_slice(&sealed);
    let mut slot = KeySlot {
        params,
        nonce: *nonce.as_bytes(),
        sealed_secret,
        info_nonce: [0; 24],
        sealed_info: Vec::new(),
    };
    let context = [&owner[..], &slot.info_context()].concat();
    let (info_nonce, info) = info_key(scope, secret).seal(&context, &key.info.encode())?;
    slot.info_nonce = *info_nonce.as_bytes();
    slot.sealed_info = info;
    let bytes = slot.encode();
    let hash = object_hash(&[&bytes]);
    objects.put_twice(scope.object(hash), &bytes)?;
    Ok(hash)
}

/// Reads the key slots of a scope. Notifies the observer of damaged ones and leaves them out.
pub(super) fn read_slots(
    objects: &Objects,
    scope: KeyScope,
    observer: &dyn Observer,
) -> Result<Vec<(ObjectHash, KeySlot)>, RepoError> {
    let mut hashes: Vec<_> = objects
        .list(&scope.directory())?
        .into_iter()
        .filter_map(|(object, ..)| match object {
            ObjectRef::Key(_, hash) => Some(hash),
            _ => None,
        })
        .collect();
    hashes.sort_unstable();
    hashes.dedup();
    let slots = parallel_map(&hashes, |hash| {
        let object = scope.object(*hash);
        let slot = objects.get_twice(object, KeySlot::LEN_MAX, observer, |bytes| {
            decode_slot(object, *hash, bytes)
        });
        match slot {
            Ok(slot) => Ok(Some((*hash, slot))),
            Err(e @ (RepoError::Damaged { .. } | RepoError::Unsupported { .. })) => {
                let problem = e.to_string();
                observer.notice(Notice::KeySlotDamaged { problem });
                Ok(None)
            }
            Err(e) => Err(e),
        }
    })?;
    Ok(slots.into_iter().flatten().collect())
}

pub(super) fn decode_slot(
    object: ObjectRef,
    hash: ObjectHash,
    bytes: &[u8],
) -> Result<KeySlot, RepoError> {
    if object_hash(&[bytes]) != hash {
        return Err(RepoError::damaged(object, Damage::WrongHash));
    }
    KeySlot::decode(bytes).map_err(|e| RepoError::format(object, e))
}

/// The secret in the slot, or `None` if this password does not unlock it.
pub(super) fn open_slot(
    scope: KeyScope,
    slot: &KeySlot,
    password: &[u8],
) -> Result<Option<Secret>, RepoError> {
    let params = &slot.params;
    // A slot of another scope is in the wrong directory, and this program never writes parameters
    // out of bounds. No password unlocks either.
    let (true, Ok(kdf)) = (
        params.scope == scope.slot_scope(),
        KdfParams::new(params.memory_kib, params.passes, params.lanes),
    ) else {
        return Ok(None);
    };
    let wrap = SealKey::new(&kdf.derive(password, &params.salt)?);
    let aad = [&scope.owner()[..], &params.encode()].concat();
    let nonce = SealNonce::from_bytes(slot.nonce);
    let Ok(opened) = wrap.open(&nonce, &aad, &slot.sealed_secret) else {
        return Ok(None);
    };
    let opened = zeroize::Zeroizing::new(opened);
    Ok(<[u8; 32]>::try_from(&opened[..]).ok().map(Secret::new))
}

/// Whether the slot holds `secret`: its info is sealed under that. An unfinished `init` leaves
/// slots that hold another secret.
pub(super) fn belongs(scope: KeyScope, slot: &KeySlot, secret: &Secret) -> bool {
    open_info(scope, slot, secret).is_some()
}

/// The info of a slot that holds `secret`; empty if it is damaged.
pub(super) fn slot_info(scope: KeyScope, slot: &KeySlot, secret: &Secret) -> SlotInfo {
    open_info(scope, slot, secret)
        .and_then(|plain| SlotInfo::decode(&plain).ok())
        .unwrap_or_default()
}

fn open_info(scope: KeyScope, slot: &KeySlot, secret: &Secret) -> Option<Vec<u8>> {
    let aad = [&scope.owner()[..], &slot.info_context()].concat();
    let nonce = SealNonce::from_bytes(slot.info_nonce);
    info_key(scope, secret)
        .open(&nonce, &aad, &slot.sealed_info)
        .ok()
}

/// The key that seals the info of slots that hold `secret`.
fn info_key(scope: KeyScope, secret: &Secret) -> SealKey {
    match scope {
        KeyScope::Repository => RepositoryKeys::new(secret).slot_info().clone(),
        KeyScope::Project(_) => ProjectKeys::full(secret).slot_info().clone(),
    }
}
