//! Signals that ask to stop: the first one politely, the second at once.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Caught;

use crate::base::{Cancel, lock};

use super::failure::{Code, Failure};

/// A terminal and how it was before somebody was asked for a password on it.
type Terminal = (File, Termios);

/// Handles SIGINT, SIGTERM and SIGHUP for the rest of the process; but those that whoever started it wants to
/// have ignored, as `nohup` does with SIGHUP, stay ignored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals {
    /// Set while a prompt waits: then nothing is under way, and the terminal does not echo.
    prompting: Arc<Mutex<Option<Terminal>>>,
}

impl Signals {
    /// From now on the first signal sets `cancel` and is told to `say`; the second ends the process.
    pub(crate) fn install(
        cancel: Cancel,
        say: impl Fn(&str) + Send + 'static,
    ) -> Result<Self, Failure> {
        let signals = Self::default();
        let prompting = Arc::clone(&signals.prompting);
        let received = move || {
            let terminal = lock(&prompting).take();
            if let Some((terminal, settings)) = terminal {
                // It is left as it was found, or, if even that fails, as it is.
                let _ = tcsetattr(&terminal, OptionalActions::Now, &settings);
                stop();
            }
            if cancel.check().is_err() {
                stop();
            }
            cancel.cancel();
            say("interrupted: finishing what is under way; again to stop at once");
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
            Failure::new(Code::Failed, "could not prepare to be interrupted")
                .caused_by(Some(&error))
        })?;
        Ok(signals)
    }

    /// Runs what asks on the terminal. A signal meanwhile ends the process at once, with the
    /// terminal as it was.
    pub(crate) fn while_prompting<T>(&self, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .ok();
        let saved = terminal.and_then(|tty| tcgetattr(&tty).ok().map(|settings| (tty, settings)));
        let set = |terminal| {
            *lock(&self.prompting) = terminal;
        };
        set(saved);
        let answer = ask();
        // The prompt takes Ctrl-C as a key and raises the signal itself: do not wait for that.
        if answer
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
        {
            stop();
        }
        set(None);
        answer
    }
}

/// Whether a process whose `/proc/PID/status` this is ignores a signal.
fn is_ignored(signal: i32, status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| (1..=64).contains(&signal) && mask >> (signal - 1) & 1 == 1)
}

#[expect(clippy::exit, reason = "asked to stop at once: nothing is waited for")]
fn stop() -> ! {
    std::process::exit(i32::from(Code::Interrupted as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_what_is_ignored() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(SIGHUP, status));
        assert!(!is_ignored(SIGINT, status) && !is_ignored(SIGTERM, status));
        for odd in ["", "SigIgn:", "SigIgn:\tx"] {
            assert!(!is_ignored(SIGHUP, odd), "{odd}");
        }
    }
}
