//! Section 6: the project object.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::header::{HEADER_LEN, Magic};
use super::json::{check_time, from_json, nullable, refuse_unknown_features, to_json};
use super::slot::read_short;
use super::wire::{Reader, len_u32};

/// A project's secret and settings, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectObject {
    /// Nonce of the secret.
    pub nonce: [u8; 24],
    /// The project's secret, sealed for the repository.
    pub sealed_secret: [u8; 48],
    /// Nonce of the settings.
    pub settings_nonce: [u8; 24],
    /// The sealed [`Settings`].
    pub sealed_settings: Vec<u8>,
}

const SECRET_END: usize = 88;

impl ProjectObject {
    /// No project object is longer, in bytes.
    pub const LEN_MAX: u64 = 116 + 65_536;

    /// What the sealed secret is bound to, beside the project's id.
    #[must_use]
    pub fn secret_context() -> [u8; HEADER_LEN] {
        Magic::Project.header()
    }

    /// The first 88 bytes, which the settings are bound to.
    #[must_use]
    pub fn settings_context(&self) -> [u8; SECRET_END] {
        let mut out = [0; SECRET_END];
        out[..HEADER_LEN].copy_from_slice(&Magic::Project.header());
        out[16..40].copy_from_slice(&self.nonce);
        out[40..].copy_from_slice(&self.sealed_secret);
        out
    }

    /// The object.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.settings_context().to_vec();
        out.extend_from_slice(&self.settings_nonce);
        out.extend_from_slice(&len_u32(self.sealed_settings.len()).to_le_bytes());
        out.extend_from_slice(&self.sealed_settings);
        out
    }

    /// Reads the object.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        Magic::Project.read(&mut reader)?;
        let nonce = reader.array()?;
        let sealed_secret = reader.array()?;
        let settings_nonce = reader.array()?;
        let sealed_settings = read_short(&mut reader)?;
        reader.end()?;
        Ok(Self {
            nonce,
            sealed_secret,
            settings_nonce,
            sealed_settings,
        })
    }
}

/// A project's settings, fixed when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Unique in a repository.
    pub name: String,
    /// RFC 3339.
    pub created: String,
    /// In bytes.
    pub chunk_size: u64,
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    pub requires: Vec<String>,
}

impl Settings {
    /// As JSON, to be sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// From opened JSON. Unknown required features are refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        refuse_unknown_features(bytes)?;
        let settings: Self = from_json(bytes)?;
        check_time("created", &settings.created)?;
        Ok(settings)
    }
}
