//! Packs and index segments that a prune deleted, and that someone with access to the store puts
//! back. No backup may rely on them.

use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{ObjectHash, Silent};
use cuttlebone::repo::{Index, ObjectRef};
use cuttlebone::storage::{Backend, MemoryBackend};

use super::{forget, is_pack, open, prune};
use crate::repo::{CHUNK, Host, Image, LEAF, TestRepo, noise};

/// A store from which a prune deleted the data of an image.
struct Deleted {
    store: MemoryBackend,
    full: TestRepo,
    image: Image,
    /// The store before the prune.
    before: MemoryBackend,
    host: Host,
}

impl Deleted {
    fn new(host: Host) -> Self {
        let store = MemoryBackend::new();
        let full = TestRepo::init(store.clone(), CHUNK).unwrap();
        let image = Image::new(LEAF).with(0, &noise(1, 6 * CHUNK));
        let back_up = |volume: &str, image: &Image| host.back_up(&full, volume, image).unwrap().id;
        let made = back_up("disk", &image);
        let before = store.copy();
        let other = Image::new(LEAF).with(0, &noise(2, 6 * CHUNK));
        back_up("other", &other);
        forget(&full, &[made]);
        for _ in 0..2 {
            prune(&full, &host, Duration::ZERO).unwrap();
        }
        host.check_clean(&full, "pruned");
        Self {
            full: open(&store),
            store,
            image,
            before,
            host,
        }
    }

    /// Puts all deleted segments back, and all deleted packs if `packs` is set. Deletes the segment
    /// that superseded these segments.
    fn put_back(&self, packs: bool) {
        for object in self.before.list("projects").unwrap() {
            let kind = ObjectRef::parse(&object.name);
            let is_segment = matches!(kind, Some((ObjectRef::Index(..), _)));
            if is_segment || packs && is_pack(&object.name) {
                let bytes = self.before.get(&object.name, 1 << 30).unwrap();
                self.store.put(&object.name, &[&bytes]).unwrap();
            }
        }
        assert_ne!(self.superseded(), []);
        for object in self.store.list("projects").unwrap() {
            let kind = ObjectRef::parse(&object.name);
            if matches!(kind, Some((ObjectRef::Index(..), _))) {
                let bytes = self.store.get(&object.name, 1 << 30).unwrap();
                self.store.delete(&object.name).unwrap();
                if self.superseded().is_empty() && self.before.size(&object.name).is_err() {
                    return;
                }
                self.store.put(&object.name, &[&bytes]).unwrap();
            }
        }
        panic!("several segments supersede the old ones");
    }

    /// Returns the segments in the store that another segment in the store supersedes.
    fn superseded(&self) -> Vec<ObjectHash> {
        let index = Index::in_memory(&self.full.project, Arc::new(Silent)).unwrap();
        index.replaced_segments().unwrap()
    }

    /// Deletes the packs that were put back, if they still exist.
    fn delete_again(&self) {
        for object in self.store.list("projects").unwrap() {
            if is_pack(&object.name) && self.before.size(&object.name).is_ok() {
                self.store.delete(&object.name).unwrap();
            }
        }
    }

    /// Puts the deleted record back.
    fn put_record_back(&self) {
        for object in self.before.list("projects").unwrap() {
            if object.name.as_str().contains("/backups/") {
                let bytes = self.before.get(&object.name, 1 << 30).unwrap();
                self.store.put(&object.name, &[&bytes]).unwrap();
            }
        }
    }

    #[track_caller]
    fn restores(&self, when: &str) {
        let backup = self.full.backups().pop().unwrap();
        let restored = self.host.restore_image(&self.full, &backup).unwrap();
        assert!(restored == self.image, "{when}");
    }
}

#[test]
fn a_backup_does_not_rely_on_a_deleted_pack_whose_segment_was_stored_again() {
    for host in [Host::without_cache(), Host::with_cache()] {
        let deleted = Deleted::new(host);
        deleted.put_back(false);
        let made = deleted.host.back_up(&deleted.full, "disk", &deleted.image);
        assert_eq!(made.unwrap().chunks_new, 6);
        deleted.restores("backed up");
        deleted.host.check_clean(&deleted.full, "backed up");
        prune(&deleted.full, &deleted.host, Duration::ZERO).unwrap();
        deleted.restores("pruned");
    }
}

/// The log states that the pack was deleted. So if the pack vanished again, nobody would notice.
#[test]
fn neither_a_backup_nor_a_prune_relies_on_a_deleted_pack_that_was_stored_again() {
    for host in [Host::without_cache(), Host::with_cache()] {
        let deleted = Deleted::new(host);
        deleted.put_back(true);
        let made = deleted.host.back_up(&deleted.full, "disk", &deleted.image);
        assert_eq!(made.unwrap().chunks_new, 6);
        for _ in 0..2 {
            prune(&deleted.full, &deleted.host, Duration::ZERO).unwrap();
        }
        deleted.delete_again();
        deleted.restores("pruned");
        deleted.host.check_clean(&deleted.full, "pruned");
    }
}

#[test]
fn a_backup_whose_record_and_packs_were_put_back_gets_packs_that_the_log_does_not_remove() {
    for host in [Host::without_cache(), Host::with_cache()] {
        let deleted = Deleted::new(host);
        deleted.put_back(true);
        deleted.put_record_back();
        let restores = |when: &str| {
            let backups = deleted.full.backups();
            let backup = backups.iter().find(|b| b.record.volume.name == "disk");
            let restored = deleted.host.restore_image(&deleted.full, backup.unwrap());
            assert!(restored.unwrap() == deleted.image, "{when}");
        };
        restores("put back");
        for _ in 0..2 {
            prune(&deleted.full, &deleted.host, Duration::ZERO).unwrap();
            restores("pruned");
        }
        // The packs that were put back may vanish again, and nobody would notice.
        deleted.delete_again();
        restores("deleted again");
        deleted.host.check_clean(&deleted.full, "deleted again");
    }
}

/// To put the backup back, an attacker needs access to the store, but no key.
#[test]
fn a_forgotten_backup_that_is_put_back_with_damaged_chunks_stops_no_prune() {
    for host in [Host::without_cache(), Host::with_cache()] {
        let deleted = Deleted::new(host);
        let there: Vec<_> = deleted.store.list("projects").unwrap();
        deleted.put_back(true);
        deleted.put_record_back();
        for object in deleted.store.list("projects").unwrap() {
            let is_old = there.iter().any(|old| old.name == object.name);
            if object.name.as_str().contains("/packs/") && !is_old {
                let mut bytes = deleted.store.get(&object.name, 1 << 30).unwrap();
                bytes[40] ^= 1;
                deleted.store.put(&object.name, &[&bytes]).unwrap();
            }
        }
        let other = deleted.full.backups();
        let other = other.iter().find(|b| b.record.volume.name == "other");
        let other = other.unwrap().clone();
        let whole = deleted.host.restore_image(&deleted.full, &other).unwrap();
        for when in ["first", "again"] {
            prune(&deleted.full, &deleted.host, Duration::ZERO)
                .unwrap_or_else(|error| panic!("{when}: {error:?}"));
            let restored = deleted.host.restore_image(&deleted.full, &other);
            assert!(restored.unwrap() == whole, "{when}");
        }
        // After the backup is forgotten again, it uses no packs.
        let again = deleted.full.backups();
        let again = again.iter().find(|b| b.record.volume.name == "disk");
        forget(&deleted.full, &[again.unwrap().id]);
        prune(&deleted.full, &deleted.host, Duration::ZERO).unwrap();
        deleted.host.check_clean(&deleted.full, "forgotten again");
    }
}
