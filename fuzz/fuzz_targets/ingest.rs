#![no_main]
//! See [`cuttlebone_fuzz::ingest`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::ingest(data));
