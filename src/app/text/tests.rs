//! Tests the text of messages.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::app::attachment_message::AttachmentEntry;
use crate::app::diff_message::Metadata;
use crate::app::human::width;
use crate::app::key_change::{KeyChange, RevokedVolume};
use crate::app::message::{BackupDetail, BackupEntry, BackupSummary, KeyEntry, Message, Status};
use crate::format::ByteString;

use super::message::message;
use super::tables::{backups, keys};

fn entry(volume: &str) -> BackupEntry {
    BackupEntry {
        snapshot: None,
        backup_id: "3f9a01bc".repeat(8),
        volume: volume.to_owned(),
        time: Timestamp::UNIX_EPOCH,
        size: 8 << 30,
        bytes_stored: Some(1234),
        host: Some("web1".to_owned()),
        labels: BTreeMap::from([("tier".to_owned(), "gold".to_owned())]),
        withdrawn: false,
        forgotten: false,
    }
}

#[test]
fn a_list_says_which_backups_were_withdrawn_or_forgotten() {
    let mut entries = [entry("a"), entry("b"), entry("c")];
    let shown = |entries: &[BackupEntry]| backups(entries, &TimeZone::UTC, Some(80));
    assert!(!shown(&entries).contains("State"));
    entries[0].withdrawn = true;
    entries[1].forgotten = true;
    let text = shown(&entries);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].ends_with("  State"), "{text}");
    assert!(lines[1].ends_with("  withdrawn"), "{text}");
    assert!(lines[2].ends_with("  forgotten"), "{text}");
    assert!(lines[3].ends_with("=gold"), "{text}");
}

#[test]
fn a_list_of_backups_fits_the_terminal() {
    let entries = [entry("web1-root"), entry(&"long-name-".repeat(20))];
    let narrow = backups(&entries, &TimeZone::UTC, Some(80));
    assert!(narrow.lines().all(|line| width(line) <= 80), "{narrow}");
    assert!(
        narrow.contains("3f9a01bc  1970-01-01 00:00:00  web1-root "),
        "{narrow}"
    );
    assert!(backups(&entries, &TimeZone::UTC, None).contains(&entries[1].volume));
    assert_eq!(backups(&[], &TimeZone::UTC, None), "no backups\n");
}

#[test]
fn a_list_shows_labels_only_if_a_backup_has_labels() {
    let mut entries = [entry("a"), entry("b")];
    entries[1].labels = BTreeMap::new();
    let labelled = |entries: &[BackupEntry]| backups(entries, &TimeZone::UTC, Some(80));
    let lines = labelled(&entries);
    let lines: Vec<_> = lines.lines().collect();
    assert!(lines[0].ends_with("  Labels"), "{lines:?}");
    assert!(lines[1].ends_with("  tier=gold"), "{lines:?}");
    assert!(lines[2].ends_with(" KiB"), "{lines:?}");
    assert!(!labelled(&entries[1..]).contains("Labels"));
    let long = ("why".to_owned(), "before the upgrade ".repeat(9));
    entries[0].labels.insert(long.0, long.1);
    let narrow = labelled(&entries);
    assert!(narrow.lines().all(|line| width(line) <= 80), "{narrow}");
}

#[test]
fn a_progress_line_fits_80_columns() {
    let mut status = Status {
        percent_done: Some(0.1234),
        bytes_done: 1023 << 30,
        total_bytes: Some(1023 << 40),
        seconds_elapsed: 100,
        seconds_remaining: Some(86_399),
        phase: "check_data",
    };
    let text = super::status::status(&status);
    assert_eq!(
        text,
        "check data: 12 % (1023.0 GiB of 1023.0 TiB), 10.2 GiB/s, 23 h 59 min left"
    );
    assert!(width(&text) <= 80);
    // This phase counts backups.
    status.phase = "check_structure";
    (status.bytes_done, status.total_bytes) = (123, Some(1000));
    assert_eq!(
        super::status::status(&status),
        "check structure: 12 % (123 of 1000), 23 h 59 min left"
    );
}

#[test]
fn the_summary_of_a_backup_shows_sizes_base_and_time() {
    let mut summary = BackupSummary {
        snapshot: None,
        existing: false,
        backup_id: Some("3f9a01bc".repeat(8)),
        volume: "web1".to_owned(),
        size: 8 << 30,
        bytes_changed: 5 << 20,
        bytes_read: 1 << 30,
        bytes_new: 4 << 20,
        bytes_stored: 2 << 20,
        chunks_new: 64,
        chunks_verified: None,
        duration: 12.3,
        base: None,
        base_by_name: false,
        bytes_missed: None,
        damage: None,
    };
    assert_eq!(
        message(&Message::Backup(summary.clone()), &TimeZone::UTC),
        "backup 3f9a01bc of web1\n  \
         8.0 GiB, without a base, read 1.0 GiB, changed 5.0 MiB\n  \
         new 4.0 MiB (64 chunks), stored 2.0 MiB, in 12 s\n"
    );
    summary.chunks_verified = Some(1);
    let listed = message(&Message::Backup(summary.clone()), &TimeZone::UTC);
    assert!(
        listed.ends_with("in 12 s\n  1 chunk outside the list compared with the base\n"),
        "{listed}"
    );
    summary.backup_id = None;
    let dry = message(&Message::Backup(summary), &TimeZone::UTC);
    assert!(
        dry.starts_with("dry run of web1; nothing was stored\n"),
        "{dry}"
    );
    assert!(dry.contains("would be stored 2.0 MiB"), "{dry}");
}

#[test]
fn details_of_a_backup_leave_out_unknown_fields() {
    let detail = BackupDetail {
        entry: entry("web1"),
        project: "default".to_owned(),
        volume_id: "00".repeat(16),
        kind: "stream",
        chunk_size: 0,
        root: "11".repeat(32),
        finished: Timestamp::UNIX_EPOCH,
        base: None,
        original: None,
        source: serde_json::Value::Null,
        attachments: vec![AttachmentEntry {
            name: "rbd-metadata".to_owned(),
            size: 2048,
        }],
        metadata: None,
        bytes_changed: None,
        bytes_read: None,
        bytes_new: None,
        chunks_new: None,
        tool: None,
    };
    let with_metadata = BackupDetail {
        metadata: Some(vec![Metadata {
            key: ByteString::from(&b"conf"[..]),
            value: ByteString::from(&b"a\nb"[..]),
        }]),
        ..detail.clone()
    };
    let text = message(&Message::Detail(Box::new(with_metadata)), &TimeZone::UTC);
    assert!(text.ends_with("Metadata  conf = a\\x0ab\n"), "{text}");
    let json = serde_json::to_string(&Message::Detail(Box::new(detail.clone()))).unwrap();
    assert!(
        json.starts_with("{\"message_type\":\"backup\",\"backup_id\":\"3f9a01bc"),
        "{json}"
    );
    assert!(json.contains("\"time\":\"1970-01-01T00:00:00Z\""), "{json}");
    let text = message(&Message::Detail(Box::new(detail)), &TimeZone::UTC);
    assert!(text.contains("Labels      tier=gold\n"), "{text}");
    assert!(
        text.contains("Attachment  rbd-metadata (2.0 KiB)\n"),
        "{text}"
    );
    assert!(
        !text.contains("Base") && !text.contains("Chunk size"),
        "{text}"
    );
    assert!(text.lines().all(|line| width(line) <= 80), "{text}");
}

#[test]
fn the_list_of_keys_marks_the_key_in_use() {
    let key = KeyEntry {
        key_id: "3f9a01bc".repeat(8),
        scope: "repository",
        project: None,
        role: "full",
        volumes: Vec::new(),
        label: Some("envelope".to_owned()),
        created: None,
        user: Some("root".to_owned()),
        host: Some("web1".to_owned()),
        current: true,
        foreign: false,
    };
    let text = keys(std::slice::from_ref(&key), &TimeZone::UTC, Some(80));
    assert!(text.contains("*  3f9a01bc  full  repository"), "{text}");
    assert!(text.contains("root@web1  envelope"), "{text}");
    assert!(!text.contains("Volumes"), "{text}");

    let write = KeyEntry {
        project: Some("web".to_owned()),
        role: "write",
        volumes: vec!["a-*".to_owned(), "b".to_owned()],
        current: false,
        ..key.clone()
    };
    let foreign = KeyEntry {
        current: false,
        foreign: true,
        ..key
    };
    let text = keys(&[write, foreign], &TimeZone::UTC, Some(120));
    assert!(text.contains("3f9a01bc  write  project web"), "{text}");
    assert!(text.contains("envelope   a-*, b"), "{text}");
    assert!(text.contains("root@web1  (foreign)"), "{text}");
}

#[test]
fn a_revocation_says_how_many_backups_of_each_volume_are_dropped_and_when() {
    let revoked = |counts: &[(u64, u64)]| {
        let volumes = (1..).zip(counts);
        let volumes = volumes.map(|(number, (accepted, dropped))| RevokedVolume {
            volume: format!("web{number}"),
            backups_accepted: *accepted,
            backups_dropped: *dropped,
        });
        let change = KeyChange {
            action: "revoked",
            key_id: "3f9a01bc".repeat(8),
            volumes: volumes.collect(),
        };
        message(&Message::KeyChange(change), &TimeZone::UTC)
    };
    assert_eq!(revoked(&[]), "revoked key 3f9a01bc\n");
    assert_eq!(
        revoked(&[(2, 0)]),
        "revoked key 3f9a01bc\n  web1: 2 backups accepted, 0 dropped\n"
    );
    let text = revoked(&[(1, 3), (0, 2)]);
    for part in [
        "web1: 1 backup accepted, 3 dropped\n",
        "web2: 0 backups accepted, 2 dropped\n",
        "the next “cuttlebone prune” removes dropped backups",
    ] {
        assert!(text.contains(part), "{text}");
    }
}
