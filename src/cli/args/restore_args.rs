//! The arguments of `restore`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::app::{ExportRequest, Failure, RestoreRequest, WriteTo, backup_selector};

use super::action::RepositoryAction;
use crate::volume::Existing;

use super::diff_args::diff_target;

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// An id or its beginning, VOLUME, VOLUME@SNAPSHOT or VOLUME~N
    backup: String,
    /// A file, a block device, or “-” for standard output
    #[arg(value_hint = ValueHint::FilePath)]
    target: OsString,
    /// Compare with the content of an existing target and write only differences
    #[arg(long)]
    in_place: bool,
    /// Replace an existing file, or overwrite a device that is not blank
    #[arg(long, conflicts_with = "in_place")]
    force: bool,
    /// If parts of the backup are damaged, restore all the others
    #[arg(long)]
    keep_going: bool,
    /// With --keep-going: write a map of the restored parts to this new file
    #[arg(long, value_name = "FILE", requires = "keep_going", value_hint = ValueHint::FilePath)]
    map: Option<PathBuf>,
    /// Format to write
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Raw)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The content of the volume
    Raw,
    /// A full diff, to apply to an empty image with “rbd import-diff”
    RbdDiff,
}

impl RestoreArgs {
    pub(super) fn into_action(self) -> Result<RepositoryAction, Failure> {
        Ok(match self.format {
            Format::Raw => RepositoryAction::Restore(self.into_restore()?),
            Format::RbdDiff => RepositoryAction::ExportDiff(self.into_full_diff()?),
        })
    }

    fn into_restore(self) -> Result<RestoreRequest, Failure> {
        let target = WriteTo::parse(self.target)?;
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

    fn into_full_diff(self) -> Result<ExportRequest, Failure> {
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
            target: diff_target(self.target, self.force)?,
            force: self.force,
            from_snapshot: None,
            to_snapshot: None,
        })
    }
}
