//! Objects that are read as a whole: sections 4 to 7 and 15 of `docs/format.md`.

use cuttlebone::base::{ChunkSize, ObjectHash, Silent};
use cuttlebone::crypto::KdfParams;
use cuttlebone::format::{
    KeySlot, Magic, Payload, ProjectObject, ProjectSettings, RepositoryFile, SealedObject,
    SignedPayload, SlotInfo, SlotLock,
};
use cuttlebone::repo::ObjectRef;
use cuttlebone::storage::Backend;

use crate::fixture::{self, NAME, PROJECT, fixture, hash};

/// Decodes the data as a repository file: first as it is, then with the right hash.
pub fn repository_file(data: &[u8]) {
    let check = |bytes: &[u8]| {
        if let Ok((file, mac)) = RepositoryFile::decode(bytes, hash) {
            assert_eq!(file.encode(&mac, hash)[..], *bytes);
        }
    };
    check(data);
    if let Some((fields, _)) = data.split_at_checked(RepositoryFile::LEN - 32) {
        check(&[fields, &hash(fields)].concat());
    }
}

/// Decodes the data as a key slot, and as the info of a key slot. Also stores both in an open
/// repository, the info in a valid slot, and lists the keys.
pub fn key_slot(data: &[u8]) {
    if let Ok(slot) = KeySlot::decode(data) {
        assert_eq!(slot.encode(), data);
        let p = slot.params;
        let _ = KdfParams::new(p.memory_kib, p.passes, p.lanes);
    }
    let info = SlotInfo::decode(data);
    if let Ok(info) = &info {
        assert_eq!(SlotInfo::decode(&info.encode()).as_ref(), Ok(info));
    }
    // With a longer info, the slot would be longer than the format allows.
    let longest = (64 << 10) - 16;
    let authentic = fixture::key_slot(&data[..data.len().min(longest)]);
    fixture(|f| {
        let slots = [data, &authentic];
        // The input may be the slot that opens the fixture. Do not delete this slot, since other
        // inputs need it.
        let is_new = |slot: &[u8]| f.store.size(&fixture::key_ref(slot).name()).is_err();
        let new = slots.map(is_new);
        for slot in slots {
            fixture::put(&f.store, fixture::key_ref(slot), slot);
        }
        let keys = f
            .repository
            .list_keys(&Silent)
            .expect("a damaged slot does not stop the listing");
        for (slot, new) in slots.into_iter().zip(new) {
            let name = fixture::key_ref(slot).name();
            let id = ObjectHash::from_bytes(hash(slot));
            let listed = keys.iter().find(|key| key.id == id);
            let is_newer = |lock: SlotLock| lock.header.check().is_err();
            let is_slot =
                KeySlot::decode(slot).is_ok() || SlotLock::decode(slot).is_ok_and(is_newer);
            assert_eq!(listed.is_some(), is_slot);
            if new {
                f.store.delete(&name).expect("the slot was stored");
            }
        }
        if data.len() <= longest {
            let id = ObjectHash::from_bytes(hash(&authentic));
            let key = keys.iter().find(|key| key.id == id);
            let key = key.expect("a valid slot is listed");
            assert_eq!(key.info, info.unwrap_or_default());
        }
    });
}

/// Decodes a project object, by itself and in a repository.
pub fn project_object(data: &[u8]) {
    if let Ok(object) = ProjectObject::decode(data) {
        assert_eq!(object.encode(), data);
    }
    fixture(|f| {
        let object = ObjectRef::Project(PROJECT);
        let right = fixture::project_object();
        fixture::put(&f.store, object, data);
        let opened = fixture::open(&f.store).project(NAME, &Silent);
        // The project object is signed, so the project opens only with its original bytes.
        assert_eq!(opened.is_ok(), data == right);
        fixture::put(&f.store, object, &right);
    });
}

/// Decodes settings, by themselves and in an open repository.
pub fn settings(data: &[u8]) {
    let settings = ProjectSettings::decode(data);
    if let Ok(settings) = &settings {
        let again = ProjectSettings::decode(&settings.encode());
        assert_eq!(again.as_ref(), Ok(settings));
    }
    let usual = fixture::settings();
    fixture(|f| {
        let bytes = fixture::sealed_body(&f.keys, Magic::Settings, data);
        let object = fixture::settings_ref(&bytes);
        let is_new = f.store.size(&object.name()).is_err();
        fixture::put(&f.store, object, &bytes);
        let opened = fixture::open(&f.store).project(NAME, &Silent);
        // Valid settings are used if their revision is higher than that of the usual settings.
        if let (Ok(settings), true) = (&settings, data.len() <= ProjectSettings::BODY_MAX)
            && settings.revision > usual.revision
        {
            let fits = settings.name == NAME && ChunkSize::new(settings.chunk_size).is_some();
            assert_eq!(opened.is_ok(), fits);
        }
        if is_new {
            f.store
                .delete(&object.name())
                .expect("the settings were stored");
        }
    });
}

/// The maximum length of a body in this target, in bytes. With the higher limits of the format, the
/// fuzzer would spend most of its time on clearing memory.
const BODY_MAX: usize = 1 << 20;

/// Decodes the data as a sealed object and as a payload. Also opens a sealed object that has the
/// data as its payload, so that decompression is reached.
pub fn sealed_object(data: &[u8]) {
    let hash = ObjectHash::from_bytes([0; 32]);
    let kinds = [
        (Magic::Index, ObjectRef::Index(PROJECT, hash)),
        (Magic::Backup, ObjectRef::Backup(PROJECT, hash)),
    ];
    let payload = Payload::decode(data, BODY_MAX);
    if let Ok(payload) = &payload {
        assert_eq!(payload.encode_unsigned(), data);
    }
    if let Ok(parts) = SignedPayload::split(data) {
        assert_eq!([parts.signed, &parts.signature].concat(), data);
    }
    for (magic, object) in kinds {
        if let Ok(SealedObject {
            header,
            nonce,
            sealed,
        }) = SealedObject::decode(magic, data)
        {
            assert_eq!([header.as_bytes(), &nonce[..], sealed].concat(), data);
        }
        fixture(|f| {
            // Data opens only if it was sealed with the fixture's keys, as some seeds are.
            if let Ok(opened) = f.project.open(object, data, BODY_MAX) {
                assert!(opened.body.len() <= BODY_MAX);
            }
            let bytes = fixture::sealed_payload(&f.keys, magic, data);
            if let Ok(opened) = f.project.open(object, &bytes, BODY_MAX) {
                let payload = payload.as_ref().expect("only a valid payload opens");
                assert_eq!(opened.body.len(), payload.plain_len);
            }
        });
    }
}
