//! Collects the items that failed or found problems, for a command that continues with its other
//! items. An item is a source to back up, or a backup to copy.

use crate::app::{Code, Failure, printable};
use crate::cli::console::Console;

/// The items that failed or found problems so far.
pub(super) struct Failed {
    /// Whether there are several items. If a single item fails, the command fails with the same
    /// failure.
    pub(super) several: bool,
    /// The names of the items that failed.
    pub(super) names: Vec<String>,
    /// The names of items that are done, but found problems of earlier backups.
    found: Vec<String>,
    /// The next step if some failed, and others did not.
    again: &'static str,
}

impl Failed {
    pub(super) fn new(again: &'static str, several: bool) -> Self {
        Self {
            several,
            names: Vec::new(),
            found: Vec::new(),
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
        self.report(console, name, failure, false)
    }

    /// Notes the result of one item. `Ok(Some(found))` means that the item is done, but found a
    /// problem of earlier backups. Returns whether the item is done. Fails with the failure or
    /// `found` if there is only one item, or if the user interrupted the command. Unlike
    /// [`add`](Self::add), does not end the progress display.
    pub(super) fn note(
        &mut self,
        console: &Console,
        name: &str,
        result: Result<Option<Failure>, Failure>,
    ) -> Result<bool, Failure> {
        let (failure, is_done) = match result {
            Ok(None) => return Ok(true),
            Ok(Some(found)) => (found, true),
            Err(failure) => (failure, false),
        };
        self.report(console, name.to_owned(), failure, is_done)?;
        Ok(is_done)
    }

    fn report(
        &mut self,
        console: &Console,
        name: String,
        failure: Failure,
        is_done: bool,
    ) -> Result<(), Failure> {
        if !self.several || failure.code == Code::Interrupted {
            return Err(failure);
        }
        console.output.partial_failure(&failure);
        let names = if is_done {
            &mut self.found
        } else {
            &mut self.names
        };
        names.push(name);
        Ok(())
    }

    /// Sorts the names of the items in the order of `names`. Names that are not in `names` come
    /// first.
    pub(super) fn sort_as<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        let order: Vec<_> = names.collect();
        let place = |name: &String| order.iter().position(|other| *other == name);
        self.names.sort_by_key(place);
        self.found.sort_by_key(place);
    }

    /// Fails if any item failed or found a problem. `done` is the number of items that are done,
    /// including those that found a problem.
    pub(super) fn result(self, done: usize) -> Result<(), Failure> {
        let list = |names: &[String]| {
            let names: Vec<_> = names.iter().map(|name| printable(name)).collect();
            names.join(", ")
        };
        let (failed, names, found) = (self.names.len(), list(&self.names), list(&self.found));
        let (code, message, hint) = match (failed, self.found.len()) {
            (0, 0) => return Ok(()),
            (0, _) => (
                Code::Damage,
                format!("earlier backups of {found} are damaged or may lack changes"),
                "all new backups are done. The reasons and the next steps are above",
            ),
            _ if done == 0 => (
                Code::Failed,
                format!("all {failed} backups failed: {names}"),
                "the reasons are above",
            ),
            (_, 0) => (
                Code::Partly,
                format!("{failed} of {} backups failed: {names}", failed + done),
                self.again,
            ),
            _ => (
                Code::Partly,
                format!(
                    "{failed} of {} backups failed: {names}. Earlier backups of {found} are \
                     damaged or may lack changes",
                    failed + done
                ),
                self.again,
            ),
        };
        Err(Failure::new(code, message).hint(hint))
    }
}
