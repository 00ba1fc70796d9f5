//! Encrypted, deduplicating backups of disk images, block devices and streams.
//!
//! This is the library behind the `cuttlebone` program. It opens and creates repositories, reads
//! their backups, and runs the operations of the program: [`ops`] has a function for each.
//!
//! # Example
//!
//! Lists the backups in a repository, oldest first:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use cuttlebone::base::Silent;
//! use cuttlebone::repo::{Records, Repository};
//! use cuttlebone::storage::LocalBackend;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let store = Arc::new(LocalBackend::open("/srv/backup")?);
//!     let locked = Repository::find(store, None, &Silent)?;
//!     let repository = locked.unlock(b"correct horse battery staple", &Silent)?;
//!     let project = repository.project("default", &Silent)?;
//!     for backup in Records::load(&project)?.all() {
//!         println!("{}  {}  {}", backup.id, backup.time, backup.record.volume.name);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A [`ReadSession`](repo::ReadSession) and an [`ImageReader`](repo::ImageReader) read any range
//! of a backup without restoring the rest: `image.read_at(offset, &mut buffer)`.
//!
//! The folder `examples/` has complete programs: `list_backups.rs` and `read_range.rs`.
//!
//! # Layers
//!
//! Each layer is one or more modules. A module imports only modules of lower layers, and only what
//! these re-export at their top. There is one exception: `volume` imports `format`, too.
//!
//! | layer | modules |
//! |---|---|
//! | 0 | [`base`]: ids, units, progress, cancellation |
//! | 1 | [`format`](mod@format): bytes on disk and on the wire; [`storage`]: object stores |
//! | 1 | [`volume`]: sources and targets; `crypto`: encryption; `chunk`: chunking of streams |
//! | 2 | [`repo`]: repositories, packs, index, trees, backup records |
//! | 3 | [`ops`]: one module for each operation |
//! | 4 | `app`: the code that all front ends share |
//! | 5 | [`cli`]: the command line |
//!
//! `docs/architecture.md` describes the layers, `docs/format.md` the format of a repository.

mod app;
pub mod base;
#[cfg(feature = "testing")]
pub mod chunk;
#[cfg(not(feature = "testing"))]
#[expect(unreachable_pub, reason = "public for tests, fuzzing and benchmarks")]
mod chunk;
pub mod cli;
#[cfg(feature = "testing")]
pub mod crypto;
#[cfg(not(feature = "testing"))]
#[expect(unreachable_pub, reason = "public for tests, fuzzing and benchmarks")]
mod crypto;
pub mod format;
pub mod ops;
pub mod repo;
pub mod storage;
pub mod volume;
