#![no_main]
//! See [`cuttlebone_fuzz::void`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::void(data));
