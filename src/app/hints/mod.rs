//! Converts errors of the layers below into failures: adds the exit code and what to do next.

mod ops;
mod repo;
mod storage;
mod volume;
