//! Repairs the index from the packs alone: finds the segments that are damaged or missing, and
//! stores segments that name the packs that no other segment names.

mod needed;
mod plan;
mod run;

pub use plan::{IndexAction, IndexRepair, IndexStep, plan_index_repair};
