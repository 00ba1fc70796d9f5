//! Section 7: the envelope of objects that are sealed as a whole, such as index segments and
//! records.

use super::error::FormatError;
use super::header::{HEADER_LEN, Magic};
use super::pack::Codec;
use super::wire::{Reader, len_u32};

/// The number of bytes before the ciphertext: header and nonce.
pub const SEALED_HEAD_LEN: usize = HEADER_LEN + 24;

/// An object that is sealed as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct SealedObject<'a> {
    /// The header: associated data of the ciphertext, after the project's id.
    pub header: &'a [u8],
    /// The nonce.
    pub nonce: [u8; 24],
    /// The ciphertext and its tag.
    pub sealed: &'a [u8],
}

impl<'a> SealedObject<'a> {
    /// Splits an object of this kind into its parts.
    pub fn decode(magic: Magic, bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let header = magic.read(&mut reader)?;
        let nonce = reader.array()?;
        let sealed = reader.bytes(reader.left())?;
        Ok(Self {
            header,
            nonce,
            sealed,
        })
    }
}

/// The plaintext of a sealed object: a body, which may be compressed.
#[derive(Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// How the body is encoded.
    pub codec: Codec,
    /// The length of the decoded body in bytes.
    pub plain_len: usize,
    /// The encoded body.
    pub body: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Returns the bytes, to be sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.body.len());
        out.extend_from_slice(&[self.codec.byte(), 0, 0, 0]);
        out.extend_from_slice(&len_u32(self.plain_len).to_le_bytes());
        out.extend_from_slice(self.body);
        out
    }

    /// Decodes opened bytes. A body that states a length of more than `limit` bytes is refused.
    pub fn decode(bytes: &'a [u8], limit: usize) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let codec = Codec::from_byte(reader.u8()?)?;
        reader.zeros::<3>()?;
        let plain_len = reader.u32()? as usize;
        let body = reader.bytes(reader.left())?;
        if plain_len > limit {
            return Err(FormatError::LimitExceeded("length of the body"));
        }
        // A writer uses compression only if it saves bytes.
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
            body,
        })
    }
}
