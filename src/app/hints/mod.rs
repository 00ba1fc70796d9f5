//! Converts errors of the layers below into failures. Adds the exit code, and a hint that names the
//! next step.

mod ops;
mod rbd;
mod repo;
mod storage;
mod volume;
