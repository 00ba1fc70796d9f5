//! The subcommands of `diff` and their arguments.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::{Args, Subcommand, ValueHint};

use crate::app::{ExportRequest, Failure, MergeRequest, ReadFrom, WriteTo, backup_selector};

#[derive(Debug, Subcommand)]
pub(super) enum DiffCommand {
    /// Show the content of a diff and whether it is complete
    ///
    /// Reads the whole diff. If it is damaged, shows everything before the damage and exits with
    /// code 21.
    #[command(after_help = "Example:\n  cuttlebone diff inspect web1.diff")]
    Inspect {
        /// A diff, or an image with its snapshots; “-” for standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: OsString,
    },

    /// Merge several diffs into one
    ///
    /// Applying the result has the same effect as applying all of the diffs in turn. Each diff
    /// must start from the snapshot that the one before leads to; otherwise the exit code is 20. An
    /// image with snapshots contributes all of its diffs.
    #[command(after_help = "\
Examples:
  cuttlebone diff merge full.diff mon.diff tue.diff -o new.diff
  cuttlebone diff merge mon.diff tue.diff -o - | rbd import-diff - pool/web1")]
    Merge(MergeArgs),

    /// Write the changes between two backups as a diff
    ///
    /// Use “rbd import-diff” to apply the diff to an image whose snapshot has the content of the
    /// first backup; the image then has the content of the second one. Without --from, writes a
    /// full diff for an empty image. Reads only data that differs.
    #[command(after_help = "\
Examples:
  cuttlebone diff export --from web1@mon web1@tue -o tue.diff
  cuttlebone diff export --from web1~1 web1 --from-snapshot mon | \\
    rbd import-diff - pool/web1")]
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The backup that the diff leads to: an id or its beginning, VOLUME, VOLUME@SNAPSHOT or
    /// VOLUME~N
    backup: String,
    /// The backup that the diff starts from [default: an empty image]
    #[arg(long, value_name = "BACKUP")]
    from: Option<String>,
    /// File to write the diff to [default: standard output]
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "-",
        hide_default_value = true
    )]
    #[arg(value_hint = ValueHint::FilePath)]
    output: OsString,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Name of the snapshot that the diff starts from [default: the snapshot of the first backup]
    #[arg(long, value_name = "NAME", requires = "from")]
    from_snapshot: Option<OsString>,
    /// Name of the snapshot that the diff creates [default: the snapshot of the second backup]
    #[arg(long, value_name = "NAME")]
    to_snapshot: Option<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The diffs, oldest first; “-” for standard input
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    files: Vec<OsString>,
    /// File to write the merged diff to; “-” for standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: OsString,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

impl ExportArgs {
    pub(super) fn into_request(self) -> Result<ExportRequest, Failure> {
        let snapshot = |name: Option<OsString>| match name {
            Some(name) if name.is_empty() => Err(Failure::usage(
                "the name of the snapshot is an empty string",
            )
            .hint("leave the option out")),
            name => Ok(name.map(OsString::into_vec)),
        };
        Ok(ExportRequest {
            from: self.from.map(backup_selector).transpose()?,
            backup: backup_selector(self.backup)?,
            target: diff_target(self.output, self.force)?,
            force: self.force,
            from_snapshot: snapshot(self.from_snapshot)?,
            to_snapshot: snapshot(self.to_snapshot)?,
        })
    }
}

impl MergeArgs {
    pub(super) fn into_request(self) -> Result<MergeRequest, Failure> {
        let sources = self.files.into_iter();
        let sources = sources.map(|file| ReadFrom::parse("diff", file));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let stdin = sources.iter().filter(|source| **source == ReadFrom::Stdin);
        if stdin.count() > 1 {
            return Err(Failure::usage("cannot read two diffs from standard input")
                .hint("store all diffs but one in files"));
        }
        Ok(MergeRequest {
            sources,
            target: diff_target(self.output, self.force)?,
            force: self.force,
        })
    }
}

/// Parses where to write a diff.
pub(super) fn diff_target(output: OsString, force: bool) -> Result<WriteTo, Failure> {
    let target = WriteTo::parse(output)?;
    if target == WriteTo::Stdout && force {
        return Err(
            Failure::usage("--force does not apply to standard output").hint("leave --force out")
        );
    }
    Ok(target)
}
