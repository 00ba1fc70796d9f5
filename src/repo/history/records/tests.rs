//! Tests which backup a selector selects.

use super::*;
use crate::base::{Root, VolumeId};
use crate::format::{ByteString, Content, ContentKind, Counts, SourceInfo, VolumeInfo};
use crate::repo::no_backup::LostRecord;

/// Returns a backup of this volume and snapshot. Its id repeats the byte `number`.
fn backup(number: u8, volume: &str, snapshot: Option<&[u8]>) -> Backup {
    let time: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let record = BackupRecord {
        requires: Vec::new(),
        volume: VolumeInfo {
            id: VolumeId::from_bytes([1; 16]),
            name: volume.to_owned(),
        },
        content: Content {
            kind: ContentKind::Image,
            size: 0,
            chunk_size: 65536,
            top: None,
            root: Root::from_bytes([2; 32]),
        },
        time: time.into(),
        finished: time.into(),
        host: None,
        base: None,
        follows: Vec::new(),
        replaces: None,
        original: None,
        heads: Vec::new(),
        marks: Vec::new(),
        labels: [].into(),
        source: Some(SourceInfo {
            kind: "diff".into(),
            snapshot: snapshot.map(ByteString::from),
            ..SourceInfo::default()
        }),
        attachments: Vec::new(),
        counts: Counts::default(),
        tool: None,
    };
    Backup {
        id: ObjectHash::from_bytes([number; 32]),
        volume: VolumeId::from_bytes([1; 16]),
        time,
        top: None,
        root: Root::from_bytes([2; 32]),
        signer: SignerId::from_bytes([3; 32]),
        is_full: true,
        record,
    }
}

#[test]
fn a_backup_is_selected_by_its_snapshot() {
    let made: [(&str, Option<&[u8]>); 9] = [
        ("web1", None),
        ("web1", Some(b"mon")),
        ("web1", Some(b"mon")),
        ("web1", Some(b"nightly@2026-11-21@b~1")),
        ("web1", Some(b"\xff\xfe")),
        ("web2", Some(b"mon")),
        ("web1@x", Some(b"y")),
        ("web1", Some(b"x@z")),
        ("web1@x", Some(b"z")),
    ];
    let backups = (0..).zip(made);
    let backups = backups.map(|(number, (volume, snapshot))| backup(number, volume, snapshot));
    let records = Records::in_order(
        backups.collect(),
        &[],
        |_| false,
        HashSet::new(),
        Vec::new(),
        &SignerId::from_bytes([3; 32]),
    );
    let selected = |selector: &str| records.select(selector).map(|b| b.id.as_bytes()[0]);
    for (selector, number) in [
        ("web1@mon", 2),
        ("web1@nightly@2026-11-21@b~1", 3),
        ("web1@0xfffe", 4),
        ("web2@mon", 5),
        ("web1@x@y", 6),
        ("web1@x", 8),
    ] {
        assert_eq!(selected(selector).unwrap(), number, "{selector}");
    }
    for selector in ["web1@", "@mon", "web1@mo", "web2@x@y", "web3@mon"] {
        let error = selected(selector).unwrap_err();
        assert!(matches!(error, RepoError::NoBackup { .. }), "{selector}");
    }
    let why = |selector: &str| match records.select(selector) {
        Err(RepoError::NoBackup { reason, .. }) => reason.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(
        why("web2~7").contains("~0 is its oldest"),
        "{}",
        why("web2~7")
    );
    assert!(why("web1@mo").contains("none of a snapshot “mo”"));
    let unknown = records.select("wbe2@mon").unwrap_err();
    match unknown {
        RepoError::NoBackup {
            reason: NoBackupReason::Unknown { similar },
            ..
        } => assert!(similar.is_empty(), "{similar:?}"),
        other => panic!("{other:?}"),
    }
    match records.select("web3@mon") {
        Err(RepoError::NoBackup {
            reason: NoBackupReason::Unknown { similar },
            ..
        }) => {
            assert_eq!(similar, ["web1", "web2"]);
        }
        other => panic!("{other:?}"),
    }
    // Volume web1 has a snapshot x@z, and volume web1@x has a snapshot z.
    match selected("web1@x@z") {
        Err(RepoError::AmbiguousBackup { matches, .. }) => assert_eq!(matches.len(), 2),
        other => panic!("{other:?}"),
    }
}

fn records_of(made: &[(&str, Option<&[u8]>)]) -> Records {
    let backups = (0..).zip(made);
    let backups = backups.map(|(number, (volume, snapshot))| backup(number, volume, *snapshot));
    Records::in_order(
        backups.collect(),
        &[],
        |_| false,
        HashSet::new(),
        Vec::new(),
        &SignerId::from_bytes([3; 32]),
    )
}

/// Returns the number of the selected backup. If the selector can mean several, fails with their
/// numbers; if it matches none, with an empty list.
fn select(records: &Records, selector: &str) -> Result<u8, Vec<u8>> {
    match records.select(selector) {
        Ok(backup) => Ok(backup.id.as_bytes()[0]),
        Err(RepoError::AmbiguousBackup { matches, .. }) => Err(matches
            .iter()
            .map(|id| u8::from_str_radix(&id[..2], 16).unwrap())
            .collect()),
        Err(RepoError::NoBackup { .. }) => Err(Vec::new()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_whole_id_takes_precedence_over_a_volume_of_that_name() {
    let id = "01".repeat(32);
    let upper = "AB".repeat(32);
    let records = records_of(&[(&id, None), ("web1", None), (&id, None), (&upper, None)]);
    assert_eq!(select(&records, &id), Ok(1));
    // Ids are lowercase, so this is only a name.
    assert_eq!(select(&records, &upper), Ok(3));
    let newest = select(&records, &format!("{id}~0"));
    assert_eq!(newest, Ok(2), "a selector with ~0 names a volume");
}

#[test]
fn a_selector_that_is_a_volume_and_the_first_digits_of_an_id_is_ambiguous() {
    let records = records_of(&[
        ("web1", None),
        ("web1", None),
        ("010101", None),
        ("0202", None),
        ("03030303", None),
        ("040", None),
    ]);
    assert_eq!(select(&records, "010101"), Err(vec![2, 1]));
    // With more digits, the selector is not the name of the volume. With ~0, it is not an id.
    assert_eq!(select(&records, "01010101"), Ok(1));
    assert_eq!(select(&records, "010101~0"), Ok(2));
    assert_eq!(select(&records, "0202"), Err(vec![3, 2]));
    // Fewer than four digits do not select a backup by its id.
    assert_eq!(select(&records, "040"), Ok(5));
    // The name of a volume may be the first digits of the id of its own newest backup.
    let records = records_of(&[("web1", None), ("0101", None)]);
    assert_eq!(select(&records, "0101"), Ok(1));
}

#[test]
fn a_selector_that_is_a_volume_and_an_older_backup_or_a_snapshot_is_ambiguous() {
    let records = records_of(&[
        ("web1", None),
        ("web1", Some(b"mon")),
        ("web1~1", None),
        ("web1@mon", None),
        ("web2~x", None),
    ]);
    assert_eq!(select(&records, "web1~1"), Err(vec![2, 0]));
    assert_eq!(select(&records, "web1@mon"), Err(vec![3, 1]));
    assert_eq!(select(&records, "web1@mon~0"), Ok(3));
    assert_eq!(select(&records, "web2~x"), Ok(4));
}

#[test]
fn names_that_look_alike_are_different_volumes() {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let records = records_of(&[
        (composed, None),
        (decomposed, None),
        ("web1", None),
        ("web1\n", None),
        (" web1", None),
        ("web1\u{200b}", None),
        ("a\nb", Some(b"c\nd")),
    ]);
    for (selector, number) in [
        (composed, 0),
        (decomposed, 1),
        ("web1", 2),
        ("web1\n", 3),
        (" web1", 4),
        ("web1\u{200b}", 5),
        ("a\nb", 6),
        ("a\nb@c\nd", 6),
    ] {
        assert_eq!(select(&records, selector), Ok(number), "{selector:?}");
    }
    for selector in ["café ", "web1\r", "a", "a\nb@c"] {
        assert_eq!(select(&records, selector), Err(vec![]), "{selector:?}");
    }
}

/// If the newest backup of a volume does not name a lost record, the lost record may be a newer one
/// of this volume. Only a record that a full key signed can show that the lost record is of another
/// volume.
#[test]
fn only_a_record_of_a_full_key_shows_that_a_lost_record_is_of_another_volume() {
    let lost = ObjectHash::from_bytes([9; 32]);
    let selected = |other_volume: &str, change: &dyn Fn(&mut Backup)| {
        let newest = Backup {
            time: "2026-11-22T12:00:00Z".parse().unwrap(),
            ..backup(1, "web1", None)
        };
        let mut other = backup(2, other_volume, None);
        change(&mut other);
        let own = SignerId::from_bytes([3; 32]);
        let backups = vec![newest, other];
        let mut records =
            Records::in_order(backups, &[], |_| false, HashSet::new(), Vec::new(), &own);
        records.lost = LostRecords {
            lost: vec![LostRecord {
                id: lost,
                missing: true,
            }],
            removed: HashMap::new(),
        };
        let selected = records.select_surely("web1");
        // It is always certain which backup a whole id means.
        assert!(records.select_surely(&"01".repeat(32)).is_ok());
        match selected {
            Ok(backup) => {
                assert_eq!(backup.id, ObjectHash::from_bytes([1; 32]));
                true
            }
            Err(RepoError::Uncertain { reason, .. }) => {
                assert_eq!(reason.id, lost);
                false
            }
            Err(error) => panic!("{error:?}"),
        }
    };
    let follows = |backup: &mut Backup| backup.record.follows = vec![lost];
    assert!(selected("web2", &follows));
    assert!(!selected("web2", &|_| {}), "no record follows the lost one");
    let of_write_key = |backup: &mut Backup| {
        follows(backup);
        backup.is_full = false;
    };
    assert!(
        !selected("web2", &of_write_key),
        "a write key may name any record"
    );
    assert!(!selected("web1", &follows), "the lost record is of web1");
    let sees = |backup: &mut Backup| backup.record.heads = vec![lost];
    assert!(!selected("web2", &sees), "heads may be of any volume");
}
