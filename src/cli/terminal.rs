//! Asks for passwords on the terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};

use rustix::termios::tcgetattr;
use zeroize::Zeroizing;

use crate::app::{Prompt, TerminalLoan};

use super::signals::{PromptInProgress, SavedTerminal, Signals};

/// The controlling terminal of this process.
pub(super) struct Terminal {
    signals: Signals,
}

impl Terminal {
    pub(super) fn new(signals: Signals) -> Self {
        Self { signals }
    }

    fn begin_prompt(&self) -> PromptInProgress<'_> {
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .ok();
        let saved = terminal.and_then(|tty| {
            let attributes = tcgetattr(&tty).ok()?;
            Some(SavedTerminal { tty, attributes })
        });
        self.signals.begin_prompt(saved)
    }
}

impl Prompt for Terminal {
    /// Asks even if standard input carries data. Returns `None` if there is no controlling
    /// terminal, or if standard error is redirected: then the user may not see the prompt.
    fn password(&self, text: &str) -> io::Result<Option<Zeroizing<String>>> {
        let prompt = self.begin_prompt();
        if !io::stderr().is_terminal() || File::open("/dev/tty").is_err() {
            return Ok(None);
        }
        let typed = rpassword::prompt_password(text);
        // The prompt reads Ctrl-C as a key, and raises the signal itself. End the process here,
        // without waiting until the signal is handled.
        if typed
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
        {
            prompt.interrupted();
        }
        Ok(Some(Zeroizing::new(typed?)))
    }

    fn lend_terminal(&self) -> Box<dyn TerminalLoan + '_> {
        Box::new(self.begin_prompt())
    }
}

impl TerminalLoan for PromptInProgress<'_> {}
