#![no_main]
//! See [`cuttlebone_fuzz::image_metadata`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::image_metadata(data));
