//! The text of `copy`.

use jiff::tz::TimeZone;

use crate::app::copy_message::{CopiedBackup, CopySummary};
use crate::app::human::{count, printable, short_id, time};
use crate::base::ByteSize;

use super::common::took;

pub(super) fn copied(copied: &CopiedBackup, zone: &TimeZone) -> String {
    let source = short_id(&copied.source_id);
    let (volume, at) = (printable(&copied.volume), time(copied.time, zone));
    let Some(copy) = &copied.backup_id else {
        return format!(
            "would copy {source} of {volume} ({at}), {}\n",
            ByteSize(copied.size)
        );
    };
    let copy = short_id(copy);
    if copied.existing {
        return format!("{source} of {volume} ({at}) is there already: {copy}\n");
    }
    format!(
        "copied {source} of {volume} ({at}): {copy}\n  {}, read {}, new {} ({}), stored {}, in \
         {}\n",
        ByteSize(copied.size),
        ByteSize(copied.bytes_read),
        ByteSize(copied.bytes_new),
        count(copied.chunks_new, "chunk"),
        ByteSize(copied.bytes_stored),
        took(copied.duration)
    )
}

pub(super) fn summary(summary: &CopySummary) -> String {
    let backups = count(summary.backups_copied, "backup");
    let existing = match summary.backups_existing {
        0 => String::new(),
        existing => format!("; {existing} there already"),
    };
    let target = printable(&summary.target);
    if summary.dry_run {
        return format!("dry run: would copy {backups} to {target}{existing}\n");
    }
    format!(
        "copied {backups} to {target}{existing}\n  read {}, stored {}, in {}\n",
        ByteSize(summary.bytes_read),
        ByteSize(summary.bytes_stored),
        took(summary.duration)
    )
}
