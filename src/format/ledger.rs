//! Section 22 (Ledger): entries of the ledger. An entry states which packs were read, when, and
//! how.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::json::{from_json_with_features, nullable, to_json};
use super::time::{RecordTime, check_time};
use super::wire::{Reader, len_u32};
use crate::base::ObjectHash;

/// An entry of the ledger. It decides nothing: a run that continues others skips the packs in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerBody {
    /// The runs and drills.
    pub about: LedgerInfo,
    /// The packs that were read, ascending by time and level, without duplicates.
    pub groups: Vec<VerifiedPacks>,
}

/// Packs that were read by one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPacks {
    /// When the run began, in milliseconds since 1970.
    pub time: u64,
    /// How they were read.
    pub level: VerifiedLevel,
    /// The packs, ascending, without duplicates. There is at least one.
    pub packs: Vec<ObjectHash>,
}

/// How a pack was verified. Each level includes the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum VerifiedLevel {
    /// All of its bytes were read. They have the hash that is its name.
    Hashed = 1,
    /// Each of its runs opened, and each blob has its id.
    Opened = 2,
}

/// The sealed JSON of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerInfo {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// When the entry was made, in RFC 3339.
    pub time: String,
    /// The name of the host.
    #[serde(default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Program and version.
    #[serde(default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Runs that read packs.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<AuditRun>,
    /// Restore drills.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drills: Vec<DrillRun>,
    /// Earlier entries of the same signer, which this entry repeats.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<ObjectHash>,
}

/// A run that read packs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRun {
    /// When it began.
    pub time: RecordTime,
    /// The name of the host.
    #[serde(default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `opened` or `hashed`.
    pub level: String,
    /// The seed of its random order: 64 digits.
    pub seed: ObjectHash,
    /// Packs that it read and found undamaged.
    pub packs: u64,
    /// Bytes of packs that it read.
    pub bytes: u64,
    /// Packs that it found damaged.
    pub damaged: u64,
    /// How long it ran, in seconds.
    pub seconds: u64,
    /// Whether it read all packs that it had to read.
    pub complete: bool,
}

/// The restore of one backup, to find out whether it works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillRun {
    /// When it began.
    pub time: RecordTime,
    /// The name of the host.
    #[serde(default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The record of the backup.
    pub backup: ObjectHash,
    /// The name of its volume.
    pub volume: String,
    /// Bytes of its content that were restored.
    pub bytes: u64,
    /// How long that took, in milliseconds.
    pub milliseconds: u64,
    /// The command that examined the restored content.
    #[serde(default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Whether it was restored completely, and the command succeeded.
    pub success: bool,
    /// Why not.
    #[serde(default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl VerifiedLevel {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hashed => "hashed",
            Self::Opened => "opened",
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Hashed),
            2 => Some(Self::Opened),
            _ => None,
        }
    }
}

impl LedgerBody {
    /// The maximum length of a body, in bytes.
    pub const BODY_MAX: usize = 16 << 20;
    /// A number of packs that fits into a body, together with the runs and drills of an entry.
    pub const PACKS_MAX: usize = 400_000;
    /// Bytes of a group before its packs.
    const GROUP_LEN: usize = 13;

    /// Returns the body, to be compressed and sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let about = to_json(&self.about);
        let mut out = len_u32(about.len()).to_le_bytes().to_vec();
        out.extend_from_slice(&about);
        out.extend_from_slice(&len_u32(self.groups.len()).to_le_bytes());
        for group in &self.groups {
            out.extend_from_slice(&group.time.to_le_bytes());
            out.push(group.level as u8);
            out.extend_from_slice(&len_u32(group.packs.len()).to_le_bytes());
            out.extend(group.packs.iter().flat_map(ObjectHash::as_bytes));
        }
        out
    }

    /// Decodes an opened body.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let len = reader.u32()? as usize;
        let about: LedgerInfo = from_json_with_features(reader.bytes(len)?)?;
        check_time("time", &about.time)?;
        let count = reader.count(Self::GROUP_LEN)?;
        let mut groups = Vec::with_capacity(count);
        for _ in 0..count {
            let time = reader.u64()?;
            let level = VerifiedLevel::from_byte(reader.u8()?);
            let level = level.ok_or(FormatError::BadValue("level"))?;
            let count = reader.count(ObjectHash::LEN)?;
            let packs = (0..count)
                .map(|_| reader.array().map(ObjectHash::from_bytes))
                .collect::<Result<Vec<_>, _>>()?;
            if packs.is_empty() || !packs.is_sorted_by(|a, b| a < b) {
                return Err(FormatError::BadValue("order of the packs"));
            }
            groups.push(VerifiedPacks { time, level, packs });
        }
        reader.end()?;
        let key = |group: &VerifiedPacks| (group.time, group.level);
        if groups.is_sorted_by(|a, b| key(a) < key(b)) {
            Ok(Self { about, groups })
        } else {
            Err(FormatError::BadValue("order of the groups"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(groups: Vec<VerifiedPacks>) -> LedgerBody {
        LedgerBody {
            about: LedgerInfo {
                requires: Vec::new(),
                time: "2026-11-21T10:00:00Z".into(),
                host: None,
                tool: None,
                runs: Vec::new(),
                drills: Vec::new(),
                replaces: Vec::new(),
            },
            groups,
        }
    }

    fn group(time: u64, level: VerifiedLevel, packs: &[u8]) -> VerifiedPacks {
        let packs = packs.iter().map(|n| ObjectHash::from_bytes([*n; 32]));
        VerifiedPacks {
            time,
            level,
            packs: packs.collect(),
        }
    }

    #[test]
    fn a_ledger_entry_round_trips_and_names_groups_and_packs_in_order_and_once() {
        use VerifiedLevel::{Hashed, Opened};
        let good = body(vec![
            group(1, Hashed, &[1, 2]),
            group(1, Opened, &[2]),
            group(2, Hashed, &[1]),
        ]);
        assert_eq!(LedgerBody::decode(&good.encode()).unwrap(), good);
        for bad in [
            vec![group(1, Hashed, &[2, 1])],
            vec![group(1, Hashed, &[1, 1])],
            vec![group(1, Hashed, &[])],
            vec![group(1, Opened, &[1]), group(1, Hashed, &[1])],
            vec![group(1, Hashed, &[1]), group(1, Hashed, &[2])],
            vec![group(2, Hashed, &[1]), group(1, Hashed, &[2])],
        ] {
            assert!(LedgerBody::decode(&body(bad).encode()).is_err());
        }
        let bytes = good.encode();
        for len in 0..bytes.len() {
            assert!(LedgerBody::decode(&bytes[..len]).is_err(), "{len}");
        }
        let mut unknown_level = body(vec![group(1, Hashed, &[1])]).encode();
        let at = unknown_level.len() - 32 - 5;
        unknown_level[at] = 3;
        assert!(LedgerBody::decode(&unknown_level).is_err());
    }
}
