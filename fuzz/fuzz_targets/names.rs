#![no_main]
//! See [`cuttlebone_fuzz::names`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::names(data));
