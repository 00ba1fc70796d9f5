#![no_main]
//! See [`cuttlebone_fuzz::settings`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::settings(data));
