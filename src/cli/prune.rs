//! `prune`: plans, shows the plan, and does it unless it was only asked. Also behind `forget --prune`.

use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::{Span, SpanRelativeTo};

use super::Session;
use super::access::Access;
use super::commands::{context, host, open_project};
use super::failure::Failure;
use super::message::{Message, PackAmount, PrunePlan, PruneSummary};
use crate::base::ByteSize;
use crate::ops::{self, Amount, MaxUnused, PruneOptions, PruneReport};
use crate::repo::Project;

/// How much to prune.
#[derive(Debug, Args)]
pub(crate) struct PruneLimits {
    /// Let so much stay that nothing uses: of all that is stored (5%, unless you say otherwise), in bytes (2G), or
    /// “unlimited”
    #[arg(long, value_name = "LIMIT", value_parser = max_unused)]
    pub(crate) max_unused: Option<MaxUnused>,
    /// Pack no more than this again in one run, in bytes (20G)
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_repack: Option<ByteSize>,
    /// Leave alone what is younger, and delete what was marked only after this time (7d; 24h unless you say otherwise);
    /// 0 deletes at once, for whoever knows that nobody restores meanwhile
    #[arg(long, value_name = "TIME", value_parser = grace)]
    pub(crate) grace: Option<Duration>,
}

impl PruneLimits {
    /// Whether any was given.
    pub(crate) fn any(&self) -> bool {
        self.max_unused.is_some() || self.max_repack.is_some() || self.grace.is_some()
    }

    fn options(&self) -> PruneOptions {
        PruneOptions {
            max_unused: self.max_unused.unwrap_or(MaxUnused::Percent(5.0)),
            max_repack: self.max_repack.map(|size| size.0),
            grace: self.grace.unwrap_or(Duration::from_hours(24)),
            host: Some(host()),
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
            .ok_or_else(|| "a share is from 0% to 100%".to_owned());
    }
    let size = ByteSize::from_str(text).map_err(|error| error.to_string())?;
    Ok(MaxUnused::Bytes(size.0))
}

fn grace(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let refuse = |_| "give a time such as 24h, 30m or 7d, or 0".to_owned();
    let span: Span = text.parse().map_err(refuse)?;
    let time = span.to_duration(SpanRelativeTo::days_are_24_hours());
    Duration::try_from(time.map_err(refuse)?).map_err(|_| "a time cannot be negative".to_owned())
}

pub(super) fn perform(
    session: &Session,
    access: &Access,
    limits: &PruneLimits,
    dry_run: bool,
) -> Result<(), Failure> {
    let (_, project) = open_project(session, access)?;
    prune(session, access, &project, limits, dry_run)
}

/// Prunes an open project.
pub(super) fn prune(
    session: &Session,
    access: &Access,
    project: &Project,
    limits: &PruneLimits,
    dry_run: bool,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let options = limits.options();
    let context = context(session, access);
    let prune = ops::plan_prune(project, &options, dry_run, &context)?;
    let plan = plan_message(prune.plan(), &options);
    let report = if dry_run {
        prune.close();
        None
    } else {
        Some(prune.run()?)
    };
    session.meter.finish();
    let message = summary(plan, report.as_ref(), begun.elapsed());
    session.output.show(&Message::Prune(Box::new(message)))
}

fn amount(amount: Amount) -> PackAmount {
    PackAmount {
        packs: amount.packs,
        bytes: amount.bytes,
    }
}

fn plan_message(plan: &ops::PrunePlan, options: &PruneOptions) -> PrunePlan {
    PrunePlan {
        keep: amount(plan.keep),
        bytes_unused: plan.unused,
        mark: amount(plan.mark),
        repack: amount(plan.repack),
        repack_bytes_used: plan.repack_used,
        delete: amount(plan.delete),
        waiting: amount(plan.waiting),
        young: amount(plan.young),
        grace_seconds: options.grace.as_secs(),
    }
}

fn summary(plan: PrunePlan, report: Option<&PruneReport>, took: Duration) -> PruneSummary {
    let done = report.copied().unwrap_or_default();
    PruneSummary {
        dry_run: report.is_none(),
        plan,
        deleted: amount(done.deleted),
        marked: amount(done.marked),
        repacked: amount(done.repacked),
        bytes_read: done.bytes_read,
        bytes_written: done.bytes_written,
        packs_rescued: done.rescued,
        uploads_removed: done.uploads,
        duration: took.as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_people_write_them() {
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

    #[test]
    fn graces_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("0", 0),
            ("24h", 86_400),
            ("90s", 90),
            ("7d", 604_800),
            ("1h30m", 5400),
        ] {
            assert_eq!(grace(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "-1h", "soon", "5"] {
            assert!(grace(text).is_err(), "{text}");
        }
    }
}
