//! Keeps damaged objects that a repair replaces.

use super::error::RepoError;
use crate::base::{ObjectHash, to_usize};
use crate::storage::{Backend, Name, StorageErrorClass, StorageErrorKind};

/// The directory in the store for damaged objects. Readers ignore it.
const DIRECTORY: &str = "quarantine";
/// The maximum number of damaged versions that are kept of one file. An earlier repair may have
/// stored the same file with other damage.
const VERSIONS_MAX: usize = 100;

/// The number of bytes of each read.
const PIECE: u64 = 1 << 20;
/// The number of bytes of each further read after a piece could not be read.
const BLOCK: u64 = 4096;

/// Reads as much of an object as the store returns, at most `limit` bytes. Blocks that cannot be
/// read are zero. `None` if there is no such object, or if nothing of it can be read.
pub fn read_damaged(
    backend: &dyn Backend,
    name: &Name,
    limit: u64,
) -> Result<Option<Vec<u8>>, RepoError> {
    let size = match backend.size(name) {
        Ok(size) => size.min(limit),
        Err(error) => {
            return match error.kind.class() {
                StorageErrorClass::Absent | StorageErrorClass::Damaged => Ok(None),
                _ => Err(error.into()),
            };
        }
    };
    let mut bytes = vec![0; to_usize(size)];
    let mut any = size == 0;
    for (number, piece) in bytes.chunks_mut(to_usize(PIECE)).enumerate() {
        let start = number as u64 * PIECE;
        match backend.get_range(name, start, piece) {
            Ok(()) => any = true,
            Err(error) if error.kind.class() == StorageErrorClass::Damaged => {
                for (number, block) in piece.chunks_mut(to_usize(BLOCK)).enumerate() {
                    let start = start + number as u64 * BLOCK;
                    match backend.get_range(name, start, block) {
                        Ok(()) => any = true,
                        Err(error) if error.kind.class() == StorageErrorClass::Damaged => {
                            block.fill(0);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Err(error) if error.kind == StorageErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(any.then_some(bytes))
}

/// Stores the bytes of a damaged object in the directory for damaged objects. When the function
/// succeeds, the bytes are durable. The caller then replaces the object. Returns the name of the
/// stored file. Fails with [`RepoError::QuarantineFull`] if the directory already has
/// [`VERSIONS_MAX`] other versions of the file.
pub fn quarantine(backend: &dyn Backend, name: &Name, bytes: &[u8]) -> Result<Name, RepoError> {
    let flat = name.as_str().replace('/', ".");
    for version in 0..VERSIONS_MAX {
        let suffix = match version {
            0 => String::new(),
            _ => format!(".{version}"),
        };
        let Ok(kept) = Name::new(format!("{DIRECTORY}/{flat}{suffix}")) else {
            break;
        };
        match backend.put_new(&kept, &[bytes]) {
            Ok(()) => return Ok(kept),
            Err(error) if error.kind == StorageErrorKind::Exists => {
                let other = backend.get(&kept, bytes.len() as u64);
                if other.is_ok_and(|other| other == bytes) {
                    return Ok(kept);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(RepoError::QuarantineFull)
}

/// Returns the names of the damaged files in quarantine whose names contain this hash.
pub(super) fn quarantined(backend: &dyn Backend, hash: ObjectHash) -> Result<Vec<Name>, RepoError> {
    let hash = hash.to_string();
    let listed = backend.list(DIRECTORY)?.into_iter();
    let names = listed.map(|info| info.name);
    Ok(names.filter(|name| name.last().contains(&hash)).collect())
}
