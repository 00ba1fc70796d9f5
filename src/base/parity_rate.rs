//! How much parity is stored: redundant bytes from which damaged objects can be repaired.

use std::fmt;
use std::str::FromStr;

/// The parity of large objects, in percent of their size. Small objects get more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParityRate(u8);

/// The error if a text is neither a rate of parity nor 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give a whole number of percent from 1% to 50%, or 0 for none")]
pub struct ParityRateError;

impl ParityRate {
    /// The highest rate, in percent.
    pub const MAX: u8 = 50;

    /// Returns the rate of `percent` percent. Returns `None` if `percent` is 0 or more than
    /// [`MAX`](Self::MAX).
    #[must_use]
    pub fn new(percent: u64) -> Option<Self> {
        let percent = u8::try_from(percent).ok()?;
        (1..=Self::MAX).contains(&percent).then_some(Self(percent))
    }

    /// Returns the rate in percent.
    #[must_use]
    pub const fn percent(self) -> u8 {
        self.0
    }

    /// Reads a rate such as “5%” or “5”. Returns `None` for “0” and “0%”, which mean no parity.
    pub fn parse(text: &str) -> Result<Option<Self>, ParityRateError> {
        let digits = text.strip_suffix('%').unwrap_or(text);
        match u64::from_str(digits) {
            Ok(0) => Ok(None),
            Ok(percent) => Self::new(percent).map(Some).ok_or(ParityRateError),
            Err(_) => Err(ParityRateError),
        }
    }
}

impl fmt::Display for ParityRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_whole_number_of_percent_up_to_50() {
        assert_eq!(ParityRate::parse("5%"), Ok(ParityRate::new(5)));
        assert_eq!(ParityRate::parse("50"), Ok(ParityRate::new(50)));
        assert_eq!(ParityRate::parse("0%"), Ok(None));
        for wrong in ["", "%", "51%", "-1", "2.5%", "5 %", "5%%", "300"] {
            assert_eq!(ParityRate::parse(wrong), Err(ParityRateError), "{wrong}");
        }
    }
}
