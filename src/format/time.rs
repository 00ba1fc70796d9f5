//! Times in JSON: RFC 3339 with the restrictions of `docs/format.md`. The crate `jiff` alone would
//! also accept a space in place of the `T`, times without seconds, and more.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::FormatError;

/// A time, and its text, which may state an offset from UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordTime {
    text: String,
    at: Timestamp,
}

impl RecordTime {
    /// Returns the point in time.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

impl From<Timestamp> for RecordTime {
    fn from(at: Timestamp) -> Self {
        let text = at.to_string();
        Self { text, at }
    }
}

impl FromStr for RecordTime {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let at = parse(text).ok_or(FormatError::BadValue("time"))?;
        let text = text.to_owned();
        Ok(Self { text, at })
    }
}

impl fmt::Display for RecordTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for RecordTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for RecordTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Fails if `text` is not a time. The error names `field`.
pub(super) fn check_time(field: &'static str, text: &str) -> Result<(), FormatError> {
    match parse(text) {
        Some(_) => Ok(()),
        None => Err(FormatError::BadValue(field)),
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let shape: String = text
        .chars()
        .map(|c| match c {
            '0'..='9' => '0',
            c => c.to_ascii_uppercase(),
        })
        .collect();
    let mut zone = shape.strip_prefix("0000-00-00T00:00:00")?;
    if let Some(fraction) = zone.strip_prefix('.') {
        zone = fraction.trim_start_matches('0');
        if !(1..=9).contains(&(fraction.len() - zone.len())) {
            return None;
        }
    }
    let zone_fits = match zone {
        "Z" => true,
        "+00:00" | "-00:00" => text.get(text.len() - 5..text.len() - 3)? < "24",
        _ => false,
    };
    let year_fits = ("0001"..="9998").contains(&text.get(..4)?);
    if zone_fits && year_fits {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_keeps_its_text_and_is_a_point_in_time() {
        let json = r#""2026-11-21T13:00:01.5+01:00""#;
        let time: RecordTime = serde_json::from_str(json).unwrap();
        assert_eq!(time.at(), "2026-11-21T12:00:01.5Z".parse().unwrap());
        assert_eq!(serde_json::to_string(&time).unwrap(), json);
        assert!(serde_json::from_str::<RecordTime>(r#""2026-11-21 13:00:01Z""#).is_err());
    }
}
