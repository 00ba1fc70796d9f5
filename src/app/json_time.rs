//! Times in JSON messages.

use jiff::Timestamp;
use serde::Serializer;

/// Writes a time in RFC 3339, to the second.
pub(super) fn rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&to_the_second(*time))
}

/// Drops the fraction of a second, since jq's `fromdate` cannot read it.
fn to_the_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Writes a time in RFC 3339, or null.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(super) fn optional_rfc3339<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}
