//! The options of key derivation.

use clap::Args;

use crate::app::{Code, Failure};
use crate::base::{ByteSize, Memory};
use crate::repo::KdfParams;

/// How expensive it is to try a password.
#[expect(
    clippy::struct_field_names,
    reason = "clap derives the option names from the field names"
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
    /// Checks the parameters of a new key. The work to try a password is the memory times the
    /// passes. With too little work, anyone with a copy of the key slot could try many passwords.
    /// With too much work, or more memory than the machine has, the user could not open the
    /// repository.
    pub(super) fn into_params(self) -> Result<KdfParams, Failure> {
        let memory = Memory::of_this_machine().map_or(u64::MAX, |memory| memory.total);
        self.limited_to(memory)
    }

    /// Checks the parameters for a machine that has `total` bytes of memory.
    fn limited_to(self, total: u64) -> Result<KdfParams, Failure> {
        let Self {
            kdf_memory: memory,
            kdf_passes: passes,
            kdf_lanes: lanes,
        } = self;
        let kib = |kib: u64| ByteSize(kib * 1024);
        let least = kib(KdfParams::NEW_MEMORY_KIB_MIN.into());
        let most = kib(KdfParams::MEMORY_KIB_MAX.into());
        let refuse = |problem: String, hint: String| Err(Failure::usage(problem).hint(hint));
        if !(least.0..=most.0).contains(&memory.0) {
            return refuse(
                format!("--kdf-memory cannot be {memory}"),
                format!("it can be from {least} to {most}; 64M is the default"),
            );
        }
        if memory.0 > total {
            let total = ByteSize(total);
            return refuse(
                format!("--kdf-memory {memory} is more than the {total} that this machine has"),
                "every machine that opens the repository needs that memory: choose less".to_owned(),
            );
        }
        let work = memory.0.saturating_mul(u64::from(passes));
        let least = kib(KdfParams::NEW_WORK_KIB_MIN);
        if work < least.0 {
            return refuse(
                format!(
                    "--kdf-memory {memory} with --kdf-passes {passes} makes passwords too easy \
                     to guess"
                ),
                format!(
                    "memory times passes must be at least {least}, for example --kdf-memory 19M \
                     --kdf-passes 2"
                ),
            );
        }
        let most = kib(KdfParams::WORK_KIB_MAX);
        if work > most.0 {
            return refuse(
                format!(
                    "--kdf-memory {memory} with --kdf-passes {passes} makes every unlock take \
                     minutes"
                ),
                format!("memory times passes can be at most {most}"),
            );
        }
        let memory_kib = u32::try_from(memory.0 / 1024).unwrap_or(u32::MAX);
        KdfParams::new(memory_kib, passes, lanes)
            .map_err(|error| Failure::from_error(Code::Usage, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(memory_mib: u64, passes: u32, lanes: u32) -> Result<KdfParams, Failure> {
        let args = KdfArgs {
            kdf_memory: ByteSize(memory_mib << 20),
            kdf_passes: passes,
            kdf_lanes: lanes,
        };
        args.limited_to(2 << 30)
    }

    #[test]
    fn parameters_that_make_passwords_easy_to_guess_or_unlocking_impossible_are_refused() {
        for (memory, passes, lanes) in [
            (64, 3, 4),
            (8, 5, 1),
            (19, 2, 64),
            (38, 1, 1),
            (2048, 32, 8),
        ] {
            let params = check(memory, passes, lanes).unwrap();
            assert_eq!(u64::from(params.memory_kib()), memory << 10);
        }
        for (memory, passes, named) in [
            (0, 3, "--kdf-memory"),
            (7, 100, "--kdf-memory"),
            (8, 4, "--kdf-passes"),
            (37, 1, "--kdf-passes"),
            (2049, 1, "this machine"),
            (4097, 1, "--kdf-memory"),
            (2048, 33, "--kdf-passes"),
        ] {
            let failure = check(memory, passes, 1).unwrap_err();
            assert_eq!(failure.code, Code::Usage);
            let text = failure.to_text();
            assert!(text.contains(named) && text.contains("next:"), "{text}");
        }
    }
}
