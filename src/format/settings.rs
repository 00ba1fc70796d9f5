//! The settings of a project: section 15 (Settings) of `docs/format.md`.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::error::FormatError;
use super::json::{from_json, from_json_with_features, nullable, to_json};
use super::time::check_time;
use crate::base::ParityRate;

/// The settings of a project. Each change stores them again under the next revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectSettings {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// The number of the change, from 1 on. The settings with the highest number count.
    pub revision: u64,
    /// The name, unique in the repository.
    pub name: String,
    /// The time of the project's creation, in RFC 3339.
    pub created: String,
    /// The size of chunks in new backups of images, in bytes.
    pub chunk_size: u64,
    /// `project` if writers may rely on chunks that any key of the project stored: see
    /// [`trusts_all`](Self::trusts_all). Any other text means the same as `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<String>,
    /// The parity that is stored with new objects, in percent. With 0 or without this field, new
    /// objects get no parity, but older objects may have some. Any other value that is not a valid
    /// rate is ignored, as if the field were missing.
    #[serde(default, deserialize_with = "percent_or_none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parity: Option<u64>,
    /// Present if this project takes no more backups. Names the project that replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<String>,
}

/// Reads a rate of parity, or 0. Returns `None` for any other value.
fn percent_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value
        .as_u64()
        .filter(|percent| *percent == 0 || ParityRate::new(*percent).is_some()))
}

impl ProjectSettings {
    /// The maximum length of a body, in bytes.
    pub const BODY_MAX: usize = 1 << 20;

    /// Returns whether writers may rely on chunks that any key of the project stored. Otherwise a
    /// writer relies only on its own chunks, those of full keys, and those that a full key has
    /// verified.
    #[must_use]
    pub fn trusts_all(&self) -> bool {
        self.trust.as_deref() == Some("project")
    }

    /// Returns the rate of parity that writers store with new objects. Returns `None` if they store
    /// no parity.
    #[must_use]
    pub fn parity_rate(&self) -> Option<ParityRate> {
        self.parity.and_then(ParityRate::new)
    }

    /// Returns the body, to be sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Returns the revision of an opened body. Also works for settings that need a newer program.
    pub fn revision(bytes: &[u8]) -> Result<u64, FormatError> {
        #[derive(Deserialize)]
        struct Revision {
            revision: u64,
        }
        match from_json::<Revision>(bytes)?.revision {
            0 => Err(FormatError::BadValue("revision")),
            revision => Ok(revision),
        }
    }

    /// Decodes an opened body.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::revision(bytes)?;
        let settings: Self = from_json_with_features(bytes)?;
        check_time("created", &settings.created)?;
        Ok(settings)
    }
}
