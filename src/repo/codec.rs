//! Compression of blobs and objects: Zstandard, with contexts that are reused.

use zstd::zstd_safe::{
    CParameter, DCtx, DParameter, InBuffer, OutBuffer, ParamSwitch, ResetDirective,
};

use super::error::Damage;
use crate::format::{Codec, RUN_PLAIN_MAX};

/// The compression of blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    Off,
    /// Zstandard at this level, 1 to 19.
    Level(i32),
}

impl Default for Compression {
    fn default() -> Self {
        Self::Level(1)
    }
}

/// Compresses runs and objects. Each thread uses its own compressor.
pub struct Compressor {
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// Whether the [stride](STRIDE) of the search adapts to the data.
    paced: bool,
    /// Whether the last run was dense.
    dense: bool,
}

/// A run is dense if compression leaves at least this share of it (numerator, denominator). Pages
/// of a database are usually dense: their matches are short, and finding them is slow.
const DENSE: (usize, usize) = (45, 100);

/// In dense runs, zstd looks for matches at only two of five positions (`targetLength`). This saves
/// a sixth of the time and costs 2.5 % more space. In other runs, it would cost 10 % more space.
const STRIDE: u32 = 4;

impl Compressor {
    /// Returns a compressor of this level, for runs of up to 4 MiB.
    pub fn new(compression: Compression) -> std::io::Result<Self> {
        Self::for_runs(compression, RUN_PLAIN_MAX)
    }

    /// Returns a compressor for runs of up to `len` bytes.
    pub fn for_runs(compression: Compression, len: usize) -> std::io::Result<Self> {
        let Compression::Level(level) = compression else {
            return Ok(Self {
                zstd: None,
                paced: false,
                dense: false,
            });
        };
        let mut zstd = zstd::bulk::Compressor::new(level)?;
        let paced = level == 1 && len <= 1 << 20;
        if level == 1 {
            // By default, zstd sizes the tables of level 1 for 16 KiB. With tables that cover a
            // whole run, level 1 finds as many matches as level 3. It is about as fast as with the
            // default tables (docs/decisions/0003-runs.md).
            zstd.set_parameter(CParameter::WindowLog(22))?;
            zstd.set_parameter(CParameter::HashLog(if paced { 15 } else { 17 }))?;
            zstd.set_parameter(CParameter::MinMatch(6))?;
        }
        if paced {
            // By default, zstd does not compress literals if `targetLength` is set.
            let always = ParamSwitch::Enable;
            zstd.set_parameter(CParameter::LiteralCompressionMode(always))?;
        }
        Ok(Self {
            zstd: Some(zstd),
            paced,
            dense: false,
        })
    }

    /// Compresses `plain` into `buffer`, and returns the compressed bytes. Returns `plain` if
    /// compression is off, or if it saves less than 5 %. Such a small saving is not worth the time
    /// of decompressing.
    pub fn compress<'b>(&mut self, plain: &'b [u8], buffer: &'b mut Vec<u8>) -> (Codec, &'b [u8]) {
        let limit = plain.len() - plain.len() / 20;
        if buffer.len() < limit {
            buffer.resize(limit, 0);
        }
        match self.compress_into(plain, buffer) {
            Some(len) => (Codec::Zstd, &buffer[..len]),
            None => (Codec::Raw, plain),
        }
    }

    /// Compresses `plain` to the beginning of `out`, and returns the compressed length. Returns
    /// `None` if that saves less than 5 %, if `out` is too short, or if compression is off. Then
    /// the content of `out` is unspecified.
    pub(super) fn compress_into(&mut self, plain: &[u8], out: &mut [u8]) -> Option<usize> {
        let zstd = self.zstd.as_mut()?;
        // zstd stops when the destination is full: then compressing is not worth it.
        let limit = (plain.len() - plain.len() / 20).min(out.len());
        let compressed = zstd.compress_to_buffer(plain, &mut out[..limit]);
        let len = compressed.ok().filter(|len| *len > 0)?;
        self.pace(len, plain.len());
        Some(len)
    }

    /// Sets the stride for the next run according to the lengths of the last one, in bytes.
    /// Adjacent runs are similar.
    fn pace(&mut self, compressed: usize, plain: usize) {
        let dense = compressed >= plain / DENSE.1 * DENSE.0;
        if let Some(zstd) = self
            .zstd
            .as_mut()
            .filter(|_| self.paced && dense != self.dense)
        {
            let stride = if dense { STRIDE } else { 0 };
            // If this fails, compressing takes longer, or the result is larger.
            let _ = zstd.set_parameter(CParameter::TargetLength(stride));
            self.dense = dense;
        }
    }
}

/// Decompresses runs and objects. Each thread uses its own decompressor.
pub(super) struct Decompressor(DCtx<'static>);

impl Decompressor {
    pub(super) fn new() -> std::io::Result<Self> {
        let mut context = DCtx::try_create().ok_or(std::io::ErrorKind::OutOfMemory)?;
        // The output of `decode_front` stays in place, so zstd can refer back to it without a copy.
        context
            .set_parameter(DParameter::StableOutBuffer(true))
            .map_err(|code| std::io::Error::other(zstd::zstd_safe::get_error_name(code)))?;
        Ok(Self(context))
    }

    /// Decompresses `stored` into `out`. Fails if the result does not have exactly the length of
    /// `out`.
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
            Codec::Zstd if is_one_frame(stored) => self.0.decompress(&mut *out, stored),
            _ => return Err(Damage::DoesNotDecompress),
        };
        match len {
            Ok(len) if len == out.len() => Ok(()),
            _ => Err(Damage::DoesNotDecompress),
        }
    }

    /// Decompresses like [`decode`](Self::decode), but stops after the first `front` bytes. The
    /// rest of `out` is then unspecified, and the rest of `stored` is not verified.
    pub(super) fn decode_front(
        &mut self,
        codec: Codec,
        stored: &[u8],
        out: &mut [u8],
        front: usize,
    ) -> Result<(), Damage> {
        if codec == Codec::Raw || front + BLOCK_MAX > out.len() {
            // At most one block could be skipped, so decompress everything.
            return self.decode(codec, stored, out);
        }
        if !is_one_frame(stored) {
            return Err(Damage::DoesNotDecompress);
        }
        let bad = |_| Damage::DoesNotDecompress;
        self.0.reset(ResetDirective::SessionOnly).map_err(bad)?;
        let mut out = OutBuffer::around(out);
        let mut read = 0;
        // Pass each block to zstd as a whole, so that it need not buffer parts of blocks.
        let mut asked = FRAME_START;
        while out.pos() < front {
            let end = stored.len().min(read + asked);
            let mut input = InBuffer {
                src: &stored[..end],
                pos: read,
            };
            let before = (read, out.pos());
            asked = self
                .0
                .decompress_stream(&mut out, &mut input)
                .map_err(bad)?;
            read = input.pos;
            if asked == 0 && out.pos() < front || before == (read, out.pos()) {
                return Err(Damage::DoesNotDecompress);
            }
        }
        Ok(())
    }
}

/// Maximum number of plain bytes in a block of a frame (RFC 8878, section 3.1.1.2.4).
const BLOCK_MAX: usize = 128 << 10;

/// The number of bytes that zstd needs to determine the length of a frame header.
const FRAME_START: usize = 5;

/// Whether these bytes are exactly one Zstandard frame. The library would also accept several, and
/// skip frames without data.
fn is_one_frame(stored: &[u8]) -> bool {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    stored.starts_with(&MAGIC)
        && zstd::zstd_safe::find_frame_compressed_size(stored) == Ok(stored.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns `len` bytes that consist of pieces of 50 bytes. In turn, a piece repeats a letter,
    /// begins with zeros, or is noise. The result compresses to about a half, and its Zstandard
    /// blocks differ.
    fn text(len: usize, seed: u8) -> Vec<u8> {
        let mut noise = vec![0; len];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[seed]);
        hasher.finalize_xof().fill(&mut noise);
        for (number, block) in noise.chunks_mut(50).enumerate() {
            match number % 3 {
                0 => block.fill(b"cuttlebone"[usize::from(block[0]) % 10]),
                1 => {
                    let half = block.len() / 2;
                    block[..half].fill(0);
                }
                _ => {}
            }
        }
        noise
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn decoding_the_front_of_a_run_gives_the_same_bytes(
            len in 1usize..600_000,
            percents in prop::collection::vec(0usize..=100, 1..6),
            seed: u8,
        ) {
            let plain = text(len, seed);
            let mut buffer = Vec::new();
            let mut compressor = Compressor::for_runs(Compression::default(), 512 << 10).unwrap();
            let mut decompressor = Decompressor::new().unwrap();
            let mut out = vec![0; len];
            // Compress twice, since the result of the first run sets the stride of the second one.
            for _ in 0..2 {
                let (codec, stored) = compressor.compress(&plain, &mut buffer);
                for percent in &percents {
                    let front = len * percent / 100;
                    out.fill(0);
                    decompressor.decode_front(codec, stored, &mut out, front).unwrap();
                    prop_assert!(out[..front] == plain[..front]);
                    // A frame that was decompressed in part does not disturb the next one.
                    decompressor.decode(codec, stored, &mut out).unwrap();
                    prop_assert!(out == plain);
                }
            }
        }
    }

    #[test]
    fn only_one_whole_frame_of_the_right_length_decompresses() {
        let plain = text(500_000, 1);
        let mut buffer = Vec::new();
        let mut compressor = Compressor::for_runs(Compression::default(), 512 << 10).unwrap();
        let (codec, stored) = compressor.compress(&plain, &mut buffer);
        let mut decompressor = Decompressor::new().unwrap();
        let mut decodes = |stored: &[u8], len: usize, front: usize| {
            let mut out = vec![0; len];
            decompressor
                .decode_front(codec, stored, &mut out, front)
                .is_ok()
        };
        assert!(decodes(stored, 500_000, 100_000));
        let cut = &stored[..stored.len() - 1];
        assert!(!decodes(cut, 500_000, 100_000), "a frame that was cut");
        let twice = [stored, stored].concat();
        assert!(!decodes(&twice, 1_000_000, 600_000), "two frames");
        assert!(
            !decodes(stored, 400_000, 100_000),
            "a frame that is too long"
        );
        assert!(
            !decodes(stored, 900_000, 600_000),
            "a frame that is too short"
        );
    }
}
