//! All integration tests, in one binary with a module for each area.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot continue has failed; clippy allows this in #[test] functions only"
)]

mod ceph;
mod cli;
mod concurrency;
mod docs;
mod layering;
mod rbd;
mod repo;
mod storage;
mod support;
mod vectors;
mod volume;
