//! Repairs the index from the packs alone. Finds damaged and missing segments, and stores new
//! segments for the packs that no other segment names.

mod needed;
mod plan;
mod run;

pub use plan::{IndexAction, IndexRepair, IndexStep, plan_index_repair};
