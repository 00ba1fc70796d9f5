//! Verifies and opens single entries of the log, and seals and signs new ones.

use crate::base::{ObjectHash, ProjectId, SignerId};
use crate::crypto::{SealNonce, hash, object_hash, verify_signature};
use crate::format::{LogDetails, LogEntry, Magic, OpenedEntry, Payload, StoredEntry};
use crate::repo::codec::{Compression, Compressor, Decompressor};
use crate::repo::error::{Damage, ForeignReason, RepoError};
use crate::repo::object_ref::ObjectRef;
use crate::repo::project::Project;

/// An entry whose signature was verified.
#[derive(Debug)]
pub(super) struct Entry {
    /// The hash that names it.
    pub(super) hash: ObjectHash,
    pub(super) plain: LogEntry,
    pub(super) details: LogDetails,
}

impl Entry {
    /// Opens the bytes of an entry. Fails with [`RepoError::Foreign`] if no full key of the project
    /// signed it, or if it belongs to another project. Also fails with this error if the bytes do
    /// not have the form of a signed entry.
    pub(super) fn open(
        project: &Project,
        hash: ObjectHash,
        bytes: &[u8],
    ) -> Result<Self, RepoError> {
        let object = ObjectRef::Log(project.id, hash);
        let opened = verify(project.keys.authority(), project.id, hash, bytes)?;
        let details = match opened.sealed {
            None => LogDetails::default(),
            Some((nonce, sealed)) => {
                let nonce = SealNonce::from_bytes(nonce);
                let payload = project
                    .keys
                    .object()
                    .open(&nonce, &associated(project, opened.plain), sealed)
                    .map_err(|error| RepoError::damaged(object, error))?;
                let body = decompress(object, &payload)?;
                LogDetails::decode(&body).map_err(|error| RepoError::format(object, error))?
            }
        };
        Ok(Self {
            hash,
            plain: opened.entry,
            details,
        })
    }

    /// Verifies the bytes of an entry like [`open`](Self::open), but without a key. Its details
    /// remain sealed, so the returned entry has empty details.
    pub(super) fn verify(
        authority: &SignerId,
        project: ProjectId,
        hash: ObjectHash,
        bytes: &[u8],
    ) -> Result<Self, RepoError> {
        Ok(Self {
            hash,
            plain: verify(authority, project, hash, bytes)?.entry,
            details: LogDetails::default(),
        })
    }

    /// Seals and signs an entry. Returns it with its bytes.
    pub(super) fn seal(
        project: &Project,
        entry: LogEntry,
        details: LogDetails,
    ) -> Result<(Self, Vec<u8>), RepoError> {
        let payload = if details == LogDetails::default() {
            Vec::new()
        } else {
            compress(&details)?
        };
        let sealed_len = match payload.len() {
            0 => 0,
            len => 24 + len + 16,
        };
        let mut bytes = entry.encode(project.id, sealed_len);
        if !payload.is_empty() {
            let aad = associated(project, &bytes);
            let (nonce, sealed) = project.keys.object().seal(&aad, &payload)?;
            bytes.extend_from_slice(nonce.as_bytes());
            bytes.extend_from_slice(&sealed);
        }
        let signing = project.keys.signing();
        let signature = signing.sign(project.id, &Magic::Log.header(), &[&bytes]);
        bytes.extend_from_slice(&signature);
        let hash = object_hash(&[&bytes]);
        Ok((
            Self {
                hash,
                plain: entry,
                details,
            },
            bytes,
        ))
    }
}

/// Verifies the signature of an entry, and decodes the parts that are not sealed. Fails as
/// [`Entry::open`] does.
fn verify<'a>(
    authority: &SignerId,
    project: ProjectId,
    hash: ObjectHash,
    bytes: &'a [u8],
) -> Result<OpenedEntry<'a>, RepoError> {
    let object = ObjectRef::Log(project, hash);
    let foreign = |reason| RepoError::Foreign { object, reason };
    let stored = StoredEntry::split(bytes)
        .map_err(|error| foreign(ForeignReason::Malformed(Damage::Format(error))))?;
    verify_signature(
        authority,
        project,
        &stored.header,
        &[stored.signed],
        &stored.signature,
    )
    .map_err(|error| foreign(error.into()))?;
    let opened = stored
        .decode()
        .map_err(|error| RepoError::format(object, error))?;
    if opened.project != project {
        return Err(foreign(ForeignReason::NotSealed));
    }
    Ok(opened)
}

/// Returns the associated data of the sealed part. `plain` are the bytes before its nonce.
fn associated(project: &Project, plain: &[u8]) -> Vec<u8> {
    [&project.id.as_bytes()[..], &hash(&[plain])].concat()
}

fn compress(details: &LogDetails) -> Result<Vec<u8>, RepoError> {
    let body = details.encode();
    let mut buffer = Vec::new();
    let (codec, content) = Compressor::new(Compression::default())
        .map_err(RepoError::Compress)?
        .compress(&body, &mut buffer);
    Ok(Payload {
        codec,
        plain_len: body.len(),
        padding: 0,
        body: content,
    }
    .encode_unsigned())
}

fn decompress(object: ObjectRef, payload: &[u8]) -> Result<Vec<u8>, RepoError> {
    let payload = Payload::decode(payload, LogDetails::BODY_MAX)
        .map_err(|error| RepoError::format(object, error))?;
    let mut plain = vec![0; payload.plain_len];
    Decompressor::new()
        .map_err(RepoError::Compress)?
        .decode(payload.codec, payload.body, &mut plain)
        .map_err(|why: Damage| RepoError::damaged(object, why))?;
    Ok(plain)
}
