//! The options of `prune` and `forget --prune` that limit a prune.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::duration::duration;
use crate::app::PruneRequest;
use crate::base::ByteSize;
use crate::ops::{AcceptedLoss, LostName, MaxUnused, ParseLostNameError};

const MAX_UNUSED_DEFAULT: MaxUnused = MaxUnused::Percent(5.0);
/// The default grace period. It is less than a day: then a nightly prune deletes the packs that the
/// prune of the previous night marked.
const GRACE_DEFAULT: Duration = Duration::from_hours(20);

/// How much to prune.
#[derive(Debug, Args)]
pub(super) struct PruneLimits {
    /// Unused space to tolerate: a percentage, a size, or “unlimited” [default: 5%]
    #[arg(long, value_name = "LIMIT", value_parser = max_unused)]
    max_unused: Option<MaxUnused>,
    /// Copy at most SIZE of used data into new packs in one run, for example 20G
    #[arg(long, value_name = "SIZE")]
    max_repack: Option<ByteSize>,
    /// Merge packs of chunks below 8 MiB, and packs of nodes below 1 MiB, if there are many of
    /// them. This is the default
    #[arg(long, overrides_with = "no_merge_small")]
    merge_small: bool,
    /// Leave small packs as they are
    #[arg(long, overrides_with = "merge_small")]
    no_merge_small: bool,
    /// Minimum age before data is deleted [default: 20h]. With 0, data is deleted at once: do not
    /// use 0 while a restore runs that cannot write to the repository
    #[arg(long, value_name = "TIME", value_parser = duration)]
    grace: Option<Duration>,
}

/// The losses that the user accepts for ever.
#[derive(Debug, Args)]
pub(super) struct AcceptLossArgs {
    /// Accept the loss of a missing or damaged backup, certificate or log entry, so that “prune”
    /// and “forget” continue; can be repeated. Give the id, or at least its first 8 digits. “all”
    /// accepts all losses. If there is no backup at all, “prune” then deletes all data. First copy
    /// back what a copy of the repository still has: “replicate --mirror” later deletes it there
    #[arg(long = "accept-loss", value_name = "NAME", value_delimiter = ',')]
    accept_loss: Vec<Lost>,
}

/// A value of `--accept-loss`.
#[derive(Debug, Clone)]
enum Lost {
    All,
    Object(LostName),
}

impl FromStr for Lost {
    type Err = ParseLostNameError;

    fn from_str(text: &str) -> Result<Self, ParseLostNameError> {
        match text {
            "all" => Ok(Self::All),
            id => id.parse().map(Self::Object),
        }
    }
}

impl AcceptLossArgs {
    pub(super) fn into_accepted(self) -> AcceptedLoss {
        let mut accepted = AcceptedLoss::default();
        for lost in self.accept_loss {
            match lost {
                Lost::All => accepted.all = true,
                Lost::Object(id) => accepted.objects.push(id),
            }
        }
        accepted
    }
}

impl PruneLimits {
    /// Returns whether any option was given.
    pub(super) fn any(&self) -> bool {
        let merge = self.merge_small || self.no_merge_small;
        self.max_unused.is_some() || self.max_repack.is_some() || merge || self.grace.is_some()
    }

    pub(super) fn into_request(self, accept_loss: AcceptedLoss) -> PruneRequest {
        PruneRequest {
            accept_loss,
            max_unused: self.max_unused.unwrap_or(MAX_UNUSED_DEFAULT),
            max_repack: self.max_repack.map(|size| size.0),
            merge_small: !self.no_merge_small,
            grace: self.grace.unwrap_or(GRACE_DEFAULT),
        }
    }
}

fn max_unused(text: &str) -> Result<MaxUnused, String> {
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.trim().parse().ok();
        let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
        return percent
            .map(MaxUnused::Percent)
            .ok_or_else(|| "give a percentage from 0% to 100%".to_owned());
    }
    let size = ByteSize::from_str(text).map_err(|error| error.to_string())?;
    Ok(MaxUnused::Bytes(size.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_unused_is_a_percentage_a_size_or_unlimited() {
        for (text, limit) in [
            ("unlimited", MaxUnused::Unlimited),
            ("5%", MaxUnused::Percent(5.0)),
            ("0.5 %", MaxUnused::Percent(0.5)),
            ("2G", MaxUnused::Bytes(2 << 30)),
            ("0", MaxUnused::Bytes(0)),
        ] {
            assert_eq!(max_unused(text), Ok(limit), "{text}");
        }
        for text in ["", "-1%", "101%", "x%", "many"] {
            assert!(max_unused(text).is_err(), "{text}");
        }
    }
}
