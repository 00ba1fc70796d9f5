//! The pipeline: one source, many workers, one sink that takes the results in order.
//!
//! ```text
//!          jobs              (filled)               done
//!  source ──────► workers ──────────► (finishers) ──────► sink
//!     ▲                                                     │
//!     └────────────────────── spares ◄──────────────────────┘
//! ```
//!
//! * **Order.** The source numbers its items. The sink gets the items in the order of the numbers.
//! * **Bounded memory.** An item begins with a spare (a permit, which may hold a buffer). The sink
//!   gives the spare back. So there are never more items in the pipeline than spares, even if one
//!   item takes long.
//! * **No deadlock.** The sink never stops receiving. The item that it waits for has its spare
//!   already. Either a worker or a finisher has the item, or it is the next one in a queue.
//! * **Failure.** A stage that fails or panics reports that to the sink, as its last message. The
//!   sink then returns and drops its channel ends. A stage that waits for another one wakes, finds
//!   the channel closed, and returns as well. A source that waits for its input checks [`Failed`].
//! * **Completeness.** The source reports how many items it sent. If the pipeline ends without this
//!   report, or with fewer items, it fails. So no stage can end a backup early without a reason.
//! * **Cancellation.** The source tests for it before each item, a worker before each job, and the
//!   sink at the end.
//! * **Panics** are resumed in the thread that runs the pipeline, after all others have ended.

use std::io;
use std::panic::resume_unwind;
use std::thread::{self, Builder};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::in_order::InOrder;
use super::stages::{Failed, StageError, Stages, Stopped};
use crate::base::Cancel;
use crate::ops::error::OpsError;
use crate::repo::RepoError;

/// The size of a pipeline, and how it is stopped.
pub(crate) struct Pipeline<'a> {
    /// The number of threads that work on items.
    pub(crate) workers: usize,
    /// The maximum number of items that wait in front of a stage.
    pub(crate) queue: usize,
    /// The maximum number of items in the pipeline: begun by the source and not yet taken by the
    /// sink.
    pub(crate) in_flight: usize,
    pub(crate) cancel: &'a Cancel,
    /// Set if the pipeline fails.
    pub(crate) failed: &'a Failed,
}

/// Sends items into a pipeline, in order.
pub(crate) struct Producer<'a, P, J, D> {
    sent: usize,
    spares: Receiver<P>,
    jobs: Sender<(usize, J)>,
    done: Sender<Report<D>>,
    cancel: &'a Cancel,
    failed: &'a Failed,
}

/// A message to the sink.
enum Report<D> {
    /// The item of this number is done.
    Done(usize, D),
    /// The source has ended, and has sent this many items in all.
    Sent(usize),
    /// A stage has failed.
    Failed(OpsError),
    /// A stage has panicked.
    Panicked,
}

impl Pipeline<'_> {
    /// Runs the pipeline to its end. `source` runs in its own thread. `sink` runs in the thread of
    /// the caller, and returns the spare of each item. If several stages fail, returns the first
    /// failure that reaches the sink.
    pub(crate) fn run<S: Stages>(
        &self,
        stages: &S,
        source: impl FnOnce(&mut Producer<'_, S::Spare, S::Job, S::Done>) -> Result<(), StageError>
        + Send,
        sink: impl FnMut(S::Done) -> Result<S::Spare, OpsError>,
    ) -> Result<(), OpsError> {
        let (jobs_in, jobs) = bounded(self.queue);
        let (filled_in, filled) = bounded(self.queue);
        let (done_in, done) = bounded(self.queue);
        let (spares_in, spares) = bounded(self.in_flight);
        for _ in 0..self.in_flight {
            let _ = spares_in.send(S::Spare::default());
        }
        let producer = Producer {
            sent: 0,
            spares,
            jobs: jobs_in,
            done: done_in.clone(),
            cancel: self.cancel,
            failed: self.failed,
        };
        thread::scope(|scope| {
            // Drop these before the scope joins the threads, also if the sink panics.
            let (done, spares_in) = (done, spares_in);
            let mut threads = Vec::new();
            let report = done_in.clone();
            let mut refused = None;
            let mut start = |thread: io::Result<_>| match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => drop(refused.get_or_insert(error)),
            };
            start(Builder::new().spawn_scoped(scope, move || {
                run_stage(&report, || {
                    let mut producer = producer;
                    match source(&mut producer) {
                        // The stage that made this one stop has reported the reason.
                        Err(StageError::Stopped) => Ok(()),
                        Err(StageError::Failed(error)) => Err(error),
                        Ok(()) => {
                            let _ = producer.done.send(Report::Sent(producer.sent));
                            Ok(())
                        }
                    }
                });
            }));
            let finishers = stages.finishers();
            for _ in 0..self.workers {
                let (jobs, report) = (jobs.clone(), done_in.clone());
                let output = match finishers {
                    0 => Output::Sink(done_in.clone()),
                    _ => Output::Finishers(filled_in.clone()),
                };
                let cancel = self.cancel;
                start(Builder::new().spawn_scoped(scope, move || {
                    run_stage(&report, || work(stages, cancel, jobs, &output));
                }));
            }
            for _ in 0..finishers {
                let (filled, done) = (filled.clone(), done_in.clone());
                start(Builder::new().spawn_scoped(scope, move || {
                    run_stage(&done, || finish(stages, filled, &done));
                }));
            }
            drop((jobs, filled_in, filled, done_in));

            let failing = SetUnlessDefused(Some(self.failed));
            // If a thread could not be started, the others would wait for it forever. So do not
            // wait for results in this case: the channels are closed below, and this ends the other
            // threads.
            let result = match refused {
                None => drain(&done, &spares_in, sink).and_then(|()| Ok(self.cancel.check()?)),
                Some(error) => Err(RepoError::Thread(error).into()),
            };
            if result.is_ok() {
                failing.defuse();
            } else {
                drop(failing);
            }
            drop((done, spares_in));
            for thread in threads {
                if let Err(panic) = thread.join() {
                    resume_unwind(panic);
                }
            }
            result
        })
    }
}

impl<P, J, D> Producer<'_, P, J, D> {
    /// Waits until another item may begin, and returns its spare.
    pub(crate) fn spare(&self) -> Result<P, StageError> {
        self.cancel.check()?;
        self.spares.recv().map_err(|_| StageError::Stopped)
    }

    /// Sends an item to the workers. Its spare must have been taken before.
    pub(crate) fn send(&mut self, job: J) -> Result<(), Stopped> {
        self.jobs.send((self.sent, job)).map_err(|_| Stopped)?;
        self.sent += 1;
        Ok(())
    }

    /// Sends an item that needs no work directly to the sink. Its spare must have been taken
    /// before.
    pub(crate) fn send_done(&mut self, done: D) -> Result<(), Stopped> {
        let report = Report::Done(self.sent, done);
        self.done.send(report).map_err(|_| Stopped)?;
        self.sent += 1;
        Ok(())
    }

    /// Fails if the pipeline was cancelled or has failed, so that the source stops waiting for its
    /// input.
    pub(crate) fn check(&self) -> Result<(), StageError> {
        self.cancel.check()?;
        Ok(self.failed.check()?)
    }
}

/// Receives finished items in any order, and passes them to `sink` in order.
fn drain<D, P>(
    done: &Receiver<Report<D>>,
    spares: &Sender<P>,
    mut sink: impl FnMut(D) -> Result<P, OpsError>,
) -> Result<(), OpsError> {
    let mut order = InOrder::new();
    let mut sent = None;
    for report in done {
        match report {
            Report::Done(number, item) => order.put(number, item),
            Report::Sent(items) => sent = Some(items),
            Report::Failed(error) => return Err(error),
            // The panic itself is resumed when its thread is joined.
            Report::Panicked => return Err(OpsError::Internal("a thread panicked")),
        }
        while let Some(item) = order.pop() {
            // If the source has ended, nobody needs the spare.
            let _ = spares.send(sink(item)?);
        }
    }
    if sent == Some(order.popped()) {
        Ok(())
    } else {
        Err(OpsError::Internal("a stage ended without a reason"))
    }
}

/// The stage that receives a worker's results.
enum Output<D> {
    Finishers(Sender<(usize, D)>),
    Sink(Sender<Report<D>>),
}

impl<D> Output<D> {
    fn put(&self, number: usize, done: D) -> Result<(), Stopped> {
        let sent = match self {
            Self::Finishers(filled) => filled.send((number, done)).is_ok(),
            Self::Sink(report) => report.send(Report::Done(number, done)).is_ok(),
        };
        sent.then_some(()).ok_or(Stopped)
    }
}

/// Runs one worker.
fn work<S: Stages>(
    stages: &S,
    cancel: &Cancel,
    jobs: Receiver<(usize, S::Job)>,
    output: &Output<S::Done>,
) -> Result<(), OpsError> {
    let mut worker = stages.start()?;
    let mut result = Ok(());
    for (number, job) in jobs {
        let checked = cancel.check().map_err(OpsError::from);
        match checked.and_then(|()| stages.work(&mut worker, job)) {
            Ok(done) => {
                if output.put(number, done).is_err() {
                    break;
                }
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    let ended = stages.end(worker);
    result.and(ended)
}

/// Runs one finisher.
fn finish<S: Stages>(
    stages: &S,
    filled: Receiver<(usize, S::Done)>,
    report: &Sender<Report<S::Done>>,
) -> Result<(), OpsError> {
    for (number, done) in filled {
        stages.finish(&done)?;
        if report.send(Report::Done(number, done)).is_err() {
            break;
        }
    }
    Ok(())
}

/// Runs the step of one thread, and reports its failure or panic. Otherwise the sink would wait for
/// an item that never arrives, while other stages wait for the sink.
fn run_stage<D>(report: &Sender<Report<D>>, step: impl FnOnce() -> Result<(), OpsError>) {
    let on_panic = ReportPanic(report);
    if let Err(error) = step() {
        let _ = on_panic.0.send(Report::Failed(error));
    }
}

struct ReportPanic<'a, D>(&'a Sender<Report<D>>);

impl<D> Drop for ReportPanic<'_, D> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(Report::Panicked);
        }
    }
}

/// Sets the flag [`Failed`] when it is dropped, unless it was defused. A panic of the sink drops
/// it, too.
struct SetUnlessDefused<'a>(Option<&'a Failed>);

impl SetUnlessDefused<'_> {
    fn defuse(mut self) {
        self.0 = None;
    }
}

impl Drop for SetUnlessDefused<'_> {
    fn drop(&mut self) {
        if let Some(failed) = self.0 {
            failed.set();
        }
    }
}
