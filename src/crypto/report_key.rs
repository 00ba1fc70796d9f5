//! Signatures of the reports of checks, in the format of minisign
//! (<https://jedisct1.github.io/minisign/>): the prehashed form `ED`, which signs the BLAKE2b-512
//! hash of a file.

use base64ct::{Base64, Encoding as _};
use blake2::{Blake2b512, Digest};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::hash::hash;
use super::secret::Secret;

/// The algorithm in a public key.
const KEY: &[u8; 2] = b"Ed";
/// The algorithm in a signature.
const PREHASHED: &[u8; 2] = b"ED";
const KEY_ID_LEN: usize = 8;
const TRUSTED: &str = "trusted comment: ";

/// A key that signs reports and nothing else.
pub struct ReportKey(SigningKey);

/// The reason why the signature of a report is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The text is not a public key of minisign.
    #[error("it is not a public key of minisign")]
    PublicKey,
    /// The file is not a signature of minisign.
    #[error("the signature does not have the format of minisign")]
    Form,
    /// Another key made the signature.
    #[error("another key made the signature")]
    OtherKey,
    /// The report or the comment in the signature was changed.
    #[error("the signature is not valid: the report was changed")]
    Changed,
}

impl ReportKey {
    /// Derives the key from the seed of a signing key.
    pub(super) fn from_seed(seed: &Secret) -> Self {
        let derived = seed.derive("cuttlebone 2026-11-21 reports");
        Self(SigningKey::from_bytes(derived.expose()))
    }

    /// Returns the bytes that minisign stores for the public key: algorithm, key id and key.
    #[must_use]
    pub fn public_bytes(&self) -> Vec<u8> {
        let key = self.0.verifying_key().to_bytes();
        [&KEY[..], &key_id(&key), &key].concat()
    }

    /// Returns the public key in one line of base64, as `minisign -P` takes it.
    #[must_use]
    pub fn public(&self) -> String {
        Base64::encode_string(&self.public_bytes())
    }

    /// Signs a report. Returns the content of the file `.minisig`. `comment` is one line, which is
    /// signed, too.
    #[must_use]
    pub fn sign(&self, report: &[u8], comment: &str) -> String {
        let id = key_id(&self.0.verifying_key().to_bytes());
        let signature = self.0.sign(&Blake2b512::digest(report)).to_bytes();
        let all = self
            .0
            .sign(&[&signature[..], comment.as_bytes()].concat())
            .to_bytes();
        format!(
            "untrusted comment: signature of a cuttlebone report\n{}\n{TRUSTED}{comment}\n{}\n",
            Base64::encode_string(&[&PREHASHED[..], &id, &signature].concat()),
            Base64::encode_string(&all)
        )
    }
}

/// Verifies the signature of a report. `public` is a line as [`ReportKey::public`] returns it,
/// `signature` the content of the file `.minisig`. Returns the signed comment.
pub fn verify_report(public: &str, report: &[u8], signature: &str) -> Result<String, ReportError> {
    let public = Base64::decode_vec(public.trim()).map_err(|_| ReportError::PublicKey)?;
    let (id, key) = split::<32>(&public, *KEY).ok_or(ReportError::PublicKey)?;
    let key = VerifyingKey::from_bytes(&key).map_err(|_| ReportError::PublicKey)?;
    let mut lines = signature.lines();
    let mut next = || lines.next().ok_or(ReportError::Form);
    next()?;
    let stated = Base64::decode_vec(next()?).map_err(|_| ReportError::Form)?;
    let (stated_id, stated) = split::<64>(&stated, *PREHASHED).ok_or(ReportError::Form)?;
    let comment = next()?.strip_prefix(TRUSTED).ok_or(ReportError::Form)?;
    let all = Base64::decode_vec(next()?).map_err(|_| ReportError::Form)?;
    let all: [u8; 64] = all.try_into().map_err(|_| ReportError::Form)?;
    if stated_id != id {
        return Err(ReportError::OtherKey);
    }
    let verify = |message: &[u8], signature: [u8; 64]| {
        let signature = Signature::from_bytes(&signature);
        let verified = key.verify_strict(message, &signature);
        verified.map_err(|_| ReportError::Changed)
    };
    verify(&Blake2b512::digest(report), stated)?;
    verify(&[&stated[..], comment.as_bytes()].concat(), all)?;
    Ok(comment.to_owned())
}

/// Returns the id by which minisign recognizes a key: here the first 8 bytes of the key's hash.
fn key_id(public: &[u8; 32]) -> [u8; KEY_ID_LEN] {
    let mut id = [0; KEY_ID_LEN];
    id.copy_from_slice(&hash(&[public])[..KEY_ID_LEN]);
    id
}

/// Splits algorithm ‖ key id ‖ rest. Returns the key id and the rest. Returns `None` if the
/// algorithm is not `algorithm`, or if the rest does not have `N` bytes.
fn split<const N: usize>(bytes: &[u8], algorithm: [u8; 2]) -> Option<([u8; KEY_ID_LEN], [u8; N])> {
    let rest = bytes.strip_prefix(&algorithm)?;
    let (id, rest) = rest.split_first_chunk()?;
    Some((*id, rest.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> ReportKey {
        ReportKey::from_seed(&Secret::new([byte; 32]))
    }

    #[test]
    fn a_signature_holds_for_its_key_report_and_comment_only() {
        let (own, report) = (key(1), b"report");
        let signature = own.sign(report, "host web1");
        let verify =
            |public: &str, report: &[u8], signature: &str| verify_report(public, report, signature);
        assert_eq!(
            verify(&own.public(), report, &signature).unwrap(),
            "host web1"
        );
        let changed = verify(&own.public(), b"repord", &signature);
        assert_eq!(changed, Err(ReportError::Changed));
        let renamed = signature.replace("web1", "web2");
        assert_eq!(
            verify(&own.public(), report, &renamed),
            Err(ReportError::Changed)
        );
        let other = verify(&key(2).public(), report, &signature);
        assert_eq!(other, Err(ReportError::OtherKey));
        for bad in ["", "RWQ", "AAAA"] {
            assert_eq!(
                verify(bad, report, &signature),
                Err(ReportError::PublicKey),
                "{bad}"
            );
        }
        let lines: Vec<_> = signature.lines().collect();
        for missing in 0..4 {
            let mut lines = lines.clone();
            lines.remove(missing);
            assert!(
                verify(&own.public(), report, &lines.join("\n")).is_err(),
                "{missing}"
            );
        }
    }
}
