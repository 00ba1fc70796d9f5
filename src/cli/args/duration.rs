//! Spans of time as users write them.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// Parses a span of time with units, or 0.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let refuse = |_| "give a time such as 24h, 30m or 7d, or 0".to_owned();
    let span: Span = text.parse().map_err(refuse)?;
    let time = span.to_duration(SpanRelativeTo::days_are_24_hours());
    Duration::try_from(time.map_err(refuse)?).map_err(|_| "a time cannot be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_units_or_is_zero() {
        for (text, seconds) in [
            ("0", 0),
            ("24h", 86_400),
            ("90s", 90),
            ("7d", 604_800),
            ("1h30m", 5400),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "-1h", "soon", "5"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
