//! Prunes that run at the same time as backups with a write key. This key cannot read stored data.
//! So if a prune marks a pack on which such a backup relies, the backup cannot read the data from
//! the pack and store it again.

use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::Silent;
use cuttlebone::ops::OpsError;
use cuttlebone::repo::Repository;
use cuttlebone::storage::{MemoryBackend, StorageOperation};

use super::backups::hooked_source;
use super::{GRACE, HOUR, Hooked, assert_tidy, forget, open, prune};
use crate::repo::provenance::writer;
use crate::repo::{CHUNK, Host, Image, LEAF, TestRepo, noise, options};

/// The backup finds chunks in the index, either in earlier packs of the same key or in packs of a
/// full key. Then the only backup that used them is forgotten and pruned.
#[test]
fn a_backup_with_a_write_key_fails_if_a_prune_marks_its_chunks_and_the_next_one_succeeds() {
    for own in [true, false] {
        for grace in [GRACE, Duration::ZERO] {
            let when = format!("own packs: {own}, {grace:?}");
            let store = MemoryBackend::new();
            let full = TestRepo::init(store.clone(), CHUNK).unwrap();
            let client = writer(&store, 1);
            let content = noise(1, 2 << 20);
            let host = Host::without_cache();
            let first = if own { &client } else { &full };
            let old = host.back_up_stream(first, "old", &content).unwrap().id;
            store.age(2 * GRACE);
            let meanwhile = store.clone();
            let source = hooked_source(&content, move || {
                let full = open(&meanwhile);
                forget(&full, &[old]);
                let report = prune(&full, &Host::without_cache(), grace).unwrap();
                assert!(report.marked.packs + report.deleted.packs > 0);
            });
            let failed = host.run(&client, source, &options("new"));
            assert!(
                matches!(&failed, Err(OpsError::LostToPrune { .. })),
                "{when}: {failed:?}"
            );
            assert!(full.backups().is_empty(), "{when}");
            host.check_clean(&full, &when);

            let new = host.back_up_stream(&client, "new", &content).unwrap().id;
            assert!(host.restore(&full, &full.backup(new)).unwrap() == content);
            // Until a full key has read the packs, a prune keeps all packs that may have a needed
            // chunk. So check with a full key first.
            host.check_clean(&full, &when);
            for _ in 0..3 {
                store.age(GRACE + HOUR);
                prune(&full, &host, grace).unwrap();
            }
            assert_tidy(&full, &store, &when);
            host.check_clean(&full, &when);
            assert!(host.restore(&full, &full.backup(new)).unwrap() == content);
        }
    }
}

/// A prune repacks the packs of the base. Then the data of the base is in packs of a full key.
#[test]
fn a_backup_with_a_write_key_is_complete_or_fails_if_a_prune_repacks_its_own_packs() {
    for grace in [GRACE, Duration::ZERO] {
        for audited in [false, true] {
            let when = format!("{grace:?}, audited: {audited}");
            let store = MemoryBackend::new();
            let full = TestRepo::init(store.clone(), CHUNK).unwrap();
            let client = writer(&store, 1);
            let host = Host::without_cache();
            let first = Image::new(2 * LEAF).with(0, &noise(1, 4 * CHUNK));
            let second = first.clone().with(0, &noise(2, 3 * CHUNK));
            let third = second.clone().with(LEAF, &noise(3, 2 * CHUNK));
            let old = host.back_up(&client, "disk", &first).unwrap().id;
            let base = host.back_up(&client, "disk", &second).unwrap().id;
            forget(&full, &[old]);
            if audited {
                host.check(&full, true);
            }
            store.age(2 * GRACE);
            let hooked = Hooked::new(store.clone(), StorageOperation::Put, move |store| {
                let full = open(&store);
                let report = prune(&full, &Host::without_cache(), grace).unwrap();
                assert!(report.repacked.packs > 0);
            });
            // The same client uses a store on which the prune runs before the client's first pack
            // is stored.
            let hooked = Arc::new(hooked);
            let repository = Repository::open(hooked, b"write 1", &Silent).unwrap();
            let project = repository.project("default", &Silent).unwrap();
            let alongside = TestRepo {
                repository,
                project,
            };
            match host.back_up(&alongside, "disk", &third) {
                Ok(made) => {
                    let restored = host.restore_image(&full, &full.backup(made.id)).unwrap();
                    assert!(restored == third, "{when}");
                }
                Err(OpsError::LostToPrune { .. }) => {}
                Err(error) => panic!("{when}: {error:?}"),
            }
            host.check_clean(&full, &when);
            let made = host.back_up(&client, "disk", &third).unwrap().id;
            for _ in 0..3 {
                store.age(GRACE + HOUR);
                prune(&full, &host, grace).unwrap();
            }
            assert_tidy(&full, &store, &when);
            for (id, image) in [(base, &second), (made, &third)] {
                let restored = host.restore_image(&full, &full.backup(id)).unwrap();
                assert!(restored == *image, "{when}");
            }
        }
    }
}
