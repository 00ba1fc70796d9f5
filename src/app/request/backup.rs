//! Requests to back up.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::ops::{Accept, Stated};
use crate::repo::{Compression, VerifyWrites};

use super::read_write::ReadFrom;

#[derive(Debug)]
pub(crate) struct BackupRequest {
    pub(crate) source: BackupSource,
    pub(crate) volume: VolumeName,
    pub(crate) base: Option<String>,
    pub(crate) force_base: bool,
    /// Create the repository if there is none.
    pub(crate) init: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) dry_run: bool,
    pub(crate) accept: Accept,
    pub(crate) compression: Compression,
    pub(crate) verify_writes: VerifyWrites,
    pub(crate) reread: bool,
    /// Back up the source even if it is the target of an interrupted restore.
    pub(crate) allow_interrupted_restore: bool,
    pub(crate) stated: Stated,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BackupSource {
    /// An image or stream, read completely.
    Whole(ReadFrom),
    /// An RBD diff.
    Diff(ReadFrom),
    /// The output of a program, which a shell runs.
    Command(OsString),
    /// An image, of which only the listed extents are read.
    Listed {
        image: PathBuf,
        extents: ReadFrom,
        /// The number of chunks outside the list to compare with the base.
        verify_sample: u64,
    },
}

impl BackupSource {
    pub(crate) fn reads_stdin(&self) -> bool {
        match self {
            Self::Whole(read) | Self::Diff(read) | Self::Listed { extents: read, .. } => {
                read.is_stdin()
            }
            Self::Command(_) => false,
        }
    }
}

/// The name of the volume to back up to, and who chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VolumeName {
    /// The user chose the name.
    Chosen(String),
    /// The name was taken from the source file.
    OfFile(String),
}
