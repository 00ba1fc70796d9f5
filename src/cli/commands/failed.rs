//! Items of a command that failed, while the command goes on with the others.

use crate::app::{Code, Failure, printable};
use crate::cli::console::Console;

/// Sources or backups that failed.
pub(super) struct Failed {
    /// Whether there are several items. If there is only one, the command fails with its failure.
    pub(super) several: bool,
    pub(super) names: Vec<String>,
    /// The next step if some failed, and others did not.
    again: &'static str,
}

impl Failed {
    pub(super) fn new(again: &'static str, several: bool) -> Self {
        Self {
            several,
            names: Vec::new(),
            again,
        }
    }

    /// Reports a failure, so that the command can go on with the next item. Returns the failure
    /// instead if there is only one item, or if the user interrupted the command.
    pub(super) fn add(
        &mut self,
        console: &Console,
        name: String,
        failure: Failure,
    ) -> Result<(), Failure> {
        console.meter.finish();
        self.add_quietly(console, name, failure)
    }

    /// Like [`add`](Self::add), but does not end the progress display.
    pub(super) fn add_quietly(
        &mut self,
        console: &Console,
        name: String,
        failure: Failure,
    ) -> Result<(), Failure> {
        if !self.several || failure.code == Code::Interrupted {
            return Err(failure);
        }
        console.output.partial_failure(&failure);
        self.names.push(name);
        Ok(())
    }

    /// Sorts the names of the items that failed in the order of `names`. Names that are not in
    /// `names` come first.
    pub(super) fn sort_as<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        let order: Vec<_> = names.collect();
        let place = |name: &String| order.iter().position(|other| *other == name);
        self.names.sort_by_key(place);
    }

    /// Returns the failure of the command, if any item failed. `done` items succeeded.
    pub(super) fn result(self, done: usize) -> Result<(), Failure> {
        if self.names.is_empty() {
            return Ok(());
        }
        let failed = self.names.len();
        let names: Vec<_> = self.names.iter().map(|name| printable(name)).collect();
        let names = names.join(", ");
        if done == 0 {
            let message = format!("all {failed} backups failed: {names}");
            return Err(Failure::new(Code::Failed, message).hint("the reasons are above"));
        }
        let message = format!("{failed} of {} backups failed: {names}", failed + done);
        Err(Failure::new(Code::Partly, message).hint(self.again))
    }
}
