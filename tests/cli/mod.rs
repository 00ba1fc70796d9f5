//! The program on real files, as its users run it: what it prints, what it does, how it fails, what
//! a kill leaves.

mod diff;
mod examples;
mod export;
mod extents;
mod failures;
mod forget;
mod golden;
mod help;
mod ingest;
mod kill;
mod memory;
mod prune;
mod real_image;
mod sftp;
mod terminal;
mod workflow;
