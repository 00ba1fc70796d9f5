//! What the fuzz targets do, as plain functions: libFuzzer calls them with bytes that it makes up,
//! and `corpus.rs` with the seeds. A panic is a finding.

#![forbid(unsafe_code)]

#[cfg(test)]
mod corpus;
mod extents;
mod fixture;
mod hostile;
mod ingest;
mod objects;
mod packs;
mod rbd;
pub mod seeds;
mod texts;

pub use extents::extents;
pub use hostile::hostile_repository;
pub use ingest::ingest;
pub use objects::{key_slot, project_object, repository_file, sealed_object};
pub use packs::{index_segment, node, pack};
pub use rbd::rbd_diff;
pub use texts::{names, record};

/// What a target does with an input.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: [(&str, Target); 13] = [
    ("repository_file", repository_file),
    ("key_slot", key_slot),
    ("project_object", project_object),
    ("sealed_object", sealed_object),
    ("pack", pack),
    ("index_segment", index_segment),
    ("node", node),
    ("record", record),
    ("names", names),
    ("hostile_repository", hostile_repository),
    ("rbd_diff", rbd_diff),
    ("ingest", ingest),
    ("extents", extents),
];
