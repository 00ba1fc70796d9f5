//! A cache of small objects on this host, so that few of them have to be read over a slow link.
//!
//! Cached objects never change, and each is named by the hash of its bytes. So a copy is genuine if
//! its bytes have this hash. Copies are encrypted as in the store. Only a listing of the store
//! shows which objects exist; the cache does not.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use rustix::fs::OFlags;

use crate::base::{ObjectHash, lock, replace_file};
use crate::crypto::object_hash;

/// [`ObjectCache::open`] removes files if the cache has more bytes than this.
const SIZE_MAX: u64 = 1 << 30;
/// The maximum size of the cache after files were removed, in bytes.
const SIZE_KEPT: u64 = 512 << 20;
/// The maximum size of a pack of tree nodes in the cache, in bytes. Packs of tree nodes that this
/// program writes have little more than 4 MiB.
pub(super) const NODE_PACK_MAX: u64 = 6 << 20;

/// A directory with copies of objects.
pub(super) struct ObjectCache {
    directory: PathBuf,
    /// Whether the cache has an undamaged copy, for each pack that was read.
    packs: Mutex<HashMap<ObjectHash, Arc<OnceLock<bool>>>>,
    /// Whether a copy could not be written. If so, no more copies are written, because the disk may
    /// be full or read-only.
    refused: AtomicBool,
}

impl ObjectCache {
    /// Opens the cache in this directory, which only this user may access. Does not create the
    /// directory.
    pub(super) fn open(directory: PathBuf) -> Self {
        let _ = cut_back(&directory, SIZE_MAX, SIZE_KEPT);
        Self {
            directory,
            packs: Mutex::default(),
            refused: AtomicBool::new(false),
        }
    }

    /// Returns the bytes of an object. `None` if the cache has no undamaged copy of at most `limit`
    /// bytes. Removes a damaged or longer file.
    pub(super) fn get(&self, hash: ObjectHash, limit: u64) -> Option<Vec<u8>> {
        let path = self.path(hash);
        let bytes = read(&path, limit).ok()?;
        if object_hash(&[&bytes]) == hash {
            return Some(bytes);
        }
        let _ = fs::remove_file(path);
        None
    }

    /// Stores a copy. A crash may leave an incomplete file, which is not used because its bytes
    /// have another hash.
    pub(super) fn put(&self, hash: ObjectHash, parts: &[&[u8]]) {
        self.write(hash, parts);
    }

    /// Stores a copy of a pack, if the pack has at most [`NODE_PACK_MAX`] bytes.
    pub(super) fn put_pack(&self, hash: ObjectHash, parts: &[&[u8]]) {
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if len <= NODE_PACK_MAX {
            self.put(hash, parts);
        }
    }

    /// Fills `buf` with the bytes of a pack from `offset` on. If the cache has no undamaged copy
    /// and can store one, calls `fetch`, at most once for each pack. Stores the fetched bytes as a
    /// copy if they are undamaged. Returns whether `buf` was filled from a copy. If not, the
    /// content of `buf` is unspecified.
    pub(super) fn read_pack(
        &self,
        hash: ObjectHash,
        offset: u64,
        buf: &mut [u8],
        fetch: impl FnOnce() -> Option<Vec<u8>>,
    ) -> bool {
        let slot = {
            let mut packs = lock(&self.packs);
            Arc::clone(packs.entry(hash).or_default())
        };
        // Threads that read the same pack wait until one of them has fetched it.
        let there = slot.get_or_init(|| {
            self.get(hash, NODE_PACK_MAX).is_some()
                || !self.refused.load(Ordering::Relaxed)
                    && fetch().is_some_and(|bytes| {
                        let whole = object_hash(&[&bytes]) == hash;
                        whole && self.write(hash, &[&bytes])
                    })
        });
        let mut read = || File::open(self.path(hash))?.read_exact_at(buf, offset);
        *there && read().is_ok()
    }

    /// Removes the copy of an object, if there is one.
    pub(super) fn remove(&self, hash: ObjectHash) {
        let _ = fs::remove_file(self.path(hash));
    }

    /// Writes a copy, unless an earlier one could not be written. Returns whether it was written.
    fn write(&self, hash: ObjectHash, parts: &[&[u8]]) -> bool {
        if self.refused.load(Ordering::Relaxed) {
            return false;
        }
        let written = replace_file(&self.path(hash), parts).is_ok();
        if !written {
            self.refused.store(true, Ordering::Relaxed);
        }
        written
    }

    fn path(&self, hash: ObjectHash) -> PathBuf {
        self.directory.join(hash.to_string())
    }
}

/// Reads a file, up to `limit + 1` bytes. Sets its time of modification to now, so that
/// [`cut_back`] removes it later than other files.
fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let mut bytes = Vec::new();
    // Read one byte more than the limit. Otherwise a file with extra bytes at its end could have
    // the right hash.
    (&file).take(limit + 1).read_to_end(&mut bytes)?;
    let _ = file.set_modified(SystemTime::now());
    Ok(bytes)
}

/// If the files have more than `most` bytes in total, removes files until at most `kept` bytes are
/// left. Files that were not read for the longest time are removed first.
fn cut_back(directory: &Path, most: u64, kept: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Another process may have removed the file.
        if let Ok(metadata) = entry.metadata() {
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    let mut size: u64 = files.iter().map(|(_, len, _)| len).sum();
    if size <= most {
        return Ok(());
    }
    files.sort_unstable();
    for (_, len, path) in files {
        if size <= kept {
            break;
        }
        let _ = fs::remove_file(path);
        size -= len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::create_private_dir;

    fn opened() -> (tempfile::TempDir, ObjectCache) {
        let directory = tempfile::tempdir().unwrap();
        let objects = directory.path().join("objects");
        create_private_dir(directory.path(), &objects).unwrap();
        (directory, ObjectCache::open(objects))
    }

    fn object(number: u8) -> (ObjectHash, [u8; 100]) {
        let bytes = [number; 100];
        (object_hash(&[&bytes]), bytes)
    }

    #[test]
    fn the_copies_that_were_not_read_for_longest_are_removed_first() {
        let (_directory, copies) = opened();
        let objects: Vec<_> = (0..10).map(object).collect();
        for (age, (hash, bytes)) in (0..10).rev().zip(&objects) {
            copies.put(*hash, &[&bytes[..50], &bytes[50..]]);
            let file = File::options().write(true).open(copies.path(*hash));
            let time = SystemTime::now() - Duration::from_hours(1 + age);
            file.unwrap().set_modified(time).unwrap();
        }
        let left = || objects.iter().map(|(hash, _)| copies.path(*hash).exists());
        let (oldest, bytes) = objects[0];
        assert_eq!(copies.get(oldest, 100).unwrap(), bytes);
        cut_back(&copies.directory, 1000, 300).unwrap();
        assert!(left().all(|there| there), "1000 bytes are allowed");
        cut_back(&copies.directory, 999, 300).unwrap();
        let expected = (0..10).map(|number| [0, 8, 9].contains(&number));
        assert!(
            left().eq(expected),
            "the copy that was read and the newest copies are left"
        );
    }

    #[test]
    fn a_file_whose_name_is_not_its_hash_is_not_used_and_is_removed() {
        let (_directory, copies) = opened();
        let (hash, bytes) = object(1);
        for spoiled in [&[][..], &bytes[..99], &[2; 100], &[1; 101]] {
            fs::write(copies.path(hash), spoiled).unwrap();
            assert_eq!(copies.get(hash, 100), None);
            assert!(!copies.path(hash).exists());
        }
    }

    #[test]
    fn a_pack_is_fetched_once_and_kept_only_if_undamaged() {
        let (_directory, copies) = opened();
        let (hash, bytes) = object(1);
        let mut buf = [0; 10];
        assert!(copies.read_pack(hash, 90, &mut buf, || Some(bytes.to_vec())));
        assert_eq!(buf, [1; 10]);
        assert!(copies.read_pack(hash, 0, &mut buf, || panic!("fetched again")));
        assert!(!copies.read_pack(hash, 91, &mut buf, || panic!("fetched again")));

        let (hash, _) = object(2);
        assert!(!copies.read_pack(hash, 0, &mut buf, || Some(bytes.to_vec())));
        assert!(!copies.path(hash).exists());
    }

    #[test]
    fn after_a_copy_could_not_be_written_no_pack_is_fetched() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let copies = ObjectCache::open(file.path().join("objects"));
        let mut fetched = 0;
        for (hash, bytes) in [object(1), object(2)] {
            assert!(!copies.read_pack(hash, 0, &mut [0], || {
                fetched += 1;
                Some(bytes.to_vec())
            }));
        }
        assert_eq!(fetched, 1);
    }

    #[test]
    fn a_cache_whose_directory_is_missing_is_empty() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let copies = ObjectCache::open(file.path().join("objects"));
        let (hash, bytes) = object(1);
        copies.put(hash, &[&bytes]);
        assert_eq!(copies.get(hash, 100), None);
        assert!(!copies.read_pack(hash, 0, &mut [0], || panic!(
            "fetched, but no copy can be stored"
        )));
    }

    #[test]
    fn only_the_owner_can_read_the_cache() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, copies) = opened();
        let (hash, bytes) = object(1);
        copies.put(hash, &[&bytes]);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&copies.directory), 0o700);
        assert_eq!(mode(&copies.path(hash)), 0o600);
    }
}
