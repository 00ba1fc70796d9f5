#![no_main]
//! See [`cuttlebone_fuzz::hostile_repository`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::hostile_repository(data));
