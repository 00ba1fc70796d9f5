//! A session on the command line: progress, output, and signals for one command.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::app::{Code, Environment, Failure, Session};
use crate::base::Cancel;

use super::display::{DisplaySettings, Verbosity};
use super::output::Output;
use super::progress::{Form, Meter};
use super::signals::Signals;
use super::terminal::Terminal;

/// A session whose notices, progress and prompts go to the standard streams.
pub(super) struct Console {
    pub(super) session: Session,
    pub(super) output: Arc<Output>,
    pub(super) meter: Arc<Meter>,
}

impl Console {
    /// Starts the progress display, and installs the signal handlers of this process.
    pub(super) fn start(
        environment: Environment,
        output: Arc<Output>,
        display: &DisplaySettings,
        threads: NonZeroUsize,
    ) -> Result<Self, Failure> {
        let form = Form::choose(display.progress, display.json);
        let meter = Meter::start(
            Arc::clone(&output),
            form,
            display.progress_interval,
            display.verbosity == Verbosity::Quiet,
        )
        .map(Arc::new)
        .map_err(|error| {
            Failure::new(
                Code::Failed,
                "could not start the thread that shows progress",
            )
            .caused_by(Some(&error))
        })?;
        let cancel = Cancel::default();
        let signal_meter = Arc::clone(&meter);
        let signals = Signals::install(cancel.clone(), move |line| signal_meter.print(line))?;
        Ok(Self {
            session: Session {
                environment,
                observer: Arc::clone(&meter) as _,
                prompt: Box::new(Terminal::new(signals)),
                cancel,
                threads,
            },
            output,
            meter,
        })
    }

    /// Runs a command, then ends the progress display. If the command fails after a signal, returns
    /// its failure with the exit code of an interruption and the hint `hint_if_interrupted`.
    pub(super) fn run(
        &self,
        hint_if_interrupted: &str,
        command: impl FnOnce(&Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let result = command(self);
        self.meter.finish();
        match result {
            Err(failure) if self.session.cancel.check().is_err() => {
                Err(failure.interrupted().hint(hint_if_interrupted))
            }
            result => result,
        }
    }
}
