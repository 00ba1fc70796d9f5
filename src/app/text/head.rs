//! The text of `head`: a statement of the newest entry of the log, for people to print, sign by
//! hand and lock away.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use crate::app::message::HeadStatement;

/// Returns the fields of the statement, and the QR code if there is one.
pub(super) fn head(head: &HeadStatement, zone: &TimeZone) -> String {
    let time = head.time.to_zoned(zone.clone()).strftime("%F %T %:z");
    let mut text = String::from("CUTTLEBONE HEAD\n\n");
    for (name, value) in [
        ("repository", "_".repeat(40)),
        ("project", head.project.clone()),
        ("project id", grouped(&head.project_id)),
        ("entry number", head.number.to_string()),
        ("entry", grouped(&head.entry[..40])),
        ("signing key", grouped(&head.fingerprint)),
        ("written", time.to_string()),
        ("checksum", head.checksum.clone()),
    ] {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{name:<14}{value}");
    }
    text += "\nIf the log ever lacks this entry, the repository was rolled back.\n";
    if let Some(qr) = &head.qr {
        let _ = write!(text, "\n{qr}\n");
    }
    text
}

/// Returns hexadecimal digits in groups of four.
fn grouped(digits: &str) -> String {
    let groups = digits.as_bytes().chunks(4);
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(" ")
}
