//! The stores: one contract for all, then what is special to each.

mod contract;
mod fault;
mod local;
mod sftp;

use cuttlebone::storage::{Backend, ErrorKind, Name, StorageError};

#[expect(clippy::unwrap_used, reason = "the tests write valid names")]
fn name(path: &str) -> Name {
    Name::new(path).unwrap()
}

fn kind<T>(result: Result<T, StorageError>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind)
}

#[expect(clippy::unwrap_used, reason = "a listing that fails fails the test")]
fn names(backend: &dyn Backend, directory: &str) -> Vec<String> {
    let listed = backend.list(directory).unwrap();
    let mut names: Vec<_> = listed
        .into_iter()
        .map(|object| object.name.to_string())
        .collect();
    names.sort();
    names
}
