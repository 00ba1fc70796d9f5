//! The arguments of `backup`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::{Args, ValueHint};

use crate::app::{
    BackupRequest, BackupSource, Failure, ReadFrom, VolumeName, backup_selector, check_name,
    volume_name,
};
use crate::format::ByteString;
use crate::ops::{Accept, OpsError, Stated};
use crate::repo::{Compression, VerifyWrites};

const VERIFY_SAMPLE_DEFAULT: u64 = 64;

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag")]
pub(super) struct BackupArgs {
    /// An image file, a block device, or “-” for standard input
    #[arg(value_hint = ValueHint::FilePath, required_unless_present_any = ["diff", "command"])]
    source: Option<OsString>,
    /// Back up an RBD diff, written by “rbd export-diff” or “rbd export --export-format 2”; “-” for
    /// standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with = "source", requires = "volume", group = "changes")]
    diff: Option<OsString>,
    /// Back up the output of a program, if it exits with code 0. The shell “sh” runs it
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    #[arg(conflicts_with_all = ["source", "diff", "extents"], requires = "volume")]
    command: Option<OsString>,
    /// Read only the extents in FILE, the output of “rbd diff --from-snap SNAP” as JSON, XML or
    /// plain text; “-” for standard input. Give SNAP with --from-snapshot, or a backup of it with
    /// --base
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["diff", "reread"], requires = "volume", group = "changes")]
    extents: Option<OsString>,
    /// The extents list what changed since this snapshot, and the newest backup of the volume is of
    /// it
    #[arg(long, value_name = "SNAPSHOT", requires = "extents")]
    from_snapshot: Option<OsString>,
    /// The extents are all data of the image, as “rbd diff” without --from-snap lists them
    #[arg(long, requires = "extents", conflicts_with_all = ["from_snapshot", "base"])]
    from_nothing: bool,
    /// The source shows this snapshot: later diffs and lists of extents can start at it
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "diff")]
    to_snapshot: Option<OsString>,
    /// Compare N random chunks outside the list with the base before storing anything [default: 64]
    #[arg(long, value_name = "N", requires = "extents")]
    verify_sample: Option<u64>,
    /// Name of the volume [default: the name of the source file]
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
    /// The image's id, “id” in “rbd info --format json”: it must be the same as in earlier backups
    /// of the volume
    #[arg(long, value_name = "ID")]
    image_id: Option<String>,
    /// The name of the source: it must be the same as in earlier backups of the volume
    #[arg(long = "source", value_name = "NAME")]
    source_name: Option<String>,
    /// Accept another image id or source, or a full diff that shares no data with the newest backup
    #[arg(long)]
    new_content: bool,
    /// Compare with this backup instead of the newest one of the volume; with --diff or --extents,
    /// apply the changes to it
    #[arg(long, value_name = "BACKUP")]
    base: Option<String>,
    /// Apply the changes to --base even if its volume or snapshot does not match
    #[arg(long, requires = "base", requires = "changes")]
    force_base: bool,
    /// Create the repository if there is none
    #[arg(long)]
    init: bool,
    /// Label the backup; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Back up a source of 0 bytes, too
    #[arg(long)]
    allow_empty: bool,
    /// Store an RBD diff itself, and not the image that it describes
    #[arg(long, conflicts_with_all = ["diff", "extents"])]
    allow_diff: bool,
    /// Read and compare, but store nothing
    #[arg(long)]
    dry_run: bool,
    /// Zstandard level from 1 to 19, or “off”
    #[arg(long, value_name = "LEVEL", default_value = "1", value_parser = compression)]
    compression: Compression,
    /// Read new data again before it is stored, to notice bad memory: “all” of it, a “sample” (one
    /// in 16 runs), or “off”
    #[arg(long, value_name = "WHAT", default_value = "sample", value_parser = verify_writes)]
    verify_writes: VerifyWrites,
    /// Do not read a file whose times are those of the last backup, whatever its file system
    #[arg(long, conflicts_with_all = ["reread", "diff", "extents", "command"])]
    trust_times: bool,
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
        let starts = self.from_nothing || self.from_snapshot.is_some() || self.base.is_some();
        if self.extents.is_some() && !starts {
            return Err(OpsError::ListWithoutStart.into());
        }
        let snapshot = |text: OsString| {
            if text.is_empty() {
                return Err(Failure::usage("the name of a snapshot is an empty string"));
            }
            Ok(ByteString::from(text.as_bytes()))
        };
        let stated = Stated {
            from_snapshot: self.from_snapshot.map(snapshot).transpose()?,
            from_nothing: self.from_nothing,
            to_snapshot: self.to_snapshot.map(snapshot).transpose()?,
            image_id: self.image_id.map(|id| named("image id", id)).transpose()?,
            name: self
                .source_name
                .map(|name| named("source", name))
                .transpose()?,
        };
        let source = if let Some(diff) = self.diff {
            BackupSource::Diff(ReadFrom::parse("diff", diff)?)
        } else if let Some(command) = self.command {
            BackupSource::Command(command)
        } else {
            let source = ReadFrom::parse("source", self.source.unwrap_or_default())?;
            match self.extents {
                Some(extents) => listed(source, extents, self.verify_sample)?,
                None => BackupSource::Whole(source),
            }
        };
        let volume = match (self.volume, &source) {
            (Some(name), _) => VolumeName::Chosen(volume_name(name)?),
            (
                None,
                BackupSource::Whole(ReadFrom::Stdin)
                | BackupSource::Diff(_)
                | BackupSource::Command(_),
            ) => {
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
            accept: Accept {
                empty: self.allow_empty,
                diff_as_content: self.allow_diff,
                new_content: self.new_content,
                times: self.trust_times,
            },
            compression: self.compression,
            verify_writes: self.verify_writes,
            reread: self.reread,
            allow_interrupted_restore: self.allow_interrupted_restore,
            stated,
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

/// Checks an image id or source name that the user states.
fn named(what: &str, text: String) -> Result<String, Failure> {
    check_name(what, &text)?;
    Ok(text)
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

fn verify_writes(text: &str) -> Result<VerifyWrites, String> {
    match text {
        "all" => Ok(VerifyWrites::ALL),
        "sample" => Ok(VerifyWrites::SAMPLE),
        "off" => Ok(VerifyWrites::OFF),
        _ => Err("give “all”, “sample” or “off”".to_owned()),
    }
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
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
