//! What is asked of RBD diffs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{Source, Target, a_backup};
use crate::cli::args::{ExportArgs, MergeArgs, RestoreArgs};
use crate::cli::failure::Failure;

/// A diff that leads to a backup.
#[derive(Debug)]
pub(crate) struct ExportDiff {
    /// The backup that it builds on; without one it is a full diff.
    pub(crate) from: Option<String>,
    pub(crate) backup: String,
    pub(crate) target: Target,
    pub(crate) force: bool,
    /// Names of snapshots that the user gave.
    pub(crate) from_snapshot: Option<Vec<u8>>,
    pub(crate) to_snapshot: Option<Vec<u8>>,
}

/// What needs no repository.
#[derive(Debug)]
pub(crate) enum Diff {
    Inspect {
        source: Source,
    },
    Merge {
        /// Oldest first.
        sources: Vec<Source>,
        target: Target,
        force: bool,
    },
}

impl ExportDiff {
    pub(super) fn new(args: ExportArgs) -> Result<Self, Failure> {
        let snapshot = |name: Option<OsString>| match name {
            Some(name) if name.is_empty() => {
                Err(Failure::usage("the name of a snapshot is empty").hint("leave it out"))
            }
            name => Ok(name.map(OsString::into_vec)),
        };
        Ok(Self {
            from: args.from.map(a_backup).transpose()?,
            backup: a_backup(args.backup)?,
            target: diff_target(args.output, args.force)?,
            force: args.force,
            from_snapshot: snapshot(args.from_snapshot)?,
            to_snapshot: snapshot(args.to_snapshot)?,
        })
    }

    /// A backup restored as a diff that builds on nothing.
    pub(super) fn full(args: RestoreArgs) -> Result<Self, Failure> {
        if args.in_place {
            return Err(Failure::usage("a diff cannot be written with --in-place")
                .hint("give --force to replace the file, or leave --format out"));
        }
        Ok(Self {
            from: None,
            backup: a_backup(args.backup)?,
            target: diff_target(args.target, args.force)?,
            force: args.force,
            from_snapshot: None,
            to_snapshot: None,
        })
    }
}

/// Where a new diff goes.
fn diff_target(output: OsString, force: bool) -> Result<Target, Failure> {
    let target = Target::new(output)?;
    if target == Target::Stdout && force {
        return Err(Failure::usage("standard output cannot be replaced").hint("leave --force out"));
    }
    Ok(target)
}

impl Diff {
    pub(super) fn inspect(file: OsString) -> Result<Self, Failure> {
        let source = Source::new("diff", file)?;
        Ok(Self::Inspect { source })
    }

    pub(super) fn merge(args: MergeArgs) -> Result<Self, Failure> {
        let sources = args.files.into_iter();
        let sources = sources.map(|file| Source::new("diff", file));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let stdin = sources.iter().filter(|source| **source == Source::Stdin);
        if stdin.count() > 1 {
            return Err(
                Failure::usage("two diffs are to be read from standard input")
                    .hint("store all but one in files, and name these"),
            );
        }
        Ok(Self::Merge {
            sources,
            target: diff_target(args.output, args.force)?,
            force: args.force,
        })
    }

    pub(super) fn fills_stdout(&self) -> bool {
        matches!(
            self,
            Self::Merge {
                target: Target::Stdout,
                ..
            }
        )
    }
}
