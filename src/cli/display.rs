//! How much to show, and in which form.

use std::time::Duration;

#[derive(Debug)]
pub(crate) struct DisplaySettings {
    pub(crate) json: bool,
    pub(crate) verbosity: Verbosity,
    pub(crate) progress: bool,
    /// The time between progress updates, if the user set one.
    pub(crate) progress_interval: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// `--quiet`: errors, and results that the user asked for.
    Quiet,
    #[default]
    Normal,
    /// `--verbose`
    Verbose,
}
