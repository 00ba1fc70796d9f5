//! A store in a directory of a mounted file system.

mod backend;
mod directory;
mod free_space;
mod leftovers;
mod listing;
mod owner;
mod temporary_file;
mod writer;

pub use backend::LocalBackend;
