//! Copies single objects, several at a time, within a budget of memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::same::has;
use crate::base::{Phase, Progress, lock, recover};
use crate::ops::context::{Context, thread_pool};
use crate::ops::error::OpsError;
use crate::repo::{ObjectRef, Objects, RepoError, read_stored};
use crate::storage::{Name, StorageErrorKind};

/// The maximum number of bytes that [`Copier::copy`] has in memory at the same time. A larger
/// object is copied alone.
const BUDGET: u64 = 160 << 20;

/// The maximum number of objects that are copied at the same time. While some wait for the disk or
/// the server, others are hashed.
const JOBS_MAX: usize = 8;

/// An object to copy, with its size in bytes as the source lists it.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) object: ObjectRef,
    pub(super) size: u64,
}

/// The result of copying an object.
#[derive(Debug)]
pub(super) enum Copied {
    /// The object was stored. This is its size in bytes.
    Stored(u64),
    /// The target has something else under the name of the object.
    Differs,
    /// The object in the source is damaged or cannot be read.
    Damaged(RepoError),
    /// The source no longer has it.
    Gone,
}

/// An object that was read from the source.
#[derive(Debug)]
pub(super) enum Fetched {
    /// Its bytes.
    Whole(Vec<u8>),
    /// The object in the source is damaged or cannot be read.
    Damaged(RepoError),
    /// The source no longer has it.
    Gone,
}

pub(super) struct Copier<'a> {
    source: &'a Objects,
    target: &'a Objects,
    context: &'a Context<'a>,
    pool: rayon::ThreadPool,
    /// The part of the budget that is free, in bytes.
    free: Mutex<u64>,
    changed: Condvar,
    done: AtomicU64,
    total: AtomicU64,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        source: &'a Objects,
        target: &'a Objects,
        context: &'a Context<'a>,
    ) -> Result<Self, OpsError> {
        Ok(Self {
            source,
            target,
            context,
            pool: thread_pool(match context.threads {
                1 => 1,
                threads => (2 * threads).min(JOBS_MAX),
            })?,
            free: Mutex::new(BUDGET),
            changed: Condvar::new(),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
        })
    }

    /// Copies objects that are named by their hashes. Returns the result for each of them. Fails if
    /// a store fails. By then, some of the objects may have been copied.
    pub(super) fn copy(&self, jobs: Vec<Job>) -> Result<Vec<(ObjectRef, Name, Copied)>, OpsError> {
        let bytes: u64 = jobs.iter().map(|job| job.size).sum();
        self.total.fetch_add(bytes, Ordering::Relaxed);
        self.pool.install(|| {
            let copied = jobs.into_par_iter().map(|job| {
                self.context.cancel.check()?;
                let name = job.object.name();
                let copied = self.copy_one(&job, &name)?;
                self.progress(job.size);
                Ok((job.object, name, copied))
            });
            copied.collect()
        })
    }

    fn copy_one(&self, job: &Job, name: &Name) -> Result<Copied, OpsError> {
        let reserved = job.size.min(BUDGET);
        self.take(reserved);
        let copied = self.transfer(job, name);
        *lock(&self.free) += reserved;
        self.changed.notify_all();
        copied
    }

    fn transfer(&self, job: &Job, name: &Name) -> Result<Copied, OpsError> {
        let bytes = match self.fetch(job, name)? {
            Fetched::Whole(bytes) => bytes,
            Fetched::Damaged(error) => return Ok(Copied::Damaged(error)),
            Fetched::Gone => return Ok(Copied::Gone),
        };
        match self.target.backend().put_new(name, &[&bytes]) {
            Ok(()) => Ok(Copied::Stored(bytes.len() as u64)),
            Err(error) if error.kind == StorageErrorKind::Exists => {
                // Another process may have copied the object meanwhile.
                if has(self.target, name, &bytes) {
                    Ok(Copied::Stored(bytes.len() as u64))
                } else {
                    Ok(Copied::Differs)
                }
            }
            Err(error) => Err(RepoError::from(error).into()),
        }
    }

    fn fetch(&self, job: &Job, name: &Name) -> Result<Fetched, OpsError> {
        let read = || read_stored(self.source, job.object, name, job.size);
        // A transfer can fail without damage in the store. So read an object that seems damaged a
        // second time.
        let read = read().or_else(|error| match error {
            RepoError::Damaged { .. } if !error.is_missing() => read(),
            error => Err(error),
        });
        match read {
            Ok(bytes) => Ok(Fetched::Whole(bytes)),
            Err(error) if error.is_missing() => Ok(Fetched::Gone),
            Err(error @ RepoError::Damaged { .. }) => Ok(Fetched::Damaged(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads objects of the source that are named by their hashes. Returns the result for each of
    /// them. All of them are in memory at the same time.
    pub(super) fn read(&self, jobs: Vec<Job>) -> Result<Vec<(Job, Fetched)>, OpsError> {
        let bytes: u64 = jobs.iter().map(|job| job.size).sum();
        self.total.fetch_add(bytes, Ordering::Relaxed);
        self.pool.install(|| {
            let read = jobs.into_par_iter().map(|job| {
                self.context.cancel.check()?;
                let fetched = self.fetch(&job, &job.object.name())?;
                self.progress(job.size);
                Ok((job, fetched))
            });
            read.collect()
        })
    }

    /// Reads objects of the target that are named by their hashes. Returns whether each of them is
    /// whole: false if it is damaged or missing.
    pub(super) fn verify(&self, jobs: Vec<Job>) -> Result<Vec<(Job, bool)>, OpsError> {
        self.pool.install(|| {
            let read = jobs.into_par_iter().map(|job| {
                self.context.cancel.check()?;
                match read_stored(self.target, job.object, &job.object.name(), job.size) {
                    Ok(_) => Ok((job, true)),
                    Err(RepoError::Damaged { .. }) => Ok((job, false)),
                    Err(error) => Err(error.into()),
                }
            });
            read.collect()
        })
    }

    /// Stores a small file that the target lacked when it was listed. If another process has stored
    /// a file of that name meanwhile, leaves it unchanged.
    pub(super) fn put(&self, name: &Name, bytes: &[u8]) -> Result<(), OpsError> {
        match self.target.backend().put_new(name, &[bytes]) {
            Err(error) if error.kind != StorageErrorKind::Exists => {
                Err(RepoError::from(error).into())
            }
            _ => Ok(()),
        }
    }

    /// Waits until this many bytes are free, and takes them.
    fn take(&self, bytes: u64) {
        let free = lock(&self.free);
        let mut free = recover(self.changed.wait_while(free, |free| *free < bytes));
        *free -= bytes;
    }

    fn progress(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.context.observer.progress(Progress {
            phase: Phase::Replicate,
            done,
            total: Some(self.total.load(Ordering::Relaxed)),
        });
    }
}
