//! The options of key derivation.

use clap::Args;

use crate::app::Failure;
use crate::base::ByteSize;
use crate::repo::KdfParams;

/// How expensive it is to try a password.
#[expect(
    clippy::struct_field_names,
    reason = "clap derives the option names from them"
)]
#[derive(Debug, Args)]
pub(super) struct KdfArgs {
    /// Memory needed to try a password
    #[arg(long, value_name = "SIZE", default_value = "64M")]
    kdf_memory: ByteSize,
    /// Passes over that memory
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=KdfParams::PASSES_MAX.into()))]
    kdf_passes: u32,
    /// Lanes that can be computed in parallel
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=KdfParams::LANES_MAX.into()))]
    kdf_lanes: u32,
}

impl KdfArgs {
    pub(super) fn into_params(self) -> Result<KdfParams, Failure> {
        let refuse = || {
            Failure::usage(format!("--kdf-memory cannot be {}", self.kdf_memory)).hint(format!(
                "with {} lanes it can be from {} to {}",
                self.kdf_lanes,
                ByteSize(u64::from(KdfParams::memory_kib_min(self.kdf_lanes)) * 1024),
                ByteSize(u64::from(KdfParams::MEMORY_KIB_MAX) * 1024)
            ))
        };
        let memory_kib = u32::try_from(self.kdf_memory.0 / 1024).map_err(|_| refuse())?;
        KdfParams::new(memory_kib, self.kdf_passes, self.kdf_lanes).map_err(|_| refuse())
    }
}
