#![no_main]
//! See [`cuttlebone_fuzz::repository_file`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::repository_file(data));
