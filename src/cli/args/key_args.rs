//! The subcommands of `key` and their arguments.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueHint};

use crate::app::{
    AcceptedBackups, Failure, KeyRequest, NewKeyAccess, NewKeyRequest, backup_selector,
};
use crate::base::Role;

use super::kdf_args::KdfArgs;

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Add a password that opens the repository, or one project of it
    #[command(after_help = "\
Roles, which belong to the project that --project names:
  full    does everything
  write   backs up, lists, and checks without reading data
  verify  lists, and checks, but cannot decrypt data

Examples:
  cuttlebone key add --this-project --label 'web team'
  cuttlebone key add --role write --volumes 'web-*' --label web1")]
    Add {
        #[command(flatten)]
        new: NewKeyArgs,
        /// Describe the user or purpose of the key
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
        /// The key opens only the project that --project names
        #[arg(long)]
        this_project: bool,
        /// The role of the key in the project [default: full]
        #[arg(long, value_name = "ROLE", value_parser = role())]
        role: Option<Role>,
        /// Volumes that a write key may back up, as patterns with * and ? [default: all]
        #[arg(long, value_name = "PATTERN,…", value_delimiter = ',')]
        volumes: Vec<String>,
    },

    /// List the keys
    #[command(after_help = "Example:\n  cuttlebone key list")]
    List,

    /// Remove a key; its password no longer opens the repository
    ///
    /// The last key of a repository cannot be removed. Someone who knew the password may have kept
    /// a copy of the secret that it unlocked.
    #[command(after_help = "Example:\n  cuttlebone key remove 3f9a01bc")]
    Remove {
        /// The id of the key, or its beginning
        id: String,
    },

    /// Revoke a key with the role write or verify
    ///
    /// From now on, everything that the key signs is ignored, even if someone kept a copy of the
    /// key. Choose which of its backups still count.
    #[command(after_help = "\
Examples:
  cuttlebone key revoke 3f9a01bc --accept-all
  cuttlebone key revoke 3f9a01bc --accept web-1@monday")]
    Revoke {
        /// The id of the key, or its beginning
        id: String,
        /// This backup and those that came before it still count
        #[arg(long, value_name = "BACKUP")]
        accept: Vec<String>,
        /// All backups of the key still count
        #[arg(long, conflicts_with = "accept")]
        accept_all: bool,
        /// No backup of the key counts any longer
        #[arg(long, conflicts_with_all = ["accept", "accept_all"])]
        accept_none: bool,
    },

    /// Change the password used to open the repository
    #[command(after_help = "\
Example:
  cuttlebone key passwd --new-password-file new.txt")]
    Passwd {
        #[command(flatten)]
        new: NewKeyArgs,
        /// Describe the user or purpose of the key [default: as before]
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
    },

    /// Check the password and show which key it opens
    #[command(after_help = "Example:\n  cuttlebone key test --password-file pw.txt")]
    Test,

    /// Export the key slot that the password opens
    ///
    /// Keep the copy away from the repository. The slot is as safe as its password.
    #[command(after_help = "Example:\n  cuttlebone key export slot.bin")]
    Export {
        /// File to create [default: standard output]
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
}

fn role() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new([Role::Full, Role::Write, Role::Verify].map(Role::name))
        .try_map(|name| name.parse::<Role>())
}

/// Returns the access of a new key: that of the key in use, unless an option chooses another. Fails
/// if `volumes` are given for a key with another role than “write”, or if a pattern is empty.
fn access(
    role: Option<Role>,
    this_project: bool,
    volumes: Vec<String>,
) -> Result<NewKeyAccess, Failure> {
    let role = match role {
        None if !this_project && volumes.is_empty() => return Ok(NewKeyAccess::SameAsOwn),
        role => role.unwrap_or(Role::Full),
    };
    if !volumes.is_empty() && role != Role::Write {
        let refused = Failure::usage(format!("a key with the role “{role}” has no --volumes"));
        return Err(refused.hint("only --role write can be limited to some volumes"));
    }
    if volumes.iter().any(String::is_empty) {
        return Err(Failure::usage("a pattern of --volumes is an empty string"));
    }
    Ok(NewKeyAccess::Project { role, volumes })
}

#[derive(Debug, Args)]
pub(super) struct NewKeyArgs {
    /// File to read the new password from, instead of asking; “-” for standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    new_password_file: Option<PathBuf>,
    #[command(flatten)]
    kdf: KdfArgs,
}

impl NewKeyArgs {
    fn into_request(self, label: Option<String>) -> Result<NewKeyRequest, Failure> {
        Ok(NewKeyRequest {
            password_file: self.new_password_file,
            kdf: self.kdf.into_params()?,
            label,
        })
    }
}

impl KeyCommand {
    pub(super) fn into_request(self) -> Result<KeyRequest, Failure> {
        Ok(match self {
            Self::Add {
                new,
                label,
                this_project,
                role,
                volumes,
            } => KeyRequest::Add {
                new: new.into_request(label)?,
                access: access(role, this_project, volumes)?,
            },
            Self::List => KeyRequest::List,
            Self::Remove { id } | Self::Revoke { id, .. } if id.is_empty() => {
                return Err(Failure::usage("the id of the key is an empty string")
                    .hint("run “cuttlebone key list” to see the ids"));
            }
            Self::Remove { id } => KeyRequest::Remove { id },
            Self::Revoke {
                id,
                accept,
                accept_all,
                accept_none,
            } => KeyRequest::Revoke {
                id,
                accept: match (accept_all, accept_none) {
                    (true, _) => AcceptedBackups::All,
                    (_, false) if accept.is_empty() => AcceptedBackups::Unspecified,
                    _ => AcceptedBackups::Only(
                        accept
                            .into_iter()
                            .map(backup_selector)
                            .collect::<Result<_, _>>()?,
                    ),
                },
            },
            Self::Passwd { new, label } => KeyRequest::Passwd(new.into_request(label)?),
            Self::Test => KeyRequest::Test,
            Self::Export { file } => KeyRequest::Export {
                file: file.filter(|file| file.as_os_str() != "-"),
            },
        })
    }
}
