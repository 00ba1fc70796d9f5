#![no_main]
//! See [`cuttlebone_fuzz::audit`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::audit(data));
