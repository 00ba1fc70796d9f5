#![no_main]
//! See [`cuttlebone_fuzz::pack`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::pack(data));
