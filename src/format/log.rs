//! Entries of the log: section 12 (Log) of `docs/format.md`. Entries state which objects were added
//! and which were removed on purpose. The kinds and hashes of these objects, and the number and
//! time of each entry, are not encrypted. So someone without a key can verify a store or copy it.
//! All other details are sealed.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::header::{HEADER_LEN, Magic};
use super::json::{from_json_with_features, nullable, object, to_json};
use super::record::VolumeInfo;
use super::time::RecordTime;
use super::wire::{Reader, len_u32};
use crate::base::{ObjectHash, ProjectId, SignerId};

/// The length of the fields before the lists, in bytes.
const FIELDS_LEN: usize = 68;
const SIGNATURE_LEN: usize = 64;
/// The length of a kind and a hash, in bytes.
const ITEM_LEN: usize = 33;
const NONCE_LEN: usize = 24;
/// The minimum length of the nonce and the sealed part together, in bytes. The smallest sealed part
/// is a tag.
const SEALED_LEN_MIN: usize = NONCE_LEN + 16;
const SUMMARY: u32 = 1;

/// The kind of an object that the log names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
#[repr(u8)]
pub enum LogKind {
    Record = 1,
    Segment = 2,
    ChunkPack = 3,
    TreePack = 4,
    Certificate = 5,
    Settings = 6,
    Void = 7,
    Audit = 8,
    Parity = 9,
}

impl LogKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Record,
        Self::Segment,
        Self::ChunkPack,
        Self::TreePack,
        Self::Certificate,
        Self::Settings,
        Self::Void,
        Self::Audit,
        Self::Parity,
    ];

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Record,
            2 => Self::Segment,
            3 => Self::ChunkPack,
            4 => Self::TreePack,
            5 => Self::Certificate,
            6 => Self::Settings,
            7 => Self::Void,
            8 => Self::Audit,
            9 => Self::Parity,
            _ => return None,
        })
    }
}

/// An object that the log names. Items are ordered by kind, then by hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogItem {
    /// The kind of the object.
    pub kind: LogKind,
    /// The hash that names the object.
    pub hash: ObjectHash,
}

/// The plain part of an entry. All lists are ascending and without duplicates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogEntry {
    /// One more than the largest number of the entries in `previous`; 1 if there are none.
    pub number: u64,
    /// When the entry was written, in seconds since 1970-01-01 UTC.
    pub time: u64,
    /// Whether `added` lists all objects of the project. Then a reader needs no earlier entry.
    pub summary: bool,
    /// The hashes of the earlier entries that no other entry named as previous when this one was
    /// written.
    pub previous: Vec<ObjectHash>,
    /// Objects that the project has from now on.
    pub added: Vec<LogItem>,
    /// Objects that may be missing from now on.
    pub removed: Vec<LogItem>,
}

/// The sealed part of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDetails {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// The name of the host that wrote the entry.
    #[serde(default)]
    pub host: Option<String>,
    /// The program that wrote the entry, and its version.
    #[serde(default)]
    pub tool: Option<String>,
    /// Details of removed records.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed_records: Vec<RemovedRecord>,
    /// Signers that were revoked.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<Revoked>,
    /// Missing records, certificates and entries whose loss was accepted.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<ObjectHash>,
}

/// Details of a removed record. Without them, readers cannot always order the remaining
/// records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedRecord {
    /// The hash of the record.
    pub record: ObjectHash,
    /// The volume of the backup.
    #[serde(deserialize_with = "object")]
    pub volume: VolumeInfo,
    /// The records of the same volume that the removed record followed.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub follows: Vec<ObjectHash>,
    /// The records that no other record named as head when the removed record was made.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<ObjectHash>,
    /// The record that the removed record had replaced; `None` if it replaced none, or if no full
    /// key signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<ObjectHash>,
    /// The time of the backup.
    pub time: RecordTime,
    /// Why the record was removed, in words.
    #[serde(default, deserialize_with = "nullable")]
    pub reason: String,
}

impl RemovedRecord {
    /// The maximum number of hashes in `follows`, and in `heads`. Without this limit, the holder of
    /// a write key could name any number of records, and the log would keep their hashes forever.
    pub const HASHES_MAX: usize = 1000;
    /// The maximum length of the name of the volume, in bytes.
    pub const VOLUME_MAX: usize = 4096;

    /// Returns the records that the removed record named as heads, and those that it followed.
    pub fn names(&self) -> impl Iterator<Item = &ObjectHash> {
        self.heads.iter().chain(&self.follows)
    }

    /// Removes unknown and repeated hashes from `follows` and from `heads`. If more than
    /// [`HASHES_MAX`](Self::HASHES_MAX) remain in a list, keeps the first ones.
    pub fn keep_known(&mut self, known: impl Fn(&ObjectHash) -> bool) {
        for hashes in [&mut self.heads, &mut self.follows] {
            let mut seen = HashSet::new();
            hashes.retain(|id| known(id) && seen.insert(*id));
            hashes.truncate(Self::HASHES_MAX);
        }
    }
}

/// A signer that was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// The hash of a certificate that names the signer.
    pub certificate: ObjectHash,
    /// The signer. All certificates that name it are revoked.
    pub signer: SignerId,
    /// Records of the signer that still count. All records of the signer that these reach through
    /// `follows` and `heads` count, too.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<ObjectHash>,
}

/// An entry as it is stored. A reader must not rely on anything in it until the signature is
/// verified.
#[derive(Debug)]
pub struct StoredEntry<'a> {
    /// The header.
    pub header: [u8; HEADER_LEN],
    /// All bytes before the signature, which covers their hash.
    pub signed: &'a [u8],
    /// The signature.
    pub signature: [u8; SIGNATURE_LEN],
}

/// An entry whose signature was verified.
#[derive(Debug, PartialEq, Eq)]
pub struct OpenedEntry<'a> {
    /// The project that the entry belongs to.
    pub project: ProjectId,
    /// The plain part.
    pub entry: LogEntry,
    /// All bytes before the nonce. The associated data of the sealed part includes their hash.
    pub plain: &'a [u8],
    /// The nonce of the sealed part, and the sealed part; `None` if the entry has no sealed part.
    pub sealed: Option<([u8; NONCE_LEN], &'a [u8])>,
}

impl LogEntry {
    /// The maximum length of an entry, in bytes.
    pub const LEN_MAX: usize = 64 << 20;
    /// A number of objects that fits into an entry, even with the largest sealed part.
    pub const ITEMS_MAX: usize = 900_000;

    /// Returns the bytes before the nonce. `sealed_len` is the number of bytes that the nonce and
    /// the sealed part will have together, or 0 if there is no sealed part.
    #[must_use]
    pub fn encode(&self, project: ProjectId, sealed_len: usize) -> Vec<u8> {
        let items = self.added.len() + self.removed.len();
        let len = FIELDS_LEN + self.previous.len() * 32 + items * ITEM_LEN;
        let mut out = Vec::with_capacity(len + sealed_len + SIGNATURE_LEN);
        out.extend_from_slice(&Magic::Log.header());
        out.extend_from_slice(project.as_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&u32::from(self.summary).to_le_bytes());
        for len in [
            self.previous.len(),
            self.added.len(),
            self.removed.len(),
            sealed_len,
        ] {
            out.extend_from_slice(&len_u32(len).to_le_bytes());
        }
        for hash in &self.previous {
            out.extend_from_slice(hash.as_bytes());
        }
        for item in self.added.iter().chain(&self.removed) {
            out.push(item.kind as u8);
            out.extend_from_slice(item.hash.as_bytes());
        }
        out
    }
}

impl<'a> StoredEntry<'a> {
    /// Splits an entry into its header, the signed bytes and the signature.
    pub fn split(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let header = Magic::Log.read_unverified(&mut Reader::new(bytes))?;
        let (signed, signature) = bytes
            .split_last_chunk()
            .filter(|(signed, _)| signed.len() >= FIELDS_LEN)
            .ok_or(FormatError::Truncated)?;
        Ok(Self {
            header: *header.as_bytes(),
            signed,
            signature: *signature,
        })
    }

    /// Decodes the signed bytes. The signature must have been verified.
    pub fn decode(&self) -> Result<OpenedEntry<'a>, FormatError> {
        let mut reader = Reader::new(self.signed);
        Magic::Log.read(&mut reader)?;
        let project = ProjectId::from_bytes(reader.array()?);
        let (number, time) = (reader.u64()?, reader.u64()?);
        let flags = reader.u32()?;
        if flags & !SUMMARY != 0 {
            return Err(FormatError::ReservedNotZero);
        }
        let mut len = || Ok::<_, FormatError>(reader.u32()? as usize);
        let (previous, added, removed, sealed) = (len()?, len()?, len()?, len()?);
        if sealed > 0 && sealed < SEALED_LEN_MIN {
            return Err(FormatError::BadValue("length of the sealed part"));
        }
        let expected = [(previous, 32), (added, ITEM_LEN), (removed, ITEM_LEN)]
            .iter()
            .try_fold(sealed, |sum, (count, each)| {
                count.checked_mul(*each)?.checked_add(sum)
            });
        match expected {
            Some(expected) if expected < reader.left() => {
                return Err(FormatError::TrailingBytes(reader.left() - expected));
            }
            Some(expected) if expected == reader.left() => {}
            _ => return Err(FormatError::Truncated),
        }
        let previous = ascending("previous", previous, || {
            reader.array().map(ObjectHash::from_bytes)
        })?;
        let added = ascending("added", added, || item(&mut reader))?;
        let removed = ascending("removed", removed, || item(&mut reader))?;
        if (number == 1) != previous.is_empty() || number == 0 {
            return Err(FormatError::BadValue("number"));
        }
        let plain = &self.signed[..self.signed.len() - sealed];
        let sealed = if sealed == 0 {
            None
        } else {
            Some((reader.array()?, reader.bytes(sealed - NONCE_LEN)?))
        };
        reader.end()?;
        Ok(OpenedEntry {
            project,
            entry: LogEntry {
                number,
                time,
                summary: flags & SUMMARY != 0,
                previous,
                added,
                removed,
            },
            plain,
            sealed,
        })
    }
}

fn item(reader: &mut Reader<'_>) -> Result<LogItem, FormatError> {
    let kind = LogKind::from_byte(reader.u8()?).ok_or(FormatError::BadValue("kind"))?;
    let hash = ObjectHash::from_bytes(reader.array()?);
    Ok(LogItem { kind, hash })
}

/// Reads a list in which each item is greater than the one before. The caller has checked that
/// there are enough bytes for all items.
fn ascending<T: Ord>(
    field: &'static str,
    count: usize,
    mut read: impl FnMut() -> Result<T, FormatError>,
) -> Result<Vec<T>, FormatError> {
    let mut list: Vec<T> = Vec::with_capacity(count);
    for _ in 0..count {
        let next = read()?;
        if list.last().is_some_and(|last| *last >= next) {
            return Err(FormatError::BadValue(field));
        }
        list.push(next);
    }
    Ok(list)
}

impl LogDetails {
    /// The maximum length of the encoded details, in bytes.
    pub const BODY_MAX: usize = 32 << 20;

    /// Returns the body, to be compressed and sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Decodes an opened body.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        from_json_with_features(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::VolumeId;

    const PROJECT: ProjectId = ProjectId::from_bytes([7; 16]);

    fn hash(number: u8) -> ObjectHash {
        ObjectHash::from_bytes([number; 32])
    }

    fn entry() -> LogEntry {
        let item = |kind, number| LogItem {
            kind,
            hash: hash(number),
        };
        LogEntry {
            number: 3,
            time: 1_795_000_000,
            summary: false,
            previous: vec![hash(1), hash(2)],
            added: vec![item(LogKind::Record, 9), item(LogKind::Segment, 4)],
            removed: vec![item(LogKind::Record, 5), item(LogKind::Parity, 0)],
        }
    }

    /// Returns an entry with this sealed part, which includes the nonce. Each byte of the signature
    /// is 1.
    fn stored(entry: &LogEntry, sealed: &[u8]) -> Vec<u8> {
        let mut bytes = entry.encode(PROJECT, sealed.len());
        bytes.extend_from_slice(sealed);
        bytes.extend_from_slice(&[1; 64]);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<(LogEntry, Option<usize>), FormatError> {
        let stored = StoredEntry::split(bytes)?;
        let opened = stored.decode()?;
        Ok((opened.entry, opened.sealed.map(|(_, sealed)| sealed.len())))
    }

    #[test]
    fn an_entry_has_its_fields_at_fixed_places() {
        let bytes = stored(&entry(), &[8; 40]);
        assert_eq!(bytes[..16], Magic::Log.header());
        assert_eq!(bytes[16..32], [7; 16]);
        assert_eq!(bytes[32..40], 3_u64.to_le_bytes());
        assert_eq!(bytes[40..48], 1_795_000_000_u64.to_le_bytes());
        assert_eq!(bytes[48..52], [0; 4]);
        let lengths = [2_u32, 2, 2, 40].map(u32::to_le_bytes);
        assert_eq!(bytes[52..68], lengths.concat());
        assert_eq!(bytes[68..132], [[1; 32], [2; 32]].concat());
        assert_eq!((bytes[132], bytes[133]), (1, 9));
        assert_eq!((bytes[198], bytes[231]), (1, 9));
        let split = StoredEntry::split(&bytes).unwrap();
        assert_eq!(split.header, Magic::Log.header());
        assert_eq!(split.signed, &bytes[..bytes.len() - 64]);
        assert_eq!(split.signature, [1; 64]);
        let opened = split.decode().unwrap();
        assert_eq!((opened.project, &opened.entry), (PROJECT, &entry()));
        assert_eq!(opened.plain, &bytes[..bytes.len() - 104]);
        assert_eq!(opened.sealed, Some(([8; 24], &[8; 16][..])));
    }

    #[test]
    fn a_summary_and_an_entry_without_a_sealed_part_round_trip() {
        assert_eq!(decode(&stored(&entry(), &[])), Ok((entry(), None)));
        let summary = LogEntry {
            summary: true,
            ..entry()
        };
        assert_eq!(decode(&stored(&summary, &[])), Ok((summary, None)));
        let first = LogEntry {
            number: 1,
            previous: Vec::new(),
            ..LogEntry::default()
        };
        assert_eq!(decode(&stored(&first, &[0; 41])), Ok((first, Some(17))));
    }

    #[test]
    fn an_entry_of_another_length_is_refused() {
        let bytes = stored(&entry(), &[8; 40]);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len}");
        }
        let longer = stored(&entry(), &[8; 41]);
        let mut lies = longer.clone();
        lies[64] = 40;
        assert_eq!(decode(&lies), Err(FormatError::TrailingBytes(1)));
        // Lists with these counts would not fit into memory.
        for at in [52, 56, 60, 64] {
            let mut huge = longer.clone();
            huge[at..at + 4].fill(0xff);
            assert_eq!(decode(&huge), Err(FormatError::Truncated), "{at}");
        }
        for len in [1, 24, 39] {
            let short = stored(&entry(), &vec![0; len]);
            let field = "length of the sealed part";
            assert_eq!(decode(&short), Err(FormatError::BadValue(field)));
        }
    }

    #[test]
    fn lists_that_are_not_ascending_or_have_duplicates_are_refused() {
        type Change = fn(&mut LogEntry);
        let changes: [(&str, Change); 6] = [
            ("previous", |entry| entry.previous.swap(0, 1)),
            ("previous", |entry| entry.previous[1] = entry.previous[0]),
            ("added", |entry| entry.added.swap(0, 1)),
            ("added", |entry| entry.added[1] = entry.added[0]),
            ("removed", |entry| entry.removed.swap(0, 1)),
            ("removed", |entry| entry.removed[1] = entry.removed[0]),
        ];
        for (field, change) in changes {
            let mut entry = entry();
            change(&mut entry);
            let refused = decode(&stored(&entry, &[]));
            assert_eq!(refused, Err(FormatError::BadValue(field)));
        }
    }

    #[test]
    fn impossible_numbers_flags_kinds_and_headers_are_refused() {
        for number in [0, 1] {
            let entry = LogEntry { number, ..entry() };
            let refused = decode(&stored(&entry, &[]));
            assert_eq!(refused, Err(FormatError::BadValue("number")));
        }
        let orphan = LogEntry {
            previous: Vec::new(),
            ..entry()
        };
        let refused = decode(&stored(&orphan, &[]));
        assert_eq!(refused, Err(FormatError::BadValue("number")));
        let changed = |at: usize, to: u8| {
            let mut bytes = stored(&entry(), &[]);
            bytes[at] = to;
            decode(&bytes)
        };
        assert_eq!(changed(48, 2), Err(FormatError::ReservedNotZero));
        assert_eq!(changed(51, 1), Err(FormatError::ReservedNotZero));
        for kind in [0, 10, 255] {
            assert_eq!(changed(132, kind), Err(FormatError::BadValue("kind")));
        }
        assert_eq!(changed(0, b'X'), Err(FormatError::BadMagic("a log entry")));
        assert_eq!(changed(8, 2), Err(FormatError::UnknownVersion(2)));
        assert!(matches!(
            changed(12, 1),
            Err(FormatError::UnknownFeature(_))
        ));
    }

    #[test]
    fn the_largest_entry_fits_its_limit() {
        let items = LogEntry::ITEMS_MAX * ITEM_LEN;
        let rest = FIELDS_LEN + SIGNATURE_LEN + (1 << 20);
        assert!(items + LogDetails::BODY_MAX + rest <= LogEntry::LEN_MAX);
    }

    fn details() -> LogDetails {
        LogDetails {
            host: Some("web1".into()),
            removed_records: vec![RemovedRecord {
                record: hash(5),
                volume: VolumeInfo {
                    id: VolumeId::from_bytes([3; 16]),
                    name: "db".into(),
                },
                follows: vec![hash(6)],
                heads: Vec::new(),
                replaces: Some(hash(4)),
                time: "2026-11-21T10:00:00Z".parse().unwrap(),
                reason: "forgotten".into(),
            }],
            revoked: vec![Revoked {
                certificate: hash(7),
                signer: SignerId::from_bytes([7; 32]),
                accepted: vec![hash(8)],
            }],
            lost: vec![hash(9)],
            ..LogDetails::default()
        }
    }

    #[test]
    fn details_round_trip_and_may_lack_every_member() {
        let json = details().encode();
        assert_eq!(LogDetails::decode(&json).unwrap(), details());
        assert_eq!(LogDetails::decode(b"{}").unwrap(), LogDetails::default());
    }

    #[test]
    fn details_that_need_a_later_version_or_have_malformed_members_are_refused() {
        let later = LogDetails::decode(br#"{"requires":["x"],"lost":1}"#);
        assert_eq!(later, Err(FormatError::UnknownFeature("x".into())));
        for json in [
            "[]",
            r#"{"lost":["ab"]}"#,
            r#"{"revoked":[{}]}"#,
            r#"{"removed_records":[{"record":"ab"}]}"#,
            r#"{"removed_records":[{"replaces":1}]}"#,
        ] {
            let refused = LogDetails::decode(json.as_bytes());
            assert!(matches!(refused, Err(FormatError::BadJson(_))), "{json}");
        }
    }
}
