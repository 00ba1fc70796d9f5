#![no_main]
//! See [`cuttlebone_fuzz::node`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::node(data));
