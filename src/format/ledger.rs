//! Entries of the ledger: section 22 (Ledger) of `docs/format.md`. An entry states which packs were
//! read, when, and how.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::json::{from_json_with_features, nullable, to_json};
use super::time::{RecordTime, check_time};
use super::wire::{Reader, len_u32};
use crate::base::ObjectHash;

/// An entry of the ledger. It has two uses. Reports show it, and a check that continues earlier
/// ones skips packs that an entry states as undamaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerBody {
    /// The runs of checks, and the restore drills.
    pub about: LedgerInfo,
    /// The packs that were read, in groups. The groups are in ascending order of time and then
    /// result, without duplicates.
    pub groups: Vec<ReadPacks>,
}

/// Packs that one run read with the same result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPacks {
    /// When the run began, in milliseconds since 1970-01-01 UTC.
    pub time: u64,
    /// The result of reading the packs.
    pub result: ReadResult,
    /// The packs, ascending, without duplicates. There is at least one.
    pub packs: Vec<ObjectHash>,
}

/// The result of reading a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadResult {
    /// The pack is damaged.
    Damaged,
    /// Verification at this level found no damage.
    Verified(VerifiedLevel),
}

/// How a pack was verified. Each level includes the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifiedLevel {
    /// All bytes of the pack were read. Their hash is the name of the pack.
    Hashed,
    /// Each run of the pack opened, and each blob has its id.
    Opened,
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
    /// Runs of checks that read packs.
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

/// A run of a check that read packs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRun {
    /// When it began.
    pub time: RecordTime,
    /// The name of the host.
    #[serde(default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How it verified packs.
    pub level: VerifiedLevel,
    /// The seed that determines the order in which it read packs: 64 hexadecimal digits.
    pub seed: ObjectHash,
    /// The number of packs that it read and found undamaged.
    pub packs: u64,
    /// The number of bytes of packs that it read.
    pub bytes: u64,
    /// The number of packs that it found damaged.
    pub damaged: u64,
    /// How long it ran, in seconds.
    pub seconds: u64,
    /// Whether it read all packs that it had to read.
    pub complete: bool,
}

/// A restore drill: the restore of one backup, to find out whether it works.
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
    /// The name of the backup's volume.
    pub volume: String,
    /// The number of bytes of the backup that were restored.
    pub bytes: u64,
    /// How long the restore took, in milliseconds.
    pub milliseconds: u64,
    /// The command that examined the restored content; `None` if there was no such command.
    #[serde(default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Whether the backup was restored completely, and the command, if any, succeeded.
    pub success: bool,
    /// Why the restore or the command failed; `None` if both succeeded.
    #[serde(default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl VerifiedLevel {
    /// Returns the name of the level in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hashed => "hashed",
            Self::Opened => "opened",
        }
    }
}

impl ReadResult {
    /// Returns the byte that encodes the result in an entry.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Damaged => 0,
            Self::Verified(VerifiedLevel::Hashed) => 1,
            Self::Verified(VerifiedLevel::Opened) => 2,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Damaged),
            1 => Some(Self::Verified(VerifiedLevel::Hashed)),
            2 => Some(Self::Verified(VerifiedLevel::Opened)),
            _ => None,
        }
    }
}

impl LedgerInfo {
    /// The maximum number of runs in an entry.
    pub const RUNS_MAX: usize = 100;
    /// The maximum number of drills in an entry.
    pub const DRILLS_MAX: usize = 100;
    /// The maximum number of replaced entries that an entry names.
    pub const REPLACES_MAX: usize = 1000;
    /// The maximum length of `host`, `tool` and `volume`, in bytes.
    pub const NAME_MAX: usize = 1024;
    /// The maximum length of `command` and `problem`, in bytes.
    pub const TEXT_MAX: usize = 4096;

    /// Fails if a list or a text is longer than allowed. The limits keep the holder of one key from
    /// filling the memory of all other readers.
    fn check_limits(&self) -> Result<(), FormatError> {
        let names = [&self.host, &self.tool].into_iter().flatten();
        let names = names.chain(self.runs.iter().filter_map(|run| run.host.as_ref()));
        let names = names.chain(self.drills.iter().filter_map(|drill| drill.host.as_ref()));
        let mut names = names.chain(self.drills.iter().map(|drill| &drill.volume));
        let drills = self.drills.iter();
        let mut texts = drills.flat_map(|drill| drill.command.iter().chain(&drill.problem));
        if self.runs.len() > Self::RUNS_MAX
            || self.drills.len() > Self::DRILLS_MAX
            || self.replaces.len() > Self::REPLACES_MAX
            || names.any(|name| name.len() > Self::NAME_MAX)
            || texts.any(|text| text.len() > Self::TEXT_MAX)
        {
            return Err(FormatError::BadValue("length of a list or text"));
        }
        Ok(())
    }
}

impl LedgerBody {
    /// The maximum length of a body, in bytes.
    pub const BODY_MAX: usize = 4 << 20;
    /// A number of packs that fits into a body, together with JSON that
    /// [`has_room_for`](Self::has_room_for) accepts.
    pub const PACKS_MAX: usize = 50_000;
    /// The number of bytes of a group before its packs: time, result and number of packs.
    const GROUP_LEN: usize = 13;
    /// The maximum length of the JSON of an entry with [`PACKS_MAX`](Self::PACKS_MAX) packs, each
    /// in a group of its own. The length of the JSON and the number of groups take four bytes each.
    const INFO_MAX: usize =
        Self::BODY_MAX - 2 * 4 - Self::PACKS_MAX * (Self::GROUP_LEN + ObjectHash::LEN);

    /// Returns whether this JSON and [`PACKS_MAX`](Self::PACKS_MAX) packs fit into a body. JSON may
    /// take six bytes for one byte of a text.
    #[must_use]
    pub fn has_room_for(about: &LedgerInfo) -> bool {
        to_json(about).len() <= Self::INFO_MAX
    }

    /// Returns the body, to be compressed and sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let about = to_json(&self.about);
        let mut out = len_u32(about.len()).to_le_bytes().to_vec();
        out.extend_from_slice(&about);
        out.extend_from_slice(&len_u32(self.groups.len()).to_le_bytes());
        for group in &self.groups {
            out.extend_from_slice(&group.time.to_le_bytes());
            out.push(group.result.byte());
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
        about.check_limits()?;
        let count = reader.count(Self::GROUP_LEN)?;
        let mut groups = Vec::with_capacity(count);
        for _ in 0..count {
            let time = reader.u64()?;
            let result = ReadResult::from_byte(reader.u8()?);
            let result = result.ok_or(FormatError::BadValue("result"))?;
            let count = reader.count(ObjectHash::LEN)?;
            let packs = (0..count)
                .map(|_| reader.array().map(ObjectHash::from_bytes))
                .collect::<Result<Vec<_>, _>>()?;
            if packs.is_empty() || !packs.is_sorted_by(|a, b| a < b) {
                return Err(FormatError::BadValue("order of the packs"));
            }
            groups.push(ReadPacks {
                time,
                result,
                packs,
            });
        }
        reader.end()?;
        let key = |group: &ReadPacks| (group.time, group.result);
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

    fn body(groups: Vec<ReadPacks>) -> LedgerBody {
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

    fn group(time: u64, result: ReadResult, packs: &[u8]) -> ReadPacks {
        let packs = packs.iter().map(|n| ObjectHash::from_bytes([*n; 32]));
        ReadPacks {
            time,
            result,
            packs: packs.collect(),
        }
    }

    #[test]
    fn a_ledger_entry_round_trips_and_names_groups_and_packs_in_order_and_once() {
        use ReadResult::{Damaged, Verified};
        use VerifiedLevel::{Hashed, Opened};
        let good = body(vec![
            group(1, Damaged, &[3]),
            group(1, Verified(Hashed), &[1, 2]),
            group(1, Verified(Opened), &[2]),
            group(2, Verified(Hashed), &[1]),
        ]);
        assert_eq!(LedgerBody::decode(&good.encode()).unwrap(), good);
        for bad in [
            vec![group(1, Verified(Hashed), &[2, 1])],
            vec![group(1, Verified(Hashed), &[1, 1])],
            vec![group(1, Verified(Hashed), &[])],
            vec![
                group(1, Verified(Opened), &[1]),
                group(1, Verified(Hashed), &[1]),
            ],
            vec![
                group(1, Verified(Hashed), &[1]),
                group(1, Verified(Hashed), &[2]),
            ],
            vec![
                group(2, Verified(Hashed), &[1]),
                group(1, Verified(Hashed), &[2]),
            ],
        ] {
            assert!(LedgerBody::decode(&body(bad).encode()).is_err());
        }
        let bytes = good.encode();
        for len in 0..bytes.len() {
            assert!(LedgerBody::decode(&bytes[..len]).is_err(), "{len}");
        }
        let mut unknown_result = body(vec![group(1, Verified(Hashed), &[1])]).encode();
        let at = unknown_result.len() - 32 - 5;
        unknown_result[at] = 3;
        assert!(LedgerBody::decode(&unknown_result).is_err());
    }

    #[test]
    fn lists_and_texts_longer_than_allowed_are_refused() {
        let run = AuditRun {
            time: RecordTime::from(jiff::Timestamp::UNIX_EPOCH),
            host: None,
            level: VerifiedLevel::Hashed,
            seed: ObjectHash::from_bytes([7; 32]),
            packs: 1,
            bytes: 1,
            damaged: 0,
            seconds: 1,
            complete: true,
        };
        let limits = |change: &dyn Fn(&mut LedgerInfo, usize), max: usize| {
            for (len, is_allowed) in [(max, true), (max + 1, false)] {
                let mut entry = body(Vec::new());
                change(&mut entry.about, len);
                let decoded = LedgerBody::decode(&entry.encode());
                assert_eq!(decoded.is_ok(), is_allowed, "{len}");
            }
        };
        let drill = |volume: usize, problem: usize| DrillRun {
            time: RecordTime::from(jiff::Timestamp::UNIX_EPOCH),
            host: None,
            backup: ObjectHash::from_bytes([8; 32]),
            volume: "v".repeat(volume),
            bytes: 1,
            milliseconds: 1,
            command: None,
            success: false,
            problem: Some("p".repeat(problem)),
        };
        limits(&|about, len| about.runs = vec![run.clone(); len], 100);
        limits(&|about, len| about.drills = vec![drill(1, 1); len], 100);
        limits(&|about, len| about.replaces = vec![run.seed; len], 1000);
        limits(&|about, len| about.host = Some("h".repeat(len)), 1024);
        limits(&|about, len| about.drills = vec![drill(len, 1)], 1024);
        limits(&|about, len| about.drills = vec![drill(1, len)], 4096);
    }
}
