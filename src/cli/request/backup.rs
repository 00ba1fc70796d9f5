//! What is to be backed up.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::{Compression, Source, a_backup, plain_name};
use crate::cli::args::BackupArgs;
use crate::cli::failure::Failure;

/// Chunks that a list of extents leaves out and that are looked at, unless told otherwise.
const SAMPLES: u64 = 64;

#[derive(Debug)]
pub(crate) struct Backup {
    pub(crate) source: BackupSource,
    pub(crate) volume: VolumeName,
    pub(crate) base: Option<String>,
    pub(crate) force_base: bool,
    pub(crate) init: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) dry_run: bool,
    pub(crate) compression: Compression,
    pub(crate) reread: bool,
}

/// What is backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BackupSource {
    /// All of an image or a stream.
    Whole(Source),
    /// What an RBD diff says.
    Diff(Source),
    /// What a list of extents names of an image.
    Listed {
        image: PathBuf,
        extents: Source,
        /// Chunks to compare that it does not name.
        verify_sample: u64,
    },
}

impl BackupSource {
    pub(super) fn is_stdin(&self) -> bool {
        let (Self::Whole(read) | Self::Diff(read) | Self::Listed { extents: read, .. }) = self;
        *read == Source::Stdin
    }
}

/// Who named the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VolumeName {
    /// The user.
    Chosen(String),
    /// Nobody: it is called as its file is.
    OfFile(String),
}

impl Backup {
    pub(super) fn new(args: BackupArgs) -> Result<Self, Failure> {
        let source = if let Some(diff) = args.diff {
            BackupSource::Diff(Source::new("diff", diff)?)
        } else {
            let source = Source::new("source", args.source.unwrap_or_default())?;
            match args.extents {
                Some(extents) => listed(source, extents, args.verify_sample)?,
                None => BackupSource::Whole(source),
            }
        };
        let volume = match (args.volume, &source) {
            (Some(name), _) => VolumeName::Chosen(name),
            (None, BackupSource::Whole(Source::Stdin) | BackupSource::Diff(_)) => {
                return Err(Failure::usage("standard input has no name for the volume")
                    .hint("give one with --volume NAME"));
            }
            (
                None,
                BackupSource::Whole(Source::Path(path)) | BackupSource::Listed { image: path, .. },
            ) => VolumeName::OfFile(name_of(path)?),
        };
        let (VolumeName::Chosen(name) | VolumeName::OfFile(name)) = &volume;
        plain_name("volume", name)?;
        if name.contains(['@', '~']) {
            return Err(
                Failure::usage(format!("the volume's name “{name}” contains @ or ~")).hint(
                    "these mark snapshots and older backups; give another with --volume NAME",
                ),
            );
        }
        let mut labels = BTreeMap::new();
        for (key, value) in args.labels {
            if labels.contains_key(&key) {
                return Err(Failure::usage(format!("the label “{key}” is given twice")));
            }
            labels.insert(key, value);
        }
        Ok(Self {
            source,
            volume,
            base: args.base.map(a_backup).transpose()?,
            force_base: args.force_base,
            init: args.init,
            labels,
            dry_run: args.dry_run,
            compression: args.compression,
            reread: args.reread,
        })
    }
}

/// An image of which a list says what changed.
fn listed(
    image: Source,
    extents: OsString,
    verify_sample: Option<u64>,
) -> Result<BackupSource, Failure> {
    let Source::Path(image) = image else {
        return Err(
            Failure::usage("of standard input extents cannot be read one by one")
                .hint("name an image file or a block device"),
        );
    };
    Ok(BackupSource::Listed {
        image,
        extents: Source::new("list of extents", extents)?,
        verify_sample: verify_sample.unwrap_or(SAMPLES),
    })
}

/// The last part of a path, which names the volume unless told otherwise.
fn name_of(path: &Path) -> Result<String, Failure> {
    path.file_name()
        .and_then(OsStr::to_str)
        .map(str::to_owned)
        .ok_or_else(|| {
            Failure::usage(format!("“{}” gives no name for the volume", path.display()))
                .hint("give one with --volume NAME")
        })
}
