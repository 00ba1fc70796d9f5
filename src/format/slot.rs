//! Key slots, which hold the secrets of a role: section 5 (Key slot) of `docs/format.md`.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::header::{HEADER_LEN, Header, Magic};
use super::json::{from_json, to_json};
use super::wire::{Reader, len_u32};
use crate::base::{Role, TAG_LEN};

/// The owner of the secrets that a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The repository.
    Repository,
    /// One project.
    Project,
}

/// The part of a slot that is readable without a key: its scope, its role, and how a key is derived
/// from the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotParams {
    /// The owner of the secrets that the slot holds.
    pub scope: Scope,
    /// The role of the key. Keys of the repository have the role full.
    pub role: Role,
    /// Argon2id memory in KiB. Memory, passes and lanes are not checked against their bounds yet.
    pub memory_kib: u32,
    /// Argon2id passes.
    pub passes: u32,
    /// Argon2id lanes.
    pub lanes: u32,
    /// Argon2id salt.
    pub salt: [u8; 32],
}

const PARAMS_LEN: usize = 64;
const KEY_END: usize = 136;
const SEALED_MIN: usize = 16;
const SEALED_MAX: usize = 65_536;

impl SlotParams {
    /// Returns the first 64 bytes of the slot, the associated data of the slot key.
    #[must_use]
    pub fn encode(&self) -> [u8; PARAMS_LEN] {
        let mut out = [0; PARAMS_LEN];
        out[..HEADER_LEN].copy_from_slice(&Magic::Slot.header());
        out[16] = match self.scope {
            Scope::Repository => 0,
            Scope::Project => 1,
        };
        out[17] = match self.role {
            Role::Full => 0,
            Role::Write => 1,
            Role::Verify => 2,
        };
        out[18] = 1; // Argon2id
        out[20..24].copy_from_slice(&self.memory_kib.to_le_bytes());
        out[24..28].copy_from_slice(&self.passes.to_le_bytes());
        out[28..32].copy_from_slice(&self.lanes.to_le_bytes());
        out[32..].copy_from_slice(&self.salt);
        out
    }
}

/// The part of a key slot that opens with a password. It has the same form in all versions.
///
/// Anyone who can write to the store can make a slot. So rely on the header only after the slot key
/// was decrypted. Decoding checks only the magic number and the method of key derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotLock {
    /// The header.
    pub header: Header,
    /// The owner of the secrets that the slot holds: 0 the repository, 1 one project.
    pub scope: u8,
    /// The role of the key: 0 full, 1 write, 2 verify; others are of a later version.
    pub role: u8,
    /// Argon2id memory in KiB. Memory, passes and lanes are not checked against their bounds yet.
    pub memory_kib: u32,
    /// Argon2id passes.
    pub passes: u32,
    /// Argon2id lanes.
    pub lanes: u32,
    /// Argon2id salt.
    pub salt: [u8; 32],
    /// The first 64 bytes of the slot, the associated data of the slot key.
    pub context: [u8; PARAMS_LEN],
    /// The nonce of the slot key.
    pub nonce: [u8; 24],
    /// The sealed slot key.
    pub sealed_key: [u8; 48],
}

impl SlotLock {
    /// Decodes the beginning of a slot of any version. Fails if the slot derives its key with
    /// another method than Argon2id.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let context = reader.array()?;
        let mut fields = Reader::new(&context);
        let header = Magic::Slot.read_unverified(&mut fields)?;
        let scope = fields.u8()?;
        let role = fields.u8()?;
        if fields.u8()? != 1 {
            return Err(FormatError::BadValue("key derivation"));
        }
        let _reserved = fields.u8()?;
        Ok(Self {
            header,
            scope,
            role,
            memory_kib: fields.u32()?,
            passes: fields.u32()?,
            lanes: fields.u32()?,
            salt: fields.array()?,
            context,
            nonce: reader.array()?,
            sealed_key: reader.array()?,
        })
    }
}

/// A key slot: the secrets of a role. They are sealed under a random slot key. The slot key is
/// sealed under a key that is derived from a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySlot {
    /// How the key is derived from the password.
    pub params: SlotParams,
    /// The nonce of the slot key.
    pub nonce: [u8; 24],
    /// The sealed slot key.
    pub sealed_key: [u8; 48],
    /// The nonce of the bundle.
    pub bundle_nonce: [u8; 24],
    /// The sealed bundle: the secrets of the role.
    pub sealed_bundle: Vec<u8>,
    /// The nonce of the info.
    pub info_nonce: [u8; 24],
    /// The sealed [`SlotInfo`].
    pub sealed_info: Vec<u8>,
}

impl KeySlot {
    /// The maximum length of a slot, in bytes.
    pub const LEN_MAX: u64 = (KEY_END + 2 * (28 + SEALED_MAX)) as u64;

    /// Returns the first 136 bytes, the associated data of the bundle.
    #[must_use]
    pub fn bundle_context(&self) -> [u8; KEY_END] {
        let mut out = [0; KEY_END];
        out[..PARAMS_LEN].copy_from_slice(&self.params.encode());
        out[64..88].copy_from_slice(&self.nonce);
        out[88..].copy_from_slice(&self.sealed_key);
        out
    }

    /// Returns all bytes before the nonce of the info. Their hash is the associated data of the
    /// info.
    #[must_use]
    pub fn info_context(&self) -> Vec<u8> {
        let mut out = self.bundle_context().to_vec();
        append_sealed(&mut out, self.bundle_nonce, &self.sealed_bundle);
        out
    }

    /// Encodes the slot.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.info_context();
        append_sealed(&mut out, self.info_nonce, &self.sealed_info);
        out
    }

    /// Decodes a slot of this version. Rely on an error about an unknown version or feature only
    /// after the slot key in the [`SlotLock`] was decrypted.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        Magic::Slot.read(&mut reader)?;
        let scope = match reader.u8()? {
            0 => Scope::Repository,
            1 => Scope::Project,
            _ => return Err(FormatError::BadValue("scope")),
        };
        let role = match (reader.u8()?, scope) {
            (0, _) => Role::Full,
            (1, Scope::Project) => Role::Write,
            (2, Scope::Project) => Role::Verify,
            _ => return Err(FormatError::BadValue("role")),
        };
        if reader.u8()? != 1 {
            return Err(FormatError::BadValue("key derivation"));
        }
        reader.zeros::<1>()?;
        let params = SlotParams {
            scope,
            role,
            memory_kib: reader.u32()?,
            passes: reader.u32()?,
            lanes: reader.u32()?,
            salt: reader.array()?,
        };
        let nonce = reader.array()?;
        let sealed_key = reader.array()?;
        let (bundle_nonce, sealed_bundle) = read_sealed(&mut reader)?;
        let bundle_len = match role {
            Role::Full => 32,
            Role::Write => 1344,
            Role::Verify => 96,
        };
        if sealed_bundle.len() != bundle_len + TAG_LEN {
            return Err(FormatError::BadValue("length"));
        }
        let (info_nonce, sealed_info) = read_sealed(&mut reader)?;
        reader.end()?;
        Ok(Self {
            params,
            nonce,
            sealed_key,
            bundle_nonce,
            sealed_bundle,
            info_nonce,
            sealed_info,
        })
    }
}

/// Appends a nonce, a length, and that number of sealed bytes.
fn append_sealed(out: &mut Vec<u8>, nonce: [u8; 24], sealed: &[u8]) {
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&len_u32(sealed.len()).to_le_bytes());
    out.extend_from_slice(sealed);
}

/// Reads a nonce, a length from 16 to 65,536, and that number of sealed bytes.
fn read_sealed(reader: &mut Reader<'_>) -> Result<([u8; 24], Vec<u8>), FormatError> {
    let nonce = reader.array()?;
    let len = reader.u32()? as usize;
    match len {
        0..SEALED_MIN => Err(FormatError::BadValue("length")),
        SEALED_MIN..=SEALED_MAX => Ok((nonce, reader.bytes(len)?.to_vec())),
        _ => Err(FormatError::LimitExceeded("length")),
    }
}

/// A description of a slot, which is sealed. Members that are missing are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotInfo {
    /// The label that the user gave to the key.
    pub label: String,
    /// The time of creation, in RFC 3339.
    pub created: String,
    /// The host on which the key was created.
    pub host: String,
    /// The user who created the key.
    pub user: String,
}

impl SlotInfo {
    /// Returns the description as JSON, to be sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Decodes opened JSON.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        from_json(bytes)
    }
}
