//! The subcommands of `cache`.

use clap::Subcommand;

use crate::app::CacheRequest;

#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum CacheCommand {
    /// Show the location and size of the cache
    Show,
    /// Delete the cache
    Clear,
    /// Delete the cache and rebuild it from the repository
    Rebuild,
}

impl CacheCommand {
    pub(super) fn into_request(self) -> CacheRequest {
        match self {
            Self::Show => CacheRequest::Show,
            Self::Clear => CacheRequest::Clear,
            Self::Rebuild => CacheRequest::Rebuild,
        }
    }
}
