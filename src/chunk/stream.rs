//! Content-defined cuts of a byte stream (`FastCDC` 2020): an insertion moves few cuts.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Read};

use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};

use crate::base::{CHUNK_SIZE_MIN, ChunkSize};

/// The largest average size of chunks, in bytes. With a larger average, a chunk could be larger
/// than the largest blob.
const AVERAGE_MAX: u32 = 1 << 20;

/// Cuts a stream into chunks. A chunk has a quarter to four times the average size, and at most
/// 4 MiB. The last chunk may be smaller.
///
/// The cuts depend only on the content, the average and the seed, not on the size of reads. They
/// must never change, since other cuts would make all earlier backups of a stream useless for
/// deduplication. A test checks this.
///
/// The buffer has twice the size of the largest chunk. `StreamCDC` of the crate `fastcdc` is not
/// used: it allocates memory for every chunk, moves the whole rest of its buffer after each chunk,
/// and fails if a read is interrupted.
pub struct StreamCutter<R> {
    source: R,
    rule: Rule,
    buffer: Box<[u8]>,
    /// The bytes `start..end` of the buffer were read, but not returned yet.
    start: usize,
    end: usize,
    ended: bool,
}

/// The parameters of the cuts.
struct Rule {
    min: usize,
    average: usize,
    max: usize,
    masks: (u64, u64),
    gear: (Cow<'static, [u64]>, Cow<'static, [u64]>),
}

impl Rule {
    fn new(average: ChunkSize, seed: u64) -> Self {
        let average = average.bytes().clamp(CHUNK_SIZE_MIN, AVERAGE_MAX) as usize;
        Self {
            min: average / 4,
            average,
            max: average * 4,
            masks: select_masks(average, Normalization::Level1),
            gear: get_gear_with_seed(seed),
        }
    }

    /// Returns the length of the first chunk of `bytes`. They must extend to the end of the stream
    /// or be at least as long as the largest chunk.
    fn cut(&self, bytes: &[u8]) -> usize {
        let (short, long) = self.masks;
        let (gear, shifted) = &self.gear;
        let (_, len) = cut_gear(
            bytes,
            self.min,
            self.average,
            self.max,
            short,
            long,
            short << 1,
            long << 1,
            gear,
            shifted,
        );
        len
    }
}

impl<R: Read> StreamCutter<R> {
    /// Cuts `source` into chunks of about `average`. A larger average than 1 MiB counts as 1 MiB.
    /// All cuts depend on the seed. If the seed is secret, the lengths of chunks do not reveal
    /// whether a stream has a known content.
    pub fn new(source: R, average: ChunkSize, seed: u64) -> Self {
        let rule = Rule::new(average, seed);
        Self {
            source,
            buffer: vec![0; 2 * rule.max].into_boxed_slice(),
            rule,
            start: 0,
            end: 0,
            ended: false,
        }
    }

    /// Returns the next chunk, which is never empty, or `None` at the end of the stream.
    ///
    /// An error loses no bytes, and is not the end of the stream.
    pub fn next_chunk(&mut self) -> io::Result<Option<&[u8]>> {
        self.fill()?;
        let ahead = &self.buffer[self.start..self.end];
        if ahead.is_empty() {
            return Ok(None);
        }
        let chunk = &ahead[..self.rule.cut(ahead)];
        self.start += chunk.len();
        Ok(Some(chunk))
    }

    /// Reads until the buffer holds as many bytes as the largest chunk, or to the end of the
    /// stream. Only then is the position of the next cut certain.
    fn fill(&mut self) -> io::Result<()> {
        if !self.ended && self.buffer.len() - self.start < self.rule.max {
            // Each byte is moved at most once. The moved bytes are fewer than those of the largest
            // chunk.
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while !self.ended && self.end - self.start < self.rule.max {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastcdc::v2020::FastCDC;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new()
            .update(b"cuttlebone stream cuts")
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    fn size(bytes: u64) -> ChunkSize {
        ChunkSize::new(bytes).expect("a chunk size")
    }

    fn cuts(source: impl Read, average: ChunkSize, seed: u64) -> Vec<Vec<u8>> {
        let mut cutter = StreamCutter::new(source, average, seed);
        let mut chunks = Vec::new();
        while let Some(chunk) = cutter.next_chunk().expect("a chunk") {
            chunks.push(chunk.to_vec());
        }
        assert!(cutter.next_chunk().expect("still the end").is_none());
        chunks
    }

    /// Returns up to 5,000 bytes at a time, and interrupts some reads.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1 = (self.1 * 7 + 1) % 5_000;
            if self.1.is_multiple_of(5) {
                return Err(ErrorKind::Interrupted.into());
            }
            let len = self.1.min(into.len()).min(self.0.len());
            into[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    #[test]
    fn cuts_of_known_bytes_never_change() {
        let bytes = noise(24 << 20);
        let mut found = Vec::new();
        for average in [64 << 10, 1 << 20] {
            for seed in [0, 0x0123_4567_89ab_cdef] {
                let lengths: Vec<_> = cuts(&bytes[..], size(average), seed)
                    .iter()
                    .map(Vec::len)
                    .collect();
                let mut all = blake3::Hasher::new();
                for length in &lengths {
                    all.update(&u64::try_from(*length).expect("small").to_le_bytes());
                }
                let hash = all.finalize().to_hex()[..16].to_owned();
                found.push((lengths.len(), lengths[..4].to_vec(), hash));
            }
        }
        let expected: [(usize, [usize; 4], &str); 4] = [
            (326, [70_531, 52_468, 77_506, 119_431], "cc9b8b9e14a6afbd"),
            (305, [69_820, 83_222, 206_964, 21_840], "7e090e27a2a02fde"),
            (
                22,
                [711_567, 275_819, 711_790, 1_540_874],
                "4d5c57c06c0db782",
            ),
            (
                18,
                [1_098_525, 1_060_699, 1_195_745, 1_531_168],
                "922d04872aa0e1ea",
            ),
        ];
        let expected =
            expected.map(|(count, first, hash)| (count, first.to_vec(), hash.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn cuts_do_not_depend_on_how_bytes_arrive() {
        let mut bytes = noise(3 << 20);
        bytes[1 << 20..2 << 20].fill(0);
        bytes.truncate(bytes.len() - 1);
        let average = size(16 << 10);
        let chunks = cuts(&bytes[..], average, 7);
        assert_eq!(chunks.concat(), bytes);
        assert_eq!(chunks, cuts(Dribble(&bytes, 3), average, 7));
        let reference = FastCDC::with_level_and_seed(
            &bytes,
            4 << 10,
            16 << 10,
            64 << 10,
            Normalization::Level1,
            7,
        );
        assert!(
            chunks
                .iter()
                .map(Vec::len)
                .eq(reference.map(|chunk| chunk.length))
        );
        assert_ne!(
            chunks,
            cuts(&bytes[..], average, 8),
            "the seed moves the cuts"
        );
    }

    #[test]
    fn chunks_have_a_quarter_to_four_times_the_average() {
        let zeros = vec![0; 9 << 20];
        for average in [4 << 10, 64 << 10, 1 << 20, 4 << 20] {
            let used = usize::try_from(average).expect("small").min(1 << 20);
            for bytes in [&noise(9 << 20), &zeros] {
                let chunks = cuts(&bytes[..], size(average), 1);
                let (last, others) = chunks.split_last().expect("a chunk");
                assert!(
                    others
                        .iter()
                        .all(|c| (used / 4..=used * 4).contains(&c.len()))
                );
                assert!((1..=used * 4).contains(&last.len()));
            }
        }
        assert!(cuts(&[][..], size(4096), 1).is_empty());
        assert_eq!(cuts(&[0][..], size(4096), 1), [[0]]);
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let before = noise(2 << 20);
        let mut after = before.clone();
        after.splice(700_000..700_000, *b"a few bytes more");
        let before = cuts(&before[..], size(16 << 10), 3);
        let after = cuts(&after[..], size(16 << 10), 3);
        let new = after.iter().filter(|chunk| !before.contains(chunk)).count();
        assert!(new <= 3, "{new} of {} chunks are new", after.len());
    }

    #[test]
    fn a_failed_read_is_not_the_end_of_the_stream() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    2 => Err(io::Error::other("unplugged")),
                    3 => Ok(0),
                    _ => {
                        into[..9_000].fill(1);
                        Ok(9_000)
                    }
                }
            }
        }
        let mut cutter = StreamCutter::new(Broken(0), size(4096), 0);
        assert!(cutter.next_chunk().is_err());
        let mut len = 0;
        while let Some(chunk) = cutter.next_chunk().expect("a chunk") {
            len += chunk.len();
        }
        assert_eq!(len, 9_000);
    }
}
