//! Objects and values that are text: records, leases, marks, certificates and voids (sections 11,
//! 13, 14, 16 and 17 of `docs/format.md`). Also metadata of images, names, ids and sizes.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use cuttlebone::base::{
    BlobId, ByteSize, LeaseId, ObjectHash, ProjectId, RepositoryId, Root, Silent, VolumeId,
};
use cuttlebone::format::{
    BackupRecord, ByteString, Certificate, ImageMetadata, LeaseBody, Magic, MarkBody, VoidBody,
    matches_pattern, root_description,
};
use cuttlebone::repo::{Leases, Marks, ObjectRef, Records};
use cuttlebone::storage::Name;

use crate::fixture::{self, Fixture, PROJECT, fixture, hash};

/// Decodes the data as a lease, a mark and a record. Also loads an authentic lease, mark and record
/// that are made from the data. The record first gets the right root.
pub fn record(data: &[u8]) {
    lease(data);
    mark(data);
    let text = ByteString::from(data);
    let json = text.to_string();
    assert_eq!(
        json.starts_with("0x"),
        data.starts_with(b"0x") || std::str::from_utf8(data).is_err()
    );
    let Ok(mut record) = BackupRecord::decode(data) else {
        return;
    };
    assert_eq!(BackupRecord::decode(&record.encode()).as_ref(), Ok(&record));
    fixture(|f| {
        let store = f.fresh_store();
        set_root(f, &mut record);
        let bytes = fixture::sealed_body(&f.keys, Magic::Backup, &record.encode());
        let name = ObjectHash::from_bytes(hash(&bytes));
        fixture::put(&store, ObjectRef::Backup(PROJECT, name), &bytes);
        let records = Records::load(&f.project).expect("a damaged record is no error");
        assert_eq!(records.all().len() + records.damaged().len(), 1);
        use_records(&records);
    });
}

/// Decodes Ceph's metadata of an image. Its encoding must decode to the same metadata, and metadata
/// made from its plain bytes must have the same plain bytes.
pub fn image_metadata(data: &[u8]) {
    let Ok(metadata) = ImageMetadata::decode(data) else {
        return;
    };
    let encoded = metadata.encode();
    assert_eq!(ImageMetadata::decode(&encoded).as_ref(), Ok(&metadata));
    let bytes = |text: &ByteString| text.bytes().expect("the text was checked");
    let plain = |metadata: &ImageMetadata| -> Vec<(Vec<u8>, Vec<u8>)> {
        let entries = metadata.0.iter();
        entries
            .map(|(key, value)| (bytes(key), bytes(value)))
            .collect()
    };
    let plain_bytes = plain(&metadata);
    let again: ImageMetadata = plain_bytes.iter().collect();
    assert_eq!(plain(&again), plain_bytes);
}

/// Decodes a lease. A prune must either use it as it is or stop.
fn lease(data: &[u8]) {
    let decoded = LeaseBody::decode(data);
    if let Ok(lease) = &decoded {
        assert_eq!(LeaseBody::decode(&lease.encode()).as_ref(), Ok(lease));
    }
    fixture(|f| {
        let store = f.fresh_store();
        let object = ObjectRef::Lease(PROJECT, LeaseId::from_bytes([1; 16]));
        let bytes = fixture::sealed_body(&f.keys, Magic::Lease, data);
        fixture::put(&store, object, &bytes);
        let loaded = Leases::load(&f.project, None);
        assert_eq!(loaded.is_ok(), decoded.is_ok());
        if let (Ok(loaded), Ok(lease)) = (loaded, decoded) {
            let [other] = &loaded.others[..] else {
                panic!("{loaded:?}");
            };
            assert_eq!(other.packs.len(), lease.packs.len());
            assert_eq!(other.tops.len(), lease.tops.len());
        }
    });
}

/// Decodes a mark. If it is not valid, loading the marks of a project must report it as damaged, or
/// fail.
fn mark(data: &[u8]) {
    let decoded = MarkBody::decode(data);
    if let Ok(mark) = &decoded {
        assert_eq!(MarkBody::decode(&mark.encode()).as_ref(), Ok(mark));
    }
    fixture(|f| {
        let store = f.fresh_store();
        let bytes = fixture::sealed_body(&f.keys, Magic::Mark, data);
        let name = ObjectHash::from_bytes(hash(&bytes));
        fixture::put(&store, ObjectRef::Mark(PROJECT, name), &bytes);
        if let Ok(loaded) = Marks::load(&f.project) {
            assert_eq!(loaded.any_damaged(), decoded.is_err());
            let named = decoded.map_or(0, |mark| mark.packs.len());
            assert!(loaded.packs().len() <= named);
        } else {
            assert!(decoded.is_err());
        }
    });
}

/// Decodes a certificate, by itself and in the store.
pub fn certificate(data: &[u8]) {
    let decoded = Certificate::decode(data);
    if let Ok(certificate) = &decoded {
        let again = Certificate::decode(&certificate.encode());
        assert_eq!(again.as_ref(), Ok(certificate));
        for pattern in &certificate.volumes {
            // A star stands for any number of characters. This number can be zero.
            let name = pattern.replace('*', "");
            assert!(matches_pattern(pattern, &name), "{pattern:?}");
        }
    }
    fixture(|f| {
        let store = f.fresh_store();
        let bytes = fixture::sealed_body(&f.keys, Magic::Certificate, data);
        let name = ObjectHash::from_bytes(hash(&bytes));
        fixture::put(&store, ObjectRef::Certificate(PROJECT, name), &bytes);
        if let Ok(loaded) = f.project.certificates(&Silent) {
            assert_eq!(loaded.all().len(), usize::from(decoded.is_ok()));
        } else {
            assert!(decoded.is_err());
        }
    });
}

/// Decodes a void, by itself and in the store.
pub fn void(data: &[u8]) {
    if let Ok(void) = VoidBody::decode(data) {
        assert_eq!(VoidBody::decode(&void.encode()).as_ref(), Ok(&void));
    }
    fixture(|f| {
        let store = f.fresh_store();
        let bytes = fixture::sealed_body(&f.keys, Magic::Void, data);
        let name = ObjectHash::from_bytes(hash(&bytes));
        fixture::put(&store, ObjectRef::Void(PROJECT, name), &bytes);
        // There is no record, so the void has no effect.
        if let Ok(records) = Records::load(&f.project) {
            assert!(records.all().is_empty());
        }
    });
}

/// Sets the root of a record to that of its content.
pub(crate) fn set_root(f: &Fixture, record: &mut BackupRecord) {
    let content = &mut record.content;
    let (kind, size, chunk_size) = (content.kind, content.size, content.chunk_size);
    let description = root_description(kind, size, chunk_size, content.top.as_ref());
    content.root = f.keys.root(&description);
}

/// Calls methods of the records, none of which may panic.
pub(crate) fn use_records(records: &Records) {
    let heads = records.heads();
    assert!(heads.len() <= records.all().len());
    let _ = records.vanished();
    for backup in records.all() {
        let volume = &backup.record.volume.name;
        assert!(records.of_volume(volume).count() > 0);
        assert!(records.select(volume).is_ok());
        let _ = records.select(&format!("{volume}~1"));
        let _ = records.select(&backup.id.to_string()[..8]);
    }
}

/// Parses names, ids and sizes, which come from stores and people.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(name) = Name::new(text) {
        assert_eq!(name.as_str(), text);
        let directory = name.directory();
        assert_eq!(directory.is_empty(), !text.contains('/'));
        assert!(text.starts_with(directory) && text.ends_with(name.last()));
        if let Some((object, copy)) = ObjectRef::parse(&name) {
            let ours = if copy {
                object.copy_name()
            } else {
                object.name()
            };
            assert_eq!(ours, name);
            assert!(text.starts_with(&object.directory()));
            assert!(!object.to_string().is_empty());
        }
    }
    id::<ObjectHash>(text);
    id::<BlobId>(text);
    id::<Root>(text);
    id::<ProjectId>(text);
    id::<RepositoryId>(text);
    id::<VolumeId>(text);
    if let Ok(size) = text.parse::<ByteSize>() {
        let shown = size.to_string();
        // A size is shown rounded: its text may differ from it by 5 %.
        if size.0 < 1 << 59 {
            let again: ByteSize = shown.parse().expect("a size can be parsed from its text");
            assert!(
                again.0.abs_diff(size.0) <= size.0 / 20 + 1,
                "{text} {shown}"
            );
        }
    }
    assert_eq!(ByteString::from(data).bytes().as_deref(), Some(data));
}

/// Asserts that an id has exactly one text.
fn id<T>(text: &str)
where
    T: FromStr<Err: Debug + Display> + Display + Debug,
{
    match text.parse::<T>() {
        Ok(id) => {
            assert_eq!(id.to_string(), text);
            assert!(!format!("{id:?}").is_empty());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
