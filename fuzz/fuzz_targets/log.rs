#![no_main]
//! See [`cuttlebone_fuzz::log`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::log(data));
