//! The commands and their help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

use crate::base::{ByteSize, ChunkSize};

use super::audit_args::AuditCommand;
use super::backup_args::BackupArgs;
use super::cache_args::CacheCommand;
use super::check_args::CheckArgs;
use super::copy_args::CopyArgs;
use super::deferred::Deferred;
use super::diff_args::DiffCommand;
use super::drill_args::DrillArgs;
use super::forget_args::ForgetArgs;
use super::global_args::GlobalArgs;
use super::kdf_args::KdfArgs;
use super::key_args::KeyCommand;
use super::label_args::LabelArgs;
use super::list_args::ListArgs;
use super::parity_args::{ParityChoice, ParityCommand, RepairCommand, parity_rate};
use super::prune_args::{AcceptLossArgs, PruneLimits};
use super::replicate_args::ReplicateArgs;
use super::restore_args::RestoreArgs;
use super::status_args::{SnapshotsArgs, StatusArgs};

macro_rules! exit_codes {
    () => {
        "\
Exit codes:
    0  done
    1  failed; the message gives the reason and the next step
    2  wrong usage
    3  some of several failed; the message names them, and the others are done
   10  no repository there
   11  busy: in use by another process
   12  no key opens with this password
   20  the source, diff or list does not fit the backup that it builds on
   21  damage found, or earlier backups may lack changes
   22  the role of this key does not include this command
   23  backups have vanished or the repository was rolled back
   24  no such backup, volume or project
   25  a backup is overdue
  130  interrupted; what was stored stays usable"
    };
}

const AFTER_LONG_HELP: &str = concat!(
    "\
BACKUP is an id or its beginning (4 digits or more), VOLUME (its newest backup),
VOLUME@SNAPSHOT, or VOLUME~N (N before the newest).

Environment:
  CUTTLEBONE_REPOSITORY        see --repo
  CUTTLEBONE_REPOSITORY_FILE   file that contains the location of the repository
  CUTTLEBONE_PROJECT           see --project
  CUTTLEBONE_PASSWORD          the password; otherwise, in this order:
  CUTTLEBONE_PASSWORD_FD       file descriptor to read it from
  CUTTLEBONE_PASSWORD_FILE     see --password-file
  CUTTLEBONE_PASSWORD_COMMAND  see --password-command
  CUTTLEBONE_TO_PASSWORD…      the same four for the target of “copy”
  CUTTLEBONE_CACHE_DIR         see --cache-dir
  CUTTLEBONE_PROGRESS_FPS      progress updates a second
  CUTTLEBONE_SSH_COMMAND       see --ssh-command
  CUTTLEBONE_CONNECTIONS       see --connections
  CUTTLEBONE_TIMEOUT           see --timeout
  CUTTLEBONE_LIMIT_UPLOAD      see --limit-upload
  CUTTLEBONE_LIMIT_DOWNLOAD    see --limit-download
  CUTTLEBONE_CEPH_CONF         see --ceph-conf of “backup” and others
  CUTTLEBONE_CEPH_CLUSTER      see --cluster of “backup”
  CUTTLEBONE_CEPH_ID           see --id of “backup”
  CUTTLEBONE_CEPH_KEYRING      see --keyring of “backup”
  CUTTLEBONE_RBD_COMMAND       see --rbd-command of “backup”
  CUTTLEBONE_CEPH_COMMAND      see --ceph-command of “backup”
  CUTTLEBONE_CEPH_TIMEOUT      seconds without data until an export or import
                               of an image fails

",
    exit_codes!()
);

/// Encrypted, deduplicating backups of disk images and block devices
///
/// A repository holds projects, a project holds volumes, and a volume has backups. Every backup is
/// complete, but it needs space and time only for changes since earlier backups.
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
    pub(super) globals: GlobalArgs,
    #[command(subcommand)]
    pub(super) command: Top,
}

impl Cli {
    pub(crate) fn wants_json(&self) -> bool {
        self.globals.json
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Top {
    #[command(flatten)]
    Direct(Command),

    /// Run any other command: “cuttlebone repo list” is the same as “cuttlebone list”
    #[command(arg_required_else_help = true)]
    #[command(after_help = "Example:\n  cuttlebone repo list")]
    Repo {
        #[command(subcommand)]
        command: Deferred<Command>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a repository with the project “default”
    ///
    /// Creates the directory if needed. Does not change other files in it. The repository cannot be
    /// read without the password: keep a copy of the password outside this host.
    #[command(after_help = "\
Example:
  cuttlebone init -r /srv/backup --kdf-memory 1G")]
    Init(InitArgs),

    /// Back up disk images, block devices, images of a Ceph cluster, or a stream
    ///
    /// Stores only data that the project does not have yet. Every backup is complete, whichever
    /// backup it was compared with. An interrupted backup does not affect earlier ones, and the
    /// next run uses the data that it stored.
    #[command(after_help = "\
Examples:
  cuttlebone backup disk.img
  cuttlebone backup /dev/vg0/root --volume web1-root --label host=web1
  cuttlebone backup rbd:vms/web1
  cuttlebone backup 'rbd:vms/web-*' rbd:vms/db1 --id backup
  pg_dumpall | cuttlebone backup - --volume db.dump
  rbd export-diff pool/web1@mon - | cuttlebone backup --diff - --volume web1
  rbd diff --from-snap mon pool/web1@tue --format json | \\
    cuttlebone backup /dev/rbd0 --extents - --volume web1 \
    --from-snapshot mon --to-snapshot tue")]
    Backup(Box<BackupArgs>),

    /// List backups, oldest first
    #[command(after_help = "\
Examples:
  cuttlebone list
  cuttlebone list web1-root --json
  cuttlebone list --since 7d --label why --latest 1")]
    List(ListArgs),

    /// Show the details of a backup
    #[command(after_help = "\
Examples:
  cuttlebone show web1-root
  cuttlebone show 3f9a01bc")]
    Show {
        /// An id or its beginning, VOLUME, VOLUME@SNAPSHOT or VOLUME~N
        backup: String,
        /// List only the files that were attached with “backup --attach”
        #[arg(long)]
        attachments: bool,
    },

    /// Show which extents differ between two backups
    ///
    /// Reads only metadata, and only where it differs.
    #[command(after_help = "\
Example:
  cuttlebone compare web1-root~1 web1-root")]
    Compare {
        /// A backup
        a: String,
        /// Another backup
        b: String,
    },

    /// Restore a backup to a file, a block device, a Ceph cluster or standard output
    ///
    /// New files are sparse. An existing file, or a block device that is not blank, is changed only
    /// with --in-place or --force.
    #[command(after_help = "\
Examples:
  cuttlebone restore web1-root disk.img
  cuttlebone restore 3f9a01bc /dev/vg0/root --in-place
  cuttlebone restore vms/web1 rbd:vms/web1-restored
  cuttlebone restore db.dump - | psql
  cuttlebone restore web1-root - --format rbd-diff | \\
    rbd import-diff - pool/new")]
    Restore(Box<RestoreArgs>),

    /// Remove backups, by policy or by name
    ///
    /// A backup is kept if any rule matches it. Rules are applied to each volume separately. They
    /// count only hours, days, weeks (from Monday), months and years with backups, in the local
    /// time zone. A rule that finds fewer backups than N also keeps the oldest one. Backups with
    /// the label “protected” (unless its value is “false”), backups from the future, and the last
    /// backup of a volume are always kept. N can be “unlimited”. SPAN is, for example, 2y5m7d3h.
    ///
    /// Only records are removed. The data stays in the repository until a prune.
    #[command(after_help = "\
Examples:
  cuttlebone forget --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --dry-run
  cuttlebone forget --volume web1-root --keep-within 30d --keep-label why
  cuttlebone forget 3f9a01bc web1-root~2")]
    Forget(Box<ForgetArgs>),

    /// Free the space of unused data
    ///
    /// Marks unused packs. Deletes packs that are still unused when their grace period ends.
    /// Repacks packs that are mostly unused, and merges small packs. Safe while backups run.
    #[command(after_help = "\
Examples:
  cuttlebone prune --dry-run
  cuttlebone prune --max-unused 10% --max-repack 50G
  cuttlebone prune --grace 0")]
    Prune {
        #[command(flatten)]
        limits: PruneLimits,
        #[command(flatten)]
        lost: AcceptLossArgs,
        /// Show the planned work, but do nothing
        #[arg(long)]
        dry_run: bool,
    },

    /// Check the repository for damage
    ///
    /// Verifies that every backup is complete. With --read-data, also verifies that all of the data
    /// can be decrypted. The exit code is 21 if there is damage, and 23 if history has vanished.
    #[command(after_help = "\
Examples:
  cuttlebone check --read-data
  cuttlebone check --unverified-for 30d --time-limit 2h
  cuttlebone check --keyless --statement paper.txt")]
    Check(CheckArgs),

    /// Restore random backups, to find out whether that works
    ///
    /// Discards the restored data. With --command, restores each backup to a temporary file
    /// instead, and runs the command on it, which must exit with 0. Notes the outcome and the time
    /// in the repository: see “cuttlebone audit list”. The exit code is 21 if a backup is damaged,
    /// and 1 if a command failed.
    #[command(after_help = "\
Examples:
  cuttlebone drill --sample 5 --max-bytes 50G
  cuttlebone drill --command 'fsck -n' --scratch /var/tmp")]
    Drill(DrillArgs),

    /// Show what was verified in the repository
    #[command(arg_required_else_help = true)]
    #[command(after_help = "Example:\n  cuttlebone audit list")]
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },

    /// Repair damaged objects
    ///
    /// Without --yes, only shows what it would do. A damaged file is stored in the directory
    /// “quarantine” of the repository before it is replaced or removed.
    #[command(arg_required_else_help = true)]
    #[command(after_help = "Example:\n  cuttlebone repair parity --yes")]
    Repair {
        #[command(subcommand)]
        command: RepairCommand,
    },

    /// Set how much parity is stored
    ///
    /// With parity, a damaged file of the repository can be repaired without another copy and
    /// without a key.
    #[command(arg_required_else_help = true)]
    #[command(after_help = "Example:\n  cuttlebone parity set 5%")]
    Parity {
        #[command(subcommand)]
        command: ParityCommand,
    },

    /// Print a statement about the history of the repository, for you to keep on paper
    ///
    /// Adds all new objects to the signed log of the project, and prints the number and the hash of
    /// the newest entry. Keep the paper where no intruder can reach it: if the log ever lacks this
    /// entry, the repository was rolled back.
    #[command(after_help = "\
Examples:
  cuttlebone head
  cuttlebone head --qr | lp")]
    Head {
        /// Print the QR code even if the output is not a terminal
        #[arg(long)]
        qr: bool,
    },

    /// Copy the repository to another place, without a key
    ///
    /// Verifies each object by the hash in its name. Copies only what the target lacks, never
    /// replaces a file there, and deletes objects there only with --mirror. Compares packs that the
    /// target has already by their sizes only, unless --verify is given. Safe while backups,
    /// “forget” and “prune” run on the original. If it is interrupted, the copy still has all of
    /// its earlier backups, and the next run continues. The exit code is 21 if anything is damaged,
    /// and 23 if history has vanished from the original; everything else is copied then.
    #[command(after_help = "\
Examples:
  cuttlebone replicate /mnt/vault/backup
  cuttlebone replicate sftp:vault@vault.example.org:backup --limit-upload 20M
  cuttlebone -r sftp:vault@vault.example.org:backup replicate /srv/restored")]
    Replicate(ReplicateArgs),

    /// Copy backups to another repository, with other keys
    ///
    /// Decrypts the backups, verifies them, and encrypts them with the keys of the other
    /// repository. Stores only data that is not there yet. The copies keep volume, time, labels,
    /// attachments, source and order. A backup that is there already is not copied again. If the
    /// command is interrupted, run it again: it uses what was stored. Needs a full key here, and a
    /// full or write key there. If a backup is damaged, it is not copied, but all others are.
    #[command(after_help = "\
Examples:
  cuttlebone copy --all --to /srv/new --to-password-file /root/new.pw
  cuttlebone copy web1 web2~3 --to sftp:backup@example.org:team
  cuttlebone copy --volume web1 --to /srv/new --to-volume web1-old --dry-run")]
    Copy(CopyArgs),

    /// Change the labels of backups
    ///
    /// A new record replaces the old one, so the id of the backup changes. The content, the time
    /// and the place in the history stay the same. With “protected=yes”, “forget” does not remove
    /// the backup.
    #[command(after_help = "\
Examples:
  cuttlebone label web1-root~1 protected=yes why='before the upgrade'
  cuttlebone label 3f9a01bc --remove protected")]
    Label(LabelArgs),

    /// Show how much data is stored, and how much of it backups use
    ///
    /// Reads the trees of all backups, as a prune does.
    #[command(after_help = "\
Examples:
  cuttlebone stats
  cuttlebone stats web1-root")]
    Stats {
        /// Show the space that only this volume uses, and the space that it shares with others
        volume: Option<String>,
    },

    /// Show the newest backup of each volume, its age, and what the next backup will read
    ///
    /// Backups with times in the future do not count, since they would never be overdue. For images
    /// of a Ceph cluster, asks the cluster what the next backup will read and why. If no cluster
    /// can be reached, says so and shows the rest. With --max-age, the exit code is 25 if a backup
    /// is overdue.
    #[command(after_help = "\
Examples:
  cuttlebone status
  cuttlebone status --max-age 26h 'vms/*'
  cuttlebone status --offline --json")]
    Status(StatusArgs),

    /// Show the snapshots that cuttlebone made on images, and whether they are still needed
    ///
    /// Without IMAGE, looks at all images in each pool that has an image with a backup in the
    /// project. Looks at images in the trash, too.
    #[command(after_help = "\
Examples:
  cuttlebone snapshots
  cuttlebone snapshots 'vms/web-*' --remove-unneeded
  cuttlebone snapshots vms/web1 --remove-all && rbd rm vms/web1")]
    Snapshots(SnapshotsArgs),

    /// Inspect, merge and export RBD diffs
    ///
    /// Reads and writes the streams of “rbd export-diff” and “rbd export --export-format 2”. Needs
    /// no Ceph cluster; only “diff export” needs a repository.
    #[command(arg_required_else_help = true)]
    #[command(after_help = "\
Examples:
  rbd export-diff --from-snap mon pool/web1@tue - | cuttlebone diff inspect -
  cuttlebone diff merge full.diff mon.diff tue.diff -o new.diff
  cuttlebone diff export --from web1@mon web1@tue | \\
    rbd import-diff - pool/web1")]
    Diff {
        #[command(subcommand)]
        command: DiffCommand,
    },

    /// Manage keys and their passwords
    #[command(arg_required_else_help = true)]
    #[command(after_help = "\
Examples:
  cuttlebone key list
  cuttlebone key add --label 'operations, sealed envelope'")]
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },

    /// Show, clear or rebuild the local cache
    ///
    /// The cache only saves time: if it is deleted, the next command rebuilds it from the
    /// repository.
    #[command(after_help = "Example:\n  cuttlebone cache show")]
    Cache {
        /// Command to run [default: show]
        #[command(subcommand)]
        command: Option<CacheCommand>,
    },

    /// Print a shell completion script
    #[command(after_help = "\
Example:
  cuttlebone completions bash > /etc/bash_completion.d/cuttlebone")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },

    /// Write manual pages to a directory
    #[command(after_help = "Example:\n  cuttlebone man /usr/local/share/man/man1")]
    Man {
        /// The directory; created if needed
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Chunk size: a power of two from 4K to 4M. It cannot be changed later
    #[arg(long, value_name = "SIZE", default_value = "64K", value_parser = chunk_size)]
    pub(super) chunk_size: ChunkSize,
    /// Store parity with each object: a percentage of the data, up to 50%
    ///
    /// With parity, “repair parity” can restore damaged files. “parity set” changes it later.
    #[arg(
        long,
        value_name = "RATE",
        default_value = "0",
        hide_default_value = true
    )]
    #[arg(value_parser = parity_rate)]
    pub(super) parity: ParityChoice,
    #[command(flatten)]
    pub(super) kdf: KdfArgs,
}

fn chunk_size(text: &str) -> Result<ChunkSize, String> {
    let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    ChunkSize::new(size.0).ok_or_else(|| "give a power of two from 4K to 4M".to_owned())
}
