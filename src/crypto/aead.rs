//! XChaCha20-Poly1305, in place. The two kinds of nonce are types of their own.
//!
//! Single messages use `chacha20poly1305`. The runs of packs use `ring`, which is faster and
//! produces the same bytes (docs/decisions/0009-restore-at-full-speed.md).

use chacha20::hchacha;
use chacha20poly1305::aead::{AeadInOut, KeyInit, inout::InOutBuf};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use super::random::{RandomError, random};
use crate::base::TAG_LEN;

/// Sealed bytes do not open: they are damaged, belong to another place, or the key is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its bytes cannot be decrypted with this key: they are damaged, or come from elsewhere")]
pub struct OpenError;

/// A nonce for one message: 24 random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealNonce([u8; 24]);

impl SealNonce {
    /// Makes a random nonce.
    pub fn random() -> Result<Self, RandomError> {
        random().map(Self)
    }

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

/// Seals single messages, each with a nonce of its own.
#[derive(Clone)]
pub struct SealKey(XChaCha20Poly1305);

impl SealKey {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// Returns ciphertext ‖ tag of `plain`.
    #[must_use]
    pub fn seal(&self, nonce: &SealNonce, aad: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(plain.len() + TAG_LEN);
        out.extend_from_slice(plain);
        let tag = encrypt(&self.0, &nonce.0, aad, &mut out);
        out.extend_from_slice(&tag);
        out
    }

    /// Returns the plaintext of ciphertext ‖ tag.
    pub fn open(&self, nonce: &SealNonce, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut out = sealed.to_vec();
        let len = decrypt(&self.0, &nonce.0, aad, &mut out)?;
        out.truncate(len);
        Ok(out)
    }
}

/// The 16 random bytes of a pack. Together with the ordinal of a run they are its nonce. So no
/// nonce repeats as long as no ordinal is sealed twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackNonce([u8; 16]);

impl PackNonce {
    /// Makes a random nonce, for one pack.
    pub fn random() -> Result<Self, RandomError> {
        random().map(Self)
    }

    /// Makes a nonce of stored bytes.
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

/// Seals and opens the runs of one pack.
///
/// The nonce of a run is the pack's 16 bytes ‖ its ordinal as 8 bytes, little-endian. By the
/// construction of `XChaCha20` (draft-irtf-cfrg-xchacha-03, section 2.3) the first 16 bytes only
/// derive a subkey, `HChaCha20(key, nonce[..16])`, which is the same for the whole pack; each run
/// is then ChaCha20-Poly1305 (RFC 8439) with that subkey and the nonce 4 zero bytes ‖ ordinal.
#[derive(Clone)]
pub struct PackCipher(LessSafeKey);

impl PackCipher {
    /// The ordinal with which the contents are sealed.
    pub const CONTENTS: u64 = u64::MAX;

    pub(super) fn new(key: &[u8; 32], nonce: PackNonce) -> Self {
        let mut subkey = hchacha::<chacha20::R20>(key.into(), (&nonce.0).into());
        let cipher = pack_key(&subkey);
        subkey.as_mut_slice().zeroize();
        Self(LessSafeKey::new(cipher))
    }

    /// Encrypts `buf` in place and returns the tag, which is stored after it.
    #[must_use]
    pub fn seal_in_place(&self, ordinal: u64, aad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
        let nonce = run_nonce(ordinal);
        seal_detached(&self.0, nonce, aad, buf)
    }

    /// Decrypts ciphertext ‖ tag in place, and returns the part of `buf` that is the plaintext.
    pub fn open_in_place<'a>(
        &self,
        ordinal: u64,
        aad: &[u8],
        buf: &'a mut [u8],
    ) -> Result<&'a [u8], OpenError> {
        let opened = self
            .0
            .open_in_place(run_nonce(ordinal), Aad::from(aad), buf);
        opened.map(|plain| &*plain).map_err(|_| OpenError)
    }
}

#[expect(
    clippy::expect_used,
    reason = "fails only for a key of another length than 32 bytes"
)]
fn pack_key(key: &[u8]) -> UnboundKey {
    UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes are a key")
}

#[expect(
    clippy::expect_used,
    reason = "fails only beyond 256 GiB, and no buffer is that long"
)]
fn seal_detached(key: &LessSafeKey, nonce: Nonce, aad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
    let tag = key
        .seal_in_place_separate_tag(nonce, Aad::from(aad), buf)
        .expect("length fits");
    let mut out = [0; TAG_LEN];
    out.copy_from_slice(tag.as_ref());
    out
}

fn run_nonce(ordinal: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&ordinal.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
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
    use super::*;

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
        let key = SealKey::new(&key.try_into().unwrap());
        let nonce = SealNonce::from_bytes(nonce.try_into().unwrap());
        let sealed = key.seal(&nonce, &aad, plain);
        assert_eq!(
            sealed[..8],
            [0xbd, 0x6d, 0x17, 0x9d, 0x3e, 0x83, 0xd4, 0x3b]
        );
        assert_eq!(sealed[sealed.len() - 16..][..4], [0xc0, 0x87, 0x59, 0x24]);
        assert_eq!(key.open(&nonce, &aad, &sealed).unwrap(), plain);
    }

    proptest::proptest! {
        #[test]
        fn both_libraries_seal_a_run_to_the_same_bytes(
            key: [u8; 32],
            pack: [u8; 16],
            ordinal: u64,
            aad in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
            plain in proptest::collection::vec(proptest::num::u8::ANY, 0..2000),
        ) {
            let nonce: [u8; 24] = [&pack[..], &ordinal.to_le_bytes()].concat().try_into().unwrap();
            let sealed = SealKey::new(&key).seal(&SealNonce::from_bytes(nonce), &aad, &plain);
            let cipher = PackCipher::new(&key, PackNonce::from_bytes(pack));
            let mut buf = plain.clone();
            let tag = cipher.seal_in_place(ordinal, &aad, &mut buf);
            buf.extend_from_slice(&tag);
            proptest::prop_assert_eq!(&buf, &sealed);
            let opened = cipher.open_in_place(ordinal, &aad, &mut buf);
            proptest::prop_assert_eq!(opened, Ok(&plain[..]));
        }
    }

    #[test]
    fn a_run_does_not_open_with_another_ordinal_or_other_associated_data() {
        let cipher = PackCipher::new(&[7; 32], PackNonce::from_bytes([9; 16]));
        let mut buf = *b"hello, chunk....................";
        let tag = cipher.seal_in_place(3, b"here", &mut buf[..16]);
        buf[16..].copy_from_slice(&tag);
        for (ordinal, aad) in [(4, &b"here"[..]), (3, b"there")] {
            assert_eq!(
                cipher.open_in_place(ordinal, aad, &mut buf.clone()),
                Err(OpenError)
            );
        }
        assert_eq!(
            cipher.open_in_place(3, b"here", &mut buf.clone()),
            Ok(&b"hello, chunk...."[..])
        );
        assert_eq!(
            cipher.open_in_place(3, b"here", &mut [0; 15]),
            Err(OpenError)
        );
    }
}
