#![no_main]
//! See [`cuttlebone_fuzz::rbd_diff`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::rbd_diff(data));
