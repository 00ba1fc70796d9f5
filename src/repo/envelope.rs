//! Seals and signs the objects of a project, opens and verifies them: section 7 (Sealed object) of
//! `docs/format.md`.

use super::codec::{Compression, Compressor, Decompressor};
use super::error::{Damage, ForeignReason, RepoError};
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::project::Project;
use crate::base::{ObjectHash, Role, SignerId};
use crate::crypto::{SealNonce, SigningKey, object_hash, verify_signature};
use crate::format::{FormatError, Payload, SealedObject, SignedPayload};

/// The content of an object whose signer has the right to make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    /// Its signer.
    pub signer: SignerId,
    /// The content.
    pub body: T,
}

impl Project {
    /// Returns the bytes of an object of this kind with this body. Fails if the role of the key
    /// does not include signing such objects.
    pub fn seal(&self, kind: ObjectKind, body: &[u8]) -> Result<Vec<u8>, RepoError> {
        if let Some(least) = kind.info().signed_by {
            self.keys.require(least)?;
        }
        self.seal_as(self.keys.signing(), kind, body)
    }

    fn seal_as(
        &self,
        signing: &SigningKey,
        kind: ObjectKind,
        body: &[u8],
    ) -> Result<Vec<u8>, RepoError> {
        let mut buffer = Vec::new();
        let (codec, content) = Compressor::new(Compression::default())
            .map_err(RepoError::Compress)?
            .compress(body, &mut buffer);
        let payload = Payload {
            codec,
            plain_len: body.len(),
            padding: 0,
            body: content,
        };
        let header = kind.info().magic.header();
        let plain = payload.encode(&signing.public());
        let aad = [&self.id.as_bytes()[..], &header].concat();
        let sign = |parts: &[&[u8]]| signing.sign(self.id, &header, parts);
        let (nonce, sealed) = self.keys.object().seal_signed(&aad, &plain, sign)?;
        Ok([&header[..], nonce.as_bytes(), &sealed].concat())
    }

    /// Opens a sealed object. Returns its body and its signer. Fails if the body has more than
    /// `limit` bytes.
    ///
    /// First, the object is decrypted. Then the signature is verified, and then the signer's right
    /// to make such an object. Only then are the version and the body read.
    pub fn open(
        &self,
        object: ObjectRef,
        bytes: &[u8],
        limit: usize,
    ) -> Result<Signed<Vec<u8>>, RepoError> {
        let kind = object.kind();
        let sealed = SealedObject::decode(kind.info().magic, bytes);
        let SealedObject {
            header,
            nonce,
            sealed,
        } = sealed.map_err(|_| not_sealed(object))?;
        let aad = [&self.id.as_bytes()[..], header.as_bytes()].concat();
        let opened = self
            .keys
            .object()
            .open(&SealNonce::from_bytes(nonce), &aad, sealed)
            .map_err(|_| not_sealed(object))?;
        let foreign = |reason| RepoError::Foreign { object, reason };
        let malformed = |e| foreign(ForeignReason::Malformed(Damage::Format(e)));
        let payload = SignedPayload::split(&opened).map_err(malformed)?;
        let signer = payload.signer;
        verify_signature(
            &signer,
            self.id,
            header.as_bytes(),
            &[&nonce, payload.signed],
            &payload.signature,
        )
        .map_err(|e| foreign(e.into()))?;
        self.may_sign(object, &signer)?;
        let refuse = |e| self.refused(object, &signer, e);
        header.check().map_err(refuse)?;
        let payload = Payload::decode(payload.payload(), limit).map_err(refuse)?;
        let mut body = vec![0; payload.plain_len];
        Decompressor::new()
            .map_err(RepoError::Compress)?
            .decode(payload.codec, payload.body, &mut body)
            .map_err(|e| self.malformed(object, &signer, e))?;
        Ok(Signed { signer, body })
    }

    /// Opens a sealed object that is named by this hash. Fails if its bytes have another hash.
    pub fn open_hashed(
        &self,
        object: ObjectRef,
        hash: ObjectHash,
        bytes: &[u8],
        limit: usize,
    ) -> Result<Signed<Vec<u8>>, RepoError> {
        if object_hash(&[bytes]) != hash {
            return Err(RepoError::damaged(object, Damage::WrongHash));
        }
        self.open(object, bytes, limit)
    }

    /// Fails if this signer has no right to make this object. If the signer is unknown, first reads
    /// the certificates again. This is not done for objects that only full keys may make, since no
    /// certificate gives this right.
    pub(super) fn may_sign(&self, object: ObjectRef, signer: &SignerId) -> Result<(), RepoError> {
        let kind = object.kind();
        let foreign = |reason| RepoError::Foreign { object, reason };
        match self.signers.may_sign(kind, signer) {
            // The certificate may be newer than this process.
            Err(ForeignReason::UnknownSigner(_)) if kind.info().signed_by != Some(Role::Full) => {
                self.refresh_signers()?;
                self.signers.may_sign(kind, signer).map_err(foreign)
            }
            other => other.map_err(foreign),
        }
    }

    /// Returns the error of an object of this signer whose content this program does not
    /// understand.
    ///
    /// If the object has an unknown version or feature that this signer may use, a newer program is
    /// needed. Any other content that is not valid is damage if a full key signed it. If another
    /// key signed it, the object is foreign: a thief of the key may have made it, and it must not
    /// stop any process.
    pub(super) fn refused(
        &self,
        object: ObjectRef,
        signer: &SignerId,
        source: FormatError,
    ) -> RepoError {
        match source.missing_feature() {
            Some(feature) if self.signers.may_require(signer, &feature) => {
                RepoError::Unsupported { object, source }
            }
            Some(feature) => self.foreign(object, signer, ForeignReason::Feature(feature)),
            None => self.malformed(object, signer, source.into()),
        }
    }

    /// Returns the error of an object of this signer that no correct program writes.
    pub(super) fn malformed(
        &self,
        object: ObjectRef,
        signer: &SignerId,
        source: Damage,
    ) -> RepoError {
        if self.signers.is_full(signer) {
            return RepoError::Damaged { object, source };
        }
        self.foreign(object, signer, ForeignReason::Malformed(source))
    }

    /// Returns the error of an object that is foreign for this reason. But if the object is a
    /// record of a revoked key, the error states the revocation as the reason, since a prune
    /// removes such records.
    pub(super) fn foreign(
        &self,
        object: ObjectRef,
        signer: &SignerId,
        reason: ForeignReason,
    ) -> RepoError {
        let reason = if object.kind() == ObjectKind::Backup && self.signers.is_revoked(signer) {
            ForeignReason::Revoked(Box::new(*signer))
        } else {
            reason
        };
        RepoError::Foreign { object, reason }
    }
}

/// Returns the error of an object that cannot be decrypted.
///
/// Such an object was made without the project's keys. It is not damaged, since its bytes have the
/// hash that is its name. Only the name of a lease is no hash. But a lease is never half written,
/// and its holder replaces it every 30 seconds.
fn not_sealed(object: ObjectRef) -> RepoError {
    let reason = ForeignReason::NotSealed;
    RepoError::Foreign { object, reason }
}
