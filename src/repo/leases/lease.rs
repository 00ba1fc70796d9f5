//! Leases, which show the processes at work: section 13 (Lease) of `docs/format.md`. The reasons
//! are in `docs/concurrency.md`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{RecvTimeoutError, Sender};
use rustix::time::{ClockId, clock_gettime};

use super::process::{is_gone, this_process};
use super::work::{Work, Worker};
use crate::base::{BlobId, LeaseId, ObjectHash, lock};
use crate::crypto::random;
use crate::format::LeaseBody;
use crate::repo::envelope::Signed;
use crate::repo::error::RepoError;
use crate::repo::object_kind::ObjectKind;
use crate::repo::object_ref::ObjectRef;
use crate::repo::project::Project;
use crate::repo::watch::{SeenLease, TTL};
use crate::storage::{ObjectInfo, StorageErrorKind};

/// The time between two renewals of a lease.
const RENEW_EVERY: Duration = Duration::from_secs(30);
/// A lease has expired this long after the store's time that it states. This is the sum of three
/// times:
///
/// - half of [`TTL`]: a process that has not read the store's time for so long treats its lease as
///   lapsed
/// - [`TTL`]: a lease expires so long after it was stored
/// - a margin of 5 minutes
const STATED_LIFE: Duration = Duration::from_mins(20);
/// The work of a lease may have begun this much earlier than the lease states. Storing the lease
/// may have taken half of [`TTL`]. Since then, the store's clock may have been set ahead by a whole
/// [`TTL`].
const CLOCK_SLACK: Duration = Duration::from_mins(15);

/// The lease of this process. A thread renews it until this value is dropped, which deletes the
/// lease.
pub struct Lease {
    held: Arc<Held>,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    renewer: Option<JoinHandle<()>>,
}

struct Held {
    project: Project,
    /// When the work began, as [`now`] returned it.
    begun: Duration,
    /// Locked while the lease is stored. The state has its own lock, which is held only briefly,
    /// since readers look at the state for every chunk.
    renewing: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    id: LeaseId,
    body: LeaseBody,
    /// When the last renewal began, as [`now`] returned it.
    put: Duration,
    /// When the newest renewal began after which this process read the lease's time in the store,
    /// as [`now`] returned it. Before the first such renewal, the time when the work began.
    looked: Duration,
    /// The lease's time in the store, as this process read it last. `None` before it has read one.
    stored: Option<SystemTime>,
    /// Whether the lease needs another name, because a process that considers it expired may be
    /// about to remove it.
    doubtful: bool,
    /// Whether another process may have seen the lease as expired since the last call of
    /// [`has_lapsed`](Lease::has_lapsed).
    lapsed: bool,
}

/// A lease that another process holds, or that this process holds for other work. If the lease was
/// stored too long ago, or if its signer may not do the work that it states, its content is left
/// out.
#[derive(Debug, Clone)]
pub struct OtherLease {
    /// Its name.
    pub id: LeaseId,
    /// The work that it states.
    pub work: String,
    /// The host of the process.
    pub host: Option<String>,
    /// The time since it was stored, by the store's clock.
    pub age: Duration,
    /// When the work began, by the store's clock, as the lease states it.
    pub since: SystemTime,
    /// The earliest time at which the work may have begun, by the store's clock.
    pub begun: SystemTime,
    /// Whether it has expired: its time in the store or the time that it states is too old, nobody
    /// renews it, or its holder has ended.
    pub expired: bool,
    /// Whether a full key signed it.
    pub is_full: bool,
    /// Whether this process holds it, for other work that it does at the same time.
    pub is_of_this_process: bool,
    /// Packs that its holder relies on and that no segment or record names.
    pub packs: Vec<ObjectHash>,
    /// Top nodes of the trees that its holder reads or is about to commit.
    pub tops: Vec<BlobId>,
    /// Records that its holder is about to remove.
    pub removes: Vec<ObjectHash>,
    /// Records that must stay if the records in `removes` are removed.
    pub keeps: Vec<ObjectHash>,
}

impl OtherLease {
    /// Returns whether a process that may still run holds the lease for this work.
    #[must_use]
    pub fn is_held_for(&self, work: Work) -> bool {
        !self.expired && self.work == work.word()
    }
}

/// The leases of a project, as of one moment.
#[derive(Debug, Clone)]
pub struct Leases {
    /// This moment, by the store's clock. If [`load`](Self::load) got no lease, by the clock of
    /// this host.
    pub now: SystemTime,
    /// All leases except the one that [`load`](Self::load) got.
    pub others: Vec<OtherLease>,
}

impl Lease {
    /// Maximum number of trees that one lease names.
    pub const TOPS_MAX: usize = LeaseBody::IDS_MAX;
    /// Maximum number of records to remove that one lease names, and of records to keep.
    pub const RECORDS_MAX: usize = LeaseBody::IDS_MAX;

    /// Stores a lease, which shows other processes that this one is at work. The lease is durable
    /// when this returns.
    pub fn take(project: &Project, work: Work, worker: Worker<'_>) -> Result<Self, RepoError> {
        Self::take_for(project, work, &[], worker)
    }

    /// Declares that this process reads these trees, so that no prune deletes their data. The lease
    /// is durable when this returns. There may be at most [`TOPS_MAX`](Self::TOPS_MAX) trees.
    pub fn take_reading(
        project: &Project,
        tops: &[BlobId],
        worker: Worker<'_>,
    ) -> Result<Self, RepoError> {
        Self::take_for(project, Work::Read, tops, worker)
    }

    fn take_for(
        project: &Project,
        work: Work,
        tops: &[BlobId],
        worker: Worker<'_>,
    ) -> Result<Self, RepoError> {
        let begun = now();
        // A lease for work that deletes states the store's time, so that an old copy of the lease
        // does not count. This process knows the store's time only after it has stored the lease.
        // Until then, the lease states other work.
        let first = if Work::deletes(work.word()) {
            Work::Read
        } else {
            work
        };
        let held = Arc::new(Held {
            project: project.clone(),
            begun,
            renewing: Mutex::default(),
            state: Mutex::new(State {
                id: LeaseId::from_bytes(random()?),
                body: LeaseBody {
                    requires: Vec::new(),
                    work: first.word().to_owned(),
                    running_seconds: 0,
                    store_time: None,
                    packs: Vec::new(),
                    tops: tops.iter().map(ToString::to_string).collect(),
                    removes: Vec::new(),
                    keeps: Vec::new(),
                    host: worker.host.map(str::to_owned),
                    process: this_process(),
                    tool: Some(worker.tool.to_owned()),
                },
                put: begun,
                looked: begun,
                stored: None,
                doubtful: false,
                lapsed: false,
            }),
        });
        held.confirm(|_| {})?;
        if first != work {
            held.confirm(|body| work.word().clone_into(&mut body.work))?;
        }
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let renewer = {
            let held = Arc::clone(&held);
            let thread = thread::Builder::new().name("lease".to_owned());
            thread.spawn(move || {
                while stopped.recv_timeout(RENEW_EVERY) == Err(RecvTimeoutError::Timeout) {
                    // Ignore failures here: if renewals fail for too long, the lease has lapsed.
                    let _ = held.confirm(|_| {});
                }
            })
        };
        let mut lease = Self {
            held,
            stop: Some(stop),
            renewer: None,
        };
        // If the thread could not be started, this function fails and drops the lease.
        lease.renewer = Some(renewer.map_err(RepoError::Thread)?);
        Ok(lease)
    }

    /// Announces that this process also relies on these packs, which no segment or record names.
    /// The lease is durable when this returns.
    pub fn rely_on(&self, packs: &[ObjectHash]) -> Result<(), RepoError> {
        let packs: Vec<_> = packs.iter().map(ToString::to_string).collect();
        self.held.renew(|body| {
            body.packs.extend(packs);
            body.packs.sort_unstable();
            body.packs.dedup();
        })
    }

    /// Announces that these trees are about to be committed. The lease is durable when this
    /// returns. Notices a pause as [`confirm`](Self::confirm) does.
    pub fn intend(&self, tops: &[BlobId]) -> Result<(), RepoError> {
        let tops = tops.iter().map(ToString::to_string).collect();
        self.held.confirm(|body| body.tops = tops)?;
        Ok(())
    }

    /// Announces that the records in `removes` are about to be removed, and that the records in
    /// `keeps` must then stay. Names at most [`RECORDS_MAX`](Self::RECORDS_MAX) of each. The lease
    /// is durable when this returns.
    pub fn intend_to_remove(
        &self,
        removes: &[ObjectHash],
        keeps: &[ObjectHash],
    ) -> Result<(), RepoError> {
        let first = |records: &[ObjectHash]| {
            let records = records.iter().take(Self::RECORDS_MAX);
            records.copied().collect()
        };
        self.held.renew(|body| {
            body.removes = first(removes);
            body.keeps = first(keeps);
        })
    }

    /// Stores the lease again now, and tests whether it had lapsed by the store's clock. Uses this
    /// clock because the clocks of a virtual machine do not show that the machine was paused.
    ///
    /// Call this before this process stores an object on which other processes rely. Then call
    /// [`may_have_expired`](Self::may_have_expired) or [`has_lapsed`](Self::has_lapsed). If another
    /// process may have seen this lease as expired, the object must not be stored.
    pub fn confirm(&self) -> Result<(), RepoError> {
        self.held.confirm(|_| {})?;
        Ok(())
    }

    /// Stores the lease again now. A lease that has lapsed gets a new name.
    pub(crate) fn renew(&self) -> Result<(), RepoError> {
        self.held.renew(|_| {})
    }

    /// Makes the lease count as lapsed until the next call of [`has_lapsed`](Self::has_lapsed).
    pub(crate) fn distrust(&self) {
        self.held.state().lapsed = true;
    }

    /// Returns whether another process may see the lease as expired, or may have seen it as expired
    /// since the last call of [`has_lapsed`](Self::has_lapsed).
    #[must_use]
    pub fn may_have_expired(&self) -> bool {
        let state = self.held.state();
        state.lapsed || state.is_late()
    }

    /// Returns whether another process may have seen the lease as expired since the last call, or
    /// since the lease was taken. This happens if this process was paused, or could not renew the
    /// lease, for minutes.
    #[must_use]
    pub fn has_lapsed(&self) -> bool {
        let mut state = self.held.state();
        std::mem::take(&mut state.lapsed) || state.is_late()
    }

    /// Removes a lease that has expired.
    pub fn remove_expired(project: &Project, lease: &OtherLease) -> Result<(), RepoError> {
        project
            .objects
            .delete(ObjectRef::Lease(project.id, lease.id))
    }
}

impl Leases {
    /// Loads all leases except `own`. Leases of processes that end meanwhile may be missing, and
    /// foreign leases are left out. Fails if a lease that has not expired cannot be read. If `own`
    /// is `None`, the clock of this host is used instead of the store's.
    pub fn load(project: &Project, own: Option<&Lease>) -> Result<Self, RepoError> {
        let (listed, now) = match own {
            Some(own) => own.held.confirm(|_| {})?,
            None => (project.list(ObjectKind::Lease)?, SystemTime::now()),
        };
        // A time in the future does not show how old the lease is, so it counts as now.
        let listed = listed.into_iter().map(|(object, mut info)| {
            info.modified = info.modified.min(now);
            (object, info)
        });
        let age = |modified| now.duration_since(modified).unwrap_or_default();
        // Do not read expired leases, since nothing in them counts.
        let (expired, listed_fresh) =
            listed.partition::<Vec<_>, _>(|(_, info)| age(info.modified) >= TTL);
        let mut others: Vec<_> = expired
            .into_iter()
            .filter_map(|(object, info)| other(object, empty_body(), info.modified, now))
            .collect();
        let (mut fresh, mut seen) = (Vec::new(), Vec::new());
        for loaded in project.load::<LeaseBody>(listed_fresh)? {
            let lease = loaded.body?;
            let may_do = may_do(project, &lease);
            let is_full = project.signers.is_full(&lease.signer);
            let running_seconds = lease.body.running_seconds;
            let is_outdated = is_outdated(&lease.body, own.map(|_| now));
            let body = if may_do { lease.body } else { empty_body() };
            let other = other(loaded.object, body, loaded.listed.modified, now);
            let (Some(other), Some(hash)) = (other, loaded.hash) else {
                continue;
            };
            seen.push(SeenLease {
                hash,
                id: other.id,
                running_seconds,
                is_full,
            });
            fresh.push(OtherLease {
                is_full,
                expired: other.expired || is_outdated,
                ..other
            });
        }
        // Only times of the store are comparable with each other.
        if own.is_some() {
            let stale = project.watch.stale(&seen, now);
            for (lease, is_stale) in fresh.iter_mut().zip(stale) {
                lease.expired |= is_stale;
            }
        }
        others.extend(fresh);
        Ok(Self { now, others })
    }

    /// The top nodes of the trees that the holders of these leases read.
    pub fn trees_read(&self) -> impl Iterator<Item = BlobId> {
        let readers = self.others.iter().filter(|l| l.is_held_for(Work::Read));
        readers.flat_map(|lease| lease.tops.iter().copied())
    }

    /// Returns a record on which this process and a `forget` of another process disagree. Either
    /// the record is in `keeps` and the other process removes it, or the record is in `removes` and
    /// the other process keeps it. `None` if there is no such record.
    #[must_use]
    pub fn contradict(
        &self,
        removes: &HashSet<ObjectHash>,
        keeps: &HashSet<ObjectHash>,
    ) -> Option<ObjectHash> {
        let forgets = self.others.iter().filter(|l| l.is_held_for(Work::Forget));
        let mut in_conflict = forgets.flat_map(|lease| {
            let taken = lease.removes.iter().filter(|id| keeps.contains(*id));
            let kept = lease.keeps.iter().filter(|id| removes.contains(*id));
            taken.chain(kept)
        });
        in_conflict.next().copied()
    }

    /// Returns whether a running backup may have begun before a mark was stored. `mark` is the time
    /// of the mark in the store. Before such a backup commits, it must find the mark, even if the
    /// packs that the mark names are already deleted.
    #[must_use]
    pub fn may_have_missed(&self, mark: SystemTime) -> bool {
        let mut backups = self.others.iter().filter(|l| l.is_held_for(Work::Backup));
        backups.any(|lease| lease.begun <= mark)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(renewer) = self.renewer.take() {
            let _ = renewer.join();
        }
        // If this fails, the lease expires.
        let project = &self.held.project;
        let object = ObjectRef::Lease(project.id, self.held.state().id);
        let _ = project.objects.delete(object);
    }
}

impl State {
    /// Whether other processes may see the lease as expired, now or soon.
    fn is_late(&self) -> bool {
        is_late(self.put.min(self.looked))
    }
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Changes the body with `change`, and stores the lease again. While this waits for the store,
    /// only other renewals must wait.
    fn renew(&self, change: impl FnOnce(&mut LeaseBody)) -> Result<(), RepoError> {
        let _one_at_a_time = lock(&self.renewing);
        self.put(change)?;
        Ok(())
    }

    /// Changes the body and stores the lease again, as [`renew`](Self::renew) does. Then compares
    /// the new time of the lease in the store with its previous time there. Returns the project's
    /// other leases, and the time by the store's clock.
    fn confirm(
        &self,
        change: impl FnOnce(&mut LeaseBody),
    ) -> Result<(Vec<(ObjectRef, ObjectInfo)>, SystemTime), RepoError> {
        let _one_at_a_time = lock(&self.renewing);
        let renamed = self.put(change)?;
        let mut listed = self.project.list(ObjectKind::Lease)?;
        let mut state = self.state();
        let own = ObjectRef::Lease(self.project.id, state.id);
        let Some(at) = listed.iter().position(|(object, _)| *object == own) else {
            // Another process saw the lease as expired, and removed it.
            state.lapsed = true;
            state.doubtful = true;
            return Err(RepoError::LeaseLost);
        };
        let now = listed.remove(at).1.modified;
        state.looked = state.put;
        let gap = state.stored.map(|then| now.duration_since(then));
        state.stored = Some(now);
        if gap.is_some_and(|gap| gap.is_ok_and(|gap| gap >= TTL / 2)) {
            state.lapsed = true;
            state.doubtful = !renamed;
            drop(state);
            // The lease needs another name, and the store's time that it states may be too old.
            self.put(|_| {})?;
        }
        Ok((listed, now))
    }

    /// Changes the body with `change`, and stores the lease. Returns whether the lease has another
    /// name than before. The caller prevents other renewals meanwhile.
    fn put(&self, change: impl FnOnce(&mut LeaseBody)) -> Result<bool, RepoError> {
        let time = now();
        let (old, put, doubtful, body) = {
            let mut state = self.state();
            change(&mut state.body);
            state.body.running_seconds = time.saturating_sub(self.begun).as_secs();
            state.body.store_time = state.stored.map(seconds_since_1970);
            let put = state.put.min(state.looked);
            (state.id, put, state.doubtful, state.body.encode())
        };
        let late = is_late(put);
        // A process that considers the lease expired may be about to remove it, so the new lease
        // needs another name.
        let id = if late || doubtful {
            LeaseId::from_bytes(random()?)
        } else {
            old
        };
        let object = |id| ObjectRef::Lease(self.project.id, id);
        let id = match self.project.put_marker(object(id), &body) {
            // This store cannot replace an object.
            Err(RepoError::Storage(error))
                if id == old && error.kind == StorageErrorKind::Exists =>
            {
                let id = LeaseId::from_bytes(random()?);
                self.project.put_marker(object(id), &body)?;
                id
            }
            stored => stored.map(|()| id)?,
        };
        {
            let mut state = self.state();
            state.lapsed |= late || is_late(put);
            state.doubtful = false;
            state.put = time;
            state.id = id;
        }
        if old != id {
            self.project.objects.delete(object(old))?;
        }
        Ok(old != id)
    }
}

/// Describes a lease that was stored at the time `modified`. Always sets `is_full` to false.
/// Returns `None` if the object is no lease.
fn other(
    object: ObjectRef,
    body: LeaseBody,
    modified: SystemTime,
    now: SystemTime,
) -> Option<OtherLease> {
    let ObjectRef::Lease(_, id) = object else {
        return None;
    };
    let age = now.duration_since(modified).unwrap_or_default();
    let gone = body.process.as_ref().is_some_and(is_gone);
    let running = Duration::from_secs(body.running_seconds);
    let before = |by: Duration| modified.checked_sub(by).unwrap_or(modified);
    Some(OtherLease {
        id,
        work: body.work,
        host: body.host,
        age,
        since: before(running),
        begun: before(running.saturating_add(CLOCK_SLACK)),
        expired: age >= TTL || gone,
        is_full: false,
        is_of_this_process: body.process.is_some() && body.process == this_process(),
        packs: body.packs.iter().filter_map(|id| id.parse().ok()).collect(),
        tops: body.tops.iter().filter_map(|id| id.parse().ok()).collect(),
        removes: body.removes,
        keeps: body.keeps,
    })
}

/// Returns whether a lease is outdated: the store's time that it states is so old that its process
/// must have ended. So someone has kept this lease, and put it back. A lease for work that deletes
/// is also outdated if it states no time, or a time far in the future. In the latter case, it was
/// stored when the store's clock was wrong. If `now`, the time by the store's clock, is not known,
/// a stated time is not tested.
fn is_outdated(body: &LeaseBody, now: Option<SystemTime>) -> bool {
    let deletes = Work::deletes(&body.work);
    let (Some(stated), Some(now)) = (body.store_time, now) else {
        return deletes && body.store_time.is_none();
    };
    let Some(stated) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(stated)) else {
        return deletes;
    };
    match now.duration_since(stated) {
        Ok(age) => age >= STATED_LIFE,
        Err(ahead) => deletes && ahead.duration() >= STATED_LIFE,
    }
}

fn seconds_since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Whether the signer of a lease may do the work that the lease states. Only full keys remove
/// records and packs, so a `forget` or prune lease of another key must not delay other processes.
fn may_do(project: &Project, lease: &Signed<LeaseBody>) -> bool {
    project.signers.is_full(&lease.signer) || !Work::deletes(&lease.body.work)
}

/// Returns the content to use for a lease that has expired, or whose signer may not do the work
/// that it states.
fn empty_body() -> LeaseBody {
    LeaseBody {
        requires: Vec::new(),
        work: String::new(),
        running_seconds: 0,
        store_time: None,
        packs: Vec::new(),
        tops: Vec::new(),
        removes: Vec::new(),
        keeps: Vec::new(),
        host: None,
        process: None,
        tool: None,
    }
}

/// Returns whether a lease that was stored at this time, by [`now`], may expire soon or already
/// has.
pub(crate) fn is_late(then: Duration) -> bool {
    now().saturating_sub(then) >= TTL / 2
}

/// Returns the time since the machine was started, including the time of suspensions.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}
