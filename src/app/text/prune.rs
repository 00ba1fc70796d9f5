//! The text of `prune`.

use std::fmt::Write;
use std::time::Duration;

use crate::app::human::{count, duration};
use crate::app::prune_message::{PackAmount, PruneSummary};
use crate::base::ByteSize;

use super::common::took;

fn amount(amount: PackAmount) -> String {
    format!(
        "{} in {}",
        ByteSize(amount.bytes),
        count(amount.packs, "pack")
    )
}

/// Returns the outcome, the kept packs, and a line for each other amount that is not zero.
pub(super) fn pruned(summary: &PruneSummary) -> String {
    let plan = &summary.plan;
    let grace = duration(Duration::from_secs(plan.grace_seconds));
    let mut lines = Vec::new();
    let mut line = |of: PackAmount, text: &str| {
        if of.packs > 0 {
            lines.push(format!("{}: {text}", amount(of)));
        }
    };
    if summary.dry_run {
        line(plan.delete, "would be deleted (grace period over)");
        let end = if plan.grace_seconds == 0 {
            "deleted"
        } else {
            "marked"
        };
        line(plan.mark, &format!("unused, would be {end}"));
        line(
            plan.repack,
            &format!("partly unused, would be repacked and {end}"),
        );
        line(plan.merge, &format!("small, would be merged and {end}"));
    } else {
        line(summary.deleted, "deleted");
        line(summary.repacked, "partly unused, repacked");
        line(summary.merged, "small, merged into larger packs");
        line(
            summary.marked,
            &format!("marked; the first prune after {grace} deletes them"),
        );
    }
    let revoked_waits = summary.dry_run && plan.revoked > 0;
    let idle = lines.is_empty() && !revoked_waits;
    let mut line = |of: PackAmount, text: &str| {
        if of.packs > 0 {
            lines.push(format!("{}: {text}", amount(of)));
        }
    };
    line(
        plan.waiting,
        &format!("marked less than {grace} ago, waiting to be deleted"),
    );
    line(
        plan.young,
        &format!("unused, but younger than {grace} or being written"),
    );
    let mut text = match (summary.dry_run, idle) {
        (true, true) => "dry run: nothing to do\n".to_owned(),
        (true, false) => "dry run: nothing was done\n".to_owned(),
        (false, true) => "nothing to prune now\n".to_owned(),
        (false, false) => format!("pruned in {}\n", took(summary.duration)),
    };
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
    let _ = writeln!(
        text,
        "  {}: kept ({} unused)",
        amount(plan.keep),
        ByteSize(plan.bytes_unused)
    );
    text += &traffic(summary);
    text += &freed(summary, &grace);
    if summary.packs_rescued > 0 {
        let _ = writeln!(
            text,
            "  {} rescued: in use again",
            count(summary.packs_rescued, "pack")
        );
    }
    if summary.uploads_removed > 0 {
        let _ = writeln!(
            text,
            "  {} removed: incomplete",
            count(summary.uploads_removed, "upload")
        );
    }
    if revoked_waits {
        let _ = writeln!(
            text,
            "  {} would be removed: their keys were revoked",
            count(plan.revoked, "object")
        );
    }
    if summary.revoked_removed > 0 {
        let _ = writeln!(
            text,
            "  {} removed: their keys were revoked",
            count(summary.revoked_removed, "object")
        );
    }
    text
}

/// Returns a line that states how much is read and stored; an empty text if there is nothing to
/// state.
fn traffic(summary: &PruneSummary) -> String {
    let (read, written) = (
        ByteSize(summary.bytes_read),
        ByteSize(summary.bytes_written),
    );
    let copied = summary.plan.repack_bytes_used + summary.plan.merge_bytes_used;
    if summary.dry_run && copied > 0 {
        let copied = ByteSize(copied);
        format!("  would read about {copied}, and store as much\n")
    } else if summary.bytes_read > 0 {
        format!("  read {read}, stored {written}\n")
    } else if summary.bytes_written > 0 {
        format!("  index written again: {written}\n")
    } else {
        String::new()
    }
}

/// Returns a line that states how much space is freed, and when; an empty text if none is freed.
fn freed(summary: &PruneSummary, grace: &str) -> String {
    let plan = &summary.plan;
    // The used data of repacked and merged packs takes space again, in other packs.
    let copied = plan.repack_bytes_used + plan.merge_bytes_used;
    let at_once = plan.grace_seconds == 0;
    let (now, marked) = if summary.dry_run {
        let marked = plan.mark.bytes + plan.repack.bytes + plan.merge.bytes - copied;
        (plan.delete.bytes, marked)
    } else if at_once {
        (
            summary.deleted.bytes.saturating_sub(copied),
            summary.marked.bytes,
        )
    } else {
        (summary.deleted.bytes, summary.marked.bytes)
    };
    // Without a grace period, all marked packs are deleted in the same run.
    let later = plan.waiting.bytes + if at_once { 0 } else { marked };
    let now = now
        + if summary.dry_run && at_once {
            marked
        } else {
            0
        };
    match (now, later) {
        (0, 0) => String::new(),
        (now, 0) => format!("  space: {} free now\n", ByteSize(now)),
        (now, later) => format!(
            "  space: {} free now, {} more with the first prune after {grace}\n",
            ByteSize(now),
            ByteSize(later)
        ),
    }
}
