//! Entries of the log, audits, entries of the ledger, batches, and parity: sections 12, 18, 22, 23
//! and 24 of `docs/format.md`.

use cuttlebone::base::ObjectHash;
use cuttlebone::format::{
    AuditBody, Batch, LedgerBody, LogDetails, LogEntry, Magic, NewBatchedObject, ParityObject,
    StoredEntry, VerifiedLevel,
};
use cuttlebone::repo::{Audits, Ledger, Log, ObjectRef, restore};

use crate::fixture::{self, PROJECT, fixture, hash};

/// Decodes the data as an entry, as the details of an entry and as a batch. Also loads an
/// authentic entry, which consists of the data and a valid signature.
pub fn log(data: &[u8]) {
    let decode = |bytes: &[u8]| {
        let stored = StoredEntry::split(bytes).ok()?;
        let opened = stored.decode().ok()?;
        let sealed = opened
            .sealed
            .map_or(0, |(nonce, sealed)| nonce.len() + sealed.len());
        assert_eq!(opened.entry.encode(opened.project, sealed), opened.plain);
        Some(opened.entry)
    };
    decode(data);
    decode_batch(data);
    if let Ok(details) = LogDetails::decode(data) {
        assert_eq!(LogDetails::decode(&details.encode()).as_ref(), Ok(&details));
    }
    fixture(|f| {
        let store = f.fresh_store();
        let bytes = fixture::log_entry(&f.keys, data);
        let name = ObjectHash::from_bytes(hash(&bytes));
        fixture::put(&store, ObjectRef::Log(PROJECT, name), &bytes);
        let decoded = decode(&bytes);
        let Ok(mut log) = Log::load(&f.project) else {
            return;
        };
        if let Some(head) = log.newest() {
            let entry: LogEntry = decoded.expect("a loaded entry can be decoded");
            assert_eq!((head.number, head.hash), (entry.number, name));
            assert!(
                entry
                    .removed
                    .iter()
                    .all(|item| log.removed(item.kind, item.hash))
            );
            assert!(log.set().len() <= entry.added.len());
        } else {
            assert_eq!(log.take_foreign().len() + log.damaged().len(), 1);
        }
    });
}

/// Restores an object from parity. The first byte is the length of what is left of the object.
pub fn parity(data: &[u8]) {
    let Some((len, rest)) = data.split_first() else {
        return;
    };
    let (left, parity) = rest.split_at(rest.len().min(usize::from(*len)));
    let Ok(object) = ParityObject::read(parity, hash) else {
        return;
    };
    let of = object.header.of;
    if let Some(restored) = restore(&[left], parity, of).expect("the geometry was checked") {
        assert_eq!(hash(&restored.bytes), *of.as_bytes());
    }
}

/// Decodes an audit, by itself and in the store.
pub fn audit(data: &[u8]) {
    let decoded = AuditBody::decode(data);
    if let Ok(audit) = &decoded {
        assert_eq!(AuditBody::decode(&audit.encode()).as_ref(), Ok(audit));
    }
    fixture(|f| {
        let store = f.fresh_store();
        let bytes = fixture::sealed_body(&f.keys, Magic::Audit, data);
        let name = ObjectHash::from_bytes(hash(&bytes));
        fixture::put(&store, ObjectRef::Audit(PROJECT, name), &bytes);
        if let Ok(audits) = Audits::load(&f.project) {
            let packs = decoded.map_or(0, |audit| audit.packs.len());
            assert_eq!(audits.into_packs().len(), packs);
        }
    });
}

/// Decodes an entry of the ledger, by itself and in the store.
pub fn ledger(data: &[u8]) {
    let decoded = LedgerBody::decode(data);
    if let Ok(entry) = &decoded {
        assert_eq!(LedgerBody::decode(&entry.encode()).as_ref(), Ok(entry));
    }
    fixture(|f| {
        let store = f.fresh_store();
        let bytes = fixture::sealed_body(&f.keys, Magic::Ledger, data);
        let name = ObjectHash::from_bytes(hash(&bytes));
        fixture::put(&store, ObjectRef::Ledger(PROJECT, name), &bytes);
        if let Ok(ledger) = Ledger::load(&f.project, u64::MAX, |_| true) {
            let verified = ledger.verified(VerifiedLevel::Hashed);
            let groups = decoded.map_or_else(|_| Vec::new(), |entry| entry.groups);
            assert!(verified.len() <= groups.iter().map(|group| group.packs.len()).sum());
            assert!(ledger.runs().len() + ledger.drills().len() <= data.len());
        }
    });
}

/// Decodes the data as a batch: its objects follow each other, up to its end.
fn decode_batch(data: &[u8]) {
    let len = data.len() as u64;
    let start = &data[..data.len().min(Batch::START_LEN)];
    let Ok(end) = Batch::table_end(start, len) else {
        return;
    };
    let Ok(batch) = Batch::decode(&data[..end], len) else {
        return;
    };
    let mut rest = &data[end..];
    let objects = batch.objects.iter().map(|item| {
        assert_eq!(item.offset, len - rest.len() as u64);
        let (bytes, after) = rest.split_at(item.len as usize);
        rest = after;
        NewBatchedObject {
            kind: item.kind,
            hash: item.hash,
            bytes: bytes.to_vec(),
        }
    });
    let objects: Vec<_> = objects.collect();
    assert_eq!(Batch::encode(batch.project, &objects), data);
}
