//! Section 5: key slots.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::header::{HEADER_LEN, Magic};
use super::json::{from_json, to_json};
use super::wire::{Reader, len_u32};

/// What a slot opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole repository.
    Repository,
    /// One project.
    Project,
}

/// The part of a slot that is readable without a key, and that its password's cost is set by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotParams {
    /// What it opens.
    pub scope: Scope,
    /// Argon2id memory in KiB; not yet checked for sense.
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
    /// The first 64 bytes of the slot, which the sealed secret is bound to.
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

/// A key slot: a secret, sealed under a key that only the password gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySlot {
    /// How to get from the password to the key.
    pub params: SlotParams,
    /// Nonce of the secret.
    pub nonce: [u8; 24],
    /// The sealed secret.
    pub sealed_secret: [u8; 48],
    /// Nonce of the info.
    pub info_nonce: [u8; 24],
    /// The sealed [`SlotInfo`].
    pub sealed_info: Vec<u8>,
}

impl KeySlot {
    /// No slot is longer, in bytes.
    pub const LEN_MAX: u64 = 164 + INFO_MAX as u64;

    /// The first 136 bytes, which the sealed info is bound to.
    #[must_use]
    pub fn info_context(&self) -> [u8; SECRET_END] {
        let mut out = [0; SECRET_END];
        out[..PARAMS_LEN].copy_from_slice(&self.params.encode());
        out[64..88].copy_from_slice(&self.nonce);
        out[88..].copy_from_slice(&self.sealed_secret);
        out
    }

    /// The object.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.info_context().to_vec();
        out.extend_from_slice(&self.info_nonce);
        out.extend_from_slice(&len_u32(self.sealed_info.len()).to_le_bytes());
        out.extend_from_slice(&self.sealed_info);
        out
    }

    /// Reads the object.
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

/// A length from 16 to 65,536 and so many bytes: the sealed JSON of slots and projects.
pub(super) fn read_short(reader: &mut Reader<'_>) -> Result<Vec<u8>, FormatError> {
    let len = reader.u32()? as usize;
    match len {
        0..INFO_MIN => Err(FormatError::BadValue("length")),
        INFO_MIN..=INFO_MAX => reader.bytes(len).map(<[u8]>::to_vec),
        _ => Err(FormatError::LimitExceeded("length")),
    }
}

/// What a slot says of itself, once it is open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotInfo {
    /// Given by the user.
    pub label: String,
    /// RFC 3339.
    pub created: String,
    /// Where it was made.
    pub host: String,
    /// Who made it.
    pub user: String,
}

impl SlotInfo {
    /// As JSON, to be sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// From opened JSON.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        from_json(bytes)
    }
}
