//! The arguments of `list`.

use clap::Args;

use crate::app::{ListRequest, Since};
use crate::ops::LabelMatch;

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// List only backups of this volume
    volume: Option<String>,
    /// List only backups of this volume
    #[arg(long = "volume", value_name = "NAME", conflicts_with = "volume")]
    named: Option<String>,
    /// List only backups with this label; if VALUE is left out, with any value. Can be repeated: a
    /// backup must have all of the labels
    #[arg(long = "label", value_name = "KEY[=VALUE]")]
    labels: Vec<LabelMatch>,
    /// List only backups that the host NAME made
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// List only backups since a day (2026-11-28), a time (2026-11-28T10:00:00Z) or within a span
    /// before now (2y5m7d3h)
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    /// List only the newest N backups of each volume
    #[arg(long, value_name = "N")]
    latest: Option<u64>,
}

impl ListArgs {
    pub(super) fn into_request(self) -> ListRequest {
        ListRequest {
            volume: self.volume.or(self.named),
            labels: self.labels,
            host: self.host,
            since: self.since,
            latest: self.latest,
        }
    }
}
