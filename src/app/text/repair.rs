//! The text of repairs.

use crate::app::human::{count, printable};
use crate::app::repair_message::{ParitySummary, RepairStepEntry, RepairSummary};
use crate::base::ByteSize;

use super::common::took;

pub(super) fn step(step: &RepairStepEntry) -> String {
    let what = match (step.action, step.dry_run, step.done) {
        ("none", ..) | (_, false, false) => "not repaired",
        ("remove", true, _) => "would be removed",
        ("remove", false, true) => "removed",
        (_, true, _) => "would be repaired",
        (_, false, true) => "repaired",
    };
    let (item, message) = (printable(&step.item), printable(&step.message));
    format!("{what}: {item}: {message}\n")
}

pub(super) fn summary(summary: &RepairSummary) -> String {
    let read = format!(
        "read {}, in {}",
        ByteSize(summary.bytes_read),
        took(summary.duration)
    );
    if summary.repaired == 0 && summary.unrepaired == 0 {
        let lost = summary.backups_affected.as_deref().unwrap_or_default();
        let none = match summary.what {
            "packs" if !lost.is_empty() => "no pack can be repaired: the lost data is in no pack",
            "packs" => "no pack is known to be damaged",
            _ => "no damage found",
        };
        return format!("{none} ({read})\n");
    }
    let repaired = count(summary.repaired, "object");
    let rest = match summary.unrepaired {
        0 => String::new(),
        rest => format!(", {} stay damaged", count(rest, "object")),
    };
    if summary.dry_run {
        let next = match summary.repaired {
            0 => "",
            _ => "run it with --yes to do that\n",
        };
        format!("{repaired} would be repaired{rest} ({read})\n{next}")
    } else {
        format!("repaired {repaired}{rest} ({read})\n")
    }
}

pub(super) fn parity(summary: &ParitySummary) -> String {
    if summary.rate == 0 {
        return "new objects have no parity; existing parity stays\n".to_owned();
    }
    let damaged = match summary.objects_damaged {
        0 => String::new(),
        damaged => format!(
            "  {} damaged and without parity\n",
            count(damaged, "object")
        ),
    };
    format!(
        "parity is {}% now\n  added {} to {}, {} had enough, in {}\n{damaged}",
        summary.rate,
        ByteSize(summary.bytes_stored),
        count(summary.objects_added, "object"),
        count(summary.objects_kept, "object"),
        took(summary.duration)
    )
}
