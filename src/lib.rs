//! Encrypted, deduplicating backups of disk images, block devices and streams.
//!
//! `docs/architecture.md` shows the house: one folder a layer, imports point down.
//!
//! | layer | modules |
//! |---|---|
//! | 0 | [`base`]: ids, sizes, progress, cancellation |
//! | 1 | [`crypto`], [`format`](mod@format), [`storage`], [`volume`], [`chunk`]: they do not know each other |
//! | 2 | [`repo`]: where these meet |
//! | 3 | [`ops`]: one module an operation |
//! | 4 | `app`: what every front end needs |
//! | 5 | [`cli`]: the command line |
//!
//! What a repository looks like on disk is specified in `docs/format.md`.

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
