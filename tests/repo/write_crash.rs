//! The store crashes or fails at each call of a backup with a write key. If the same backup is
//! made again, it uses the packs that the first attempt stored. A full key can restore it.

use std::sync::Arc;

use cuttlebone::base::{Role, Silent};
use cuttlebone::ops::OpsError;
use cuttlebone::repo::{Backup, Grant, RepoError, Repository};
use cuttlebone::storage::Backend;

use super::sweep::{Work, deaths, failures, sweep};
use super::{CHUNK, Host, Image, LEAF, TestRepo, key, noise};

/// The contents of a volume on two days. The first day is backed up with a full key.
struct Days {
    first: Image,
    second: Image,
}

impl Days {
    fn new() -> Self {
        let first = Image::new(2 * LEAF).with(0, &noise(1, 3 * CHUNK));
        let second = first
            .clone()
            .with(CHUNK as u64, &noise(2, CHUNK))
            .with(LEAF, &noise(3, 3 * CHUNK));
        Self { first, second }
    }
}

impl Work for Days {
    const CHUNK: usize = CHUNK;
    const BEFORE: usize = 1;
    const MADE: usize = 1;
    const AGAIN: bool = true;

    fn client<B: Backend + Clone + 'static>(&self, store: &B) -> Result<TestRepo, RepoError> {
        let password = b"write 1";
        let store = Arc::new(store.clone());
        let repository = Repository::open(store, password, &Silent)?;
        let project = repository.project("default", &Silent)?;
        Ok(TestRepo {
            repository,
            project,
        })
    }

    fn prepare(&self, host: &Host, test_repo: &TestRepo) {
        let grant = Grant::Project {
            project: &test_repo.project,
            role: Role::Write,
            volumes: &[],
        };
        let repository = &test_repo.repository;
        repository
            .add_key(grant, &key(b"write 1"), &Silent)
            .unwrap();
        host.back_up(test_repo, "disk", &self.first).unwrap();
    }

    fn run(&self, host: &Host, test_repo: &TestRepo) -> Result<u64, OpsError> {
        Ok(host.back_up(test_repo, "disk", &self.second)?.chunks_new)
    }

    fn run_reread(&self, host: &Host, test_repo: &TestRepo) -> Result<(), OpsError> {
        host.back_up_again(test_repo, "disk", &self.second)?;
        Ok(())
    }

    fn restores(
        &self,
        host: &Host,
        test_repo: &TestRepo,
        backup: &Backup,
    ) -> Result<bool, OpsError> {
        let image = host.restore_image(test_repo, backup)?;
        Ok(image == self.first || image == self.second)
    }
}

#[test]
fn a_backup_with_a_write_key_survives_a_crash_at_any_call_of_the_store() {
    for with_cache in [false, true] {
        let calls = sweep(&Days::new(), with_cache, deaths);
        assert!(
            calls > 30,
            "{calls} calls are too few for a meaningful test"
        );
    }
}

#[test]
fn a_backup_with_a_write_key_survives_a_failure_of_any_write() {
    for with_cache in [false, true] {
        let writes = sweep(&Days::new(), with_cache, failures);
        assert!(
            writes > 8,
            "{writes} writes are too few for a meaningful test"
        );
    }
}
