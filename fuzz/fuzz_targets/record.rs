#![no_main]
//! See [`cuttlebone_fuzz::record`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::record(data));
