//! The options of `forget`, and the policy that those make which say what to keep.

use clap::Args;

use super::prune::PruneLimits;
use crate::ops::{Count, LabelMatch, Period, Policy, Rule, Span};

const POLICY: &str = "What to keep (N can be “unlimited”; a SPAN is such as 2y5m7d3h)";

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Remove these: an id or its beginning, VOLUME, or VOLUME~N
    #[arg(value_name = "BACKUP")]
    pub(crate) backups: Vec<String>,
    /// Only of this volume; can be given more than once
    #[arg(long = "volume", value_name = "NAME", conflicts_with = "backups")]
    pub(crate) volumes: Vec<String>,
    /// Say what would be kept and removed, and why, but remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Let days begin in UTC, not in the local time zone
    #[arg(long, conflicts_with = "backups")]
    pub(crate) utc: bool,
    /// Remove a BACKUP even if it is protected
    #[arg(long, requires = "backups", conflicts_with = "policy")]
    pub(crate) force: bool,
    /// Free the space too, as “prune” does
    #[arg(long)]
    pub(crate) prune: bool,
    #[command(flatten)]
    pub(crate) keep: KeepArgs,
    #[command(flatten, next_help_heading = "How to prune (with --prune)")]
    pub(crate) limits: PruneLimits,
}

/// The rules of a policy.
#[expect(
    clippy::struct_field_names,
    reason = "clap makes the options' names of them"
)]
#[derive(Debug, Args)]
#[command(next_help_heading = POLICY)]
#[group(id = "policy", multiple = true, conflicts_with = "backups")]
pub(crate) struct KeepArgs {
    /// The last N
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) keep_last: Option<Count>,
    /// The newest of each of the last N hours that have any
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) keep_hourly: Option<Count>,
    /// The newest of each of the last N days that have any
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) keep_daily: Option<Count>,
    /// The newest of each of the last N weeks that have any
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) keep_weekly: Option<Count>,
    /// The newest of each of the last N months that have any
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) keep_monthly: Option<Count>,
    /// The newest of each of the last N years that have any
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) keep_yearly: Option<Count>,
    /// All that are younger than SPAN, counted back from the newest
    #[arg(long, value_name = "SPAN")]
    pub(crate) keep_within: Option<Span>,
    /// The newest of each hour among those younger than SPAN
    #[arg(long, value_name = "SPAN")]
    pub(crate) keep_within_hourly: Option<Span>,
    /// The newest of each day among those younger than SPAN
    #[arg(long, value_name = "SPAN")]
    pub(crate) keep_within_daily: Option<Span>,
    /// The newest of each week among those younger than SPAN
    #[arg(long, value_name = "SPAN")]
    pub(crate) keep_within_weekly: Option<Span>,
    /// The newest of each month among those younger than SPAN
    #[arg(long, value_name = "SPAN")]
    pub(crate) keep_within_monthly: Option<Span>,
    /// The newest of each year among those younger than SPAN
    #[arg(long, value_name = "SPAN")]
    pub(crate) keep_within_yearly: Option<Span>,
    /// All with this label, whatever its value if none is given; can be given more than once
    #[arg(long = "keep-label", value_name = "KEY[=VALUE]")]
    pub(crate) keep_labels: Vec<LabelMatch>,
}

impl KeepArgs {
    /// In the order in which reasons are told: counts, spans, labels.
    pub(crate) fn policy(self) -> Policy {
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
        Policy::new(last.chain(all_within).chain(within).chain(labels))
    }
}
