//! Sizes of leaves and chunks, and sizes as users write them.

use std::fmt;
use std::str::FromStr;

/// Bytes in a leaf, the unit in which work is distributed. Fixed by the format.
pub const LEAF_SIZE: u64 = 4 << 20;
/// Bytes that sealing adds to a message: the tag of Poly1305.
pub const TAG_LEN: usize = 16;
/// The smallest chunk size a project can have, in bytes.
pub const CHUNK_SIZE_MIN: u32 = 4 << 10;
/// The largest chunk size a project can have, in bytes; also the largest plain blob.
pub const CHUNK_SIZE_MAX: u32 = 4 << 20;
/// The chunk size of a project by default.
pub const CHUNK_SIZE_DEFAULT: ChunkSize = ChunkSize(64 << 10);

/// A project's chunk size: a power of two from 4 KiB to 4 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSize(u32);

impl ChunkSize {
    /// Returns the chunk size of this number of bytes, or `None` if it is not a valid chunk size.
    #[must_use]
    pub fn new(bytes: u64) -> Option<Self> {
        let bytes = u32::try_from(bytes).ok()?;
        let fits = bytes.is_power_of_two() && (CHUNK_SIZE_MIN..=CHUNK_SIZE_MAX).contains(&bytes);
        fits.then_some(Self(bytes))
    }

    /// Returns the size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// Returns the size in bytes, for indexing memory.
    #[must_use]
    pub const fn usize(self) -> usize {
        self.0 as usize
    }

    /// Returns the number of chunks in a leaf: 1 to 1024.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "1024 at most")]
    pub const fn per_leaf(self) -> usize {
        (LEAF_SIZE / self.0 as u64) as usize
    }
}

/// Converts a length or offset for indexing memory.
///
/// Never truncates: the program is only for 64-bit systems, and does not compile for others.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the assertion rules out systems on which it could truncate"
)]
pub(crate) const fn to_usize(n: u64) -> usize {
    const { assert!(usize::BITS >= u64::BITS, "cuttlebone needs a 64-bit system") };
    n as usize
}

/// A number of bytes as users write it: `512`, `64K`, `20M`, `1.5GiB`. All units are powers of
/// 1024, even `KB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A string is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("“{0}” is not a size; write a number and a unit, such as 512, 64K, 20M or 1.5G")]
pub struct ParseSizeError(String);

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl fmt::Display for ByteSize {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = 0;
        let mut scaled = self.0 as f64;
        while scaled >= 1023.95 && unit + 1 < UNITS.len() {
            scaled /= 1024.0;
            unit += 1;
        }
        let text = match unit {
            0 => format!("{} B", self.0),
            _ => format!("{scaled:.1} {}", UNITS[unit]),
        };
        f.pad(&text)
    }
}

impl FromStr for ByteSize {
    type Err = ParseSizeError;

    #[expect(
        clippy::cast_precision_loss,
        reason = "users write fractions of a unit"
    )]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "range is checked"
    )]
    fn from_str(text: &str) -> Result<Self, ParseSizeError> {
        let refuse = || ParseSizeError(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = trimmed.split_at(split.unwrap_or(trimmed.len()));
        let power = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 1,
            "m" | "mb" | "mib" => 2,
            "g" | "gb" | "gib" => 3,
            "t" | "tb" | "tib" => 4,
            "p" | "pb" | "pib" => 5,
            "e" | "eb" | "eib" => 6,
            _ => return Err(refuse()),
        };
        let factor = 1u64 << (10 * power);
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Self).ok_or_else(refuse);
        }
        let bytes = number.parse::<f64>().map_err(|_| refuse())? * factor as f64;
        if !(0.0..1.8e19).contains(&bytes) {
            return Err(refuse());
        }
        Ok(Self(bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_as_users_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64K", 64 << 10),
            ("64k", 64 << 10),
            ("20MB", 20 << 20),
            ("20 MiB", 20 << 20),
            ("1.5G", 3 << 29),
            ("16T", 16 << 40),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in [
            "",
            "K",
            "-1",
            "1X",
            "1e3",
            "99999999999999999999",
            "1.2.3M",
            "5iii",
            "9999999P",
        ] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_shown_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 30, "1.0 GiB"),
            ((1 << 20) - 1, "1.0 MiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    #[test]
    fn chunk_sizes_are_powers_of_two_within_bounds() {
        for (bytes, ok) in [
            (4096, true),
            (65536, true),
            (4 << 20, true),
            (2048, false),
            (8 << 20, false),
            (65537, false),
            (0, false),
        ] {
            assert_eq!(ChunkSize::new(bytes).is_some(), ok, "{bytes}");
        }
    }
}
