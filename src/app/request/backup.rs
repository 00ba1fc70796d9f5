//! Requests to back up.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use crate::ops::{Accept, Stated};
use crate::repo::{Compression, VerifyWrites};

use super::read_write::ReadFrom;
use crate::app::failure::Failure;
use crate::volume::{FreezeOptions, RbdOptions, RbdSpec};

#[derive(Debug)]
pub(crate) struct BackupRequest {
    /// One or more sources, each of which becomes a backup of its own.
    pub(crate) sources: Vec<RequestedSource>,
    /// How to back up those sources that are images in a cluster.
    pub(crate) images: ImageRequest,
    pub(crate) base: Option<String>,
    pub(crate) force_base: bool,
    /// Whether to create the repository if there is none.
    pub(crate) init: bool,
    pub(crate) labels: BTreeMap<String, String>,
    /// Files to attach to each backup.
    pub(crate) attached: Vec<PathBuf>,
    pub(crate) dry_run: bool,
    pub(crate) accept: Accept,
    pub(crate) compression: Compression,
    pub(crate) verify_writes: VerifyWrites,
    pub(crate) reread: bool,
    /// Whether to back up a source even if a restore to it is incomplete.
    pub(crate) allow_interrupted_restore: bool,
    pub(crate) stated: Stated,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestedSource {
    pub(crate) source: BackupSource,
    pub(crate) volume: VolumeName,
}

/// How to back up images in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageRequest {
    pub(crate) cluster: RbdOptions,
    /// How many snapshots of this program stay on each image after its backup.
    pub(crate) keep_snapshots: usize,
    /// Whether to read all data, not only what changed.
    pub(crate) full: bool,
    /// With N, at least one of N consecutive backups of an image reads all data. `None` if the user
    /// did not ask for this.
    pub(crate) full_every: Option<NonZeroU64>,
    /// How many images to back up at the same time.
    pub(crate) jobs: NonZeroUsize,
    /// If set, all images are backed up as of one point in time.
    pub(crate) together: Option<FreezeOptions>,
}

/// An image in a cluster, or a pattern that matches several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RbdPattern(pub(crate) RbdSpec);

impl RbdPattern {
    /// Parses `POOL/[NAMESPACE/]IMAGE[@SNAPSHOT]`. Pool and image can be patterns.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, Failure> {
        let spec = text.to_str().and_then(RbdSpec::parse);
        let spec = spec.ok_or_else(|| {
            Failure::usage(format!("“rbd:{}” does not name an image", text.display()))
                .hint("write rbd:POOL/IMAGE, rbd:POOL/NAMESPACE/IMAGE or rbd:POOL/IMAGE@SNAPSHOT")
        })?;
        let pattern = Self(spec);
        if pattern.matches_many() && pattern.0.snapshot.is_some() {
            return Err(Failure::usage("a pattern cannot name a snapshot")
                .hint("leave @SNAPSHOT out, so that each image gets a new one"));
        }
        Ok(pattern)
    }

    /// Returns whether the pool or the image is a pattern: `*` stands for any characters, `?` for
    /// one.
    pub(crate) fn matches_many(&self) -> bool {
        let is_pattern = |name: &str| name.contains(['*', '?']);
        is_pattern(&self.0.pool) || is_pattern(&self.0.image)
    }
}

impl fmt::Display for RbdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rbd:{}", self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BackupSource {
    /// An image or stream, read completely.
    Whole(ReadFrom),
    /// An RBD diff.
    Diff(ReadFrom),
    /// The output of a command that a shell runs.
    Command(OsString),
    /// An image in a cluster, or several.
    Rbd(RbdPattern),
    /// An image, of which only the listed extents are read.
    Listed {
        image: PathBuf,
        extents: ReadFrom,
        /// The number of chunks outside the list to compare with the base.
        verify_sample: u64,
    },
}

impl fmt::Display for BackupSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(read) | Self::Diff(read) => read.fmt(f),
            Self::Listed { image, .. } => image.display().fmt(f),
            Self::Command(_) => f.write_str("the output of the command"),
            Self::Rbd(pattern) => pattern.fmt(f),
        }
    }
}

impl BackupSource {
    pub(crate) fn reads_stdin(&self) -> bool {
        match self {
            Self::Whole(read) | Self::Diff(read) | Self::Listed { extents: read, .. } => {
                read.is_stdin()
            }
            Self::Command(_) | Self::Rbd(_) => false,
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
    /// The volume that has earlier backups of the image; if there is none, a volume with the name
    /// of the image.
    OfImage,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_and_images_can_be_patterns_but_not_with_a_snapshot() {
        let parse = |text: &str| RbdPattern::parse(OsStr::new(text));
        for (text, many) in [
            ("vms/web1", false),
            ("vms/ns/web1@mon", false),
            ("vms/web-*", true),
            ("*/web?", true),
            ("vms/ns/*", true),
            ("vms/a[b]", false),
        ] {
            let pattern = parse(text).unwrap();
            assert_eq!(pattern.matches_many(), many, "{text}");
            assert_eq!(pattern.to_string(), format!("rbd:{text}"));
        }
        for wrong in ["web1", "vms/", "vms/web-*@mon", "*/web1@mon", "a/b/c/d"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
