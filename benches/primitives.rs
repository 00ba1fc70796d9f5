//! Measures the steps of a backup, each on one leaf (4 MiB) of data, and the derivation of a key
//! from a password. The times of these steps show which of them take most of the CPU time of a
//! backup.
//!
//! To run it: `cargo bench --bench primitives`

use std::hint::black_box;
use std::io::Read;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use cuttlebone::base::{CHUNK_SIZE_DEFAULT, ProjectId, is_zero};
use cuttlebone::chunk::StreamCutter;
use cuttlebone::crypto::{KdfParams, PackCipher, PackRandom, ProjectKeys, Secret, hash};
use cuttlebone::repo::{Compression, Compressor};

/// The size of a leaf in bytes.
const LEAF: usize = 4 << 20;

/// Returns a leaf that compresses about as well as the disk of an operating system. Of every three
/// blocks of 64 bytes, the first is random; the others repeat one letter, with one byte changed.
fn leaf() -> Vec<u8> {
    let mut data = vec![0; LEAF];
    let mut reader = blake3::Hasher::new().finalize_xof();
    let _ = reader.read(&mut data);
    for (index, block) in data.chunks_mut(64).enumerate() {
        if !index.is_multiple_of(3) {
            let letter = usize::from(block[0]) % 16;
            block.fill_with(|| b"cuttlebone backs"[letter]);
            block[letter] = block[letter].wrapping_add(1);
        }
    }
    data
}

fn primitives(criterion: &mut Criterion) {
    let keys = ProjectKeys::full(&Secret::new([7; 32]));
    let Ok(chunk_keys) = keys.chunk_keys() else {
        return;
    };
    let leaf = leaf();
    let chunk = CHUNK_SIZE_DEFAULT.usize();
    let mut group = criterion.benchmark_group("leaf");
    group
        .throughput(Throughput::Bytes(LEAF as u64))
        .sample_size(30);
    let zeros = vec![0; LEAF];
    group.bench_function("find zeros", |b| b.iter(|| is_zero(black_box(&zeros))));
    group.bench_function("chunk ids", |b| {
        b.iter(|| leaf.chunks(chunk).map(|c| chunk_keys.id(c)).max());
    });
    group.bench_function("hash for the pack name", |b| b.iter(|| hash(&[&leaf])));
    for level in [1, 3] {
        let Ok(mut compressor) = Compressor::new(Compression::Level(level)) else {
            return;
        };
        let mut out = Vec::new();
        group.bench_function(format!("compress, level {level}"), |b| {
            b.iter(|| compressor.compress(&leaf, &mut out).1.len());
        });
    }
    let project = ProjectId::from_bytes([1; 16]);
    let cipher = PackCipher::new(keys.tree(), project, PackRandom::from_bytes([1; 16]));
    let mut sealed = leaf.clone();
    group.bench_function("seal", |b| {
        b.iter(|| cipher.seal_in_place(0, b"descriptor", b"here", &mut sealed));
    });
    group.bench_function("cut a stream into chunks", |b| {
        b.iter(|| {
            let mut cutter = StreamCutter::new(&leaf[..], CHUNK_SIZE_DEFAULT, 1);
            while let Ok(Some(chunk)) = cutter.next_chunk() {
                black_box(chunk);
            }
        });
    });
    group.finish();
    let mut group = criterion.benchmark_group("key");
    group.sample_size(10);
    group.bench_function("derive from a password", |b| {
        b.iter(|| KdfParams::default().derive(b"password", &[0; 32]).is_ok());
    });
    group.finish();
}

criterion_group!(benches, primitives);
criterion_main!(benches);
