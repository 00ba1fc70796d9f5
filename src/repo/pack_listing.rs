//! Reads the listing of a pack from the pack itself.

use crate::base::{ObjectHash, to_usize};
use crate::crypto::SealNonce;
use crate::format::{
    Contents, FormatError, NONCE_LEN, PACK_HEAD_LEN, PACK_SIZE_MAX, PACK_TAIL_LEN, PackHead,
    PackListing,
};

use super::error::{Damage, RepoError};
use super::object_ref::ObjectRef;
use super::project::Project;

/// Bytes that are read from the end of a pack first. Most listings fit.
const TAIL_GUESS: u64 = 256 << 10;

/// Reads the listing of a pack, in two or three requests.
pub fn read_listing(
    project: &Project,
    pack: ObjectHash,
    size: Option<u64>,
) -> Result<PackListing, RepoError> {
    let object = ObjectRef::Pack(project.id, pack);
    let backend = project.objects.backend();
    let name = object.name();
    let lost = |e| RepoError::reading(object, e);
    let size = match size {
        Some(size) => size,
        None => backend.size(&name).map_err(lost)?,
    };
    check_size(object, size)?;
    let mut head = [0; PACK_HEAD_LEN];
    backend.get_range(&name, 0, &mut head).map_err(lost)?;
    let guess = size.min(TAIL_GUESS);
    let mut tail = vec![0; to_usize(guess)];
    backend
        .get_range(&name, size - guess, &mut tail)
        .map_err(lost)?;
    let len = contents_len(object, &tail, size)?;
    let whole = len + PACK_TAIL_LEN;
    if whole > tail.len() {
        tail = vec![0; whole];
        backend
            .get_range(&name, size - whole as u64, &mut tail)
            .map_err(lost)?;
    }
    let at = tail.len() - whole;
    open_listing(project, pack, &head, &tail[at..at + len], size)
}

/// Decodes the listing of a pack from all bytes of the pack.
pub fn listing_of(
    project: &Project,
    pack: ObjectHash,
    bytes: &[u8],
) -> Result<PackListing, RepoError> {
    let object = ObjectRef::Pack(project.id, pack);
    let size = bytes.len() as u64;
    check_size(object, size)?;
    let Some(head) = bytes.first_chunk::<PACK_HEAD_LEN>() else {
        return Err(RepoError::format(object, FormatError::Truncated));
    };
    let len = contents_len(object, bytes, size)?;
    let at = bytes.len() - len - PACK_TAIL_LEN;
    open_listing(project, pack, head, &bytes[at..at + len], size)
}

fn check_size(object: ObjectRef, size: u64) -> Result<(), RepoError> {
    let least = (PACK_HEAD_LEN + Contents::SEALED_LEN_MIN + PACK_TAIL_LEN) as u64;
    if size < least {
        Err(RepoError::format(object, FormatError::Truncated))
    } else if size > PACK_SIZE_MAX {
        Err(RepoError::format(
            object,
            FormatError::LimitExceeded("size of a pack"),
        ))
    } else {
        Ok(())
    }
}

/// Returns the length of the sealed contents from the last bytes of a pack. Fails if it does not
/// fit the pack.
fn contents_len(object: ObjectRef, tail: &[u8], size: u64) -> Result<usize, RepoError> {
    let refuse = |e| RepoError::format(object, e);
    let len = tail
        .last_chunk::<PACK_TAIL_LEN>()
        .ok_or_else(|| refuse(FormatError::Truncated))?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > Contents::SEALED_LEN_MAX {
        return Err(refuse(FormatError::LimitExceeded("length of the contents")));
    }
    if len < Contents::SEALED_LEN_MIN || (PACK_HEAD_LEN + len + PACK_TAIL_LEN) as u64 > size {
        return Err(refuse(FormatError::BadValue("length of the contents")));
    }
    Ok(len)
}

fn open_listing(
    project: &Project,
    pack: ObjectHash,
    head: &[u8; PACK_HEAD_LEN],
    sealed: &[u8],
    size: u64,
) -> Result<PackListing, RepoError> {
    let object = ObjectRef::Pack(project.id, pack);
    let refuse = |e| RepoError::format(object, e);
    let PackHead { random } = PackHead::decode(head).map_err(refuse)?;
    let aad = [&project.id.as_bytes()[..], head].concat();
    let (nonce, sealed) = sealed
        .split_first_chunk::<NONCE_LEN>()
        .ok_or_else(|| refuse(FormatError::Truncated))?;
    let plain = project
        .keys
        .contents()
        .open(&SealNonce::from_bytes(*nonce), &aad, sealed)
        .map_err(|e| RepoError::damaged(object, e))?;
    let contents = Contents::decode(&plain).map_err(refuse)?;
    let expected = contents.pack_size();
    if expected != size {
        return Err(RepoError::damaged(
            object,
            Damage::WrongSize {
                expected,
                found: size,
            },
        ));
    }
    Ok(PackListing {
        pack,
        random,
        contents,
    })
}
