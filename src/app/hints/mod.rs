//! Converts errors of the layers below into failures. Adds the exit code, and a hint that says what
//! to do next.

mod ops;
mod repo;
mod storage;
mod volume;
