//! Objects that are read as a whole: sections 4 to 7 of `docs/format.md`.

use cuttlebone::base::{ChunkSize, ObjectHash, Silent};
use cuttlebone::crypto::KdfParams;
use cuttlebone::format::{
    KeySlot, Magic, Payload, ProjectObject, ProjectSettings, RepositoryFile, SealedObject, SlotInfo,
};
use cuttlebone::repo::{ObjectRef, Objects};
use cuttlebone::storage::Backend;

use crate::fixture::{self, NAME, PROJECT, fixture, hash};

/// Decodes a repository file: the bytes themselves, and with the right hash.
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

/// Decodes a key slot, and the info of one: by itself, and in a slot of an open repository.
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
    let longest = usize::try_from(KeySlot::LEN_MAX).expect("64 KiB") - 164 - 16;
    let authentic = fixture::key_slot(&data[..data.len().min(longest)]);
    fixture(|f| {
        let slots = [data, &authentic];
        // The input may be the slot that opens the fixture, which other inputs need.
        let is_new = |slot: &[u8]| f.store.size(&fixture::key_ref(slot).name()).is_err();
        let new = slots.map(is_new);
        for slot in slots {
            fixture::put(&f.store, fixture::key_ref(slot), slot);
        }
        let keys = f
            .repository
            .list_keys(&Silent)
            .expect("damage is passed over");
        for (slot, new) in slots.into_iter().zip(new) {
            let name = fixture::key_ref(slot).name();
            let id = ObjectHash::from_bytes(hash(slot));
            let listed = keys.iter().find(|key| key.id == id);
            assert_eq!(listed.is_some(), KeySlot::decode(slot).is_ok());
            if new {
                f.store.delete(&name).expect("it was put");
            }
        }
        if data.len() <= longest {
            let id = ObjectHash::from_bytes(hash(&authentic));
            let key = keys.iter().find(|key| key.id == id).expect("it is listed");
            assert_eq!(key.info, info.unwrap_or_default());
        }
    });
}

/// Decodes a project object, and the settings of one: by themselves, and in an open repository.
pub fn project_object(data: &[u8]) {
    if let Ok(object) = ProjectObject::decode(data) {
        assert_eq!(object.encode(), data);
    }
    let settings = ProjectSettings::decode(data);
    if let Ok(settings) = &settings {
        assert_eq!(
            ProjectSettings::decode(&settings.encode()).as_ref(),
            Ok(settings)
        );
    }
    let fits = data.len() <= 65_536 - 16
        && settings.is_ok_and(|s| s.name == NAME && ChunkSize::new(s.chunk_size).is_some());
    fixture(|f| {
        let object = ObjectRef::Project(PROJECT);
        fixture::put(&f.store, object, data);
        let _ = fixture::open(&f.store).project(NAME, &Silent);
        fixture::put(&f.store, object, &fixture::project_object(data));
        let opened = fixture::open(&f.store).project(NAME, &Silent);
        assert_eq!(opened.is_ok(), fits);
    });
}

/// Maximum length of a body here. With the format's limits the fuzzer would mostly clear memory.
const BODY_MAX: usize = 1 << 20;

/// Decodes a sealed object, a payload, and a payload in a sealed object, so that decompression is
/// reached.
pub fn sealed_object(data: &[u8]) {
    let hash = ObjectHash::from_bytes([0; 32]);
    let kinds = [
        (Magic::Index, ObjectRef::Index(PROJECT, hash)),
        (Magic::Backup, ObjectRef::Backup(PROJECT, hash)),
    ];
    let payload = Payload::decode(data, BODY_MAX);
    if let Ok(payload) = &payload {
        assert_eq!(payload.encode(), data);
    }
    for (magic, object) in kinds {
        if let Ok(SealedObject {
            header,
            nonce,
            sealed,
        }) = SealedObject::decode(magic, data)
        {
            assert_eq!([header, &nonce, sealed].concat(), data);
        }
        fixture(|f| {
            let key = (PROJECT, f.keys.object());
            let _ = Objects::open_sealed(object, magic, data, key, BODY_MAX);
            let bytes = fixture::sealed_payload(&f.keys, magic, data);
            if let Ok(body) = Objects::open_sealed(object, magic, &bytes, key, BODY_MAX) {
                let payload = payload.as_ref().expect("what opens is a payload");
                assert_eq!(body.len(), payload.plain_len);
            }
        });
    }
}
