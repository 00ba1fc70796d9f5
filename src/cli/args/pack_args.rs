//! The arguments of commands that store data in packs.

use clap::Args;

use crate::repo::{Compression, VerifyWrites};

#[derive(Debug, Args)]
pub(super) struct PackArgs {
    /// Zstandard level from 1 to 19, or “off”
    #[arg(long, value_name = "LEVEL", default_value = "1", value_parser = compression)]
    pub(super) compression: Compression,
    /// Decrypt and compare new data before it is stored, to notice bad memory: “all” of it, a
    /// “sample” (one in 16 runs), or “off”
    #[arg(long, value_name = "WHAT", default_value = "sample", value_parser = verify_writes)]
    pub(super) verify_writes: VerifyWrites,
}

fn compression(text: &str) -> Result<Compression, String> {
    if text == "off" {
        return Ok(Compression::Off);
    }
    match text.parse() {
        Ok(level @ 1..=19) => Ok(Compression::Level(level)),
        _ => Err("give a level from 1 to 19, or “off”".to_owned()),
    }
}

fn verify_writes(text: &str) -> Result<VerifyWrites, String> {
    match text {
        "all" => Ok(VerifyWrites::ALL),
        "sample" => Ok(VerifyWrites::SOME_RUNS),
        "off" => Ok(VerifyWrites::OFF),
        _ => Err("give “all”, “sample” or “off”".to_owned()),
    }
}
