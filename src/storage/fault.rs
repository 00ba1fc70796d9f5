//! A store in memory that fails on purpose, for tests that try every possible crash.
//!
//! It has two sets of objects: those that a reader sees (live), and those that a crash would leave
//! (durable). It counts and logs every call, and makes one of them fail according to a [`Plan`]. A
//! test runs an operation once to count its calls, and then again for each call:
//!
//! ```
//! use cuttlebone::storage::{Backend, Fault, FaultBackend, Moment, Name, Plan};
//!
//! let operation = |store: &FaultBackend| {
//!     store.put(&Name::new("packs/a").unwrap(), &[b"data"])?;
//!     store.put(&Name::new("backups/b").unwrap(), &[b"packs/a"])
//! };
//! let whole = FaultBackend::new();
//! operation(&whole).unwrap();
//! for n in 1..=whole.calls() {
//!     for moment in [Moment::Before, Moment::After] {
//!         let store = FaultBackend::new();
//!         store.set_plan(Plan::at(n, Fault::Die(moment)));
//!         assert!(operation(&store).is_err());
//!         let found = store.crash();
//!         // A reference is never stored without its data.
//!         assert!(found.list("backups").unwrap().len() <= found.list("packs").unwrap().len());
//!     }
//! }
//! ```

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::base::lock;

use super::backend::{Backend, ObjectInfo};
use super::error::{StorageError, StorageErrorKind, StorageOperation};
use super::memory::MemoryBackend;
use super::name::Name;

/// The call that fails, and its fault. A plan affects only one call, except [`Fault::Die`], which
/// affects all later calls, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    n: u64,
    calls: Calls,
    fault: Fault,
}

/// The calls that a plan counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Every call.
    All,
    /// Calls that change the store: puts, deletes, and removing leftovers.
    Writes,
    /// Puts of objects below a directory of this name, at any depth.
    PutsBelow(&'static str),
}

impl Plan {
    /// Affects the `n`-th call after the plan is set; the first one is 1.
    #[must_use]
    pub const fn at(n: u64, fault: Fault) -> Self {
        let calls = Calls::All;
        Self { n, calls, fault }
    }

    /// Affects the `n`-th call that changes the store; the first one is 1.
    #[must_use]
    pub const fn at_write(n: u64, fault: Fault) -> Self {
        let calls = Calls::Writes;
        Self { n, calls, fault }
    }

    /// Affects the `n`-th put of an object below a directory of this name; the first one is 1.
    #[must_use]
    pub const fn at_put_below(directory: &'static str, n: u64, fault: Fault) -> Self {
        let calls = Calls::PutsBelow(directory);
        Self { n, calls, fault }
    }
}

/// The effect on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and changes nothing.
    Fail(StorageErrorKind),
    /// The call does all of its work and then fails: the answer was lost.
    FailAfter(StorageErrorKind),
    /// A put stops half-way and fails with [`StorageErrorKind::Io`]. The first half of its bytes
    /// stays as a leftover that no listing shows. Any other call just fails.
    Tear,
    /// Like [`Tear`](Self::Tear), but the first half gets the object's name and is live and
    /// durable, as in a store that breaks its promises. If the name is taken,
    /// [`put_new`](Backend::put_new) fails with [`StorageErrorKind::Exists`].
    TearVisible,
    /// A put or delete succeeds and is visible, but a crash undoes it, as in a store that does not
    /// wait for its disk. Any other call is not affected.
    Volatile,
    /// The call waits this long and then does its work.
    Delay(Duration),
    /// This and every later call fails with [`StorageErrorKind::Unavailable`].
    Die(Moment),
}

/// The moment at which the store fails for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the call has changed anything.
    Before,
    /// After the call has done all of its work, durably. Only the answer is lost.
    After,
}

/// An entry of the log of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The operation. Both kinds of put are `Put`, both kinds of get are `Get`, and `directories`
    /// is `List`.
    pub operation: StorageOperation,
    /// The object, or the directory of a listing.
    pub name: String,
    /// Bytes passed to a put, whether or not it succeeded, or returned by a successful get.
    pub bytes: u64,
    /// The kind of the error; `None` if the call succeeded.
    pub error: Option<StorageErrorKind>,
}

/// A store in memory that fails according to a [`Plan`]. Clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct FaultBackend {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    live: MemoryBackend,
    durable: MemoryBackend,
    torn: Vec<Torn>,
    plan: Option<Plan>,
    dead: bool,
    calls: u64,
    log: Vec<Call>,
}

/// The first half of an object. No listing shows it.
#[derive(Debug, Clone)]
struct Torn {
    /// The name that the object would have got.
    name: Name,
    half: Vec<u8>,
    since: SystemTime,
}

impl Torn {
    fn is_leftover(&self, directory: &str, age: Duration) -> bool {
        let below = match self.name.directory().strip_prefix(directory) {
            Some(rest) => directory.is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        below && self.since.elapsed().is_ok_and(|elapsed| elapsed >= age)
    }
}

impl FaultBackend {
    /// Returns an empty store without a plan.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a store with copies of the objects in `content`, all of them durable.
    #[must_use]
    pub fn holding(content: &MemoryBackend) -> Self {
        Self::with(State {
            live: content.copy(),
            durable: content.copy(),
            ..State::default()
        })
    }

    fn with(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Sets the plan for later calls. Replaces a plan that is still pending.
    pub fn set_plan(&self, plan: Plan) {
        self.lock().plan = Some(plan);
    }

    /// Returns whether there is a plan whose fault has not happened yet.
    #[must_use]
    pub fn is_planned(&self) -> bool {
        self.lock().plan.is_some()
    }

    /// Returns the number of calls made so far, failed ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Returns the calls made since the last `take_log`, in the order in which they took effect.
    #[must_use]
    pub fn take_log(&self) -> Vec<Call> {
        std::mem::take(&mut self.lock().log)
    }

    /// Returns the halves of objects that [`Fault::Tear`] left.
    #[must_use]
    pub fn torn(&self) -> Vec<Vec<u8>> {
        let state = self.lock();
        state.torn.iter().map(|torn| torn.half.clone()).collect()
    }

    /// Returns an independent store with the objects and torn halves that a crash would leave now.
    /// It has no plan, has counted no calls, and its log is empty.
    #[must_use]
    pub fn crash(&self) -> Self {
        let state = self.lock();
        Self::with(State {
            live: state.durable.copy(),
            durable: state.durable.copy(),
            torn: state.torn.clone(),
            ..State::default()
        })
    }

    /// Makes all objects older, as if this much time had passed.
    pub fn age(&self, by: Duration) {
        let state = self.lock();
        state.live.age(by);
        state.durable.age(by);
    }

    /// Moves the store's clock forward by this many seconds. See
    /// [`MemoryBackend::advance_clock`].
    pub fn advance_clock(&self, seconds: u64) {
        let state = self.lock();
        state.live.advance_clock(seconds);
        state.durable.advance_clock(seconds);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn failed(
        &self,
        kind: StorageErrorKind,
        operation: StorageOperation,
        name: &str,
    ) -> StorageError {
        StorageError {
            kind,
            operation,
            object: name.to_owned(),
            location: self.location().to_owned(),
            is_remote: false,
            source: None,
        }
    }

    /// Runs one call, and makes it fail if the plan says so. Passes only [`Fault::Tear`],
    /// [`Fault::TearVisible`] and [`Fault::Volatile`] to `work`, since these change what is stored.
    fn call<T>(
        &self,
        mut call: Call,
        writes: bool,
        work: impl FnOnce(&mut State, Option<Fault>) -> Result<T, StorageError>,
        bytes: impl FnOnce(&T) -> u64,
    ) -> Result<T, StorageError> {
        let mut state = self.lock();
        state.calls += 1;
        let mut fault = state.due(&call, writes);
        if let Some(Fault::Delay(pause)) = fault {
            drop(state);
            thread::sleep(pause);
            state = self.lock();
            fault = None;
        }
        let fail = |kind| Err(self.failed(kind, call.operation, &call.name));
        let result = match fault {
            _ if state.dead => fail(StorageErrorKind::Unavailable),
            Some(Fault::Fail(kind)) => fail(kind),
            Some(Fault::FailAfter(kind)) => work(&mut state, None).and_then(|_| fail(kind)),
            Some(Fault::Die(moment)) => {
                if moment == Moment::After {
                    // The caller does not learn the result.
                    drop(work(&mut state, None));
                }
                state.dead = true;
                fail(StorageErrorKind::Unavailable)
            }
            Some(Fault::Tear | Fault::TearVisible) => {
                work(&mut state, fault).and_then(|_| fail(StorageErrorKind::Io))
            }
            None | Some(Fault::Volatile | Fault::Delay(_)) => work(&mut state, fault),
        };
        match &result {
            Ok(value) => call.bytes += bytes(value),
            Err(error) => call.error = Some(error.kind),
        }
        state.log.push(call);
        result
    }

    fn read<T>(
        &self,
        operation: StorageOperation,
        name: &str,
        work: impl FnOnce(&MemoryBackend) -> Result<T, StorageError>,
        bytes: impl FnOnce(&T) -> u64,
    ) -> Result<T, StorageError> {
        let call = Call::new(operation, name, 0);
        self.call(call, false, |state, _| work(&state.live), bytes)
    }

    fn store(&self, name: &Name, parts: &[&[u8]], new: bool) -> Result<(), StorageError> {
        let whole = parts.concat();
        let call = Call::new(StorageOperation::Put, name.as_str(), whole.len() as u64);
        let work = |state: &mut State, fault: Option<Fault>| {
            let half = &whole[..whole.len() / 2];
            let put = |live: &MemoryBackend, bytes: &[u8]| {
                if new {
                    live.put_new(name, &[bytes])
                } else {
                    live.put(name, &[bytes])
                }
            };
            match fault {
                Some(Fault::Tear) => {
                    state.torn.push(Torn {
                        name: name.clone(),
                        half: half.to_vec(),
                        since: SystemTime::now(),
                    });
                    Ok(())
                }
                Some(Fault::Volatile) => put(&state.live, &whole),
                Some(Fault::TearVisible) => {
                    put(&state.live, half)?;
                    state.durable.put(name, &[half])
                }
                _ => {
                    put(&state.live, &whole)?;
                    state.durable.put(name, &[&whole])
                }
            }
        };
        self.call(call, true, work, |()| 0)
    }
}

impl State {
    /// Counts a call, and returns the fault that is planned for it, if any.
    fn due(&mut self, call: &Call, writes: bool) -> Option<Fault> {
        let plan = self.plan.as_mut()?;
        let counts = match plan.calls {
            Calls::All => true,
            Calls::Writes => writes,
            Calls::PutsBelow(directory) => {
                call.operation == StorageOperation::Put
                    && call.name.split('/').any(|part| part == directory)
            }
        };
        if !counts {
            return None;
        }
        plan.n = plan.n.saturating_sub(1);
        if plan.n > 0 {
            return None;
        }
        self.plan.take().map(|plan| plan.fault)
    }
}

impl Call {
    fn new(operation: StorageOperation, name: &str, bytes: u64) -> Self {
        Self {
            operation,
            name: name.to_owned(),
            bytes,
            error: None,
        }
    }
}

impl Backend for FaultBackend {
    fn location(&self) -> &'static str {
        "memory"
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.store(name, parts, false)
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.store(name, parts, true)
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        let work = |live: &MemoryBackend| live.get(name, limit);
        self.read(StorageOperation::Get, name.as_str(), work, |got| {
            got.len() as u64
        })
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        let len = buf.len() as u64;
        let work = |live: &MemoryBackend| live.get_range(name, offset, buf);
        self.read(StorageOperation::Get, name.as_str(), work, |()| len)
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        self.read(
            StorageOperation::Size,
            name.as_str(),
            |live| live.size(name),
            |_| 0,
        )
    }

    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        let work = |live: &MemoryBackend| live.list(directory);
        self.read(StorageOperation::List, directory, work, |_| 0)
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        let work = |live: &MemoryBackend| live.directories(directory);
        self.read(StorageOperation::List, directory, work, |_| 0)
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        let call = Call::new(StorageOperation::Delete, name.as_str(), 0);
        let work = |state: &mut State, fault: Option<Fault>| match fault {
            Some(Fault::Tear | Fault::TearVisible) => Ok(()),
            Some(Fault::Volatile) => state.live.delete(name),
            _ => {
                state.live.delete(name)?;
                // If the put of the object was volatile, the object is not durable, and this fails.
                drop(state.durable.delete(name));
                Ok(())
            }
        };
        self.call(call, true, work, |()| 0)
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        let call = Call::new(StorageOperation::RemoveLeftovers, directory, 0);
        let work = |state: &mut State, fault: Option<Fault>| {
            if let Some(Fault::Tear | Fault::TearVisible) = fault {
                return Ok(0);
            }
            let before = state.torn.len();
            state.torn.retain(|torn| !torn.is_leftover(directory, age));
            Ok((before - state.torn.len()) as u64)
        };
        self.call(call, true, work, |_| 0)
    }
}
