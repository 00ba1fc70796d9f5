//! The `cuttlebone` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    cuttlebone::cli::main()
}
