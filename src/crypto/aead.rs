//! Sealing: ChaCha20-Poly1305 for the runs of packs, XChaCha20-Poly1305 for everything else.
//!
//! Runs use the crate `ring`. It is faster than the crate `chacha20poly1305`, which everything else
//! uses, and produces the same bytes (docs/decisions/0009-restore-at-full-speed.md).

use chacha20poly1305::aead::{AeadInOut, KeyInit, inout::InOutBuf};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::random::{RandomError, random};
use super::secret::Secret;
use crate::base::{ProjectId, TAG_LEN};

/// Sealed bytes cannot be decrypted: they are damaged, or were moved from another place, or the key
/// is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its bytes cannot be decrypted with this key: they are damaged, or come from elsewhere")]
pub struct OpenError;

/// An Ed25519 signature.
type Signature = [u8; 64];

/// A nonce for one sealed text: 24 bytes, stored with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealNonce([u8; 24]);

impl SealNonce {
    /// Makes a nonce of stored bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 24]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 24] {
        &self.0
    }
}

/// Seals whole objects, secrets, and parts of objects. Each has its own nonce.
///
/// A nonce is a MAC of fresh random bytes, the associated data and the plaintext. So two different
/// plaintexts never share a nonce, even if a machine is reverted to a snapshot and its random
/// generator repeats itself.
#[derive(Clone)]
pub struct SealKey {
    cipher: XChaCha20Poly1305,
    nonce_key: Secret,
}

impl SealKey {
    /// Prepares sealing and opening under `key`. The key of the nonces derives from `key`.
    #[must_use]
    pub fn new(key: &Secret) -> Self {
        Self {
            cipher: XChaCha20Poly1305::new(key.expose().into()),
            nonce_key: key.derive("cuttlebone 2026-11-21 nonce"),
        }
    }

    /// Seals a plaintext. Returns the nonce and ciphertext ‖ tag.
    pub fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<(SealNonce, Vec<u8>), RandomError> {
        Ok(self.seal_with(&random()?, aad, plain))
    }

    /// Like [`seal`](Self::seal), but with the given random bytes, for test vectors.
    #[must_use]
    pub fn seal_with(&self, random: &[u8; 32], aad: &[u8], plain: &[u8]) -> (SealNonce, Vec<u8>) {
        let nonce = self.nonce(random, aad, plain);
        let sealed = self.encrypted(nonce, aad, &[plain]);
        (nonce, sealed)
    }

    /// Seals a plaintext, followed by a signature that `sign` makes of the nonce and the plaintext.
    /// Since the signature covers the nonce, only the signer can seal the plaintext again with
    /// another nonce.
    pub fn seal_signed(
        &self,
        aad: &[u8],
        plain: &[u8],
        sign: impl FnOnce(&[&[u8]]) -> Signature,
    ) -> Result<(SealNonce, Vec<u8>), RandomError> {
        Ok(self.seal_signed_with(&random()?, aad, plain, sign))
    }

    /// Like [`seal_signed`](Self::seal_signed), but with the given random bytes, for test vectors.
    #[must_use]
    pub fn seal_signed_with(
        &self,
        random: &[u8; 32],
        aad: &[u8],
        plain: &[u8],
        sign: impl FnOnce(&[&[u8]]) -> Signature,
    ) -> (SealNonce, Vec<u8>) {
        // The nonce need not depend on the signature: equal nonces mean equal plaintexts, and the
        // signature is computed from the nonce and the plaintext only.
        let nonce = self.nonce(random, aad, plain);
        let signature = sign(&[nonce.as_bytes(), plain]);
        let sealed = self.encrypted(nonce, aad, &[plain, &signature]);
        (nonce, sealed)
    }

    fn nonce(&self, random: &[u8; 32], aad: &[u8], plain: &[u8]) -> SealNonce {
        let mut mac = blake3::Hasher::new_keyed(self.nonce_key.expose());
        mac.update(random).update(aad).update(plain);
        let mut nonce = [0; 24];
        nonce.copy_from_slice(&mac.finalize().as_bytes()[..24]);
        SealNonce(nonce)
    }

    fn encrypted(&self, nonce: SealNonce, aad: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut out = Vec::with_capacity(len + TAG_LEN);
        for part in parts {
            out.extend_from_slice(part);
        }
        let tag = encrypt(&self.cipher, &nonce.0, aad, &mut out);
        out.extend_from_slice(&tag);
        out
    }

    /// Decrypts `sealed`, which is ciphertext ‖ tag. Returns the plaintext.
    pub fn open(&self, nonce: &SealNonce, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut out = sealed.to_vec();
        let len = decrypt(&self.cipher, &nonce.0, aad, &mut out)?;
        out.truncate(len);
        Ok(out)
    }
}

/// The 16 random bytes of a pack. The keys of its runs derive from them and from a secret key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRandom([u8; 16]);

impl PackRandom {
    /// Makes random bytes, for one pack.
    pub fn random() -> Result<Self, RandomError> {
        random().map(Self)
    }

    /// Wraps stored bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The length of a run's check (a MAC of its compressed bytes), in bytes.
const CHECK_LEN: usize = 16;

/// Seals and opens the runs of one pack.
///
/// A run is sealed with ChaCha20-Poly1305 (RFC 8439). Each run has its own key, a MAC of the run's
/// ordinal and descriptor; the nonce is zero. The descriptor contains the ids of the run's blobs
/// and, if the run is compressed, a MAC of the compressed bytes. So two different plaintexts never
/// share a key, even if a machine is reverted to a snapshot and two packs have the same random
/// bytes.
#[derive(Clone)]
pub struct PackCipher {
    subkey: Secret,
    check: Secret,
}

impl PackCipher {
    /// Derives the keys of a pack. `key` is the key of the project's data, of its trees, or of a
    /// session.
    #[must_use]
    pub fn new(key: &Secret, project: ProjectId, random: PackRandom) -> Self {
        let mut mac = blake3::Hasher::new_keyed(key.expose());
        mac.update(b"run")
            .update(project.as_bytes())
            .update(&random.0);
        let subkey = Secret::new(*mac.finalize().as_bytes());
        let check = subkey.derive("cuttlebone 2026-11-21 run check");
        Self { subkey, check }
    }

    /// Returns the check of a run's compressed bytes, for the run's descriptor.
    #[must_use]
    pub fn check(&self, compressed: &[u8]) -> [u8; CHECK_LEN] {
        let mac = blake3::keyed_hash(self.check.expose(), compressed);
        let mut check = [0; CHECK_LEN];
        check.copy_from_slice(&mac.as_bytes()[..CHECK_LEN]);
        check
    }

    /// Encrypts a run in place. Returns the tag, which the caller stores after the run.
    #[must_use]
    pub fn seal_in_place(
        &self,
        ordinal: u64,
        descriptor: &[u8],
        aad: &[u8],
        buf: &mut [u8],
    ) -> [u8; TAG_LEN] {
        seal_detached(&self.run_key(ordinal, descriptor), aad, buf)
    }

    /// Decrypts ciphertext ‖ tag in place, and returns the part of `buf` that is the plaintext.
    pub fn open_in_place<'a>(
        &self,
        ordinal: u64,
        descriptor: &[u8],
        aad: &[u8],
        buf: &'a mut [u8],
    ) -> Result<&'a [u8], OpenError> {
        let opened =
            self.run_key(ordinal, descriptor)
                .open_in_place(zero_nonce(), Aad::from(aad), buf);
        opened.map(|plain| &*plain).map_err(|_| OpenError)
    }

    fn run_key(&self, ordinal: u64, descriptor: &[u8]) -> LessSafeKey {
        let mut mac = blake3::Hasher::new_keyed(self.subkey.expose());
        mac.update(&ordinal.to_le_bytes()).update(descriptor);
        let key = Secret::new(*mac.finalize().as_bytes());
        LessSafeKey::new(run_key(key.expose()))
    }
}

#[expect(
    clippy::expect_used,
    reason = "fails only for a key of another length than 32 bytes"
)]
fn run_key(key: &[u8; 32]) -> UnboundKey {
    UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes are a key")
}

#[expect(
    clippy::expect_used,
    reason = "fails only beyond 256 GiB, and no buffer is that long"
)]
fn seal_detached(key: &LessSafeKey, aad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
    let tag = key
        .seal_in_place_separate_tag(zero_nonce(), Aad::from(aad), buf)
        .expect("length fits");
    let mut out = [0; TAG_LEN];
    out.copy_from_slice(tag.as_ref());
    out
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn encrypt(cipher: &XChaCha20Poly1305, nonce: &[u8; 24], aad: &[u8], buf: &mut [u8]) -> [u8; 16] {
    let nonce: &XNonce = nonce.into();
    #[expect(
        clippy::expect_used,
        reason = "fails only beyond 256 GiB, and no buffer is that long"
    )]
    let tag = cipher
        .encrypt_inout_detached(nonce, aad, InOutBuf::from(buf))
        .expect("length fits");
    tag.into()
}

fn decrypt(
    cipher: &XChaCha20Poly1305,
    nonce: &[u8; 24],
    aad: &[u8],
    buf: &mut [u8],
) -> Result<usize, OpenError> {
    let (message, tag) = buf.split_last_chunk_mut::<TAG_LEN>().ok_or(OpenError)?;
    let tag = Tag::from(*tag);
    cipher
        .decrypt_inout_detached(nonce.into(), aad, InOutBuf::from(&mut *message), &tag)
        .map_err(|_| OpenError)?;
    Ok(message.len())
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::ChaCha20Poly1305;

    use super::*;

    const PROJECT: ProjectId = ProjectId::from_bytes([1; 16]);

    #[test]
    fn sealing_matches_the_test_vector_of_the_xchacha_draft() {
        // draft-irtf-cfrg-xchacha-03, appendix A.3.1
        let key: Vec<u8> = (0x80..=0x9f).collect();
        let nonce: Vec<u8> = (0x40..=0x57).collect();
        let aad = [
            0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
        ];
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one \
            tip for the future, sunscreen would be it.";
        let key = SealKey::new(&Secret::new(key.try_into().unwrap()));
        let nonce = nonce.try_into().unwrap();
        let mut sealed = plain.to_vec();
        let tag = encrypt(&key.cipher, &nonce, &aad, &mut sealed);
        assert_eq!(
            sealed[..8],
            [0xbd, 0x6d, 0x17, 0x9d, 0x3e, 0x83, 0xd4, 0x3b]
        );
        assert_eq!(tag[..4], [0xc0, 0x87, 0x59, 0x24]);
        sealed.extend_from_slice(&tag);
        let nonce = SealNonce::from_bytes(nonce);
        assert_eq!(key.open(&nonce, &aad, &sealed).unwrap(), plain);
    }

    #[test]
    fn a_nonce_depends_on_the_random_bytes_the_associated_data_and_the_plaintext() {
        let key = SealKey::new(&Secret::new([7; 32]));
        let (first, _) = key.seal_with(&[1; 32], b"a", b"plain");
        assert_eq!(key.seal_with(&[1; 32], b"a", b"plain").0, first);
        for (random, aad, plain) in [
            ([1; 32], &b"b"[..], &b"plain"[..]),
            ([1; 32], b"a", b"other"),
            ([2; 32], b"a", b"plain"),
        ] {
            assert_ne!(key.seal_with(&random, aad, plain).0, first);
        }
    }

    proptest::proptest! {
        #[test]
        fn both_libraries_seal_a_run_to_the_same_bytes(
            key: [u8; 32],
            random: [u8; 16],
            ordinal: u64,
            descriptor in proptest::collection::vec(proptest::num::u8::ANY, 24..100),
            aad in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
            plain in proptest::collection::vec(proptest::num::u8::ANY, 0..2000),
        ) {
            let random = PackRandom::from_bytes(random);
            let cipher = PackCipher::new(&Secret::new(key), PROJECT, random);
            let mac = blake3::keyed_hash(
                cipher.subkey.expose(),
                &[&ordinal.to_le_bytes()[..], &descriptor].concat(),
            );
            let mut sealed = plain.clone();
            let tag = ChaCha20Poly1305::new(mac.as_bytes().into())
                .encrypt_inout_detached(&[0; 12].into(), &aad, InOutBuf::from(&mut sealed[..]))
                .unwrap();
            sealed.extend_from_slice(&tag);
            let mut buf = plain.clone();
            let tag = cipher.seal_in_place(ordinal, &descriptor, &aad, &mut buf);
            buf.extend_from_slice(&tag);
            proptest::prop_assert_eq!(&buf, &sealed);
            let opened = cipher.open_in_place(ordinal, &descriptor, &aad, &mut buf);
            proptest::prop_assert_eq!(opened, Ok(&plain[..]));
        }
    }

    #[test]
    fn a_run_opens_only_with_its_ordinal_descriptor_associated_data_and_pack() {
        let cipher = |key, project, random| {
            let random = PackRandom::from_bytes([random; 16]);
            PackCipher::new(
                &Secret::new([key; 32]),
                ProjectId::from_bytes([project; 16]),
                random,
            )
        };
        let right = cipher(7, 1, 9);
        let mut buf = *b"hello, chunk....................";
        let tag = right.seal_in_place(3, b"descriptor", b"here", &mut buf[..16]);
        buf[16..].copy_from_slice(&tag);
        for (ordinal, descriptor, aad) in [
            (4, &b"descriptor"[..], &b"here"[..]),
            (3, b"descriptors", b"here"),
            (3, b"descriptor", b"there"),
        ] {
            let opened = right
                .open_in_place(ordinal, descriptor, aad, &mut buf.clone())
                .err();
            assert_eq!(opened, Some(OpenError));
        }
        for wrong in [cipher(8, 1, 9), cipher(7, 2, 9), cipher(7, 1, 8)] {
            let mut buf = buf;
            let opened = wrong.open_in_place(3, b"descriptor", b"here", &mut buf);
            assert_eq!(opened, Err(OpenError));
        }
        assert_eq!(
            right.open_in_place(3, b"descriptor", b"here", &mut buf.clone()),
            Ok(&b"hello, chunk...."[..])
        );
        assert_eq!(
            right.open_in_place(3, b"descriptor", b"here", &mut [0; 15]),
            Err(OpenError)
        );
    }

    #[test]
    fn a_check_differs_for_other_bytes() {
        let cipher = PackCipher::new(
            &Secret::new([7; 32]),
            PROJECT,
            PackRandom::from_bytes([9; 16]),
        );
        assert_ne!(cipher.check(b"one frame"), cipher.check(b"another"));
    }
}
