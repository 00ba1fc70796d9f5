#![no_main]
//! See [`cuttlebone_fuzz::key_slot`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::key_slot(data));
