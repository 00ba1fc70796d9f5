//! The arguments of `backup`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::num::{NonZeroU64, NonZeroUsize};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use super::ceph_args::CephArgs;
use super::pack_args::PackArgs;
use super::together_args::TogetherArgs;
use crate::app::{
    BackupRequest, BackupSource, Environment, Failure, ImageRequest, RbdPattern, ReadFrom,
    RequestedSource, VolumeName, backup_selector, check_name, volume_name,
};
use crate::format::ByteString;
use crate::ops::{Accept, OpsError, Stated};

/// By default, this many chunks outside a list of extents are compared with the base.
const COMPARED_CHUNKS_DEFAULT: u64 = 64;
/// The maximum number of images that are backed up at the same time.
const JOBS_MAX: usize = 16;
/// The beginning of a source that is an image in a cluster.
const RBD: &[u8] = b"rbd:";

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag")]
pub(super) struct BackupArgs {
    /// An image file, a block device, “-” for standard input, or an image of a Ceph cluster:
    /// rbd:POOL/[NAMESPACE/]IMAGE[@SNAPSHOT]. POOL and IMAGE may be patterns with “*” and “?”, for
    /// several images. Each source becomes a backup of its own
    #[arg(value_name = "SOURCE", value_hint = ValueHint::FilePath)]
    #[arg(required_unless_present_any = ["diff", "command"])]
    sources: Vec<OsString>,
    /// Back up an RBD diff, written by “rbd export-diff” or “rbd export --export-format 2”; “-” for
    /// standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with = "sources", requires = "volume", group = "changes")]
    diff: Option<OsString>,
    /// Back up the output of a program, if it exits with code 0. The shell “sh” runs it
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    #[arg(conflicts_with_all = ["sources", "diff", "extents"], requires = "volume")]
    command: Option<OsString>,
    /// Read only the extents in FILE, the output of “rbd diff --from-snap SNAP” as JSON, XML or
    /// plain text; “-” for standard input. Give SNAP with --from-snapshot, or give a backup of SNAP
    /// with --base
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["diff", "reread"], requires = "volume", group = "changes")]
    extents: Option<OsString>,
    /// The extents list what changed since this snapshot. The newest backup of the volume, or the
    /// one given with --base, must be a backup of this snapshot
    #[arg(long, value_name = "SNAPSHOT", requires = "extents")]
    from_snapshot: Option<OsString>,
    /// The extents are all data of the image, as “rbd diff” without --from-snap lists them
    #[arg(long, requires = "extents", conflicts_with_all = ["from_snapshot", "base"])]
    from_nothing: bool,
    /// The source has the content of this snapshot: later diffs and lists of extents can start
    /// from it
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "diff")]
    to_snapshot: Option<OsString>,
    /// Compare N random chunks outside the list with the base before storing anything [default: 64]
    #[arg(long, value_name = "N", requires = "extents")]
    verify_sample: Option<u64>,
    /// Name of the volume [default: the name of the source file; for an image of a cluster, the
    /// volume of its earlier backups, or POOL/[NAMESPACE/]IMAGE]
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
    /// Attach this file to the backup, such as the configuration of a virtual machine; can be
    /// repeated. All of them together have at most 16 MiB
    #[arg(long = "attach", value_name = "FILE", value_hint = ValueHint::FilePath)]
    attached: Vec<PathBuf>,
    /// Back up a source of 0 bytes, too
    #[arg(long)]
    allow_empty: bool,
    /// Store an RBD diff itself, and not the image that it describes
    #[arg(long, conflicts_with_all = ["diff", "extents"])]
    allow_diff: bool,
    /// Read and compare, but store nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    packs: PackArgs,
    /// Do not read a file if its times have not changed since the last backup, even on a file
    /// system that may not change them with every write
    #[arg(long, conflicts_with_all = ["reread", "diff", "extents", "command"])]
    trust_times: bool,
    /// Read everything, even if the source has not changed, and store again any data that the
    /// repository has lost
    #[arg(long)]
    reread: bool,
    /// Back up a file, device or image even if a restore to it is incomplete
    #[arg(long)]
    allow_interrupted_restore: bool,
    /// Keep this many snapshots of cuttlebone on each rbd: image [default: 1]
    #[arg(long, value_name = "N", help_heading = "Options for rbd: images")]
    keep_snapshots: Option<NonZeroUsize>,
    /// Keep no snapshot of cuttlebone on rbd: images; the next backup reads all of their data
    #[arg(
        long,
        conflicts_with = "keep_snapshots",
        help_heading = "Options for rbd: images"
    )]
    no_retain: bool,
    /// Read all data of rbd: images, even if the cluster knows what changed, and test whether the
    /// cluster lists all changes
    #[arg(long, help_heading = "Options for rbd: images")]
    full: bool,
    /// Like --full, but only if the last N-1 backups of an image read only changes
    #[arg(long, value_name = "N", help_heading = "Options for rbd: images")]
    full_every: Option<NonZeroU64>,
    /// Back up N rbd: images at the same time, at most 16 [default: 1]
    #[arg(long, value_name = "N", value_parser = jobs, conflicts_with = "together")]
    #[arg(help_heading = "Options for rbd: images")]
    jobs: Option<NonZeroUsize>,
    #[command(flatten)]
    together: TogetherArgs,
    #[command(flatten)]
    ceph: CephArgs,
}

impl BackupArgs {
    /// Refuses options that do not apply to the given sources. Some options apply only to a single
    /// source. Others do not apply to images in a cluster, or apply only to such images.
    fn check_images(&self) -> Result<(), Failure> {
        let images = || {
            self.sources
                .iter()
                .filter(|s| s.as_bytes().starts_with(RBD))
        };
        let is_pattern = |s: &OsString| s.as_bytes().iter().any(|b| matches!(b, b'*' | b'?'));
        let several = self.sources.len() > 1 || images().any(is_pattern);
        for (given, option) in [
            (self.volume.is_some(), "--volume"),
            (self.base.is_some(), "--base"),
            (self.extents.is_some(), "--extents"),
            (self.to_snapshot.is_some(), "--to-snapshot"),
            (self.image_id.is_some(), "--image-id"),
            (self.source_name.is_some(), "--source"),
        ] {
            if given && several {
                return Err(
                    Failure::usage(format!("{option} applies to one source only"))
                        .hint("back up the sources one by one, or leave the option out"),
                );
            }
            if given && option != "--volume" && images().next().is_some() {
                return Err(Failure::usage(format!(
                    "{option} does not apply to an image of a cluster"
                ))
                .hint("leave it out: the cluster says which image and snapshot it is"));
            }
        }
        let is_plain = |source: &OsString| {
            !source.as_bytes().starts_with(RBD) || source.as_bytes().contains(&b'@')
        };
        if self.together.together && self.sources.iter().any(is_plain) {
            return Err(Failure::usage(
                "--together applies only to images of a cluster, without a snapshot",
            )
            .hint("name each as rbd:POOL/IMAGE, and back up other sources in another run"));
        }
        let of_images = self.full
            || self.full_every.is_some()
            || self.no_retain
            || self.keep_snapshots.is_some()
            || self.jobs.is_some();
        if of_images && images().next().is_none() {
            return Err(Failure::usage(
                "--full, --full-every, --no-retain, --keep-snapshots and --jobs apply only to \
                 images of a cluster",
            )
            .hint("name one as rbd:POOL/IMAGE, or leave the option out"));
        }
        Ok(())
    }

    pub(super) fn into_request(
        mut self,
        environment: &Environment,
    ) -> Result<BackupRequest, Failure> {
        self.check_images()?;
        let images = ImageRequest {
            cluster: self.ceph.into_options().into_settings(environment)?,
            keep_snapshots: match self.keep_snapshots {
                _ if self.no_retain => 0,
                keep => keep.map_or(1, NonZeroUsize::get),
            },
            full: self.full,
            full_every: self.full_every,
            jobs: self.jobs.unwrap_or(NonZeroUsize::MIN),
            together: self.together.into_options()?,
        };
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
        let sources = match (self.diff, self.command, self.extents) {
            (Some(diff), _, _) => vec![BackupSource::Diff(ReadFrom::parse("diff", diff)?)],
            (_, Some(command), _) => vec![BackupSource::Command(command)],
            (_, _, Some(extents)) => {
                let source = self.sources.pop().unwrap_or_default();
                let source = ReadFrom::parse("source", source)?;
                vec![listed(source, extents, self.verify_sample)?]
            }
            _ => {
                let sources = self.sources.into_iter().map(source);
                sources.collect::<Result<_, _>>()?
            }
        };
        let sources = sources.into_iter().map(|source| {
            let volume = volume_of(self.volume.clone(), &source)?;
            Ok(RequestedSource { source, volume })
        });
        let sources: Vec<_> = sources.collect::<Result<_, Failure>>()?;
        let mut labels = BTreeMap::new();
        for (key, value) in self.labels {
            if labels.contains_key(&key) {
                return Err(Failure::usage(format!("the label “{key}” is given twice")));
            }
            labels.insert(key, value);
        }
        Ok(BackupRequest {
            sources,
            images,
            base: self.base.map(backup_selector).transpose()?,
            force_base: self.force_base,
            init: self.init,
            labels,
            attached: self.attached,
            dry_run: self.dry_run,
            accept: Accept {
                empty: self.allow_empty,
                diff_as_content: self.allow_diff,
                new_content: self.new_content,
                times: self.trust_times,
            },
            compression: self.packs.compression,
            verify_writes: self.packs.verify_writes,
            reread: self.reread,
            allow_interrupted_restore: self.allow_interrupted_restore,
            stated,
        })
    }
}

/// Parses a source that is read completely, or an image in a cluster.
fn source(text: OsString) -> Result<BackupSource, Failure> {
    match text.as_bytes().strip_prefix(RBD) {
        Some(image) => RbdPattern::parse(OsStr::from_bytes(image)).map(BackupSource::Rbd),
        None => ReadFrom::parse("source", text).map(BackupSource::Whole),
    }
}

/// Returns the volume to which a source is backed up.
fn volume_of(given: Option<String>, source: &BackupSource) -> Result<VolumeName, Failure> {
    Ok(match (given, source) {
        (Some(name), _) => VolumeName::Chosen(volume_name(name)?),
        (None, BackupSource::Rbd(_)) => VolumeName::OfImage,
        (
            None,
            BackupSource::Whole(ReadFrom::Path(path)) | BackupSource::Listed { image: path, .. },
        ) => VolumeName::OfFile(volume_name(file_name(path)?)?),
        (
            None,
            BackupSource::Whole(ReadFrom::Stdin) | BackupSource::Diff(_) | BackupSource::Command(_),
        ) => {
            return Err(
                Failure::usage("a stream does not name the volume to back up to")
                    .hint("name the volume with --volume NAME"),
            );
        }
    })
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
        verify_sample: verify_sample.unwrap_or(COMPARED_CHUNKS_DEFAULT),
    })
}

/// Returns the last part of a path, which is the default name of the volume.
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

fn jobs(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse().ok().and_then(NonZeroUsize::new);
    let few = number.filter(|number| number.get() <= JOBS_MAX);
    few.ok_or_else(|| format!("give a number from 1 to {JOBS_MAX}"))
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
