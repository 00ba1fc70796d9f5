//! All integration tests: one binary, a module an area.

mod cli;
mod storage;
mod vectors;
mod volume;
