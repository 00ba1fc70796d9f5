//! Encrypted, deduplicating backups of disk images, block devices and streams.
//!
//! `docs/architecture.md` describes the layers: imports point down, to a folder's `mod.rs`.
//!
//! | layer | modules |
//! |---|---|
//! | 0 | [`base`]: ids, sizes, progress, cancellation |
//! | 1 | [`crypto`], [`format`](mod@format), [`storage`], [`volume`], [`chunk`]: the parts |
//! | 2 | [`repo`]: repositories, projects, backups |
//! | 3 | [`ops`]: one module an operation |
//! | 4 | `app`: what every front end needs |
//! | 5 | [`cli`]: the command line |
//!
//! `docs/format.md` specifies a repository on disk.
//!
//! # Example
//!
//! Lists the backups in a repository. `examples/` has whole programs.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use cuttlebone::base::Silent;
//! use cuttlebone::repo::{Records, Repository};
//! use cuttlebone::storage::LocalBackend;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Arc::new(LocalBackend::open("/srv/backup")?);
//! let repository = Repository::open(store, b"password", &Silent)?;
//! let project = repository.project("default", &Silent)?;
//! for backup in Records::load(&project)?.all() {
//!     println!("{} {}", backup.id, backup.record.volume.name);
//! }
//! # Ok(())
//! # }
//! ```

mod app;
pub mod base;
pub mod chunk;
pub mod cli;
pub mod crypto;
pub mod format;
pub mod ops;
pub mod repo;
pub mod storage;
pub mod volume;
