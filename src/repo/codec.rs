//! Compression of blobs and objects: Zstandard, with contexts that are reused.

use zstd::zstd_safe::{
    CParameter, DCtx, DParameter, InBuffer, OutBuffer, ParamSwitch, ResetDirective,
};

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
pub struct Compressor {
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// Whether the pace follows what is compressed.
    paced: bool,
    /// Whether the last run was dense.
    dense: bool,
}

/// A run of which at least this share is left is dense, as pages of a database are: its matches are
/// short, and looking for them is slow.
const DENSE: (usize, usize) = (45, 100);

/// In dense runs, zstd looks for matches at two of five places and not at all of them
/// (`targetLength`): a sixth less time for a fortieth more space. Elsewhere it would cost a tenth
/// of the space.
const STRIDE: u32 = 4;

impl Compressor {
    /// For this level, and for runs of up to a leaf.
    pub fn new(compression: Compression) -> std::io::Result<Self> {
        Self::for_runs(compression, RUN_PLAIN_MAX)
    }

    /// For this level, and for runs of up to so many bytes.
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
            // The tables of level 1 are made for 16 KiB and forget what lies further back. With
            // room for a run it finds what level 3 finds, at its own speed
            // (docs/decisions/0003-runs.md).
            zstd.set_parameter(CParameter::WindowLog(22))?;
            zstd.set_parameter(CParameter::HashLog(if paced { 15 } else { 17 }))?;
            zstd.set_parameter(CParameter::MinMatch(6))?;
        }
        if paced {
            // Else a wider stride would leave literals as they are.
            let always = ParamSwitch::Enable;
            zstd.set_parameter(CParameter::LiteralCompressionMode(always))?;
        }
        Ok(Self {
            zstd: Some(zstd),
            paced,
            dense: false,
        })
    }

    /// What to store for `plain`: its compressed form, which is put into `room`, if that saves more
    /// than a twentieth. Less is not worth the time that reading it again takes, and it is `plain`
    /// itself.
    pub fn compress<'b>(&mut self, plain: &'b [u8], room: &'b mut Vec<u8>) -> (Codec, &'b [u8]) {
        let Some(zstd) = &mut self.zstd else {
            return (Codec::Raw, plain);
        };
        // A destination that is too small makes zstd stop, which here means: not worth it.
        let limit = plain.len() - plain.len() / 20;
        if room.len() < limit {
            room.resize(limit, 0);
        }
        match zstd.compress_to_buffer(plain, &mut room[..limit]) {
            Ok(len) if len > 0 => {
                self.pace(len, plain.len());
                (Codec::Zstd, &room[..len])
            }
            _ => (Codec::Raw, plain),
        }
    }

    /// Sets the pace for the next run by how the last one went: what lies side by side is alike.
    fn pace(&mut self, compressed: usize, plain: usize) {
        let dense = compressed >= plain / DENSE.1 * DENSE.0;
        if let Some(zstd) = self
            .zstd
            .as_mut()
            .filter(|_| self.paced && dense != self.dense)
        {
            let stride = if dense { STRIDE } else { 0 };
            // Without it, it only takes longer.
            let _ = zstd.set_parameter(CParameter::TargetLength(stride));
            self.dense = dense;
        }
    }
}

/// Decompresses one run or object after the other. One a thread.
pub(super) struct Decompressor(DCtx<'static>);

impl Decompressor {
    pub(super) fn new() -> std::io::Result<Self> {
        let mut context = DCtx::try_create().ok_or(std::io::ErrorKind::OutOfMemory)?;
        // What `decode_front` puts out stays where it is, and need not be kept elsewhere to refer
        // back to.
        context
            .set_parameter(DParameter::StableOutBuffer(true))
            .map_err(|code| std::io::Error::other(zstd::zstd_safe::get_error_name(code)))?;
        Ok(Self(context))
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
            Codec::Zstd if is_one_frame(stored) => self.0.decompress(&mut *out, stored),
            _ => return Err(Damage::DoesNotDecompress),
        };
        match len {
            Ok(len) if len == out.len() => Ok(()),
            _ => Err(Damage::DoesNotDecompress),
        }
    }

    /// The same, but stops once the first `front` bytes are there. What follows in `out` is of no
    /// meaning then, and nobody has looked at what `stored` has for it.
    pub(super) fn decode_front(
        &mut self,
        codec: Codec,
        stored: &[u8],
        out: &mut [u8],
        front: usize,
    ) -> Result<(), Damage> {
        if codec == Codec::Raw || front + BLOCK_MAX > out.len() {
            // There is at most one block to save.
            return self.decode(codec, stored, out);
        }
        if !is_one_frame(stored) {
            return Err(Damage::DoesNotDecompress);
        }
        let bad = |_| Damage::DoesNotDecompress;
        self.0.reset(ResetDirective::SessionOnly).map_err(bad)?;
        let mut out = OutBuffer::around(out);
        let mut read = 0;
        // Bytes that zstd asks for are a block each time, so it need not keep a part of one.
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

/// What a block of a frame holds at most, in plain bytes (RFC 8878, section 3.1.1.2.4).
const BLOCK_MAX: usize = 128 << 10;

/// Bytes of which zstd can tell how long the header of a frame is.
const FRAME_START: usize = 5;

/// Whether these bytes are one Zstandard frame: the library itself would also take several, and
/// skip frames that hold no data.
fn is_one_frame(stored: &[u8]) -> bool {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    stored.starts_with(&MAGIC)
        && zstd::zstd_safe::find_frame_compressed_size(stored) == Ok(stored.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Letters, noise, and noise with zeros, in turn: about a half is left of it, and blocks
    /// differ.
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
        fn the_front_of_a_run_is_that_of_the_whole(
            len in 1usize..600_000,
            percents in prop::collection::vec(0usize..=100, 1..6),
            seed: u8,
        ) {
            let plain = text(len, seed);
            let mut room = Vec::new();
            let mut compressor = Compressor::for_runs(Compression::default(), 512 << 10).unwrap();
            let mut decompressor = Decompressor::new().unwrap();
            let mut out = vec![0; len];
            // Twice, since the second is compressed at the pace that the first one set.
            for _ in 0..2 {
                let (codec, stored) = compressor.compress(&plain, &mut room);
                for percent in &percents {
                    let front = len * percent / 100;
                    out.fill(0);
                    decompressor.decode_front(codec, stored, &mut out, front).unwrap();
                    prop_assert!(out[..front] == plain[..front]);
                    // One that was left off does not disturb the next.
                    decompressor.decode(codec, stored, &mut out).unwrap();
                    prop_assert!(out == plain);
                }
            }
        }
    }

    #[test]
    fn a_frame_that_is_cut_or_too_short_does_not_decompress() {
        let plain = text(500_000, 1);
        let mut room = Vec::new();
        let mut compressor = Compressor::for_runs(Compression::default(), 512 << 10).unwrap();
        let (codec, stored) = compressor.compress(&plain, &mut room);
        let mut decompressor = Decompressor::new().unwrap();
        let mut decodes = |stored: &[u8], len: usize, front: usize| {
            let mut out = vec![0; len];
            decompressor
                .decode_front(codec, stored, &mut out, front)
                .is_ok()
        };
        assert!(decodes(stored, 500_000, 100_000));
        let cut = &stored[..stored.len() - 1];
        assert!(!decodes(cut, 500_000, 100_000), "cut");
        let twice = [stored, stored].concat();
        assert!(!decodes(&twice, 1_000_000, 600_000), "two");
        assert!(!decodes(stored, 400_000, 100_000), "longer than said");
        assert!(!decodes(stored, 900_000, 600_000), "shorter than said");
    }
}
