//! Paths on the server.

use std::collections::HashSet;
use std::sync::Mutex;

use crate::base::lock;

/// The root of a store, and the directories that are known to exist.
pub(super) struct Paths {
    root: String,
    known: Mutex<HashSet<String>>,
}

impl Paths {
    pub(super) fn new(root: String) -> Self {
        Self {
            root,
            known: Mutex::default(),
        }
    }

    /// Returns the path of an object or directory of the store.
    pub(super) fn at(&self, path: &str) -> String {
        join(&self.root, path)
    }

    pub(super) fn is_known(&self, directory: &str) -> bool {
        directory.is_empty() || lock(&self.known).contains(directory)
    }

    pub(super) fn remember(&self, directory: &str) {
        lock(&self.known).insert(directory.to_owned());
    }
}

/// Returns the path of a file in a directory. If an argument is empty, returns the other one.
pub(super) fn join(directory: &str, path: &str) -> String {
    match (directory, path) {
        (directory, "") => directory.to_owned(),
        ("", path) => path.to_owned(),
        (directory, path) if directory.ends_with('/') => format!("{directory}{path}"),
        (directory, path) => format!("{directory}/{path}"),
    }
}
