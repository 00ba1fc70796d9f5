//! All integration tests: one binary, a module an area.

mod storage;
mod volume;
