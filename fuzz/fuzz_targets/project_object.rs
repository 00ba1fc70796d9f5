#![no_main]
//! See [`cuttlebone_fuzz::project_object`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::project_object(data));
