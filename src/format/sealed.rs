//! Section 7: the envelope of index segments, records and tombstones.

use super::error::FormatError;
use super::header::{HEADER_LEN, Magic};
use super::pack::Codec;
use super::wire::{Reader, len_u32};

/// Bytes before the ciphertext: header and nonce.
pub const SEALED_HEAD_LEN: usize = HEADER_LEN + 24;

/// An object that is sealed as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct SealedObject<'a> {
    /// What the ciphertext is bound to, beside the project's id.
    pub header: &'a [u8],
    /// Its nonce.
    pub nonce: [u8; 24],
    /// Ciphertext and tag.
    pub sealed: &'a [u8],
}

impl<'a> SealedObject<'a> {
    /// Takes an object of this kind apart.
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

/// What is sealed: a body and how it is compressed.
#[derive(Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// How the body is stored.
    pub codec: Codec,
    /// Length of the body once decoded.
    pub plain_len: usize,
    /// The body as stored.
    pub body: &'a [u8],
}

impl<'a> Payload<'a> {
    /// The bytes to seal.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.body.len());
        out.extend_from_slice(&[self.codec.byte(), 0, 0, 0]);
        out.extend_from_slice(&len_u32(self.plain_len).to_le_bytes());
        out.extend_from_slice(self.body);
        out
    }

    /// Takes opened bytes apart; a body that claims more than `limit` bytes is refused.
    pub fn decode(bytes: &'a [u8], limit: usize) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let codec = Codec::from_byte(reader.u8()?)?;
        reader.zeros::<3>()?;
        let plain_len = reader.u32()? as usize;
        let body = reader.bytes(reader.left())?;
        if plain_len > limit {
            return Err(FormatError::LimitExceeded("length of the body"));
        }
        // Compression that does not pay is not used, so what is stored is never the longer one.
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
