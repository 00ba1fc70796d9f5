//! The arguments of `replicate`.

use std::ffi::OsString;

use clap::{Args, ValueHint};

use crate::app::{ReplicateRequest, Since};

#[derive(Debug, Args)]
pub(super) struct ReplicateArgs {
    /// Location of the copy: a directory, or sftp:[USER@]HOST:PATH
    #[arg(value_hint = ValueHint::DirPath)]
    target: OsString,
    /// Delete from the copy what “forget” and “prune” deleted in the original
    ///
    /// Only objects that a signed entry of the log removes are deleted, and only if nothing is
    /// missing or damaged in the original.
    #[arg(long)]
    mirror: bool,
    /// Read the whole copy at the end, and verify it like “check --keyless”
    ///
    /// Without this option, damage inside a pack that the copy had before is not noticed.
    #[arg(long)]
    verify: bool,
    /// Leave out data and backups that were stored before a day (2026-11-28), a time
    /// (2026-11-28T10:00:00Z) or a span before now (8d)
    ///
    /// Without the older ones, the copy is not complete.
    #[arg(long, value_name = "WHEN", conflicts_with = "mirror")]
    newer_than: Option<Since>,
    /// Copy only the project whose id begins with these digits
    #[arg(long, value_name = "ID", value_parser = project_id)]
    project_id: Option<String>,
    /// Begin a new copy, even if this host has seen another copy at this location before
    #[arg(long)]
    init: bool,
}

fn project_id(text: &str) -> Result<String, String> {
    let is_id = (4..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("give the id of a project, or its first digits: 4 to 32 digits".to_owned())
    }
}

impl ReplicateArgs {
    pub(super) fn into_request(self) -> ReplicateRequest {
        ReplicateRequest {
            target: self.target,
            init: self.init,
            project: self.project_id,
            mirror: self.mirror,
            newer_than: self.newer_than,
            verify: self.verify,
        }
    }
}
