//! Encrypted, deduplicating backups of block devices and Ceph RBD images.
//!
//! `docs/architecture.md` shows the house: one folder a layer, imports point down.

pub mod base;
pub mod cli;
pub mod storage;
