//! Images in a Ceph cluster, read and written through the programs `rbd` and `ceph`.
//!
//! No library of Ceph is linked. Each request runs a program without a shell, and each name is one
//! argument, so no character of a name has a special meaning. A program that gives no answer or
//! makes no progress for too long is killed, and every program ends with this process.

mod client;
mod error;
mod existing;
mod export;
mod image;
mod import;
mod json;
mod metadata;
mod run;
mod snapshot;
mod spec;

pub use client::{RbdClient, RbdOptions, TrashedImage};
pub use error::{RbdError, RbdErrorKind};
pub use export::{ExportEnd, RbdExport};
pub use image::{ImageState, LiveImage};
pub use import::RbdImport;
pub use json::{CHOSEN_FEATURES, feature_bits};
pub use snapshot::{ExportedSnapshot, Snapshot};
pub use spec::RbdSpec;
