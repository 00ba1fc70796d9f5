//! Requests about keys and the cache.

use std::path::PathBuf;

use crate::base::Role;
use crate::repo::KdfParams;

#[derive(Debug)]
pub(crate) enum KeyRequest {
    Add {
        new: NewKeyRequest,
        access: NewKeyAccess,
    },
    List,
    Remove {
        /// A key id or its beginning.
        id: String,
    },
    Revoke {
        /// A key id or its beginning.
        id: String,
        accept: AcceptedBackups,
    },
    /// Replace the key that the given password opens.
    Passwd(NewKeyRequest),
    Test,
    Export {
        /// The file to write; `None` for standard output.
        file: Option<PathBuf>,
    },
}

/// The backups of a revoked key that still count. If a backup still counts, all earlier backups
/// that its record names still count, too.
#[derive(Debug)]
pub(crate) enum AcceptedBackups {
    /// The user did not state which.
    Unspecified,
    All,
    /// Only these; none if empty.
    Only(Vec<String>),
}

/// The scope of a new key.
#[derive(Debug)]
pub(crate) enum NewKeyAccess {
    /// The same scope as that of the key in use.
    SameAsOwn,
    /// The project that the settings of the command name.
    Project {
        role: Role,
        /// Patterns of the names of volumes that the new key may back up. If there are none, the
        /// volumes are not limited.
        volumes: Vec<String>,
    },
}

#[derive(Debug)]
pub(crate) struct NewKeyRequest {
    /// The file to read the new password from; `None` to ask for it.
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) kdf: KdfParams,
    pub(crate) label: Option<String>,
}

/// An action on the local cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheRequest {
    Show,
    Clear,
    Rebuild,
}
