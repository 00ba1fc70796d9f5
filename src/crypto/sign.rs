//! Signatures: Ed25519 (RFC 8032), verified strictly. A signature is refused if it is not in
//! canonical form. A key or a signature is refused if its point is of small order.

use ed25519_dalek::{Signature, Signer as _, VerifyingKey};

use super::hash::hash;
use super::report_key::ReportKey;
use super::secret::Secret;
use crate::base::{ProjectId, SignerId};

/// The length of a signature, in bytes.
const SIGNATURE_LEN: usize = 64;

/// The first bytes of each message that is signed here. They distinguish the message from all other
/// messages that the same key may sign.
const CONTEXT: &[u8] = b"cuttlebone 2026-11-21 signed\0";

/// The signer did not make this signature for these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its signature is not valid")]
pub struct SignatureError;

/// A private signing key.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Returns the key with this seed.
    #[must_use]
    pub fn from_seed(seed: &Secret) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed.expose()))
    }

    /// Returns the key with which the holder of this key signs reports. It derives from the seed.
    #[must_use]
    pub fn reports(&self) -> ReportKey {
        ReportKey::from_seed(&Secret::new(self.0.to_bytes()))
    }

    /// Returns the public key.
    #[must_use]
    pub fn public(&self) -> SignerId {
        SignerId::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// Signs the joined parts of an object that begins with this header.
    #[must_use]
    pub fn sign(
        &self,
        project: ProjectId,
        header: &[u8; 16],
        parts: &[&[u8]],
    ) -> [u8; SIGNATURE_LEN] {
        self.0.sign(&message(project, header, parts)).to_bytes()
    }
}

/// Verifies the signature of the joined parts of an object that begins with this header.
pub fn verify_signature(
    signer: &SignerId,
    project: ProjectId,
    header: &[u8; 16],
    parts: &[&[u8]],
    signature: &[u8; SIGNATURE_LEN],
) -> Result<(), SignatureError> {
    let key = verifying_key(signer.as_bytes())?;
    let signature = Signature::from_bytes(signature);
    key.verify_strict(&message(project, header, parts), &signature)
        .map_err(|_| SignatureError)
}

/// Decodes a public key. Fails unless `y` is below 2^255 - 19: the library accepts other forms of a
/// point, too, and then one key would have two names.
fn verifying_key(bytes: &[u8; 32]) -> Result<VerifyingKey, SignatureError> {
    let is_canonical = bytes[0] < 0xed || bytes[1..31] != [0xff; 30] || bytes[31] & 0x7f != 0x7f;
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| SignatureError)?;
    if is_canonical {
        Ok(key)
    } else {
        Err(SignatureError)
    }
}

/// Returns the message to sign: context ‖ project id ‖ header ‖ hash of the joined parts.
fn message(project: ProjectId, header: &[u8; 16], parts: &[&[u8]]) -> Vec<u8> {
    [CONTEXT, project.as_bytes(), header, &hash(parts)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; 16] = *b"CTLBbkup\x01\0\0\0\0\0\0\0";

    #[test]
    fn a_signature_holds_for_its_signer_project_header_and_bytes_only() {
        let key = SigningKey::from_seed(&Secret::new([7; 32]));
        let project = ProjectId::from_bytes([1; 16]);
        let signature = key.sign(project, &HEADER, &[b"ab", b"c"]);
        let signer = key.public();
        let verify = |signer: &SignerId, project, header: &[u8; 16], parts: &[&[u8]]| {
            verify_signature(signer, project, header, parts, &signature)
        };
        assert_eq!(verify(&signer, project, &HEADER, &[b"abc"]), Ok(()));
        let other = SigningKey::from_seed(&Secret::new([8; 32])).public();
        assert!(verify(&other, project, &HEADER, &[b"abc"]).is_err());
        let elsewhere = ProjectId::from_bytes([2; 16]);
        assert!(verify(&signer, elsewhere, &HEADER, &[b"abc"]).is_err());
        let other_header = *b"CTLBmark\x01\0\0\0\0\0\0\0";
        assert!(verify(&signer, project, &other_header, &[b"abc"]).is_err());
        assert!(verify(&signer, project, &HEADER, &[b"abd"]).is_err());
        for byte in 0..SIGNATURE_LEN {
            let mut changed = signature;
            changed[byte] ^= 1;
            assert!(verify_signature(&signer, project, &HEADER, &[b"abc"], &changed).is_err());
        }
    }

    #[test]
    fn a_key_in_another_form_than_the_canonical_one_is_refused() {
        let mut tested = 0;
        for y in 0..19 {
            let mut canonical = [0; 32];
            canonical[0] = y;
            // The same y, plus 2^255 - 19.
            let mut other = [0xff; 32];
            (other[0], other[31]) = (0xed + y, 0x7f);
            // Not every y is that of a point.
            if VerifyingKey::from_bytes(&canonical).is_err() {
                continue;
            }
            tested += 1;
            for sign in [0, 0x80] {
                canonical[31] = sign;
                other[31] = 0x7f | sign;
                assert!(verifying_key(&canonical).is_ok(), "{y}");
                assert!(
                    VerifyingKey::from_bytes(&other).is_ok(),
                    "{y}: the library accepts it"
                );
                assert!(verifying_key(&other).is_err(), "{y}");
            }
        }
        assert!(tested > 5, "{tested}");
        // The largest canonical y.
        let mut largest = [0xff; 32];
        (largest[0], largest[31]) = (0xec, 0x7f);
        assert!(verifying_key(&largest).is_ok());
    }

    #[test]
    fn keys_of_small_order_and_signatures_that_are_not_canonical_are_refused() {
        let project = ProjectId::from_bytes([1; 16]);
        // If the key and R are the neutral element and S = 0, the equation of the signature holds
        // for every message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut forged = [0; 64];
        forged[0] = 1;
        let signer = SignerId::from_bytes(neutral);
        assert!(verify_signature(&signer, project, &HEADER, &[b"any"], &forged).is_err());
        // S + L is the same number modulo the order L of the group.
        let key = SigningKey::from_seed(&Secret::new([7; 32]));
        let mut signature = key.sign(project, &HEADER, &[b"any"]);
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        let refused = verify_signature(&key.public(), project, &HEADER, &[b"any"], &signature);
        assert_eq!(refused, Err(SignatureError));
    }
}
