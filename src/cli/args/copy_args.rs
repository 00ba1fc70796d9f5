//! The arguments of `copy`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueHint};

use crate::app::{
    CopyRequest, CopySelection, CopyTarget, Failure, PasswordFor, PasswordOptions, backup_selector,
    volume_name,
};

use super::pack_args::PackArgs;

#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("selection").required(true).multiple(true).args(["backups", "volumes", "all"])
))]
pub(super) struct CopyArgs {
    /// Backups to copy: an id or its beginning, VOLUME (its newest backup), VOLUME@SNAPSHOT or
    /// VOLUME~N
    #[arg(value_name = "BACKUP")]
    backups: Vec<String>,
    /// Copy all backups of this volume; can be repeated
    #[arg(long = "volume", value_name = "NAME")]
    volumes: Vec<String>,
    /// Copy all backups of the project
    #[arg(long, conflicts_with_all = ["backups", "volumes"])]
    all: bool,
    /// Repository that gets the copies: a directory, or sftp:[USER@]HOST:PATH
    #[arg(long, value_name = "REPO", required = true, value_hint = ValueHint::DirPath)]
    to: OsString,
    /// Project that gets the copies [default: the one with the same name]
    #[arg(long, value_name = "NAME")]
    to_project: Option<String>,
    /// Volume that gets the copies, if all backups are of one volume [default: the one with the
    /// same name]
    #[arg(long, value_name = "NAME")]
    to_volume: Option<String>,
    /// File to read the password of the other repository from; “-” for standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with = "to_password_command")]
    to_password_file: Option<PathBuf>,
    /// Shell command that prints the password of the other repository
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    to_password_command: Option<OsString>,
    /// Also copy backups that a write key signed: they may have any content, even data of other
    /// volumes
    #[arg(long)]
    accept_write_keys: bool,
    /// Show what would be copied, but copy nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    packs: PackArgs,
}

impl CopyArgs {
    pub(super) fn into_request(self) -> Result<CopyRequest, Failure> {
        let backups = self.backups.into_iter().map(backup_selector);
        Ok(CopyRequest {
            selection: if self.all {
                CopySelection::All
            } else {
                CopySelection::Some {
                    backups: backups.collect::<Result<_, _>>()?,
                    volumes: self.volumes,
                }
            },
            target: CopyTarget {
                repository: self.to,
                project: self.to_project,
                password: PasswordOptions {
                    of: PasswordFor::Target,
                    file: self.to_password_file,
                    command: self.to_password_command,
                },
            },
            volume: self.to_volume.map(volume_name).transpose()?,
            accept_write_keys: self.accept_write_keys,
            dry_run: self.dry_run,
            compression: self.packs.compression,
            verify_writes: self.packs.verify_writes,
        })
    }
}
