//! Packs whose contents another key has signed again. The holder of a verify or write key can open,
//! change and seal the contents, which describe the runs.

use std::sync::Arc;

use cuttlebone::base::{BlobId, Role, Silent};
use cuttlebone::crypto::{SealNonce, hash, object_hash};
use cuttlebone::format::{Contents, HEADER_LEN, IndexSegment, PACK_HEAD_LEN, PackKey};
use cuttlebone::format::{NONCE_LEN, PACK_TAIL_LEN, SignedContents};
use cuttlebone::repo::{ObjectRef, RepoErrorKind, listing_of, read_whole};
use cuttlebone::storage::{Backend, MemoryBackend};

use super::provenance::{client, writer};
use super::{CHUNK, Host, Image, LEAF, TestRepo, noise};

/// Signs the contents of a pack again with the client's key, after a change. Returns the new pack.
fn sign_again(test_repo: &TestRepo, pack: &[u8], change: impl FnOnce(&mut Contents)) -> Vec<u8> {
    sign_with_gap(test_repo, pack, &[], change)
}

/// Does the same as [`sign_again`], and puts the bytes `gap` before the contents.
fn sign_with_gap(
    test_repo: &TestRepo,
    pack: &[u8],
    gap: &[u8],
    change: impl FnOnce(&mut Contents),
) -> Vec<u8> {
    let (id, keys) = (test_repo.project.id, &test_repo.project.keys);
    let (pack, len) = pack.split_last_chunk::<PACK_TAIL_LEN>().unwrap();
    let at = pack.len() - u32::from_le_bytes(*len) as usize;
    let (before, sealed) = pack.split_at(at);
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().unwrap();
    let head = before.first_chunk::<PACK_HEAD_LEN>().unwrap();
    let aad = [&id.as_bytes()[..], head].concat();
    let nonce = SealNonce::from_bytes(*nonce);
    let plain = keys.contents().open(&nonce, &aad, sealed).unwrap();
    let found = SignedContents::split(&plain).unwrap();
    let (mut contents, of_before) = found.decode().unwrap();
    change(&mut contents);
    let of_before = if gap.is_empty() {
        of_before
    } else {
        contents.gap = u32::try_from(gap.len()).unwrap();
        hash(&[before, gap])
    };
    let signer = keys.signing().public();
    let plain = SignedContents::encode_unsigned(&contents, &of_before, &signer);
    let header = head.first_chunk::<HEADER_LEN>().unwrap();
    let sign = |parts: &[&[u8]]| keys.signing().sign(id, header, parts);
    let (nonce, sealed) = keys.contents().seal_signed(&aad, &plain, sign).unwrap();
    let len = u32::try_from(NONCE_LEN + sealed.len()).unwrap();
    [before, gap, nonce.as_bytes(), &sealed, &len.to_le_bytes()].concat()
}

/// Returns the only pack of chunks in the store, and its bytes.
fn pack_of_chunks(store: &MemoryBackend) -> (ObjectRef, Vec<u8>) {
    let listed = store.list("projects").unwrap();
    let objects = listed.iter().filter_map(|o| ObjectRef::parse(&o.name));
    let mut packs = objects.filter(|(object, _)| matches!(object, ObjectRef::Pack(..)));
    let (object, _) = packs.next().unwrap();
    (object, store.get(&object.name(), 1 << 30).unwrap())
}

#[test]
fn a_pack_that_a_verify_key_signed_is_foreign() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, 4 * CHUNK));
    host.back_up(&full, "disk", &image).unwrap();
    let (_, bytes) = pack_of_chunks(&store);
    let forged = sign_again(&client(&store, Role::Verify, 1), &bytes, |_| {});
    let object = ObjectRef::Pack(full.project.id, object_hash(&[&forged]));
    let error = listing_of(&full.project, object, &forged).unwrap_err();
    assert_eq!(error.kind(), RepoErrorKind::Foreign, "{error}");
    // The foreign pack stops no command.
    store.put(&object.name(), &[&forged]).unwrap();
    host.back_up(&full, "again", &image).unwrap();
    let backup = full.backups().pop().unwrap();
    assert!(host.restore_image(&full, &backup).unwrap() == image);
}

#[test]
fn a_pack_is_damaged_if_its_gap_has_a_byte_that_is_not_zero_however_it_is_read() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let thief = writer(&store, 1);
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, 4 * CHUNK));
    host.back_up(&thief, "disk", &image).unwrap();
    let (_, bytes) = pack_of_chunks(&store);
    let one_at = |at: usize| {
        let mut gap = vec![0; 100];
        gap[at] = 1;
        gap
    };
    for (gap, is_whole) in [
        (vec![0; 100], true),
        (vec![0; 5 << 20], true),
        (one_at(0), false),
        (one_at(99), false),
        ([vec![1], vec![0; 5 << 20]].concat(), false),
    ] {
        let pack = sign_with_gap(&thief, &bytes, &gap, |_| {});
        let object = ObjectRef::Pack(full.project.id, object_hash(&[&pack]));
        store.put(&object.name(), &[&pack]).unwrap();
        let found = listing_of(&full.project, object, &pack);
        assert_eq!(found.is_ok(), is_whole, "{found:?}");
        let read = read_whole(&full.project, object);
        assert_eq!(read.is_ok(), is_whole, "{read:?}");
    }
}

#[test]
fn runs_open_only_with_their_own_key_ids_check_and_lengths() {
    type Change = fn(&TestRepo, &mut Contents);
    let changes: [(&str, Change); 5] = [
        ("another session", |thief, contents| {
            let public = thief.project.keys.data_public_key().unwrap();
            let (encapsulation, _) = public.encapsulate(thief.project.id).unwrap();
            contents.key = PackKey::Session(Arc::new(encapsulation));
        }),
        ("the project's key", |_, contents| {
            contents.gap = 0;
            contents.key = PackKey::Project;
        }),
        ("another id", |_, contents| {
            contents.runs[0].blobs[0].id = BlobId::from_bytes([1; 32]);
        }),
        ("another check", |_, contents| {
            contents.runs[0].check[0] ^= 1;
        }),
        ("other lengths", |_, contents| {
            contents.runs[0].blobs[0].plain_len -= 1;
            contents.runs[0].blobs[1].plain_len += 1;
        }),
    ];
    for (name, change) in changes {
        let store = MemoryBackend::new();
        let full = TestRepo::init(store.clone(), CHUNK).unwrap();
        let (honest, thief) = (writer(&store, 1), writer(&store, 2));
        let host = Host::without_cache();
        let image = Image::new(LEAF).with(0, &noise(2, 4 * CHUNK));
        let made = host.back_up(&honest, "disk", &image).unwrap();
        let (_, bytes) = pack_of_chunks(&store);
        let forged = sign_again(&thief, &bytes, |contents| change(&thief, contents));
        let object = ObjectRef::Pack(full.project.id, object_hash(&[&forged]));
        store.put(&object.name(), &[&forged]).unwrap();
        // The contents of the forged pack are valid, and name the thief as the signer.
        let listing = listing_of(&full.project, object, &forged).unwrap();
        assert_eq!(listing.signer, thief.project.keys.signing().public());
        let segment = IndexSegment {
            packs: vec![listing],
            superseded: Vec::new(),
        };
        let put = thief
            .project
            .put_sealed(ObjectRef::Index, &segment.encode());
        put.unwrap();
        let (report, findings) = host.check(&full, true);
        assert_eq!(report.packs_damaged, 1, "{name}: {findings:?}");
        assert_eq!(report.backups_affected, [], "{name}");
        let restored = host.restore_image(&full, &full.backup(made.id)).unwrap();
        assert!(restored == image, "{name}");
        let notices = Silent;
        let again = TestRepo::open(store.clone(), &notices).unwrap();
        let copy = host.back_up(&again, "copy", &image).unwrap();
        assert_eq!(
            copy.chunks_new, 0,
            "{name}: the check has audited the honest pack"
        );
    }
}
