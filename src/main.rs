//! The `cuttlebone` program.

fn main() {}
