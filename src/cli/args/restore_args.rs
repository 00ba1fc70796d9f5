//! The arguments of `restore`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::app::{
    Environment, ExportRequest, Failure, RestoreImageRequest, RestoreRequest, WriteTo,
    backup_selector,
};

use super::action::RepositoryAction;
use super::ceph_args::CephArgs;
use super::diff_args::diff_target;
use super::image_args::ImageArgs;
use crate::volume::{Existing, RbdSpec};

/// The beginning of a target that is an image in a cluster.
const RBD: &[u8] = b"rbd:";

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// An id or its beginning, VOLUME, VOLUME@SNAPSHOT or VOLUME~N
    backup: String,
    /// A file, a block device, “-” for standard output, or an image of a Ceph cluster:
    /// rbd:POOL/[NAMESPACE/]IMAGE
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "attachments")]
    target: Option<OsString>,
    /// Write the files that were attached with “backup --attach” to this directory; existing files
    /// are not overwritten
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    #[arg(conflicts_with_all = ["target", "in_place", "force", "keep_going"])]
    attachments: Option<PathBuf>,
    /// Compare with the content of an existing target and write only differences
    #[arg(long)]
    in_place: bool,
    /// Replace an existing file, or overwrite a device that is not blank
    #[arg(long, conflicts_with = "in_place")]
    force: bool,
    /// If parts of the backup are damaged, restore all other parts
    #[arg(long)]
    keep_going: bool,
    /// With --keep-going: write a map of the restored parts to this new file
    #[arg(long, value_name = "FILE", requires = "keep_going", value_hint = ValueHint::FilePath)]
    map: Option<PathBuf>,
    /// Format to write
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Raw)]
    format: Format,
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    ceph: CephArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The content of the volume
    Raw,
    /// A full diff, to apply to an empty image with “rbd import-diff”
    RbdDiff,
}

impl RestoreArgs {
    pub(super) fn into_action(
        self,
        environment: &Environment,
    ) -> Result<RepositoryAction, Failure> {
        if let Some(directory) = self.attachments {
            self.image.require_unused()?;
            return Ok(RepositoryAction::RestoreAttachments {
                backup: backup_selector(self.backup)?,
                directory,
            });
        }
        let target = self.target.clone().unwrap_or_default();
        if target.as_bytes().starts_with(RBD) {
            let request = self.into_image(&target, environment)?;
            return Ok(RepositoryAction::RestoreImage(Box::new(request)));
        }
        self.image.require_unused()?;
        Ok(match self.format {
            Format::Raw => RepositoryAction::Restore(self.into_restore(target)?),
            Format::RbdDiff => RepositoryAction::ExportDiff(self.into_full_diff(target)?),
        })
    }

    fn into_image(
        self,
        target: &OsStr,
        environment: &Environment,
    ) -> Result<RestoreImageRequest, Failure> {
        let name = target.to_str().and_then(|text| text.strip_prefix("rbd:"));
        let image = name
            .and_then(RbdSpec::parse)
            .filter(|spec| spec.snapshot.is_none());
        let image = image.ok_or_else(|| {
            Failure::usage(format!("“{}” does not name an image", target.display()))
                .hint("write rbd:POOL/IMAGE or rbd:POOL/NAMESPACE/IMAGE")
        })?;
        let options = [self.force, self.keep_going, self.format != Format::Raw];
        if options.contains(&true) {
            return Err(Failure::usage(
                "--force, --keep-going and --format do not apply to an image of a cluster",
            )
            .hint("leave them out, and name a new image, or give --in-place"));
        }
        Ok(RestoreImageRequest {
            backup: backup_selector(self.backup)?,
            image,
            mode: self.image.into_mode(self.in_place)?,
            cluster: self.ceph.into_options().into_settings(environment)?,
        })
    }

    fn into_restore(self, target: OsString) -> Result<RestoreRequest, Failure> {
        let target = WriteTo::parse(target)?;
        let existing = match (self.in_place, self.force) {
            (false, false) => Existing::Refuse,
            (true, _) => Existing::Update,
            (false, true) => Existing::Replace,
        };
        if target == WriteTo::Stdout && existing != Existing::Refuse {
            return Err(
                Failure::usage("--in-place and --force do not apply to standard output")
                    .hint("leave them out"),
            );
        }
        Ok(RestoreRequest {
            backup: backup_selector(self.backup)?,
            target,
            existing,
            keep_going: self.keep_going,
            map: self.map,
        })
    }

    fn into_full_diff(self, target: OsString) -> Result<ExportRequest, Failure> {
        if self.in_place {
            return Err(Failure::usage("--in-place does not apply to a diff")
                .hint("use --force to replace the file, or leave --format out"));
        }
        if self.keep_going {
            return Err(Failure::usage("--keep-going does not apply to a diff")
                .hint("restore to a file, and leave --format out"));
        }
        Ok(ExportRequest {
            from: None,
            backup: backup_selector(self.backup)?,
            target: diff_target(target, self.force)?,
            force: self.force,
            from_snapshot: None,
            to_snapshot: None,
        })
    }
}
