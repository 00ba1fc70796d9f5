//! Section 5: key slots.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::header::{HEADER_LEN, Magic};
use super::json::{from_json, to_json};
use super::wire::{Reader, len_u32};

/// The secret that a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The repository's secret.
    Repository,
    /// A project's secret.
    Project,
}

/// The part of a slot that is readable without a key: how a key is derived from the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotParams {
    /// The secret that the slot holds.
    pub scope: Scope,
    /// Argon2id memory in KiB. None of these parameters is checked against its bounds yet.
    pub memory_kib: u32,
    /// Argon2id passes.
    pub passes: u32,
    /// Argon2id lanes.
    pub lanes: u32,
    /// Argon2id salt.
    pub salt: [u8; 32],
}

const PARAMS_LEN: usize = 64;
const SECRET_END: usize = 136;
const INFO_MIN: usize = 16;
const INFO_MAX: usize = 65_536;

impl SlotParams {
    /// Returns the first 64 bytes of the slot, the associated data of the sealed secret.
    #[must_use]
    pub fn encode(&self) -> [u8; PARAMS_LEN] {
        let mut out = [0; PARAMS_LEN];
        out[..HEADER_LEN].copy_from_slice(&Magic::Slot.header());
        out[16] = match self.scope {
            Scope::Repository => 0,
            Scope::Project => 1,
        };
        out[18] = 1; // Argon2id; byte 17, the capability, is 0: full
        out[20..24].copy_from_slice(&self.memory_kib.to_le_bytes());
        out[24..28].copy_from_slice(&self.passes.to_le_bytes());
        out[28..32].copy_from_slice(&self.lanes.to_le_bytes());
        out[32..].copy_from_slice(&self.salt);
        out
    }
}

/// A key slot: a secret, sealed with a key that is derived from a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySlot {
    /// How the key is derived from the password.
    pub params: SlotParams,
    /// The nonce of the secret.
    pub nonce: [u8; 24],
    /// The sealed secret.
    pub sealed_secret: [u8; 48],
    /// The nonce of the info.
    pub info_nonce: [u8; 24],
    /// The sealed [`SlotInfo`].
    pub sealed_info: Vec<u8>,
}

impl KeySlot {
    /// The maximum length of a slot, in bytes.
    pub const LEN_MAX: u64 = 164 + INFO_MAX as u64;

    /// Returns the first 136 bytes, the associated data of the sealed info.
    #[must_use]
    pub fn info_context(&self) -> [u8; SECRET_END] {
        let mut out = [0; SECRET_END];
        out[..PARAMS_LEN].copy_from_slice(&self.params.encode());
        out[64..88].copy_from_slice(&self.nonce);
        out[88..].copy_from_slice(&self.sealed_secret);
        out
    }

    /// Encodes the slot.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.info_context().to_vec();
        out.extend_from_slice(&self.info_nonce);
        out.extend_from_slice(&len_u32(self.sealed_info.len()).to_le_bytes());
        out.extend_from_slice(&self.sealed_info);
        out
    }

    /// Decodes a slot.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        Magic::Slot.read(&mut reader)?;
        let scope = match reader.u8()? {
            0 => Scope::Repository,
            1 => Scope::Project,
            _ => return Err(FormatError::BadValue("scope")),
        };
        if reader.u8()? != 0 {
            return Err(FormatError::UnknownFeature("capability of the key".into()));
        }
        if reader.u8()? != 1 {
            return Err(FormatError::UnknownFeature("key derivation".into()));
        }
        reader.zeros::<1>()?;
        let params = SlotParams {
            scope,
            memory_kib: reader.u32()?,
            passes: reader.u32()?,
            lanes: reader.u32()?,
            salt: reader.array()?,
        };
        let nonce = reader.array()?;
        let sealed_secret = reader.array()?;
        let info_nonce = reader.array()?;
        let sealed_info = read_short(&mut reader)?;
        reader.end()?;
        Ok(Self {
            params,
            nonce,
            sealed_secret,
            info_nonce,
            sealed_info,
        })
    }
}

/// Reads a length, from 16 to 65,536, and that number of bytes: the sealed JSON of slots and
/// projects.
pub(super) fn read_short(reader: &mut Reader<'_>) -> Result<Vec<u8>, FormatError> {
    let len = reader.u32()? as usize;
    match len {
        0..INFO_MIN => Err(FormatError::BadValue("length")),
        INFO_MIN..=INFO_MAX => reader.bytes(len).map(<[u8]>::to_vec),
        _ => Err(FormatError::LimitExceeded("length")),
    }
}

/// A description of a slot, which is sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotInfo {
    /// The label that the user gave it.
    pub label: String,
    /// The time of creation, in RFC 3339.
    pub created: String,
    /// The host on which it was created.
    pub host: String,
    /// The user who created it.
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
