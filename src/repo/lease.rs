//! Leases, which show the processes at work: section 13 of `docs/format.md`. The reasons are in
//! `docs/concurrency.md`.

use std::collections::HashSet;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{RecvTimeoutError, Sender};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use rustix::time::{ClockId, clock_gettime};

use super::envelope::Signed;
use super::error::RepoError;
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::project::Project;
use crate::base::{BlobId, LeaseId, ObjectHash, lock};
use crate::crypto::random;
use crate::format::{LeaseBody, ProcessId};
use crate::storage::StorageErrorKind;

/// The time between two renewals of a lease.
const RENEW_EVERY: Duration = Duration::from_secs(30);
/// A lease that is older than this, by the store's clock, has expired.
const TTL: Duration = Duration::from_mins(10);
/// The work of a lease may have begun this much earlier than the lease states: storing the lease
/// may have taken half of [`TTL`], and since then, the store's clock may have been set ahead by a
/// whole [`TTL`].
const CLOCK_SLACK: Duration = Duration::from_mins(15);

/// The work of a process in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It stores a backup.
    Backup,
    /// It removes records.
    Forget,
    /// It deletes data that no backup uses.
    Prune,
    /// It reads backups. Their trees must not be deleted meanwhile.
    Read,
}

impl Work {
    const fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Forget => "forget",
            Self::Prune => "prune",
            Self::Read => "read",
        }
    }
}

/// The host and program that do the work.
#[derive(Debug, Clone, Copy)]
pub struct Worker<'a> {
    /// The name of this host.
    pub host: Option<&'a str>,
    /// Program and version.
    pub tool: &'a str,
}

impl Worker<'_> {
    /// The name and version of this program.
    pub const TOOL: &'static str = concat!("cuttlebone ", env!("CARGO_PKG_VERSION"));
}

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
    /// When the work began.
    begun: Duration,
    /// Locked while the lease is stored. The state has its own lock, which is held only briefly,
    /// since readers look at the state for every chunk.
    renewing: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    id: LeaseId,
    body: LeaseBody,
    /// When the last renewal began.
    put: Duration,
    /// Whether another process may have seen the lease as expired since the last call of
    /// [`has_lapsed`](Lease::has_lapsed).
    lapsed: bool,
}

/// A lease of another process.
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
    /// The earliest time at which the work may have begun, by the store's clock.
    pub begun: SystemTime,
    /// Whether it has expired: it is too old, or its holder is known to have ended.
    pub expired: bool,
    /// Whether a full key signed it.
    pub is_full: bool,
    /// Packs that its holder relies on and that no segment or record names.
    pub packs: Vec<ObjectHash>,
    /// Top nodes of the trees that it is about to commit.
    pub tops: Vec<BlobId>,
    /// Records that it is about to remove.
    pub removes: Vec<ObjectHash>,
    /// Records that must stay if those are removed.
    pub keeps: Vec<ObjectHash>,
}

impl OtherLease {
    /// Returns whether a process that may still run holds it for this work.
    #[must_use]
    pub fn is_held_for(&self, work: Work) -> bool {
        !self.expired && self.work == work.word()
    }
}

/// The leases of a project, as of one moment.
#[derive(Debug, Clone)]
pub struct Leases {
    /// This moment, by the store's clock.
    pub now: SystemTime,
    /// All leases except that of this process.
    pub others: Vec<OtherLease>,
}

impl Lease {
    /// Maximum number of trees that one lease names.
    pub const TOPS_MAX: usize = LeaseBody::IDS_MAX;
    /// Maximum number of records to remove that one lease names, and of records to keep.
    pub const RECORDS_MAX: usize = LeaseBody::IDS_MAX;

    /// Stores a lease, which shows other processes that this one is at work.
    pub fn take(project: &Project, work: Work, worker: Worker<'_>) -> Result<Self, RepoError> {
        Self::take_for(project, work, &[], worker)
    }

    /// Declares that this process reads these trees, so that no prune deletes their data. The lease
    /// is durable when this returns. A lease holds [`TOPS_MAX`](Self::TOPS_MAX) trees.
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
        let held = Arc::new(Held {
            project: project.clone(),
            begun,
            renewing: Mutex::default(),
            state: Mutex::new(State {
                id: LeaseId::from_bytes(random()?),
                body: LeaseBody {
                    requires: Vec::new(),
                    work: work.word().to_owned(),
                    running_seconds: 0,
                    packs: Vec::new(),
                    tops: tops.iter().map(ToString::to_string).collect(),
                    removes: Vec::new(),
                    keeps: Vec::new(),
                    host: worker.host.map(str::to_owned),
                    process: this_process(),
                    tool: Some(worker.tool.to_owned()),
                },
                put: begun,
                lapsed: false,
            }),
        });
        held.renew(|_| {})?;
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let renewer = {
            let held = Arc::clone(&held);
            let thread = thread::Builder::new().name("lease".to_owned());
            thread.spawn(move || {
                while stopped.recv_timeout(RENEW_EVERY) == Err(RecvTimeoutError::Timeout) {
                    // Ignore failures here: if renewals fail for too long, the lease has lapsed.
                    let _ = held.renew(|_| {});
                }
            })
        };
        let mut lease = Self {
            held,
            stop: Some(stop),
            renewer: None,
        };
        // If it could not be started, the lease is given up.
        lease.renewer = Some(renewer.map_err(RepoError::Thread)?);
        Ok(lease)
    }

    /// Announces that this run also relies on these packs, which no segment or record names. The
    /// lease is durable when this returns.
    pub fn rely_on(&self, packs: &[ObjectHash]) -> Result<(), RepoError> {
        let packs: Vec<_> = packs.iter().map(ToString::to_string).collect();
        self.held.renew(|body| {
            body.packs.extend(packs);
            body.packs.sort_unstable();
            body.packs.dedup();
        })
    }

    /// Announces that these trees are about to be committed. The lease is durable when this
    /// returns.
    pub fn intend(&self, tops: &[BlobId]) -> Result<(), RepoError> {
        let tops = tops.iter().map(ToString::to_string).collect();
        self.held.renew(|body| body.tops = tops)
    }

    /// Announces that these records are about to be removed, and that the others must stay if these
    /// are removed. Names at most [`RECORDS_MAX`](Self::RECORDS_MAX) of each. Durable when it
    /// returns.
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

    /// Stores the lease again now. A lease that has lapsed gets a new name.
    pub(super) fn renew(&self) -> Result<(), RepoError> {
        self.held.renew(|_| {})
    }

    /// Makes the lease count as lapsed until the next call of [`has_lapsed`](Self::has_lapsed).
    pub(super) fn distrust(&self) {
        self.held.state().lapsed = true;
    }

    /// Returns whether another process may see the lease as expired, or may have seen it as expired
    /// since the last call of [`has_lapsed`](Self::has_lapsed).
    #[must_use]
    pub fn may_have_expired(&self) -> bool {
        let state = self.held.state();
        state.lapsed || is_late(state.put)
    }

    /// Returns whether another process may have seen the lease as expired, since the last call or
    /// since it was taken, because this process or the store was paused for minutes.
    #[must_use]
    pub fn has_lapsed(&self) -> bool {
        let mut state = self.held.state();
        std::mem::take(&mut state.lapsed) || is_late(state.put)
    }

    /// Removes a lease whose holder no longer runs.
    pub fn remove_expired(project: &Project, lease: &OtherLease) -> Result<(), RepoError> {
        project
            .objects
            .delete(ObjectRef::Lease(project.id, lease.id))
    }
}

impl Leases {
    /// Loads the leases of other processes. Leases of processes that end meanwhile may be missing,
    /// and foreign leases are left out. Fails if a lease that has not expired cannot be read. If
    /// this process has no lease, the clock of this host is used instead of the store's.
    pub fn load(project: &Project, own: Option<&Lease>) -> Result<Self, RepoError> {
        let own = match own {
            Some(own) => {
                own.held.renew(|_| {})?;
                Some(own.held.state().id)
            }
            None => None,
        };
        let mut listed = project.list(ObjectKind::Lease)?;
        let now = match own {
            None => SystemTime::now(),
            Some(own) => {
                let own = ObjectRef::Lease(project.id, own);
                let at = listed.iter().position(|(object, _)| *object == own);
                listed.remove(at.ok_or(RepoError::LeaseLost)?).1.modified
            }
        };
        let age = |modified| now.duration_since(modified).unwrap_or_default();
        // Do not read expired leases, since nothing in them counts.
        let (expired, fresh) = listed
            .into_iter()
            .partition::<Vec<_>, _>(|(_, listed)| age(listed.modified) >= TTL);
        let mut found: Vec<_> = expired
            .into_iter()
            .map(|(object, listed)| (object, listed.modified, empty_body(), false))
            .collect();
        for loaded in project.load::<LeaseBody>(fresh)? {
            let lease = loaded.body?;
            let may_do = may_do(project, &lease);
            let is_full = project.signers.is_full(&lease.signer);
            let body = if may_do { lease.body } else { empty_body() };
            found.push((loaded.object, loaded.listed.modified, body, is_full));
        }
        let others =
            found
                .into_iter()
                .filter_map(|(object, modified, body, is_full)| match object {
                    ObjectRef::Lease(_, id) => Some(OtherLease {
                        is_full,
                        ..other(id, body, modified, age(modified))
                    }),
                    _ => None,
                });
        Ok(Self {
            now,
            others: others.collect(),
        })
    }

    /// The top nodes of the trees that are being read.
    pub fn trees_read(&self) -> impl Iterator<Item = BlobId> {
        let readers = self.others.iter().filter(|l| l.is_held_for(Work::Read));
        readers.flat_map(|lease| lease.tops.iter().copied())
    }

    /// Returns whether another process is about to remove one of the records in `keeps`, or is
    /// about to remove other records because one of the records in `removes` stays.
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

    /// Returns whether a backup runs that may have begun before a mark of this time was stored.
    /// Before it commits, this backup looks for the mark and must find it, even if the packs of the
    /// mark are already deleted.
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

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Changes the body with `change`, and stores the lease again. Meanwhile, only other renewals
    /// wait for the store.
    fn renew(&self, change: impl FnOnce(&mut LeaseBody)) -> Result<(), RepoError> {
        let _one_at_a_time = lock(&self.renewing);
        let time = now();
        let (old, put, body) = {
            let mut state = self.state();
            change(&mut state.body);
            state.body.running_seconds = time.saturating_sub(self.begun).as_secs();
            (state.id, state.put, state.body.encode())
        };
        let late = is_late(put);
        // A process that considers the lease expired may be about to remove it, so the new lease
        // needs another name.
        let id = if late {
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
            state.put = time;
            state.id = id;
        }
        if old != id {
            self.project.objects.delete(object(old))?;
        }
        Ok(())
    }
}

fn other(id: LeaseId, body: LeaseBody, modified: SystemTime, age: Duration) -> OtherLease {
    let gone = body.process.as_ref().is_some_and(is_gone);
    let running = Duration::from_secs(body.running_seconds).saturating_add(CLOCK_SLACK);
    OtherLease {
        id,
        work: body.work,
        host: body.host,
        age,
        begun: modified.checked_sub(running).unwrap_or(modified),
        expired: age >= TTL || gone,
        is_full: false,
        packs: body.packs.iter().filter_map(|id| id.parse().ok()).collect(),
        tops: body.tops.iter().filter_map(|id| id.parse().ok()).collect(),
        removes: body.removes,
        keeps: body.keeps,
    }
}

/// Whether the signer of a lease may do the work that the lease states. Only full keys remove
/// records and packs, so a `forget` or prune lease of another key must not delay other processes.
fn may_do(project: &Project, lease: &Signed<LeaseBody>) -> bool {
    let deletes = [Work::Forget, Work::Prune].map(Work::word);
    project.signers.is_full(&lease.signer) || !deletes.contains(&lease.body.work.as_str())
}

/// Returns the content to use for a lease that has expired, or whose signer may not do the work
/// that it states.
fn empty_body() -> LeaseBody {
    LeaseBody {
        requires: Vec::new(),
        work: String::new(),
        running_seconds: 0,
        packs: Vec::new(),
        tops: Vec::new(),
        removes: Vec::new(),
        keeps: Vec::new(),
        host: None,
        process: None,
        tool: None,
    }
}

/// Returns whether a lease that was stored at this time may expire soon.
pub(super) fn is_late(then: Duration) -> bool {
    now().saturating_sub(then) >= TTL / 2
}

/// Returns the time since the machine was started, including the time of suspensions.
pub(super) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

fn namespace() -> Option<String> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_str()?.to_owned())
}

/// The start of a process, in clock ticks since the machine started: field 22 of
/// `proc_pid_stat(5)`. None if `/proc` does not show the process. This need not mean that it does
/// not exist, since `/proc` may hide processes of other users (`hidepid` in `proc(5)`).
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, field 2, is in parentheses and may contain any characters.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn this_process() -> Option<ProcessId> {
    let pid = std::process::id();
    Some(ProcessId {
        boot: boot()?,
        namespace: namespace()?,
        pid,
        started: started(pid)?,
    })
}

/// Whether a process is known to have ended: it ran on this machine in this namespace, and no
/// longer exists.
fn is_gone(process: &ProcessId) -> bool {
    let is_here =
        boot().as_ref() == Some(&process.boot) && namespace().as_ref() == Some(&process.namespace);
    is_here
        && match started(process.pid) {
            Some(began) => began != process.started,
            None => is_free(process.pid),
        }
}

/// Whether no process has this number.
fn is_free(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_ended_if_its_number_is_free_or_of_another_process() {
        let here = this_process().unwrap();
        assert!(!is_gone(&here));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let ended = ProcessId {
            pid: child.id(),
            ..here.clone()
        };
        assert!(is_gone(&ended));
        let before = ProcessId {
            started: here.started - 1,
            ..here.clone()
        };
        assert!(is_gone(&before));
        // A process that `/proc` does not show counts as running, unless its number is free.
        assert!(is_free(child.id()) && !is_free(here.pid) && !is_free(1));
        // A process of another machine or namespace counts as running.
        for elsewhere in [
            ProcessId {
                boot: "another".into(),
                ..ended.clone()
            },
            ProcessId {
                namespace: "pid:[1]".into(),
                ..ended.clone()
            },
        ] {
            assert!(!is_gone(&elsewhere));
        }
    }
}
