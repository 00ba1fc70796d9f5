#![no_main]
//! See [`cuttlebone_fuzz::extents`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::extents(data));
