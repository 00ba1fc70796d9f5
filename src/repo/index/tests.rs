//! What only shows when the database fails while a run is under way.

use std::sync::Arc;

use super::*;
use crate::base::{CHUNK_SIZE_DEFAULT, Progress};
use crate::crypto::KdfParams;
use crate::format::SlotInfo;
use crate::repo::ObjectRef;
use crate::repo::{
    InitOptions, NewKey, Packer, PackerOptions, PackerReport, RepoError, Repository, UnindexedPacks,
};
use crate::storage::{Backend, MemoryBackend};

struct Deaf;

impl Observer for Deaf {
    fn progress(&self, _: Progress) {}
    fn notice(&self, _: Notice) {}
}

fn project(store: &MemoryBackend) -> Project {
    let options = InitOptions {
        key: NewKey {
            password: b"password",
            kdf: KdfParams::new(8, 1, 1).unwrap(),
            info: SlotInfo::default(),
        },
        project: "default",
        chunk_size: CHUNK_SIZE_DEFAULT,
        created: 0,
        created_text: "2027-01-15T08:00:00Z".into(),
    };
    let repository = Repository::init(Arc::new(store.clone()), &options).unwrap();
    repository.project("default", &Deaf).unwrap()
}

/// Stores a chunk, unless the index knows it; in between something may happen to the index.
fn store(index: &Index, plain: &[u8], meanwhile: impl FnOnce()) -> PackerReport {
    let id = index.project.keys.chunk_id(plain);
    let (unindexed, _) = UnindexedPacks::none();
    let work = |packer: &Packer<'_>| -> Result<(), RepoError> {
        let mut worker = packer.worker()?;
        packer.store_chunks(&mut worker, plain, [(id, 0..plain.len())])?;
        packer.flush(&mut worker)?;
        meanwhile();
        Ok(())
    };
    let stored = Packer::scope(index, unindexed, PackerOptions::default(), work);
    let (.., report) = stored.unwrap();
    report
}

#[test]
fn a_pack_that_no_segment_names_is_named_even_if_the_database_is_made_anew() {
    let backend = MemoryBackend::new();
    let project = project(&backend);
    let plain = b"what only a pack without a segment holds";
    store(
        &Index::in_memory(&project, Arc::new(Deaf)).unwrap(),
        plain,
        || {},
    );
    for listed in backend.list("").unwrap() {
        if let Some((ObjectRef::Index(..), _)) = ObjectRef::parse(&listed.name) {
            backend.delete(&listed.name).unwrap();
        }
    }

    let index = Index::in_memory(&project, Arc::new(Deaf)).unwrap();
    assert!(index.resync().unwrap(), "the pack says what it holds");
    let report = store(&index, plain, || {
        index.refill(&mut index.write()).unwrap();
    });
    assert_eq!(report.chunks_new, 0, "it was there");
    // The receipt is given: from here on a record may be committed.
    let index = Index::in_memory(&project, Arc::new(Deaf)).unwrap();
    let found = index.find(&project.keys.chunk_id(plain)).unwrap();
    assert!(found.is_some(), "a segment names it");
}
