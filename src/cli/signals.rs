//! Signals that interrupt a command: the first one lets it finish its current step, the second ends
//! the process.

use std::fs::{self, File};
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::termios::{OptionalActions, Termios, tcsetattr};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Caught;

use crate::app::{Code, Failure};
use crate::base::{Cancel, kill_child_groups, lock};

/// A terminal and its attributes before a prompt changed them.
#[derive(Debug)]
pub(super) struct SavedTerminal {
    pub(super) tty: File,
    pub(super) attributes: Termios,
}

/// Handles SIGINT, SIGTERM and SIGHUP for the rest of the process. Signals that the parent process
/// ignored, as `nohup` does with SIGHUP, stay ignored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals {
    /// Set while a prompt of this program, or of another one such as ssh, waits for the user.
    /// During this time, no work is in progress, and the terminal may not show what is typed.
    prompt: Arc<Mutex<Option<SavedTerminal>>>,
}

impl Signals {
    /// Installs the handlers. The first signal sets `cancel`, and calls `report` with a line for
    /// the user. The second signal ends the process.
    pub(crate) fn install(
        cancel: Cancel,
        report: impl Fn(&str) + Send + 'static,
    ) -> Result<Self, Failure> {
        let signals = Self::default();
        let prompt = Arc::clone(&signals.prompt);
        let received = move || {
            let saved = lock(&prompt).take();
            if let Some(SavedTerminal { tty, attributes }) = saved {
                // If this fails, the terminal stays as it is: the process ends anyway.
                let _ = tcsetattr(&tty, OptionalActions::Now, &attributes);
                stop();
            }
            if cancel.check().is_err() {
                stop();
            }
            cancel.cancel();
            report("interrupted: finishing the current step; interrupt again to stop at once");
        };
        let listen = move || -> io::Result<()> {
            let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
            let asking = [SIGINT, SIGTERM, SIGHUP].into_iter();
            let mut caught = Caught::new(asking.filter(|signal| !is_ignored(*signal, &status)))?;
            let thread = thread::Builder::new().name("signals".to_owned());
            thread.spawn(move || caught.forever().for_each(|_| received()))?;
            Ok(())
        };
        listen().map_err(|error| {
            Failure::new(Code::Failed, "could not install the signal handlers")
                .caused_by(Some(&error))
        })?;
        Ok(signals)
    }

    /// Until the returned value is dropped, the first signal ends the process at once, if `saved`
    /// is given. Before the process ends, the terminal gets its saved attributes back.
    pub(super) fn begin_prompt(&self, saved: Option<SavedTerminal>) -> PromptInProgress<'_> {
        self.set_prompt(saved);
        PromptInProgress(self)
    }

    fn set_prompt(&self, saved: Option<SavedTerminal>) {
        *lock(&self.prompt) = saved;
    }
}

/// While this value exists, a prompt waits for the user.
pub(super) struct PromptInProgress<'a>(&'a Signals);

impl PromptInProgress<'_> {
    /// Ends the process, because the user interrupted the prompt.
    #[expect(
        clippy::unused_self,
        reason = "only a prompt can be interrupted in this way"
    )]
    pub(super) fn interrupted(&self) -> ! {
        stop()
    }
}

impl Drop for PromptInProgress<'_> {
    fn drop(&mut self) {
        self.0.set_prompt(None);
    }
}

/// Returns whether a process ignores a signal, given its `/proc/PID/status`.
fn is_ignored(signal: i32, status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| (1..=64).contains(&signal) && mask >> (signal - 1) & 1 == 1)
}

#[expect(clippy::exit, reason = "the user asked to stop at once")]
fn stop() -> ! {
    kill_child_groups();
    std::process::exit(i32::from(Code::Interrupted as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_process_status() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(SIGHUP, status));
        assert!(!is_ignored(SIGINT, status) && !is_ignored(SIGTERM, status));
        for odd in ["", "SigIgn:", "SigIgn:\tx"] {
            assert!(!is_ignored(SIGHUP, odd), "{odd}");
        }
    }
}
