//! The arguments of `backup --together`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, ValueHint};

use crate::app::Failure;
use crate::cli::freeze::GUARD;
use crate::volume::FreezeOptions;

const TOGETHER: &str = "Options with --together";

#[derive(Debug, Args)]
pub(super) struct TogetherArgs {
    /// Make the snapshots of all sources before the first backup begins, so that they show about
    /// the same point in time
    #[arg(long, help_heading = TOGETHER)]
    #[arg(conflicts_with_all = ["diff", "command", "extents", "dry_run"])]
    pub(super) together: bool,
    /// Command to run before the snapshots, which freezes the file systems
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    #[arg(requires_all = ["together", "after_snapshot"], help_heading = TOGETHER)]
    before_snapshot: Option<OsString>,
    /// Command to run after the snapshots, which thaws the file systems; it runs in any case
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    #[arg(requires = "together", help_heading = TOGETHER)]
    after_snapshot: Option<OsString>,
    /// Thaw and give up if the snapshots are not complete within this time, such as 10s or 1m
    /// [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = limit)]
    #[arg(requires = "together", help_heading = TOGETHER)]
    freeze_limit: Option<Duration>,
}

impl TogetherArgs {
    /// Returns how to freeze the file systems; `None` if the sources are not backed up together.
    pub(super) fn into_options(self) -> Result<Option<FreezeOptions>, Failure> {
        let given = |command: Option<OsString>, option| match command {
            Some(command) if command.is_empty() => {
                Err(Failure::usage(format!("the command of {option} is empty")))
            }
            command => Ok(command),
        };
        if !self.together {
            return Ok(None);
        }
        Ok(Some(FreezeOptions {
            before: given(self.before_snapshot, "--before-snapshot")?,
            after: given(self.after_snapshot, "--after-snapshot")?,
            limit: self.freeze_limit.unwrap_or(Duration::from_secs(10)),
            guard: ("/proc/self/exe".into(), vec![GUARD.into()]),
        }))
    }
}

/// Parses a time such as `10s`, `500ms` or `1m`: from 1 ms to an hour.
fn limit(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let number: Option<u64> = number.parse().ok();
    let millis = number
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit));
    match millis {
        Some(millis @ 1..=3_600_000) => Ok(Duration::from_millis(millis)),
        _ => Err("give a time of at most an hour, such as 10s or 1m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_times_with_a_unit() {
        for (text, millis) in [("10s", 10_000), ("500ms", 500), ("2m", 120_000)] {
            assert_eq!(limit(text), Ok(Duration::from_millis(millis)));
        }
        for wrong in [
            "",
            "10",
            "s",
            "0s",
            "2h",
            "-1s",
            "61m",
            "99999999999999999999s",
        ] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
