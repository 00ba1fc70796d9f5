//! The command line front end: arguments, terminal, signals, and exit code.

mod args;
mod commands;
mod completions;
mod console;
mod display;
mod freeze;
mod manual;
mod output;
mod program;
mod progress;
mod signals;
mod streams;
mod terminal;

pub use program::main;
