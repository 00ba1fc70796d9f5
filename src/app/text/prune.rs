//! The text of `prune`.

use std::fmt::Write;
use std::time::Duration;

use crate::app::human::{count, duration};
use crate::app::message::{PackAmount, PruneSummary};
use crate::base::ByteSize;

use super::common::took;

fn amount(amount: PackAmount) -> String {
    format!(
        "{} in {}",
        ByteSize(amount.bytes),
        count(amount.packs, "pack")
    )
}

/// Returns a line for each amount that is not zero.
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
    } else {
        line(summary.deleted, "deleted");
        line(summary.repacked, "partly unused, repacked");
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
    let (read, written) = (
        ByteSize(summary.bytes_read),
        ByteSize(summary.bytes_written),
    );
    if summary.bytes_read > 0 {
        let _ = writeln!(text, "  read {read}, stored {written}");
    } else if summary.bytes_written > 0 {
        let _ = writeln!(text, "  index written again: {written}");
    }
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

/// Returns a line that states how much space is freed, and when.
fn freed(summary: &PruneSummary, grace: &str) -> String {
    let plan = &summary.plan;
    let (now, marked) = if summary.dry_run {
        let marked = [plan.mark.bytes, plan.repack.bytes - plan.repack_bytes_used];
        (plan.delete.bytes, marked.iter().sum())
    } else {
        (summary.deleted.bytes, summary.marked.bytes)
    };
    // Without a grace period, all marked packs are deleted in the same run.
    let later = plan.waiting.bytes + if plan.grace_seconds == 0 { 0 } else { marked };
    let now = now
        + if summary.dry_run && plan.grace_seconds == 0 {
            marked
        } else {
            0
        };
    match (now, later) {
        (0, 0) => String::new(),
        (now, 0) => format!("  space: {} free now\n", ByteSize(now)),
        (now, later) => format!(
            "  space: {} free now, {} more with the first prune in {grace}\n",
            ByteSize(now),
            ByteSize(later)
        ),
    }
}
