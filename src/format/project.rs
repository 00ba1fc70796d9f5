//! Section 6: the project object.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::header::{HEADER_LEN, Magic};
use super::json::{from_json_with_features, nullable, to_json};
use super::slot::read_short;
use super::time::check_time;
use super::wire::{Reader, len_u32};

/// A project's secret and settings, both sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectObject {
    /// The nonce of the secret.
    pub nonce: [u8; 24],
    /// The project's secret, sealed for the repository.
    pub sealed_secret: [u8; 48],
    /// The nonce of the settings.
    pub settings_nonce: [u8; 24],
    /// The sealed [`ProjectSettings`].
    pub sealed_settings: Vec<u8>,
}

const SECRET_END: usize = 88;

impl ProjectObject {
    /// The maximum length of a project object, in bytes.
    pub const LEN_MAX: u64 = 116 + 65_536;

    /// Returns the associated data of the sealed secret, which follows the project's id.
    #[must_use]
    pub fn secret_context() -> [u8; HEADER_LEN] {
        Magic::Project.header()
    }

    /// Returns the first 88 bytes, the associated data of the settings.
    #[must_use]
    pub fn settings_context(&self) -> [u8; SECRET_END] {
        let mut out = [0; SECRET_END];
        out[..HEADER_LEN].copy_from_slice(&Magic::Project.header());
        out[16..40].copy_from_slice(&self.nonce);
        out[40..].copy_from_slice(&self.sealed_secret);
        out
    }

    /// Encodes the object.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.settings_context().to_vec();
        out.extend_from_slice(&self.settings_nonce);
        out.extend_from_slice(&len_u32(self.sealed_settings.len()).to_le_bytes());
        out.extend_from_slice(&self.sealed_settings);
        out
    }

    /// Decodes the object.
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

/// The settings of a project, which never change after it was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectSettings {
    /// The name, unique in the repository.
    pub name: String,
    /// The time of creation, in RFC 3339.
    pub created: String,
    /// The size of chunks in bytes.
    pub chunk_size: u64,
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    pub requires: Vec<String>,
}

impl ProjectSettings {
    /// Returns the settings as JSON, to be sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Decodes opened JSON.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let settings: Self = from_json_with_features(bytes)?;
        check_time("created", &settings.created)?;
        Ok(settings)
    }
}
