#![no_main]
//! See [`cuttlebone_fuzz::parity`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::parity(data));
