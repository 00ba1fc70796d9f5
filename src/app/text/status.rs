//! The text of progress.

use std::fmt::Write as _;
use std::time::Duration;

use crate::app::human::duration;
use crate::app::message::Status;
use crate::base::ByteSize;

/// Returns the progress as one line of at most 80 columns.
pub(crate) fn status(status: &Status) -> String {
    let is_bytes = counts_bytes(status.phase);
    let amount = |number: u64| {
        if is_bytes {
            ByteSize(number).to_string()
        } else {
            number.to_string()
        }
    };
    let done = amount(status.bytes_done);
    let mut text = match (status.percent_done, status.total_bytes) {
        (Some(part), Some(total)) => {
            format!(
                "{}: {:.0} % ({done} of {})",
                phase(status.phase),
                part * 100.0,
                amount(total)
            )
        }
        _ => format!("{}: {done}", phase(status.phase)),
    };
    if let Some(rate) = status.bytes_done.checked_div(status.seconds_elapsed)
        && is_bytes
    {
        let _ = write!(text, ", {}/s", ByteSize(rate));
    }
    if let Some(seconds) = status.seconds_remaining {
        let _ = write!(text, ", {} left", duration(Duration::from_secs(seconds)));
    }
    text
}

/// Returns whether a phase counts bytes. All other phases count backups or trees.
pub(crate) fn counts_bytes(phase: &str) -> bool {
    !matches!(phase, "check_structure" | "mark")
}

/// Returns the name of a phase as words.
pub(crate) fn phase(name: &str) -> String {
    name.replace('_', " ")
}
