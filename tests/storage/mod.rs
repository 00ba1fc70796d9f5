//! Object stores: the contract of all stores, then tests of each store.

mod contract;
mod fault;
mod local;
mod retry;
mod sftp;

use cuttlebone::storage::{Backend, Name, StorageError, StorageErrorKind};

#[expect(clippy::unwrap_used, reason = "the tests write valid names")]
fn name(path: &str) -> Name {
    Name::new(path).unwrap()
}

fn kind<T>(result: Result<T, StorageError>) -> Option<StorageErrorKind> {
    result.err().map(|error| error.kind)
}

#[expect(clippy::unwrap_used, reason = "a failed listing fails the test")]
fn names(backend: &dyn Backend, directory: &str) -> Vec<String> {
    let objects = backend.list(directory).unwrap();
    let mut names: Vec<_> = objects
        .into_iter()
        .map(|object| object.name.to_string())
        .collect();
    names.sort();
    names
}
