//! Reads and writes the sealed and signed contents of a pack, which list its runs.

use std::sync::Arc;

use crate::base::{Buffer, SignerId, to_usize};
use crate::crypto::{ObjectHasher, SealNonce, verify_signature};
use crate::format::{
    Contents, FormatError, HEADER_LEN, NONCE_LEN, PACK_HEAD_LEN, PACK_SIZE_MAX, PACK_TAIL_LEN,
    PackHead, PackListing, SignedContents,
};
use crate::storage::{Backend, Name};

use super::error::{Damage, RepoError};
use super::location::PlacedRun;
use super::object_ref::ObjectRef;
use super::project::Project;

/// The number of bytes that are read first from the end of a pack. Most listings fit into it.
const TAIL_GUESS: u64 = 256 << 10;
/// The maximum length of each read when a whole pack is verified, in bytes. Only the read of a run
/// that is longer exceeds it, since no run is read in parts.
const PIECE: u64 = 4 << 20;

/// Reads the listing of a pack, in two or three requests. `size` is the length of the pack in
/// bytes; if it is `None`, one more request asks for it. Verifies the signature of the listing.
/// Does not read or verify the runs.
pub fn read_listing(
    project: &Project,
    object: ObjectRef,
    size: Option<u64>,
) -> Result<PackListing, RepoError> {
    Ok(read_contents(project, object, size)?.listing)
}

/// Reads a whole pack, one piece at a time, and returns its listing. Fails unless its bytes are
/// those that its signer signed, and have the hash that is its name. The hash alone is not enough:
/// anyone who can write to the store can replace the runs of a pack, keep its signed contents, and
/// store the result under its own hash.
pub fn read_whole(project: &Project, object: ObjectRef) -> Result<PackListing, RepoError> {
    read_whole_with(project, object, &mut Buffer::default(), |_, _| ())
}

/// Reads a whole pack like [`read_whole`], and passes each run to `each`, in order, with the stored
/// bytes of the run. `each` may overwrite these bytes. They are in `buffer`, which holds a few runs
/// at a time. The hash and the signature of the pack are verified after the last run.
pub fn read_whole_with(
    project: &Project,
    object: ObjectRef,
    buffer: &mut Buffer,
    mut each: impl FnMut(Arc<PlacedRun>, &mut [u8]),
) -> Result<PackListing, RepoError> {
    let found = read_contents(project, object, None)?;
    let mut pieces = Pieces::after(&found.head, project, object, buffer);
    let mut runs = PlacedRun::all_of(found.listing.clone()).peekable();
    while let Some(first) = runs.next() {
        let start = pieces.at;
        let mut now = vec![first];
        while let Some(run) = runs.next_if(|run| run.range().end - start <= PIECE) {
            now.push(run);
        }
        let end = now.last().map_or(start, |run| run.range().end);
        let piece = pieces.next(end)?;
        for run in now {
            let range = run.range();
            each(
                run,
                &mut piece[to_usize(range.start - start)..to_usize(range.end - start)],
            );
        }
    }
    let mut gap_is_zero = true;
    while pieces.at < found.before {
        let piece = pieces.next(found.before.min(pieces.at + PIECE))?;
        gap_is_zero &= piece.iter().all(|byte| *byte == 0);
    }
    let signed = pieces.hasher.so_far();
    // Hash the bytes that the listing was read from, not those that the store gives now.
    pieces.hasher.update(&found.end);
    if pieces.hasher.name() != found.listing.pack {
        return Err(RepoError::damaged(object, Damage::WrongHash));
    }
    if !gap_is_zero || signed != found.signed {
        return Err(RepoError::damaged(object, not_signed()));
    }
    Ok(found.listing)
}

/// Reads and hashes the bytes of a pack after its head, one piece after the other.
struct Pieces<'a> {
    backend: &'a dyn Backend,
    object: ObjectRef,
    name: Name,
    buffer: &'a mut Buffer,
    hasher: ObjectHasher,
    /// The offset of the next piece.
    at: u64,
}

impl<'a> Pieces<'a> {
    fn after(
        head: &[u8; PACK_HEAD_LEN],
        project: &'a Project,
        object: ObjectRef,
        buffer: &'a mut Buffer,
    ) -> Self {
        let mut hasher = ObjectHasher::default();
        hasher.update(head);
        Self {
            backend: project.objects.backend(),
            object,
            name: object.name(),
            buffer,
            hasher,
            at: PACK_HEAD_LEN as u64,
        }
    }

    /// Reads the piece up to the offset `end`.
    fn next(&mut self, end: u64) -> Result<&mut [u8], RepoError> {
        self.buffer.resize(to_usize(end - self.at));
        let read = self.backend.get_range(&self.name, self.at, self.buffer);
        read.map_err(|e| RepoError::reading(self.object, e))?;
        self.hasher.update(self.buffer);
        self.at = end;
        Ok(self.buffer)
    }
}

/// The contents of a pack, as read from its end.
struct FoundContents {
    listing: PackListing,
    /// The signed hash of all bytes before the contents.
    signed: [u8; 32],
    /// The number of bytes before the contents.
    before: u64,
    /// The first bytes of the pack.
    head: [u8; PACK_HEAD_LEN],
    /// The sealed contents and all bytes after them.
    end: Vec<u8>,
}

fn read_contents(
    project: &Project,
    object: ObjectRef,
    size: Option<u64>,
) -> Result<FoundContents, RepoError> {
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
    let end = tail.split_off(tail.len() - whole);
    let (listing, signed) = open_listing(project, object, &head, &end[..len], size)?;
    Ok(FoundContents {
        listing,
        signed,
        before: size - whole as u64,
        head,
        end,
    })
}

/// Decodes the listing of a pack from all bytes of the pack. Verifies that they have the hash that
/// names the pack, and that all of them were signed.
pub fn listing_of(
    project: &Project,
    object: ObjectRef,
    bytes: &[u8],
) -> Result<PackListing, RepoError> {
    let size = bytes.len() as u64;
    let len = contents_len(object, bytes, size);
    // One pass computes both hashes: the hash of the whole pack, and the hash of all bytes before
    // the contents, which the contents state.
    let end = match len {
        Ok(len) => bytes.len() - len - PACK_TAIL_LEN,
        Err(_) => bytes.len(),
    };
    let (before, rest) = bytes.split_at(end);
    let mut hasher = ObjectHasher::default();
    hasher.update(before);
    let found = hasher.so_far();
    hasher.update(rest);
    if Some(hasher.name()) != object.hash() {
        return Err(RepoError::damaged(object, Damage::WrongHash));
    }
    check_size(object, size)?;
    let len = len?;
    let Some(head) = bytes.first_chunk::<PACK_HEAD_LEN>() else {
        return Err(RepoError::format(object, FormatError::Truncated));
    };
    let (listing, signed) = open_listing(project, object, head, &rest[..len], size)?;
    let gap = before.len() - listing.contents.gap as usize;
    if signed != found || before[gap..].iter().any(|byte| *byte != 0) {
        return Err(RepoError::damaged(object, not_signed()));
    }
    Ok(listing)
}

fn not_signed() -> Damage {
    Damage::Impossible("its bytes are not those that were signed")
}

/// Signs and seals the contents of a pack that begins with `head`. `before` is the hash of all
/// bytes before the contents. Returns the last bytes of the pack (nonce, sealed contents and their
/// length), and the signer.
pub(super) fn seal_contents(
    project: &Project,
    head: &[u8; PACK_HEAD_LEN],
    contents: &Contents,
    before: &[u8; 32],
) -> Result<(Vec<u8>, SignerId), RepoError> {
    let signing = project.keys.signing();
    let signer = signing.public();
    let plain = SignedContents::encode_unsigned(contents, before, &signer);
    let context = [&project.id.as_bytes()[..], head].concat();
    let sign = |parts: &[&[u8]]| signing.sign(project.id, header(head), parts);
    let keys = project.keys.contents();
    let (nonce, ciphertext) = keys.seal_signed(&context, &plain, sign)?;
    let mut sealed = [&nonce.as_bytes()[..], &ciphertext].concat();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a pack has 2^20 blobs at most"
    )]
    let len = (sealed.len() as u32).to_le_bytes();
    sealed.extend_from_slice(&len);
    Ok((sealed, signer))
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

/// Returns the length of the sealed contents from the last bytes of a pack. Fails if the pack
/// cannot have contents of this length.
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

/// Opens and verifies the contents of a pack. Returns its listing, and the signed hash of all bytes
/// before its contents.
fn open_listing(
    project: &Project,
    object: ObjectRef,
    head: &[u8; PACK_HEAD_LEN],
    sealed: &[u8],
    size: u64,
) -> Result<(PackListing, [u8; 32]), RepoError> {
    let refuse = |e| RepoError::format(object, e);
    let damaged = |why| RepoError::damaged(object, why);
    let decoded = PackHead::decode(head);
    if let Err(error @ FormatError::BadMagic(_)) = decoded {
        return Err(refuse(error));
    }
    let aad = [&project.id.as_bytes()[..], head].concat();
    let (nonce, sealed) = sealed
        .split_first_chunk::<NONCE_LEN>()
        .ok_or_else(|| refuse(FormatError::Truncated))?;
    let plain = project
        .keys
        .contents()
        .open(&SealNonce::from_bytes(*nonce), &aad, sealed)
        .map_err(|e| RepoError::damaged(object, e))?;
    let found = SignedContents::split(&plain).map_err(refuse)?;
    let (signer, parts) = (found.signer, [&nonce[..], found.signed]);
    verify_signature(&signer, project.id, header(head), &parts, &found.signature).map_err(|e| {
        RepoError::Foreign {
            object,
            reason: e.into(),
        }
    })?;
    project.may_sign(object, &signer)?;
    // The signature is valid, so the signer wrote this version and these features.
    let refuse = |e| project.refused(object, &signer, e);
    let PackHead { random } = decoded.map_err(refuse)?;
    let (contents, before) = found.decode().map_err(refuse)?;
    if object.blob_kind() != Some(contents.kind) {
        let why = Damage::Impossible(
            "it has nodes in the directory of chunks, or chunks in the directory of nodes",
        );
        return Err(damaged(why));
    }
    let (Some(pack), expected) = (object.hash(), contents.pack_size()) else {
        return Err(damaged(Damage::Missing));
    };
    if expected != size {
        return Err(damaged(Damage::WrongSize {
            expected,
            found: size,
        }));
    }
    let listing = PackListing {
        pack,
        random,
        signer,
        contents,
    };
    Ok((listing, before))
}

/// Returns the header of a pack, which is signed with the contents.
fn header(head: &[u8; PACK_HEAD_LEN]) -> &[u8; HEADER_LEN] {
    let (header, _) = head.split_at(HEADER_LEN);
    header.first_chunk().unwrap_or(&[0; HEADER_LEN])
}
