#![no_main]
//! See [`cuttlebone_fuzz::sealed_object`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::sealed_object(data));
