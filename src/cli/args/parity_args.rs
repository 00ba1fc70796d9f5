//! The subcommands of `parity` and `repair`, and their arguments.

use std::ffi::OsString;

use clap::{Args, Subcommand, ValueHint};

use crate::app::RepairRequest;
use crate::base::{ParityRate, ParityRateError};

/// Repairs of several kinds of objects.
#[derive(Debug, Subcommand)]
pub(super) enum RepairCommand {
    /// Restore damaged objects with their parity
    ///
    /// Reads the whole repository. Needs no key and no password. Also rebuilds damaged parity from
    /// the objects that it protects. An object is restored exactly or not at all.
    #[command(after_help = "\
Examples:
  cuttlebone repair parity
  cuttlebone repair parity --yes")]
    Parity(RepairArgs),
    /// Restore damaged objects from their second copies
    ///
    /// Key slots, settings, certificates and a few other small objects are stored twice. With
    /// --from, all damaged objects can be repaired. Needs no key and no password.
    #[command(after_help = "\
Examples:
  cuttlebone repair copies
  cuttlebone repair copies --from /mnt/vault/backup --yes")]
    Copies(RepairArgs),
    /// Save what is left of damaged packs
    ///
    /// Reads the packs in which this host has found damage, for example with “check --read-data”.
    /// Stores their undamaged data again, and moves them to “quarantine”. A pack that the disk
    /// cannot read completely stays where it is. Names the backups that have lost data. The next
    /// backup of the same source stores the lost data again, on any host. Needs a key with the role
    /// “full”.
    #[command(after_help = "\
Examples:
  cuttlebone check --read-data
  cuttlebone repair packs
  cuttlebone repair packs --yes")]
    Packs {
        /// Repair the packs, instead of only showing what would be repaired
        #[arg(long)]
        yes: bool,
    },
    /// Replace damaged and missing parts of the index
    ///
    /// Each pack lists its own content. The index is completed from these lists. Needs a full key.
    /// Reads all packs that no undamaged part of the index names. Fails while a prune runs.
    #[command(after_help = "\
Examples:
  cuttlebone repair index
  cuttlebone repair index --yes")]
    Index(IndexArgs),
}

/// The arguments of a repair of the index.
#[derive(Debug, Args)]
pub(super) struct IndexArgs {
    /// Repair the index, instead of only showing what would be repaired
    #[arg(long)]
    pub(super) yes: bool,
}

/// The arguments of a repair.
#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    /// Take undamaged objects also from another copy of the repository: a directory, or
    /// sftp:[USER@]HOST:PATH
    #[arg(long, value_name = "REPO", value_hint = ValueHint::DirPath)]
    from: Option<OsString>,
    /// Repair the objects, instead of only showing what would be repaired
    #[arg(long)]
    yes: bool,
}

impl RepairArgs {
    pub(super) fn into_request(self, parity: bool) -> RepairRequest {
        RepairRequest {
            parity,
            from: self.from,
            yes: self.yes,
        }
    }
}

/// The subcommands of `parity`.
#[derive(Debug, Subcommand)]
pub(super) enum ParityCommand {
    /// Set the parity of new objects, and add it to all existing objects
    ///
    /// Reads all objects that have less parity than this rate. If it is interrupted, run it again:
    /// it continues. With 0, new objects have no parity, and the existing parity stays.
    #[command(after_help = "Example:\n  cuttlebone parity set 5%")]
    Set {
        /// A percentage of the data, up to 50%; 0 for none
        #[arg(value_parser = parity_rate)]
        rate: ParityChoice,
    },
}

/// A rate of parity, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct ParityChoice(pub(super) Option<ParityRate>);

pub(super) fn parity_rate(text: &str) -> Result<ParityChoice, ParityRateError> {
    ParityRate::parse(text).map(ParityChoice)
}
