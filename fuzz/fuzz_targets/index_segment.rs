#![no_main]
//! See [`cuttlebone_fuzz::index_segment`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::index_segment(data));
