//! Seals runs.

use crate::base::TAG_LEN;
use crate::crypto::PackCipher;
use crate::format::{Codec, Run};

/// Seals adjacent runs of a pack in place, and sets the checks of compressed runs. The first run
/// has the number `first_ordinal` in the pack. Each run ends with the bytes for its tag. `bound` is
/// the associated data.
pub(super) fn seal_runs(
    cipher: &PackCipher,
    bound: &[u8],
    first_ordinal: u64,
    runs: &mut [Run],
    mut part: &mut [u8],
) {
    for (ordinal, run) in (first_ordinal..).zip(runs) {
        let (sealed, rest) = part.split_at_mut(run.stored_len as usize);
        let (content, tag) = sealed.split_at_mut(sealed.len() - TAG_LEN);
        if run.codec == Codec::Zstd {
            run.check = cipher.check(content);
        }
        let descriptor = run.descriptor();
        tag.copy_from_slice(&cipher.seal_in_place(ordinal, &descriptor, bound, content));
        part = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BlobId, ProjectId};
    use crate::crypto::{PackRandom, Secret};
    use crate::format::Blob;

    /// Seals a run of one blob, as if the random generator of the machine returned the same bytes
    /// each time.
    fn sealed(codec: Codec, id: u8, content: &[u8]) -> (Run, Vec<u8>) {
        let key = Secret::new([1; 32]);
        let random = PackRandom::from_bytes([2; 16]);
        let cipher = PackCipher::new(&key, ProjectId::from_bytes([3; 16]), random);
        let mut part = [content, &[0; TAG_LEN]].concat();
        let mut runs = [Run {
            codec,
            stored_len: u32::try_from(part.len()).unwrap(),
            check: [0; 16],
            blobs: vec![Blob {
                plain_len: 1000,
                id: BlobId::from_bytes([id; 32]),
            }],
        }];
        seal_runs(&cipher, b"bound", 0, &mut runs, &mut part);
        let [run] = runs;
        (run, part)
    }

    fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
        a.iter().zip(b).map(|(a, b)| a ^ b).collect()
    }

    #[test]
    fn another_content_gives_another_key_even_with_the_same_random_bytes() {
        let (a, b) = ([7; 100], [8; 100]);
        // The same blob is compressed to other bytes of the same length.
        let (run_a, sealed_a) = sealed(Codec::Zstd, 1, &a);
        let (run_b, sealed_b) = sealed(Codec::Zstd, 1, &b);
        assert_eq!(run_a.blobs, run_b.blobs);
        assert_ne!(run_a.check, run_b.check);
        assert_ne!(xor(&sealed_a[..100], &sealed_b[..100]), xor(&a, &b));
        // Another blob has another id. Neither blob is compressed.
        let (_, sealed_a) = sealed(Codec::Raw, 1, &a);
        let (_, sealed_b) = sealed(Codec::Raw, 2, &b);
        assert_ne!(xor(&sealed_a[..100], &sealed_b[..100]), xor(&a, &b));
        // The same content again gives the same bytes, which reveals nothing new.
        assert_eq!(sealed(Codec::Raw, 1, &a).1, sealed_a);
    }
}
