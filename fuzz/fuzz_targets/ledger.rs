#![no_main]
//! See [`cuttlebone_fuzz::ledger`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| cuttlebone_fuzz::ledger(data));
