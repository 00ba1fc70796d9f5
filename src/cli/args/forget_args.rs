//! The arguments of `forget` and the policy that they make.

use clap::Args;

use crate::app::{Failure, ForgetRequest, ForgetSelection, backup_selector};
use crate::ops::{Count, LabelMatch, Period, Policy, Rule, Span};

use super::prune_args::{AcceptLossArgs, PruneLimits};

const POLICY: &str = "Backups to keep (N can be “unlimited”; SPAN is, for example, 2y5m7d3h)";

#[derive(Debug, Args)]
pub(super) struct ForgetArgs {
    /// Remove these backups: an id or its beginning, VOLUME, VOLUME@SNAPSHOT, or VOLUME~N
    #[arg(value_name = "BACKUP")]
    backups: Vec<String>,
    /// Only forget backups of this volume; can be repeated
    #[arg(long = "volume", value_name = "NAME", conflicts_with = "backups")]
    volumes: Vec<String>,
    /// Only forget backups with this label; if VALUE is left out, with any value. Other backups
    /// stay, and the rules do not count them. Can be repeated: a backup must have all of the labels
    #[arg(long = "label", value_name = "KEY[=VALUE]", conflicts_with = "backups")]
    labels: Vec<LabelMatch>,
    /// Show which backups would be kept and removed, and why, but remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Begin days, weeks, months and years in UTC instead of the local time zone
    #[arg(long, conflicts_with = "backups")]
    utc: bool,
    /// Remove a BACKUP even if it is protected
    #[arg(long, requires = "backups", conflicts_with = "policy")]
    force: bool,
    /// Run “prune” afterwards to free space
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    lost: AcceptLossArgs,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten, next_help_heading = "Prune options (with --prune)")]
    limits: PruneLimits,
}

impl ForgetArgs {
    pub(super) fn into_request(self) -> Result<ForgetRequest, Failure> {
        if self.limits.any() && !self.prune {
            return Err(Failure::usage(
                "--max-unused, --max-repack, --merge-small, --no-merge-small and --grace have no \
                 effect without --prune",
            )
            .hint("add --prune, or leave them out"));
        }
        let (policy, is_given) = self.keep.into_policy();
        let selection =
            if !self.backups.is_empty() {
                let backups = self.backups.into_iter().map(backup_selector);
                ForgetSelection::Named {
                    backups: backups.collect::<Result<_, _>>()?,
                    force: self.force,
                }
            } else if policy.is_empty() && is_given {
                return Err(Failure::usage("this policy keeps no backup")
                    .hint("give a number or a span that is not 0, or name the backups to remove"));
            } else if policy.is_empty() {
                return Err(Failure::usage("nothing selects the backups to keep or remove").hint(
                "give a policy, such as --keep-daily 7 --keep-weekly 4, or name the backups to \
                 remove",
            ));
            } else {
                ForgetSelection::NotKeptBy {
                    policy,
                    volumes: self.volumes,
                    labels: self.labels,
                    utc: self.utc,
                }
            };
        let accept_loss = self.lost.into_accepted();
        let prune = self
            .prune
            .then(|| self.limits.into_request(accept_loss.clone()));
        Ok(ForgetRequest {
            selection,
            dry_run: self.dry_run,
            accept_loss,
            prune,
        })
    }
}

/// The rules of a policy.
#[expect(
    clippy::struct_field_names,
    reason = "clap derives the option names from the field names"
)]
#[derive(Debug, Args)]
#[command(next_help_heading = POLICY)]
#[group(id = "policy", multiple = true, conflicts_with = "backups")]
struct KeepArgs {
    /// Keep the last N backups
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_last: Option<Count>,
    /// Keep the newest backup of each of the last N hours that have backups
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_hourly: Option<Count>,
    /// Keep the newest backup of each of the last N days that have backups
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_daily: Option<Count>,
    /// Keep the newest backup of each of the last N weeks that have backups
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_weekly: Option<Count>,
    /// Keep the newest backup of each of the last N months that have backups
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_monthly: Option<Count>,
    /// Keep the newest backup of each of the last N years that have backups
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_yearly: Option<Count>,
    /// Keep all backups within SPAN before the newest one
    #[arg(long, value_name = "SPAN")]
    keep_within: Option<Span>,
    /// Keep the newest backup of each hour within SPAN
    #[arg(long, value_name = "SPAN")]
    keep_within_hourly: Option<Span>,
    /// Keep the newest backup of each day within SPAN
    #[arg(long, value_name = "SPAN")]
    keep_within_daily: Option<Span>,
    /// Keep the newest backup of each week within SPAN
    #[arg(long, value_name = "SPAN")]
    keep_within_weekly: Option<Span>,
    /// Keep the newest backup of each month within SPAN
    #[arg(long, value_name = "SPAN")]
    keep_within_monthly: Option<Span>,
    /// Keep the newest backup of each year within SPAN
    #[arg(long, value_name = "SPAN")]
    keep_within_yearly: Option<Span>,
    /// Keep all backups with this label; if VALUE is left out, with any value. Can be repeated
    #[arg(long = "keep-label", value_name = "KEY[=VALUE]")]
    keep_labels: Vec<LabelMatch>,
}

impl KeepArgs {
    /// Returns the policy. Its rules are in the order in which reasons are shown: counts, spans,
    /// labels. Also returns whether the user gave any rule, even one that keeps nothing.
    fn into_policy(self) -> (Policy, bool) {
        let last = [
            (Period::Each, self.keep_last),
            (Period::Hour, self.keep_hourly),
            (Period::Day, self.keep_daily),
            (Period::Week, self.keep_weekly),
            (Period::Month, self.keep_monthly),
            (Period::Year, self.keep_yearly),
        ];
        let within = [
            (Period::Hour, self.keep_within_hourly),
            (Period::Day, self.keep_within_daily),
            (Period::Week, self.keep_within_weekly),
            (Period::Month, self.keep_within_monthly),
            (Period::Year, self.keep_within_yearly),
        ];
        let last = last
            .into_iter()
            .filter_map(|(period, count)| Some(Rule::Last(period, count?)));
        let all_within = self.keep_within.map(Rule::Within);
        let within = within
            .into_iter()
            .filter_map(|(period, span)| Some(Rule::PeriodWithin(period, span?)));
        let labels = self.keep_labels.into_iter().map(Rule::Label);
        let rules: Vec<_> = last.chain(all_within).chain(within).chain(labels).collect();
        let is_given = !rules.is_empty();
        (Policy::new(rules), is_given)
    }
}
