#![no_main]
//! See [`cuttlebone_fuzz::certificate`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::certificate(data));
