//! Compression of blobs and objects: Zstandard, with contexts that are reused.

use zstd::zstd_safe::CParameter;

use super::error::Damage;
use crate::format::{Codec, RUN_PLAIN_MAX};

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Off,
    /// At this Zstandard level, 1 to 19.
    Level(i32),
}

impl Default for Compression {
    fn default() -> Self {
        Self::Level(1)
    }
}

/// Compresses one run or object after the other. One a thread.
pub struct Compressor(Option<zstd::bulk::Compressor<'static>>);

impl Compressor {
    /// For this level, and for runs of up to a slot.
    pub fn new(compression: Compression) -> std::io::Result<Self> {
        Self::for_runs(compression, RUN_PLAIN_MAX)
    }

    /// For this level, and for runs of up to so many bytes.
    pub fn for_runs(compression: Compression, len: usize) -> std::io::Result<Self> {
        let Compression::Level(level) = compression else {
            return Ok(Self(None));
        };
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        if level == 1 {
            // The tables of level 1 are made for 16 KiB and forget what lies further back. With room for
            // a run it finds what level 3 finds, at its own speed (docs/decisions/0003-runs.md).
            let hash_log = if len > 1 << 20 { 17 } else { 15 };
            for parameter in [
                CParameter::WindowLog(22),
                CParameter::HashLog(hash_log),
                CParameter::MinMatch(6),
            ] {
                compressor.set_parameter(parameter)?;
            }
        }
        Ok(Self(Some(compressor)))
    }

    /// What to store for `plain`: its compressed form, which is put into `room`, if that saves more than a
    /// twentieth. Less is not worth the time that reading it again takes, and it is `plain` itself.
    pub fn compress<'b>(&mut self, plain: &'b [u8], room: &'b mut Vec<u8>) -> (Codec, &'b [u8]) {
        let Some(compressor) = &mut self.0 else {
            return (Codec::Raw, plain);
        };
        // A destination that is too small makes zstd stop, which here means: not worth it.
        let limit = plain.len() - plain.len() / 20;
        if room.len() < limit {
            room.resize(limit, 0);
        }
        match compressor.compress_to_buffer(plain, &mut room[..limit]) {
            Ok(len) if len > 0 => (Codec::Zstd, &room[..len]),
            _ => (Codec::Raw, plain),
        }
    }
}

/// Decompresses one run or object after the other. One a thread.
pub(super) struct Decompressor(zstd::bulk::Decompressor<'static>);

impl Decompressor {
    pub(super) fn new() -> std::io::Result<Self> {
        zstd::bulk::Decompressor::new().map(Self)
    }

    /// Puts what `stored` stands for into `out`, which it must fill.
    pub(super) fn decode(
        &mut self,
        codec: Codec,
        stored: &[u8],
        out: &mut [u8],
    ) -> Result<(), Damage> {
        let len = match codec {
            Codec::Raw if stored.len() == out.len() => {
                out.copy_from_slice(stored);
                Ok(stored.len())
            }
            Codec::Zstd if is_one_frame(stored) => self.0.decompress_to_buffer(stored, &mut *out),
            _ => return Err(Damage::DoesNotDecompress),
        };
        match len {
            Ok(len) if len == out.len() => Ok(()),
            _ => Err(Damage::DoesNotDecompress),
        }
    }
}

/// Whether these bytes are one Zstandard frame: the library itself would also take several, and skip
/// frames that hold no data.
fn is_one_frame(stored: &[u8]) -> bool {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    stored.starts_with(&MAGIC)
        && zstd::zstd_safe::find_frame_compressed_size(stored) == Ok(stored.len())
}
