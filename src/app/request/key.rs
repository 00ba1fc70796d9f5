//! Requests about keys and the cache.

use std::path::PathBuf;

use crate::repo::KdfParams;

#[derive(Debug)]
pub(crate) enum KeyRequest {
    Add {
        new: NewKeyRequest,
        /// The key opens only the project of the settings.
        this_project: bool,
    },
    List,
    Remove {
        /// A key id or its beginning.
        id: String,
    },
    /// Replace the key that the given password opens.
    Passwd(NewKeyRequest),
    Test,
    Export {
        /// The file to write; `None` for standard output.
        file: Option<PathBuf>,
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
