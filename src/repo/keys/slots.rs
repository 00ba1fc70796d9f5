//! Key slots: section 5 (Key slot) of `docs/format.md`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::bundle::Bundle;
use crate::base::{Notice, ObjectHash, Observer, ProjectId, Role};
use crate::crypto::{KdfParams, SealKey, SealNonce, Secret, hash, object_hash, random};
use crate::format::{FormatError, KeySlot, SlotInfo, SlotLock, SlotParams};
use crate::repo::error::{Damage, RepoError};
use crate::repo::object_kind::ObjectKind;
use crate::repo::object_ref::ObjectRef;
use crate::repo::objects::Objects;
use crate::repo::parallel::parallel_map;

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

    /// The number that stands for this scope in a key slot.
    fn number(self) -> u8 {
        match self {
            Self::Repository => 0,
            Self::Project(_) => 1,
        }
    }

    /// The directory of its key slots.
    fn directory(self) -> String {
        match self {
            Self::Repository => ObjectKind::Key.info().directory.to_owned(),
            Self::Project(id) => ObjectKind::Key.directory(id),
        }
    }

    pub(crate) fn object(self, hash: ObjectHash) -> ObjectRef {
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
    /// The hash that names its slot.
    pub id: ObjectHash,
    /// The scope that it unlocks.
    pub scope: KeyScope,
    /// The name of the project that it unlocks. `None` if it unlocks the repository.
    pub project: Option<String>,
    /// Its role, as its certificate or its slot states it. A foreign slot may state any role.
    pub role: Role,
    /// Shell patterns of the names of volumes that the key may back up. If there are none, its
    /// certificate allows all volumes.
    pub volumes: Vec<String>,
    /// Its info: label, creation time and so on. Empty if the slot is foreign.
    pub info: SlotInfo,
    /// The cost of one guess of the password.
    pub kdf: KdfParams,
    /// Whether the repository was opened with this key.
    pub current: bool,
    /// Whether its slot was added without a full key, or its key was revoked.
    pub foreign: bool,
}

impl KeySummary {
    /// Describes a key by the fields of its slot that can be read without a password.
    pub(crate) fn of_slot(found: &FoundSlot) -> Self {
        Self {
            id: found.id,
            scope: found.scope,
            project: None,
            role: found.role(),
            volumes: Vec::new(),
            info: SlotInfo::default(),
            kdf: found.kdf().unwrap_or_default(),
            current: false,
            foreign: false,
        }
    }
}

/// Seals the secrets of a key under a password. Returns the key slot and its hash.
pub(crate) fn make_slot(
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

/// A key slot in the store.
pub(crate) struct FoundSlot {
    /// The scope to which its directory belongs.
    pub(crate) scope: KeyScope,
    /// The hash that names it.
    pub(crate) id: ObjectHash,
    /// The part that a password opens.
    pub(crate) lock: SlotLock,
    /// The whole slot. If its header states an unknown version or feature, this is an error. The
    /// error counts only after a password has opened `lock`.
    pub(crate) slot: Result<KeySlot, FormatError>,
}

impl FoundSlot {
    /// Returns the parameters with which its key derives from a password, or the reason why no
    /// password can open it.
    pub(crate) fn kdf(&self) -> Result<KdfParams, String> {
        let lock = &self.lock;
        if lock.scope != self.scope.number() {
            return Err("it is in the wrong directory".to_owned());
        }
        KdfParams::new(lock.memory_kib, lock.passes, lock.lanes).map_err(|e| e.to_string())
    }

    /// Returns the role that it states. If this version does not know that role, returns the role
    /// with the fewest rights.
    pub(crate) fn role(&self) -> Role {
        match self.lock.role {
            0 => Role::Full,
            1 => Role::Write,
            _ => Role::Verify,
        }
    }

    /// Returns the info of the slot, like [`open_info`]. Also returns `None` if this program does
    /// not know the version or a feature of the slot.
    pub(crate) fn info(&self, key: &SealKey) -> Option<SlotInfo> {
        let slot = self.slot.as_ref().ok()?;
        open_info(self.scope, slot, key)
    }

    /// Returns the work that one attempt with a password takes: memory in KiB times passes.
    pub(crate) fn work(&self) -> u64 {
        u64::from(self.lock.memory_kib) * u64::from(self.lock.passes)
    }
}

/// Maximum number of key slots of a scope that are used. Without this limit, anyone who can write
/// to the store could make every wrong password take very long.
const SLOTS_MAX: usize = 64;
/// Maximum number of slots that are read to find usable ones.
const READ_MAX: usize = 256;
/// Maximum number of unusable slots that are reported by name.
const NAMED_MAX: usize = 3;

/// Returns the usable key slots of a scope, at most [`SLOTS_MAX`], in the order of their ids. If
/// there are more, prefers `first`, then slots of which both copies exist, then the oldest. Sends
/// notices about unusable slots and about slots beyond the maximum.
pub(crate) fn read_slots(
    objects: &Objects,
    scope: KeyScope,
    first: Option<ObjectHash>,
    observer: &dyn Observer,
) -> Result<Vec<FoundSlot>, RepoError> {
    let mut found: BTreeMap<ObjectHash, (usize, SystemTime)> = BTreeMap::new();
    for (object, _, info) in objects.list(&scope.directory())? {
        if let ObjectRef::Key(_, hash) = object {
            let (copies, oldest) = found.entry(hash).or_insert((0, info.modified));
            *copies += 1;
            *oldest = (*oldest).min(info.modified);
        }
    }
    let mut order: Vec<_> = found.into_iter().collect();
    order.sort_by_key(|(hash, (copies, oldest))| (first != Some(*hash), *copies < 2, *oldest));
    let read = |(hash, _): &(ObjectHash, (usize, SystemTime))| {
        let object = scope.object(*hash);
        let slot = objects.get_twice(object, KeySlot::LEN_MAX, observer, |bytes| {
            decode_slot(object, *hash, bytes)
        });
        match slot {
            Ok((lock, slot)) => Ok(Ok(FoundSlot {
                scope,
                id: *hash,
                lock,
                slot,
            })),
            Err(e @ RepoError::Damaged { .. }) => Ok(Err(e.to_string())),
            Err(e) => Err(e),
        }
    };
    let (mut slots, mut unusable, mut tried) = (Vec::new(), 0, 0);
    for batch in order.chunks(SLOTS_MAX).take(READ_MAX / SLOTS_MAX) {
        if slots.len() >= SLOTS_MAX {
            break;
        }
        tried += batch.len();
        for slot in parallel_map(batch, read)? {
            match slot {
                Ok(slot) => slots.push(slot),
                Err(problem) => {
                    unusable += 1;
                    if unusable <= NAMED_MAX {
                        observer.notice(Notice::KeySlotDamaged { problem });
                    }
                }
            }
        }
    }
    let ignored = order.len() - tried + slots.len().saturating_sub(SLOTS_MAX);
    slots.truncate(SLOTS_MAX);
    slots.sort_by_key(|found| found.id);
    let more = ignored + unusable.saturating_sub(NAMED_MAX);
    if more > 0 {
        observer.notice(Notice::KeySlotsIgnored {
            directory: scope.directory(),
            slots: more as u64,
        });
    }
    Ok(slots)
}

/// Decodes a slot: the part that a password opens, and the whole slot unless its header is unknown.
fn decode_slot(
    object: ObjectRef,
    hash: ObjectHash,
    bytes: &[u8],
) -> Result<(SlotLock, Result<KeySlot, FormatError>), RepoError> {
    if object_hash(&[bytes]) != hash {
        return Err(RepoError::damaged(object, Damage::WrongHash));
    }
    let damaged = |e| RepoError::damaged(object, Damage::Format(e));
    let lock = SlotLock::decode(bytes).map_err(damaged)?;
    let slot = match lock.header.check() {
        Ok(()) => Ok(KeySlot::decode(bytes).map_err(damaged)?),
        Err(newer) => Err(newer),
    };
    Ok((lock, slot))
}

/// Fails unless these bytes have this hash and are a slot. A slot with an unknown version or
/// feature passes: anyone can store such a slot, and only a password shows whether its maker had a
/// key.
pub(crate) fn verify_slot(
    object: ObjectRef,
    hash: ObjectHash,
    bytes: &[u8],
) -> Result<(), RepoError> {
    decode_slot(object, hash, bytes).map(|_| ())
}

/// Returns the secrets in the slot, or `None` if this key, which derives from a password, does not
/// open it. Fails if the key opens the slot and the slot needs a newer program.
///
/// Decrypts only one ciphertext with this key. It has 48 bytes for all roles. A longer one would
/// let an attacker who adds a slot test many passwords with one attempt.
pub(crate) fn open_slot(found: &FoundSlot, key: &Secret) -> Result<Option<Bundle>, RepoError> {
    let (owner, lock) = (found.scope.owner(), &found.lock);
    let aad = [&owner[..], &lock.context].concat();
    let nonce = SealNonce::from_bytes(lock.nonce);
    let Ok(opened) = SealKey::new(key).open(&nonce, &aad, &lock.sealed_key) else {
        return Ok(None);
    };
    let opened = Zeroizing::new(opened);
    // Only now does the header count, since the maker of this slot knew the password.
    let newer = |e: &FormatError| RepoError::format(found.scope.object(found.id), e.clone());
    let slot = found.slot.as_ref().map_err(newer)?;
    let Ok(slot_key) = <[u8; 32]>::try_from(&opened[..]) else {
        return Ok(None);
    };
    let aad = [&owner[..], &slot.bundle_context()].concat();
    let nonce = SealNonce::from_bytes(slot.bundle_nonce);
    let bundle = bundle_key(&Secret::new(slot_key)).open(&nonce, &aad, &slot.sealed_bundle);
    let params = &slot.params;
    let decode = |plain: Vec<u8>| Bundle::decode(params.scope, params.role, &Zeroizing::new(plain));
    Ok(bundle.ok().and_then(decode))
}

/// Returns the info of a slot. Returns `None` if it is not sealed under this key: someone without
/// the key added the slot, or an unfinished `init` left it. Info that is not JSON counts as empty.
fn open_info(scope: KeyScope, slot: &KeySlot, key: &SealKey) -> Option<SlotInfo> {
    let nonce = SealNonce::from_bytes(slot.info_nonce);
    let plain = key.open(&nonce, &info_context(scope, slot), &slot.sealed_info);
    plain
        .ok()
        .map(|plain| SlotInfo::decode(&plain).unwrap_or_default())
}
