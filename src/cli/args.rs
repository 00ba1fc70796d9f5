//! The command line as it is written. Nothing is decided here; [`request`](super::request) does that.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::base::{ByteSize, ChunkSize};
use crate::repo::KdfParams;

use super::globals::Globals;
use super::keep::ForgetArgs;
use super::prune::PruneLimits;
use super::request::Compression;

macro_rules! exit_codes {
    () => {
        "\
Exit codes:
    0  done
    1  failed; the message says what, why, and what to do next
    2  wrong usage
   10  no repository there
   11  somebody else holds what this needs
   12  no key opens with this password
   20  the base does not fit
   21  damage found
   22  this key may not do that
   23  history has vanished or was rolled back
  130  interrupted; what was stored stays usable"
    };
}

const AFTER_LONG_HELP: &str = concat!(
    "\
A BACKUP is an id or the beginning of one, VOLUME (its newest backup),
VOLUME@SNAPSHOT, or VOLUME~N (N before the newest).

Environment:
  CUTTLEBONE_REPOSITORY        the repository, as --repo
  CUTTLEBONE_REPOSITORY_FILE   a file that holds its location
  CUTTLEBONE_PROJECT           as --project
  CUTTLEBONE_PASSWORD          the password; also, in this order:
  CUTTLEBONE_PASSWORD_FD       the number of an open file to read it from
  CUTTLEBONE_PASSWORD_FILE     as --password-file
  CUTTLEBONE_PASSWORD_COMMAND  as --password-command
  CUTTLEBONE_CACHE_DIR         as --cache-dir
  CUTTLEBONE_PROGRESS_FPS      updates of the progress display a second

",
    exit_codes!()
);

/// Encrypted, deduplicating backups of disk images and block devices
///
/// A repository holds projects, a project holds volumes, a volume has backups. Every backup is
/// complete, and costs only what changed since earlier ones.
#[derive(Debug, Parser)]
#[command(
    name = "cuttlebone",
    version,
    max_term_width = 80,
    arg_required_else_help = true,
    after_help = exit_codes!(),
    after_long_help = AFTER_LONG_HELP
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Top,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Top {
    #[command(flatten)]
    Direct(Command),

    /// The same commands, as “cuttlebone repo COMMAND”
    #[command(arg_required_else_help = true)]
    #[command(after_help = "Example:\n  cuttlebone repo list")]
    Repo {
        #[command(subcommand)]
        command: Command,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a repository and its project “default”
    ///
    /// The directory is made if needed; what else lies in it is left alone. Without the password nothing in the
    /// repository can be read, by anybody: keep it where a lost disk does not take it along.
    #[command(after_help = "\
Example:
  cuttlebone init -r /srv/backup --kdf-memory 1G")]
    Init(InitArgs),

    /// Store a disk image, a block device or a stream
    ///
    /// Stores what the project does not hold yet. The result is a complete backup whatever it was
    /// compared with. An interrupted backup leaves earlier ones whole, and the next run reuses
    /// what it stored.
    #[command(after_help = "\
Examples:
  cuttlebone backup disk.img
  cuttlebone backup /dev/vg0/root --volume web1-root --label host=web1
  rbd diff --from-snap mon pool/web1@tue --format json | cuttlebone backup /dev/rbd0 --extents - --volume web1
  pg_dumpall | cuttlebone backup - --volume db.dump")]
    Backup(BackupArgs),

    /// List the backups, newest last
    #[command(after_help = "\
Examples:
  cuttlebone list
  cuttlebone list web1-root --json")]
    List {
        /// Only those of this volume
        volume: Option<String>,
    },

    /// Show one backup in full
    #[command(after_help = "\
Examples:
  cuttlebone show web1-root
  cuttlebone show 3f9a01bc")]
    Show {
        /// An id or its beginning, VOLUME, VOLUME@SNAPSHOT or VOLUME~N
        backup: String,
    },

    /// Show which extents of two backups differ
    ///
    /// Reads only the trees where they differ, and no data.
    #[command(after_help = "\
Example:
  cuttlebone compare web1-root~1 web1-root")]
    Compare {
        /// A backup
        a: String,
        /// Another
        b: String,
    },

    /// Write a backup to a file, a block device or standard output
    ///
    /// A new file is as sparse as the source was. What exists is not touched without --in-place
    /// or --force.
    #[command(after_help = "\
Examples:
  cuttlebone restore web1-root disk.img
  cuttlebone restore 3f9a01bc /dev/vg0/root --in-place
  cuttlebone restore db.dump - | psql
  cuttlebone restore web1-root - --format rbd-diff | rbd import-diff - pool/new")]
    Restore(RestoreArgs),

    /// Remove backups, by a policy or by name
    ///
    /// Of each volume the backups stay that any of the rules keeps; each rule counts for itself, and only
    /// periods that have a backup. Hours, days, weeks (from Monday), months and years are those
    /// of the local time zone, as “list” shows it. A rule that has some of its count left keeps
    /// the oldest backup too. Always kept are those with the label “protected” (unless it is
    /// “false”), those from the future, and the last one of a volume.
    ///
    /// Only records are removed; the data stays in the repository until it is pruned.
    #[command(after_help = "\
Examples:
  cuttlebone forget --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --dry-run
  cuttlebone forget --volume web1-root --keep-within 30d --keep-label why
  cuttlebone forget 3f9a01bc web1-root~2")]
    Forget(Box<ForgetArgs>),

    /// Free the space of what no backup uses
    ///
    /// Packs that nothing uses are marked, and deleted by a prune once the grace period has passed and nobody
    /// has come to use them. Of packs that are used in part the emptiest are packed again. Backups may run
    /// meanwhile.
    #[command(after_help = "\
Examples:
  cuttlebone prune --dry-run
  cuttlebone prune --max-unused 10% --max-repack 50G
  cuttlebone prune --grace 0")]
    Prune {
        #[command(flatten)]
        limits: PruneLimits,
        /// Say what would be done, but do nothing
        #[arg(long)]
        dry_run: bool,
    },

    /// Look for damage
    ///
    /// Compares names, index and trees of all backups. With --read-data every pack is read and
    /// every chunk opened too. Exit code 21 says that there is damage.
    #[command(after_help = "\
Example:
  cuttlebone check --read-data")]
    Check {
        /// Read and open all data too
        #[arg(long)]
        read_data: bool,
    },

    /// Show how much is stored and how much is saved
    #[command(after_help = "Example:\n  cuttlebone stats")]
    Stats,

    /// Look into RBD diffs, make one of many, or of two backups
    ///
    /// These are the streams of “rbd export-diff” and “rbd export --export-format 2”. No cluster
    /// is needed, and a repository only for “diff export”.
    #[command(arg_required_else_help = true)]
    #[command(after_help = "\
Examples:
  rbd export-diff --from-snap mon pool/web1@tue - | cuttlebone diff inspect -
  cuttlebone diff merge full.diff mon.diff tue.diff -o new.diff
  cuttlebone diff export --from web1@mon web1@tue | rbd import-diff - pool/web1")]
    Diff {
        #[command(subcommand)]
        command: DiffCommand,
    },

    /// Manage the passwords that open the repository
    #[command(arg_required_else_help = true)]
    #[command(after_help = "\
Examples:
  cuttlebone key list
  cuttlebone key add --label 'operations, sealed envelope'")]
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },

    /// Look after the local cache of the index
    ///
    /// The repository is the truth: without the cache the next command takes longer, and nothing
    /// is lost.
    #[command(after_help = "Example:\n  cuttlebone cache show")]
    Cache {
        /// “show” if not given
        #[command(subcommand)]
        command: Option<CacheCommand>,
    },

    /// Print the completions for a shell
    #[command(after_help = "\
Example:
  cuttlebone completions bash > /etc/bash_completion.d/cuttlebone")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },

    /// Write the manual pages into a directory
    #[command(after_help = "Example:\n  cuttlebone man /usr/local/share/man/man1")]
    Man {
        /// The directory; made if there is none
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Bytes in a chunk, a power of two from 4K to 4M; fixed once the project is made
    #[arg(long, value_name = "SIZE", default_value = "64K", value_parser = chunk_size)]
    pub(crate) chunk_size: ChunkSize,
    #[command(flatten)]
    pub(crate) kdf: KdfArgs,
}

/// How costly it is to try a password.
#[expect(
    clippy::struct_field_names,
    reason = "clap makes the options' names of them"
)]
#[derive(Debug, Args)]
pub(crate) struct KdfArgs {
    /// Memory that trying a password takes
    #[arg(long, value_name = "SIZE", default_value = "64M")]
    pub(crate) kdf_memory: ByteSize,
    /// Passes over that memory
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=KdfParams::PASSES_MAX.into()))]
    pub(crate) kdf_passes: u32,
    /// Lanes that can be computed side by side
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=KdfParams::LANES_MAX.into()))]
    pub(crate) kdf_lanes: u32,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// An image file, a block device, or “-” for standard input
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "diff")]
    pub(crate) source: Option<OsString>,
    /// An RBD diff instead of an image, from “rbd export-diff” or “rbd export --export-format 2”; “-” for
    /// standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with = "source", requires = "volume")]
    pub(crate) diff: Option<OsString>,
    /// Read only what this list names, and take the rest from the base: what “rbd diff --from-snap” of the
    /// base's snapshot says, as JSON, XML or plain; “-” for standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["diff", "reread"], requires = "volume")]
    pub(crate) extents: Option<OsString>,
    /// Chunks outside the list to compare with the base first, picked at random [default: 64]
    #[arg(long, value_name = "N", requires = "extents")]
    pub(crate) verify_sample: Option<u64>,
    /// The volume's name; the file's name if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) volume: Option<String>,
    /// Compare with this backup instead of the volume's newest; a diff builds on it, if it is of the
    /// diff's from-snapshot
    #[arg(long, value_name = "BACKUP")]
    pub(crate) base: Option<String>,
    /// Let a diff build on --base even if nothing says that it fits
    #[arg(long, requires = "base", requires = "diff")]
    pub(crate) force_base: bool,
    /// Make the repository if there is none
    #[arg(long)]
    pub(crate) init: bool,
    /// A label of the backup; can be given more than once
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Read and compare, but store nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Zstandard level 1 to 19, or “off”
    #[arg(long, value_name = "LEVEL", default_value = "1", value_parser = compression)]
    pub(crate) compression: Compression,
    /// Read everything again, even what the source says has not changed, and store again what the
    /// repository has lost
    #[arg(long)]
    pub(crate) reread: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// An id or its beginning, VOLUME, VOLUME@SNAPSHOT or VOLUME~N
    pub(crate) backup: String,
    /// A file, a block device, or “-” for standard output
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) target: OsString,
    /// Compare with what the target holds, and write only what differs
    #[arg(long)]
    pub(crate) in_place: bool,
    /// Overwrite an existing target
    #[arg(long, conflicts_with = "in_place")]
    pub(crate) force: bool,
    /// What to write
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Raw)]
    pub(crate) format: Format,
}

/// What a backup is restored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The bytes themselves
    Raw,
    /// A full diff for “rbd import-diff” onto an empty image
    RbdDiff,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DiffCommand {
    /// Show what is in a diff, and whether it is whole
    ///
    /// Reads all of it. Exit code 21 says that it is damaged, and the output how far it is not.
    #[command(after_help = "Example:\n  cuttlebone diff inspect web1.diff")]
    Inspect {
        /// A diff or an image with its snapshots; “-” for standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: OsString,
    },

    /// Make one diff of many
    ///
    /// The result does what all of them do when they are applied in turn. Each must begin at the
    /// snapshot where the one before ends; exit code 20 says that one does not. Of an image with
    /// its snapshots all diffs take part.
    #[command(after_help = "\
Examples:
  cuttlebone diff merge full.diff mon.diff tue.diff -o new.diff
  cuttlebone diff merge mon.diff tue.diff -o - | rbd import-diff - pool/web1")]
    Merge(MergeArgs),

    /// Write what changed between two backups as a diff
    ///
    /// “rbd import-diff” onto an image whose snapshot has the content of the first backup gives
    /// the second. Without --from it is a full diff, for an empty image. Reads only what differs.
    #[command(after_help = "\
Examples:
  cuttlebone diff export --from web1@mon web1@tue -o tue.diff
  cuttlebone diff export --from web1~1 web1 --from-snapshot mon | rbd import-diff - pool/web1")]
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The backup that the diff leads to: an id or its beginning, VOLUME, VOLUME@SNAPSHOT or VOLUME~N
    pub(crate) backup: String,
    /// The backup that the diff builds on; none if not given
    #[arg(long, value_name = "BACKUP")]
    pub(crate) from: Option<String>,
    /// The new diff; standard output if not given, or “-”
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "-",
        hide_default_value = true
    )]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) output: OsString,
    /// Replace an existing file
    #[arg(long)]
    pub(crate) force: bool,
    /// The snapshot to build on; as the first backup says if not given
    #[arg(long, value_name = "NAME", requires = "from")]
    pub(crate) from_snapshot: Option<OsString>,
    /// The snapshot to make; as the second backup says if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) to_snapshot: Option<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The diffs, oldest first; one can be “-” for standard input
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<OsString>,
    /// The new diff, or “-” for standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: OsString,
    /// Replace an existing file
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Add a password that opens the repository, or one project of it
    #[command(after_help = "\
Example:
  cuttlebone key add --this-project --label 'web team'")]
    Add {
        #[command(flatten)]
        new: NewPasswordArgs,
        /// What or whom it is for
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
        /// It opens only the project that --project names
        #[arg(long)]
        this_project: bool,
    },

    /// List the keys
    #[command(after_help = "Example:\n  cuttlebone key list")]
    List,

    /// Remove a key; its password opens nothing any more
    ///
    /// The last key of a repository is never removed. Whoever had the password before may have
    /// kept the secret that it opened.
    #[command(after_help = "Example:\n  cuttlebone key remove 3f9a01bc")]
    Remove {
        /// The key's id or its beginning
        id: String,
    },

    /// Change the password that was given to open the repository
    #[command(after_help = "Example:\n  cuttlebone key passwd --new-password-file new.txt")]
    Passwd {
        #[command(flatten)]
        new: NewPasswordArgs,
        /// What or whom it is for; as before if not given
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
    },

    /// Try the password, and say which key it opens
    #[command(after_help = "Example:\n  cuttlebone key test --password-file pw.txt")]
    Test,

    /// Write the key slots out, to be kept apart from the repository
    ///
    /// They are as safe as the passwords that open them.
    #[command(after_help = "Example:\n  cuttlebone key export slots.txt")]
    Export {
        /// Where to; standard output if not given, or “-”
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewPasswordArgs {
    /// Read the new password from this file instead of asking; “-” is standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) new_password_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) kdf: KdfArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show where the cache is and how large
    Show,
    /// Delete the cache
    Clear,
    /// Make the cache anew from the repository
    Rebuild,
}

fn chunk_size(text: &str) -> Result<ChunkSize, String> {
    let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    ChunkSize::new(size.0).ok_or_else(|| "a power of two from 4K to 4M is needed".to_owned())
}

fn compression(text: &str) -> Result<Compression, String> {
    if text == "off" {
        return Ok(Compression::Off);
    }
    match text.parse() {
        Ok(level @ 1..=19) => Ok(Compression::Level(level)),
        _ => Err("“off” or a level from 1 to 19 is needed".to_owned()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        let words = std::iter::once("cuttlebone").chain(line.split_whitespace());
        Cli::try_parse_from(words).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn globals_go_before_or_after_the_command_and_below_repo() {
        for line in [
            "-r /x list",
            "list -r /x",
            "repo list --repo /x",
            "-r /x repo list",
        ] {
            let cli = parse(line).unwrap();
            assert_eq!(cli.globals.repo, Some("/x".into()), "{line}");
        }
    }

    #[test]
    fn values_are_checked() {
        for (line, error) in [
            ("init --chunk-size 3K", ErrorKind::ValueValidation),
            ("init --chunk-size 8M", ErrorKind::ValueValidation),
            ("init --kdf-lanes 0", ErrorKind::ValueValidation),
            ("backup x --compression 20", ErrorKind::ValueValidation),
            ("backup x --compression on", ErrorKind::ValueValidation),
            ("backup x --label =v", ErrorKind::ValueValidation),
            ("list --threads 0", ErrorKind::ValueValidation),
            (
                "restore a b --force --in-place",
                ErrorKind::ArgumentConflict,
            ),
            ("list -q -v", ErrorKind::ArgumentConflict),
            (
                "list --password-file a --password-command b",
                ErrorKind::ArgumentConflict,
            ),
            ("backup", ErrorKind::MissingRequiredArgument),
            ("forget --keep-last many", ErrorKind::ValueValidation),
            ("forget --keep-last -2", ErrorKind::ValueValidation),
            ("forget --keep-within 3w", ErrorKind::ValueValidation),
            ("forget x --keep-last 1", ErrorKind::ArgumentConflict),
            ("forget x --volume y", ErrorKind::ArgumentConflict),
            ("forget x --utc", ErrorKind::ArgumentConflict),
            ("forget --force --keep-last 1", ErrorKind::ArgumentConflict),
            ("forget --force", ErrorKind::MissingRequiredArgument),
            ("prune --max-unused 120%", ErrorKind::ValueValidation),
            ("prune --grace soon", ErrorKind::ValueValidation),
            ("prune x", ErrorKind::UnknownArgument),
        ] {
            assert_eq!(parse(line).err(), Some(error), "{line}");
        }
    }

    #[test]
    fn labels_split_at_the_first_equals_sign() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(label("a="), Ok(("a".to_owned(), String::new())));
    }
}
