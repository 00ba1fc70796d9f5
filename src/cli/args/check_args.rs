//! The arguments of `check`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::action::RepositoryAction;
use super::duration::duration;
use crate::app::CheckRequest;
use crate::base::ByteSize;
use crate::ops::{DataPart, ReadData};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Also read and decrypt all data. A verify key cannot decrypt data and compares hashes
    #[arg(long)]
    read_data: bool,
    /// Also read a part of the data: a random part such as 10% or 50G, or part N of M, as N/M
    #[arg(long, value_name = "PART", value_parser = part, conflicts_with = "read_data")]
    read_data_subset: Option<DataPart>,
    /// Also read data that was not verified in the last TIME, such as 30d, in random order
    ///
    /// The repository remembers what was verified (see “cuttlebone audit list”), so that another
    /// run continues where this one ended, also on another host.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    unverified_for: Option<Duration>,
    /// Stop reading data after this TIME, such as 2h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time_limit: Option<Duration>,
    /// Accept the current state of the repository
    ///
    /// This host remembers the newest backups that it saw, and reports if they vanish. Use this
    /// option after the repository was replaced by an older state on purpose.
    #[arg(long)]
    accept_history: bool,
    /// Write a report to this new file: a page if its name ends with .html, JSON otherwise
    ///
    /// Writes the signature of the report to FILE.minisig, which “minisign -V” and “cuttlebone
    /// audit verify-report” verify with the key that “cuttlebone audit public-key” prints.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    report: Option<PathBuf>,
    /// Check without a key and without a password
    ///
    /// Reads every file of the repository, compares it with the hash in its name, and verifies
    /// that every object exists that the signed logs name. Does not verify that the data can be
    /// decrypted.
    #[arg(long, conflicts_with_all = [
        "read_data", "read_data_subset", "unverified_for", "time_limit", "accept_history",
        "report",
    ])]
    keyless: bool,
    /// Compare the repository with this statement of “cuttlebone head”
    ///
    /// Give the line that begins with CUTTLEBONE:HEAD, or the name of a file that holds this line.
    #[arg(long, value_name = "TEXT|FILE", requires = "keyless")]
    statement: Option<String>,
}

impl CheckArgs {
    pub(super) fn into_action(self) -> RepositoryAction {
        if self.keyless {
            let statement = self.statement;
            return RepositoryAction::CheckKeyless { statement };
        }
        let reads = self.read_data
            || self.read_data_subset.is_some()
            || self.unverified_for.is_some()
            || self.time_limit.is_some();
        RepositoryAction::Check(CheckRequest {
            read: reads.then(|| ReadData {
                part: self.read_data_subset.unwrap_or(DataPart::All),
                unverified_for: self.unverified_for,
                time_limit: self.time_limit,
                host: None,
            }),
            accept_history: self.accept_history,
            report: self.report,
        })
    }
}

/// Parses a percentage, a size, or N/M.
fn part(text: &str) -> Result<DataPart, String> {
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.trim().parse::<f64>().ok();
        let percent = percent.filter(|percent| *percent > 0.0 && *percent <= 100.0);
        return percent
            .map(DataPart::Percent)
            .ok_or_else(|| "give a percentage above 0% and up to 100%".to_owned());
    }
    if let Some((number, of)) = text.split_once('/') {
        let parsed = number.trim().parse().ok().zip(of.trim().parse().ok());
        return parsed
            .filter(|(number, of)| (1..=*of).contains(number))
            .map(|(number, of)| DataPart::Nth { number, of })
            .ok_or_else(|| "give a part such as 3/7: the third of seven".to_owned());
    }
    let size = ByteSize::from_str(text).map_err(|error| error.to_string())?;
    if size.0 == 0 {
        return Err("give a size above 0".to_owned());
    }
    Ok(DataPart::Bytes(size.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_data_is_a_percentage_a_size_or_one_of_several_parts() {
        for (text, expected) in [
            ("10%", DataPart::Percent(10.0)),
            ("0.5 %", DataPart::Percent(0.5)),
            ("100%", DataPart::Percent(100.0)),
            ("50G", DataPart::Bytes(50 << 30)),
            ("3/7", DataPart::Nth { number: 3, of: 7 }),
            ("1/1", DataPart::Nth { number: 1, of: 1 }),
        ] {
            assert_eq!(part(text), Ok(expected), "{text}");
        }
        for text in [
            "", "0%", "101%", "-1%", "NaN%", "0/7", "8/7", "1/0", "a/b", "0", "x",
        ] {
            assert!(part(text).is_err(), "{text}");
        }
    }
}
