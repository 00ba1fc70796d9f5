//! The program with real files, as users run it: its output, its effects, its errors, and the state
//! after it was killed.

mod check;
mod client_memory;
mod command;
mod diff;
mod examples;
mod export;
mod extents;
mod failures;
mod forget;
mod golden;
mod head;
mod help;
mod ingest;
mod interrupted;
mod kill;
mod label;
mod list;
mod lost;
mod manual;
mod matrix;
mod memory;
mod order;
mod passwords;
mod private;
mod prune;
mod quiet;
mod real_image;
mod rescue;
mod roles;
mod sftp;
mod targets;
mod terminal;
mod threads;
mod workflow;
mod write_key;
