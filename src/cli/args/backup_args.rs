//! The arguments of `backup`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Args, ValueHint};

use crate::app::{
    BackupRequest, BackupSource, Failure, ReadFrom, VolumeName, backup_selector, volume_name,
};
use crate::repo::Compression;

const VERIFY_SAMPLE_DEFAULT: u64 = 64;

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// An image file, a block device, or “-” for standard input
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "diff")]
    source: Option<OsString>,
    /// Back up an RBD diff, written by “rbd export-diff” or “rbd export --export-format 2”; “-” for
    /// standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with = "source", requires = "volume")]
    diff: Option<OsString>,
    /// Read only the extents in FILE, the output of “rbd diff --from-snap SNAP” as JSON, XML or
    /// plain text, where SNAP is the snapshot that the base is a backup of; “-” for standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["diff", "reread"], requires = "volume")]
    extents: Option<OsString>,
    /// Compare N random chunks outside the list with the base before storing anything [default: 64]
    #[arg(long, value_name = "N", requires = "extents")]
    verify_sample: Option<u64>,
    /// Name of the volume [default: the name of the source file]
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
    /// Compare with this backup instead of the newest one of the volume; with --diff, apply the
    /// diff to it
    #[arg(long, value_name = "BACKUP")]
    base: Option<String>,
    /// Apply the diff to --base even if their snapshots do not match
    #[arg(long, requires = "base", requires = "diff")]
    force_base: bool,
    /// Create the repository if there is none
    #[arg(long)]
    init: bool,
    /// Label the backup; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Read and compare, but store nothing
    #[arg(long)]
    dry_run: bool,
    /// Zstandard level from 1 to 19, or “off”
    #[arg(long, value_name = "LEVEL", default_value = "1", value_parser = compression)]
    compression: Compression,
    /// Read everything, even if the source has not changed, and store again any data that the
    /// repository has lost
    #[arg(long)]
    reread: bool,
    /// Back up a file or device although a restore to it was interrupted
    #[arg(long)]
    allow_interrupted_restore: bool,
}

impl BackupArgs {
    pub(super) fn into_request(self) -> Result<BackupRequest, Failure> {
        let source = if let Some(diff) = self.diff {
            BackupSource::Diff(ReadFrom::parse("diff", diff)?)
        } else {
            let source = ReadFrom::parse("source", self.source.unwrap_or_default())?;
            match self.extents {
                Some(extents) => listed(source, extents, self.verify_sample)?,
                None => BackupSource::Whole(source),
            }
        };
        let volume = match (self.volume, &source) {
            (Some(name), _) => VolumeName::Chosen(volume_name(name)?),
            (None, BackupSource::Whole(ReadFrom::Stdin) | BackupSource::Diff(_)) => {
                return Err(Failure::usage(
                    "standard input does not name the volume to back up to",
                )
                .hint("name the volume with --volume NAME"));
            }
            (
                None,
                BackupSource::Whole(ReadFrom::Path(path))
                | BackupSource::Listed { image: path, .. },
            ) => VolumeName::OfFile(volume_name(file_name(path)?)?),
        };
        let mut labels = BTreeMap::new();
        for (key, value) in self.labels {
            if labels.contains_key(&key) {
                return Err(Failure::usage(format!("the label “{key}” is given twice")));
            }
            labels.insert(key, value);
        }
        Ok(BackupRequest {
            source,
            volume,
            base: self.base.map(backup_selector).transpose()?,
            force_base: self.force_base,
            init: self.init,
            labels,
            dry_run: self.dry_run,
            compression: self.compression,
            reread: self.reread,
            allow_interrupted_restore: self.allow_interrupted_restore,
        })
    }
}

fn listed(
    image: ReadFrom,
    extents: OsString,
    verify_sample: Option<u64>,
) -> Result<BackupSource, Failure> {
    let ReadFrom::Path(image) = image else {
        return Err(
            Failure::usage("cannot read single extents of standard input")
                .hint("name an image file or a block device"),
        );
    };
    Ok(BackupSource::Listed {
        image,
        extents: ReadFrom::parse("list of extents", extents)?,
        verify_sample: verify_sample.unwrap_or(VERIFY_SAMPLE_DEFAULT),
    })
}

/// Returns the last part of a path, the default name of the volume.
fn file_name(path: &Path) -> Result<String, Failure> {
    path.file_name()
        .and_then(OsStr::to_str)
        .map(str::to_owned)
        .ok_or_else(|| {
            Failure::usage(format!(
                "“{}” does not give a name for the volume",
                path.display()
            ))
            .hint("name the volume with --volume NAME")
        })
}

fn compression(text: &str) -> Result<Compression, String> {
    if text == "off" {
        return Ok(Compression::Off);
    }
    match text.parse() {
        Ok(level @ 1..=19) => Ok(Compression::Level(level)),
        _ => Err("give a level from 1 to 19, or “off”".to_owned()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("give KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_split_at_the_first_equals_sign() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(label("a="), Ok(("a".to_owned(), String::new())));
    }
}
