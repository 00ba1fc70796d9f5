//! Key slots: section 5 of `docs/format.md`.

use zeroize::Zeroizing;

use super::bundle::Bundle;
use super::error::{Damage, RepoError};
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::parallel::parallel_map;
use crate::base::{Notice, ObjectHash, Observer, ProjectId, Role};
use crate::crypto::{KdfParams, SealKey, SealNonce, Secret, hash, object_hash, random};
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
    /// The name of the project that it unlocks.
    pub project: Option<String>,
    /// Its role.
    pub role: Role,
    /// Shell patterns of the names of volumes that it may back up. Empty: all.
    pub volumes: Vec<String>,
    /// Its info: label, creation time and so on. Empty if the slot is foreign.
    pub info: SlotInfo,
    /// The cost of one guess of the password.
    pub kdf: KdfParams,
    /// Whether this repository was opened with it.
    pub current: bool,
    /// Whether no holder of a full key added it: its slot was planted, or its key was revoked.
    pub foreign: bool,
}

/// Seals the secrets of a key under a password. Returns the key slot and its hash.
pub(super) fn make_slot(
    scope: KeyScope,
    bundle: &Bundle,
    info_key: &SealKey,
    key: &NewKey<'_>,
) -> Result<(ObjectHash, Vec<u8>), RepoError> {
    let owner = scope.owner();
    let (slot_scope, role) = bundle.kind();
    let params = SlotParams {
        scope: slot_scope,
        role,
        memory_kib: key.kdf.memory_kib(),
        passes: key.kdf.passes(),
        lanes: key.kdf.lanes(),
        salt: random()?,
    };
    let wrap = SealKey::new(&key.kdf.derive(key.password, &params.salt)?);
    let slot_key = Secret::random()?;
    let context = [&owner[..], &params.encode()].concat();
    let (nonce, sealed) = wrap.seal(&context, slot_key.expose())?;
    let mut sealed_key = [0; 48];
    sealed_key.copy_from_slice(&sealed);
    let mut slot = KeySlot {
        params,
        nonce: *nonce.as_bytes(),
        sealed_key,
        bundle_nonce: [0; 24],
        sealed_bundle: Vec::new(),
        info_nonce: [0; 24],
        sealed_info: Vec::new(),
    };
    let context = [&owner[..], &slot.bundle_context()].concat();
    let (nonce, sealed) = bundle_key(&slot_key).seal(&context, &bundle.encode())?;
    slot.bundle_nonce = *nonce.as_bytes();
    slot.sealed_bundle = sealed;
    let (nonce, sealed) = info_key.seal(&info_context(scope, &slot), &key.info.encode())?;
    slot.info_nonce = *nonce.as_bytes();
    slot.sealed_info = sealed;
    let bytes = slot.encode();
    Ok((object_hash(&[&bytes]), bytes))
}

/// Returns the key that seals the bundle of a slot with this slot key.
fn bundle_key(slot_key: &Secret) -> SealKey {
    SealKey::new(&slot_key.derive("cuttlebone 2026-11-21 slot bundle"))
}

/// Returns the associated data of the info of a slot.
fn info_context(scope: KeyScope, slot: &KeySlot) -> Vec<u8> {
    [&scope.owner()[..], &hash(&[&slot.info_context()])].concat()
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

/// Returns the secrets in the slot, or `None` if this password does not unlock it.
///
/// One AEAD of 48 bytes is tried, the same for all roles: a planted slot tests one password at a
/// time.
pub(super) fn open_slot(
    scope: KeyScope,
    slot: &KeySlot,
    password: &[u8],
) -> Result<Option<Bundle>, RepoError> {
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
    let Ok(opened) = wrap.open(&nonce, &aad, &slot.sealed_key) else {
        return Ok(None);
    };
    let opened = Zeroizing::new(opened);
    let Ok(slot_key) = <[u8; 32]>::try_from(&opened[..]).map(Secret::new) else {
        return Ok(None);
    };
    let aad = [&scope.owner()[..], &slot.bundle_context()].concat();
    let nonce = SealNonce::from_bytes(slot.bundle_nonce);
    let Ok(bundle) = bundle_key(&slot_key).open(&nonce, &aad, &slot.sealed_bundle) else {
        return Ok(None);
    };
    let bundle = Zeroizing::new(bundle);
    Ok(Bundle::decode(params.scope, params.role, &bundle))
}

/// Returns the info of a slot; `None` if it is not sealed under this key: the slot was planted, or
/// an unfinished `init` left it. Info that is not JSON counts as empty.
pub(super) fn open_info(scope: KeyScope, slot: &KeySlot, key: &SealKey) -> Option<SlotInfo> {
    let nonce = SealNonce::from_bytes(slot.info_nonce);
    let plain = key.open(&nonce, &info_context(scope, slot), &slot.sealed_info);
    plain
        .ok()
        .map(|plain| SlotInfo::decode(&plain).unwrap_or_default())
}
