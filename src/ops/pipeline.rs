//! How the threads of a pipeline end: whoever waits for one hears of its failure, and of its panic too.

use std::thread;

use crossbeam_channel::Sender;

use super::error::OpsError;

/// Where the threads of a pipeline put what they have done, or why they did not.
type Done<T> = Sender<Result<T, OpsError>>;

/// Runs one thread's step. If it fails or panics, that is the last thing that `done` hears of it: else the
/// receiver would wait for an item that never comes while others wait for the receiver. The panic goes on
/// to whoever joins the thread.
pub(super) fn run_stage<T>(done: Done<T>, step: impl FnOnce(&Done<T>) -> Result<(), OpsError>) {
    let done = TellPanic(done);
    if let Err(error) = step(&done.0) {
        let _ = done.0.send(Err(error));
    }
}

struct TellPanic<T>(Done<T>);

impl<T> Drop for TellPanic<T> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(Err(OpsError::Worker("a thread panicked")));
        }
    }
}
