//! The envelope of objects that are sealed as a whole, such as index segments and records: section
//! 7 (Sealed object) of `docs/format.md`.

use super::error::FormatError;
use super::header::{HEADER_LEN, Header, Magic};
use super::pack::Codec;
use super::wire::{Reader, len_u32};
use crate::base::{SignerId, TAG_LEN};

/// The number of bytes before the ciphertext, for header and nonce. It is the same in all versions.
const SEALED_HEAD_LEN: usize = HEADER_LEN + 24;
/// The length in bytes of four fields: codec, zeros, length of the body, length of the padding.
const PAYLOAD_HEAD_LEN: usize = 12;
/// The length of a signature, in bytes.
const SIGNATURE_LEN: usize = 64;
/// The length in bytes of signer and signature. In all versions, the plaintext ends with them.
const SIGNED_TAIL_LEN: usize = 32 + SIGNATURE_LEN;
/// The maximum length of the padding, in bytes.
const PADDING_MAX: usize = 64 << 20;

/// An object that is sealed as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct SealedObject<'a> {
    /// The header, which is not checked yet. The associated data of the ciphertext is the id of the
    /// project and this header.
    pub header: Header,
    /// The nonce.
    pub nonce: [u8; 24],
    /// The ciphertext and its tag.
    pub sealed: &'a [u8],
}

impl<'a> SealedObject<'a> {
    /// Splits an object of this kind, of any version, into its parts.
    pub fn decode(magic: Magic, bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let header = magic.read_unverified(&mut reader)?;
        let nonce = reader.array()?;
        let sealed = reader.bytes(reader.left())?;
        Ok(Self {
            header,
            nonce,
            sealed,
        })
    }

    /// Returns the maximum length in bytes of an object whose body has at most `body` bytes.
    #[must_use]
    pub const fn len_max(body: usize) -> usize {
        SEALED_HEAD_LEN + PAYLOAD_HEAD_LEN + body + PADDING_MAX + SIGNED_TAIL_LEN + TAG_LEN
    }
}

/// The opened bytes of a sealed object: a payload, its signer and the signature.
#[derive(Debug, PartialEq, Eq)]
pub struct SignedPayload<'a> {
    /// The payload and the signer. The signature covers the header, the nonce and these bytes.
    pub signed: &'a [u8],
    /// The public key of the signer, as the object states it.
    pub signer: SignerId,
    /// The signature.
    pub signature: [u8; SIGNATURE_LEN],
}

impl<'a> SignedPayload<'a> {
    /// Splits the opened bytes of an object of any version.
    pub fn split(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let (covered, signature) = bytes
            .split_last_chunk::<SIGNATURE_LEN>()
            .ok_or(FormatError::Truncated)?;
        let (_, signer) = covered.split_last_chunk().ok_or(FormatError::Truncated)?;
        Ok(Self {
            signed: covered,
            signer: SignerId::from_bytes(*signer),
            signature: *signature,
        })
    }

    /// Returns the bytes of the payload.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.signed[..self.signed.len() - self.signer.as_bytes().len()]
    }
}

/// The payload of a sealed object: a body, which may be compressed, and padding.
#[derive(Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// How the body is encoded.
    pub codec: Codec,
    /// The length of the decoded body in bytes.
    pub plain_len: usize,
    /// The length of the padding in bytes.
    pub padding: usize,
    /// The encoded body.
    pub body: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Returns the bytes of the payload and the signer. The signer must sign the header, the nonce
    /// and these bytes. In the object, the signature follows these bytes.
    #[must_use]
    pub fn encode(&self, signer: &SignerId) -> Vec<u8> {
        let mut out = self.encode_unsigned();
        out.extend_from_slice(signer.as_bytes());
        out
    }

    /// Returns the bytes of the payload without a signer, for an object whose signature is outside
    /// the ciphertext.
    #[must_use]
    pub fn encode_unsigned(&self) -> Vec<u8> {
        let len = PAYLOAD_HEAD_LEN + self.body.len() + self.padding + SIGNED_TAIL_LEN;
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&[self.codec.byte(), 0, 0, 0]);
        out.extend_from_slice(&len_u32(self.plain_len).to_le_bytes());
        out.extend_from_slice(&len_u32(self.padding).to_le_bytes());
        out.extend_from_slice(self.body);
        out.resize(out.len() + self.padding, 0);
        out
    }

    /// Decodes a payload. Fails if it states that the decoded body has more than `limit` bytes.
    pub fn decode(bytes: &'a [u8], limit: usize) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let codec = Codec::from_byte(reader.u8()?)?;
        reader.zeros::<3>()?;
        let plain_len = reader.u32()? as usize;
        let padding = reader.u32()? as usize;
        if plain_len > limit {
            return Err(FormatError::LimitExceeded("length of the body"));
        }
        if padding > PADDING_MAX {
            return Err(FormatError::LimitExceeded("length of the padding"));
        }
        let len = reader.left().checked_sub(padding);
        let body = reader.bytes(len.ok_or(FormatError::Truncated)?)?;
        if reader.bytes(padding)?.iter().any(|byte| *byte != 0) {
            return Err(FormatError::ReservedNotZero);
        }
        // A writer does not compress a body that compression would make longer.
        let fits = match codec {
            Codec::Raw => body.len() == plain_len,
            Codec::Zstd => body.len() <= plain_len,
        };
        if !fits {
            return Err(FormatError::BadValue("length of the body"));
        }
        Ok(Self {
            codec,
            plain_len,
            padding,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNER: SignerId = SignerId::from_bytes([7; 32]);

    fn raw(body: &[u8], padding: usize) -> Vec<u8> {
        let payload = Payload {
            codec: Codec::Raw,
            plain_len: body.len(),
            padding,
            body,
        };
        payload.encode(&SIGNER)
    }

    #[test]
    fn a_payload_is_split_from_its_signer_and_signature_and_decoded() {
        for padding in [0, 1, 100] {
            let signed = raw(b"body", padding);
            let bytes = [&signed[..], &[9; 64]].concat();
            let split = SignedPayload::split(&bytes).unwrap();
            assert_eq!((split.signer, split.signature), (SIGNER, [9; 64]));
            assert_eq!(split.signed, signed);
            let payload = Payload::decode(split.payload(), 4).unwrap();
            assert_eq!((payload.body, payload.padding), (&b"body"[..], padding));
        }
        assert!(SignedPayload::split(&[0; 96]).is_ok());
        assert_eq!(SignedPayload::split(&[0; 95]), Err(FormatError::Truncated));
    }

    #[test]
    fn lengths_padding_and_reserved_bytes_of_a_payload_are_checked() {
        let valid = raw(b"body", 3);
        let valid = &valid[..valid.len() - 32];
        assert!(Payload::decode(valid, 4).is_ok());
        let changed = |at: usize, byte: u8| {
            let mut bytes = valid.to_vec();
            bytes[at] = byte;
            Payload::decode(&bytes, 4).unwrap_err()
        };
        assert_eq!(changed(1, 1), FormatError::ReservedNotZero);
        assert_eq!(
            changed(4, 5),
            FormatError::LimitExceeded("length of the body")
        );
        assert_eq!(changed(4, 3), FormatError::BadValue("length of the body"));
        assert_eq!(changed(8, 8), FormatError::Truncated);
        assert_eq!(changed(8, 4), FormatError::ReservedNotZero);
        assert_eq!(changed(8, 2), FormatError::BadValue("length of the body"));
        assert_eq!(
            changed(11, 5),
            FormatError::LimitExceeded("length of the padding")
        );
        assert_eq!(changed(18, 1), FormatError::ReservedNotZero);
    }
}
