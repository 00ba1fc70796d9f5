//! Backups of several images as of one point in time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::run::{LiveOptions, Point, PreparedBackup};
use super::tracking::TrackingSnapshot;
use crate::base::{Cancel, map_in_threads};
use crate::crypto::random;
use crate::ops::backup::options::{BackupOptions, BackupReport};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{Project, RepoError};
use crate::volume::{Freeze, FreezeOptions, ImageState, LiveImage};

/// The number of snapshots that are made at the same time.
const SNAPSHOTS: usize = 16;
/// While snapshots are made, a thread waits this long between two tests. It tests whether the time
/// limit of the freeze has passed, and whether the user has cancelled.
const STEP: Duration = Duration::from_millis(50);

/// One of several images that are backed up as of one point in time.
#[derive(Debug)]
pub struct ImageOfGroup<'a> {
    /// The image.
    pub image: &'a LiveImage<'a>,
    /// Its state.
    pub state: &'a ImageState,
    /// The options that only images in a cluster have.
    pub live: LiveOptions,
    /// The options that all backups have.
    pub options: BackupOptions,
}

/// Makes a snapshot of each image, and then backs up the snapshots one after the other. The two
/// commands of `freeze` run before and after all snapshots are made. Calls `each` with the number
/// of each image, from 0 on, and the result. Stops at the first error of `each`.
///
/// If the freeze or one of the snapshots fails, or if the time limit of `freeze` passes, the
/// snapshots are removed, and nothing is backed up.
pub fn backup_together<E: From<OpsError>>(
    project: &Project,
    images: &mut [ImageOfGroup<'_>],
    freeze: &FreezeOptions,
    context: &Context<'_>,
    mut each: impl FnMut(usize, Result<BackupReport, OpsError>) -> Result<(), E>,
) -> Result<(), E> {
    let group = random::<16>().map_err(RepoError::from);
    let group = group.map_err(OpsError::from)?;
    for image in &mut *images {
        image.live.point = Some(Point {
            group: hex::encode(group),
            is_quiesced: freeze.before.is_some(),
        });
    }
    let images = &*images;
    let mut prepared = Vec::new();
    for of in images {
        let new =
            PreparedBackup::begin(project, of.image, of.state, &of.live, &of.options, context)?;
        prepared.push(new);
    }
    let snapshots = snapshots(&prepared, freeze, context)?;
    for (number, (prepared, snapshot)) in prepared.into_iter().zip(snapshots).enumerate() {
        each(number, prepared.back_up(Some(snapshot)))?;
    }
    Ok(())
}

/// Makes all snapshots between the commands that freeze and thaw. After a failure, removes the
/// snapshots that were made.
fn snapshots<'a>(
    prepared: &[PreparedBackup<'a>],
    freeze: &FreezeOptions,
    context: &Context<'_>,
) -> Result<Vec<TrackingSnapshot<'a>>, OpsError> {
    let frozen = Freeze::begin(freeze, context.cancel)?;
    let late = frozen.late();
    // After the time limit, the snapshots are useless, so make no more.
    let is_over = || late.load(Ordering::Relaxed) || context.cancel.check().is_err();
    let made = watched(thread::Builder::new(), is_over, |stop| {
        let snapshot = |of: &PreparedBackup<'a>| of.make_snapshot(stop);
        map_in_threads(prepared, SNAPSHOTS, snapshot, |_| false)
    });
    // Thaw first: after a failure, removing the snapshots takes time.
    let thawed = frozen.thaw();
    let made = made?;
    thawed?;
    made.into_iter().collect()
}

/// Runs `work`, and cancels it when `is_over` returns true. A new thread calls `is_over`. If this
/// thread cannot be started, fails and does not run `work`, since nothing would end the work.
fn watched<T>(
    thread: thread::Builder,
    is_over: impl Fn() -> bool + Sync,
    work: impl FnOnce(&Cancel) -> T,
) -> Result<T, OpsError> {
    let stop = Cancel::default();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = || {
            while !done.load(Ordering::Relaxed) {
                if is_over() {
                    stop.cancel();
                }
                thread::sleep(STEP);
            }
        };
        let watching = thread.spawn_scoped(scope, watch);
        watching.map_err(OpsError::Thread)?;
        let result = work(&stop);
        done.store(true, Ordering::Relaxed);
        Ok(result)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_nothing_could_end_is_not_begun() {
        let mut has_run = false;
        // No thread can have a stack of this size.
        let thread = thread::Builder::new().stack_size(1 << 60);
        let result = watched(thread, || false, |_| has_run = true);
        assert!(matches!(result, Err(OpsError::Thread(_))), "{result:?}");
        assert!(!has_run);
    }

    #[test]
    fn work_is_cancelled_when_its_time_is_over() {
        let over = AtomicBool::new(false);
        let is_over = || over.load(Ordering::Relaxed);
        let result = watched(thread::Builder::new(), is_over, |stop| {
            assert!(stop.check().is_ok());
            over.store(true, Ordering::Relaxed);
            (0..200).any(|_| {
                thread::sleep(STEP);
                stop.check().is_err()
            })
        });
        assert!(result.unwrap());
    }
}
