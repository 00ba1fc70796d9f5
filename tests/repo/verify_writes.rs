//! Bad memory: a bit flips in sealed data before it is stored.

use cuttlebone::ops::{BackupOptions, OpsError};
use cuttlebone::repo::{Compression, RepoError, VerifyWrites};
use cuttlebone::storage::{Backend, MemoryBackend};

use super::prune::is_pack;
use super::{Host, Image, LEAF, TestRepo, noise, options};

fn with(verify_writes: VerifyWrites) -> BackupOptions {
    BackupOptions {
        verify_writes,
        ..options("v")
    }
}

#[test]
fn a_bit_that_flips_before_a_pack_is_stored_fails_the_backup() {
    for compression in [Compression::default(), Compression::Off] {
        let store = MemoryBackend::new();
        let test_repo = TestRepo::init(store.clone(), 64 << 10).unwrap();
        let host = Host::without_cache();
        let content = Image::new(LEAF).with(0, &noise(1, 100_000));
        for verify in [VerifyWrites::ALL, VerifyWrites::SOME_RUNS] {
            let options = BackupOptions {
                compression,
                ..with(verify.with_bad_memory())
            };
            let image = host.image(&content).unwrap();
            let result = host.run(&test_repo, image, &options);
            let Err(OpsError::Repo(error)) = &result else {
                panic!("{result:?}")
            };
            assert!(matches!(error, RepoError::BadMemory), "{error:?}");
            assert!(test_repo.backups().is_empty());
            let stored = store.list("").unwrap();
            let packs: Vec<_> = stored
                .iter()
                .filter(|object| is_pack(&object.name))
                .collect();
            assert!(packs.is_empty(), "{verify:?}: {packs:?}");
        }
        // The next backup runs on a host with good memory.
        let image = host.image(&content).unwrap();
        host.run(&test_repo, image, &with(VerifyWrites::ALL))
            .unwrap();
        host.check_clean(&test_repo, "after a good backup");
    }
}

#[test]
fn without_verification_only_check_finds_the_damage() {
    let test_repo = TestRepo::init(MemoryBackend::new(), 64 << 10).unwrap();
    let host = Host::without_cache();
    let image = host
        .image(&Image::new(LEAF).with(0, &noise(1, 100_000)))
        .unwrap();
    let options = with(VerifyWrites::OFF.with_bad_memory());
    host.run(&test_repo, image, &options).unwrap();
    assert!(host.check(&test_repo, true).0.errors > 0);
}
