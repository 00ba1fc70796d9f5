//! Writes the seeds into `corpus/`. This is an example, because every binary of this package is a
//! fuzz target.

use std::path::Path;

use cuttlebone_fuzz::seeds;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for seed in seeds::all() {
        let directory = corpus.join(seed.target);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(seed.name).with_extension("seed"), seed.bytes)?;
    }
    Ok(())
}
