//! Runs the seeds through their targets, without libFuzzer.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{TARGETS, seeds};

/// Maximum total size of all seeds, in bytes.
const CORPUS_MAX: usize = 300 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

#[test]
fn every_seed_passes_its_target() {
    let mut size = 0;
    for (name, target) in TARGETS {
        let mut count = 0;
        for file in fs::read_dir(corpus().join(name)).expect(name) {
            let path = file.expect(name).path();
            if path
                .extension()
                .is_some_and(|extension| extension == "seed")
            {
                let input = fs::read(&path).expect(name);
                size += input.len();
                count += 1;
                target(&input);
            }
        }
        assert!(count > 0, "{name} has no seeds");
    }
    assert!(size <= CORPUS_MAX, "the seeds have {size} bytes");
}

#[test]
fn the_corpus_contains_the_generated_seeds() {
    for seed in seeds::all() {
        assert!(TARGETS.iter().any(|(name, _)| *name == seed.target));
        let path = corpus()
            .join(seed.target)
            .join(seed.name)
            .with_extension("seed");
        let kept = fs::read(&path).unwrap_or_default();
        assert_eq!(
            kept,
            seed.bytes,
            "{}: run the example `seeds`",
            path.display()
        );
    }
}
