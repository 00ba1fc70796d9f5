//! Encrypted, deduplicating backups of block devices and Ceph RBD images.
//!
//! `docs/architecture.md` shows the house: one folder a layer, imports point down.

pub mod base;
pub mod chunk;
pub mod cli;
pub mod crypto;
pub mod format;
pub mod ops;
pub mod repo;
pub mod storage;
pub mod volume;
