//! Tests the order, bounds, failures, panics and cancellation of a pipeline, at every item and in
//! every stage.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::base::{Cancel, Cancelled};
use crate::ops::error::OpsError;
use crate::repo::RepoError;

/// A pipeline that takes longer than this is assumed to hang.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A place where something can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Source(usize),
    Start,
    Worker(usize),
    End,
    Finisher(usize),
    Sink(usize),
}

/// The fault to cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Error,
    Panic,
    Cancel,
}

/// A pipeline of numbers, each of which is doubled.
#[derive(Debug, Clone, Copy)]
struct Setup {
    items: usize,
    workers: usize,
    finishers: usize,
    queue: usize,
    in_flight: usize,
    /// Items whose numbers are multiples of this are sent directly to the sink; 0 for none.
    past_workers: usize,
    fault: Option<(Place, Fault)>,
}

impl Setup {
    fn new(items: usize) -> Self {
        Self {
            items,
            workers: 3,
            finishers: 2,
            queue: 2,
            in_flight: 7,
            past_workers: 0,
            fault: None,
        }
    }
}

struct Doubling<'a> {
    setup: Setup,
    cancel: &'a Cancel,
    finished: AtomicUsize,
    ended: AtomicUsize,
}

impl Doubling<'_> {
    /// Causes the fault if it is planned for this place.
    fn at(&self, place: Place) -> Result<(), OpsError> {
        match self.setup.fault {
            Some((at, Fault::Error)) if at == place => Err(expected()),
            Some((at, Fault::Panic)) if at == place => std::panic::panic_any("on purpose"),
            Some((at, Fault::Cancel)) if at == place => {
                self.cancel.cancel();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn expected() -> OpsError {
    OpsError::NoVolume {
        volume: "expected".into(),
    }
}

fn is_expected(error: &OpsError) -> bool {
    matches!(error, OpsError::NoVolume { volume } if volume == "expected")
}

/// A permit to begin an item. `run` counts the permits in use.
#[derive(Default)]
struct Permit;

impl Stages for Doubling<'_> {
    type Spare = Permit;
    type Job = (usize, Permit);
    type Done = (usize, Permit);
    type Worker = ();

    fn start(&self) -> Result<(), OpsError> {
        self.at(Place::Start)
    }

    fn work(&self, (): &mut (), (item, permit): Self::Job) -> Result<Self::Done, OpsError> {
        self.at(Place::Worker(item))?;
        // Later items overtake this one.
        if item % 5 == 0 {
            thread::sleep(Duration::from_micros(200));
        }
        Ok((item * 2, permit))
    }

    fn end(&self, (): ()) -> Result<(), OpsError> {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.at(Place::End)
    }

    fn finishers(&self) -> usize {
        self.setup.finishers
    }

    fn finish(&self, (item, _): &Self::Done) -> Result<(), OpsError> {
        self.finished.fetch_add(1, Ordering::Relaxed);
        self.at(Place::Finisher(item / 2))
    }
}

/// The items that the sink took, and the result of the pipeline.
struct Outcome {
    taken: Vec<usize>,
    result: Result<(), OpsError>,
    in_flight_max: usize,
    finished: usize,
    ended: usize,
    failed: bool,
}

fn run(setup: Setup) -> Outcome {
    let (cancel, failed) = (Cancel::default(), Failed::default());
    let stages = Doubling {
        setup,
        cancel: &cancel,
        finished: AtomicUsize::new(0),
        ended: AtomicUsize::new(0),
    };
    let pipeline = Pipeline {
        workers: setup.workers,
        queue: setup.queue,
        in_flight: setup.in_flight,
        cancel: &cancel,
        failed: &failed,
    };
    let in_flight = AtomicUsize::new(0);
    let in_flight_max = AtomicUsize::new(0);
    let mut taken = Vec::new();
    let result = pipeline.run(
        &stages,
        |producer| {
            for item in 0..setup.items {
                stages.at(Place::Source(item))?;
                let permit = producer.spare()?;
                let now = in_flight.fetch_add(1, Ordering::SeqCst) + 1;
                in_flight_max.fetch_max(now, Ordering::SeqCst);
                if setup.past_workers > 0 && item % setup.past_workers == 0 {
                    producer.send_done((item * 2, permit))?;
                } else {
                    producer.send((item, permit))?;
                }
            }
            Ok(())
        },
        |(item, permit)| {
            stages.at(Place::Sink(item / 2))?;
            taken.push(item);
            in_flight.fetch_sub(1, Ordering::SeqCst);
            Ok(permit)
        },
    );
    Outcome {
        taken,
        result,
        in_flight_max: in_flight_max.into_inner(),
        finished: stages.finished.into_inner(),
        ended: stages.ended.into_inner(),
        failed: failed.check().is_err(),
    }
}

/// Runs a pipeline in a thread. Fails if the pipeline does not end in time. If the pipeline panics,
/// returns the panic as `Err`.
fn run_in_time(setup: Setup) -> thread::Result<Outcome> {
    let (done_in, done) = mpsc::channel();
    thread::spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(setup)));
        let _ = done_in.send(outcome);
    });
    done.recv_timeout(TIMEOUT)
        .unwrap_or_else(|_| panic!("{setup:?} does not end"))
}

fn doubled(items: usize) -> Vec<usize> {
    (0..items).map(|item| item * 2).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_sink_takes_all_items_in_order_and_few_are_in_flight(
        items in 0usize..60,
        workers in 1usize..5,
        finishers in 0usize..3,
        queue in 1usize..5,
        in_flight in 1usize..12,
        past_workers in 0usize..4,
    ) {
        let setup = Setup {
            items,
            workers,
            finishers,
            queue,
            in_flight,
            past_workers,
            fault: None,
        };
        let Ok(outcome) = run_in_time(setup) else {
            return Err(TestCaseError::fail("the pipeline panicked"));
        };
        prop_assert!(outcome.result.is_ok(), "{:?}", outcome.result);
        prop_assert!(!outcome.failed);
        prop_assert_eq!(outcome.taken, doubled(items));
        prop_assert!(outcome.in_flight_max <= in_flight);
        prop_assert_eq!(outcome.ended, workers);
        if finishers > 0 && past_workers == 0 {
            prop_assert_eq!(outcome.finished, items);
        }
    }
}

/// Every place in a pipeline of this many items.
fn places(items: usize) -> impl Iterator<Item = Place> {
    let at = [Place::Source, Place::Worker, Place::Finisher, Place::Sink];
    let each = at.into_iter().flat_map(move |place| (0..items).map(place));
    each.chain([Place::Start, Place::End])
}

#[test]
fn an_error_in_any_stage_at_any_item_is_returned() {
    for place in places(12) {
        let mut setup = Setup::new(12);
        setup.fault = Some((place, Fault::Error));
        let Ok(outcome) = run_in_time(setup) else {
            panic!("{place:?}: the pipeline panicked");
        };
        let error = outcome.result.expect_err("an error");
        assert!(is_expected(&error), "{place:?}: {error:?}");
        assert!(outcome.failed, "{place:?}");
        assert!(doubled(12).starts_with(&outcome.taken), "{place:?}");
    }
}

#[test]
fn a_panic_in_any_stage_at_any_item_is_resumed_in_the_caller() {
    for place in places(12) {
        let mut setup = Setup::new(12);
        setup.fault = Some((place, Fault::Panic));
        let Err(panic) = run_in_time(setup) else {
            panic!("{place:?}: no panic");
        };
        let text = panic.downcast_ref::<&str>();
        assert_eq!(text, Some(&"on purpose"), "{place:?}");
    }
}

#[test]
fn cancellation_at_any_item_ends_a_pipeline_with_an_error() {
    for place in places(12) {
        let mut setup = Setup::new(12);
        setup.fault = Some((place, Fault::Cancel));
        let Ok(outcome) = run_in_time(setup) else {
            panic!("{place:?}: the pipeline panicked");
        };
        let result = outcome.result;
        let cancelled = matches!(result, Err(OpsError::Repo(RepoError::Cancelled(Cancelled))));
        assert!(cancelled, "{place:?}: {result:?}");
    }
}

#[test]
fn an_internal_error_of_the_source_fails_the_pipeline() {
    let (cancel, failed) = (Cancel::default(), Failed::default());
    let stages = Doubling {
        setup: Setup::new(0),
        cancel: &cancel,
        finished: AtomicUsize::new(0),
        ended: AtomicUsize::new(0),
    };
    let pipeline = Pipeline {
        workers: 2,
        queue: 2,
        in_flight: 2,
        cancel: &cancel,
        failed: &failed,
    };
    let result = pipeline.run(
        &stages,
        |_| Err(OpsError::Internal("misused").into()),
        |(_, permit)| Ok(permit),
    );
    assert!(matches!(result, Err(OpsError::Internal("misused"))));
    // The pipeline also fails if the source says that another stage has stopped, but no stage
    // reports a reason.
    let result = pipeline.run(
        &stages,
        |_| Err(StageError::Stopped),
        |(_, permit)| Ok(permit),
    );
    assert!(matches!(result, Err(OpsError::Internal(_))));
}

#[test]
fn a_source_that_waits_for_input_ends_when_another_stage_fails() {
    let (done_in, done) = mpsc::channel();
    thread::spawn(move || {
        let (cancel, failed) = (Cancel::default(), Failed::default());
        let mut setup = Setup::new(1);
        setup.fault = Some((Place::Sink(0), Fault::Error));
        let stages = Doubling {
            setup,
            cancel: &cancel,
            finished: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
        };
        let pipeline = Pipeline {
            workers: 1,
            queue: 1,
            in_flight: 1,
            cancel: &cancel,
            failed: &failed,
        };
        let result = pipeline.run(
            &stages,
            |producer| {
                let permit = producer.spare()?;
                producer.send((0, permit))?;
                loop {
                    producer.check()?;
                    thread::sleep(Duration::from_millis(1));
                }
            },
            |(_, permit)| stages.at(Place::Sink(0)).map(|()| permit),
        );
        let _ = done_in.send(result);
    });
    let result = done.recv_timeout(TIMEOUT).expect("the pipeline ends");
    assert!(is_expected(&result.expect_err("an error")));
}
