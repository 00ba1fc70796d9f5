//! The message about a change of a key.

use serde::Serialize;

/// What a command did with a key.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct KeyChange {
    /// `added`, `removed`, `revoked`, `changed`, `exported`, or `opens`: the given password opens
    /// the key.
    pub(crate) action: &'static str,
    pub(crate) key_id: String,
    /// Only after `revoked`: the volumes of which the key made backups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) volumes: Vec<RevokedVolume>,
}

/// The backups of a volume that a revoked key made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RevokedVolume {
    pub(crate) volume: String,
    /// Backups that still count.
    pub(crate) backups_accepted: u64,
    /// Backups that no longer count. The next prune removes them.
    pub(crate) backups_dropped: u64,
}
