//! Several connections to one server: opened when they are wanted, spread, and replaced when they are lost.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::SftpOptions;
use super::connection::Connection;
use super::fault::Fault;
use super::ssh;

/// Pauses before an operation is tried again on a new connection. A server that is started anew takes a while.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// A connection besides the first that cannot be had is not tried for so long: there may be a limit to them.
const REST: Duration = Duration::from_mins(1);

/// All connections of a store.
pub(super) struct Pool {
    options: SftpOptions,
    slots: Vec<Mutex<Slot>>,
    /// Whether a connection was ever made. From then on ssh does not ask the user any more, and what fails may
    /// pass.
    proven: AtomicBool,
}

#[derive(Default)]
struct Slot {
    connection: Option<Arc<Connection>>,
    failed: Option<(Instant, Fault)>,
}

impl Pool {
    pub(super) fn new(options: SftpOptions) -> Arc<Self> {
        let slots = (0..options.connections.get()).map(|_| Mutex::default());
        Arc::new(Self {
            slots: slots.collect(),
            options,
            proven: AtomicBool::new(false),
        })
    }

    pub(super) fn options(&self) -> &SftpOptions {
        &self.options
    }

    /// The least busy connection; opens one if there is none.
    pub(super) async fn lead(self: &Arc<Self>) -> Result<Lease, Fault> {
        let live = self.live();
        let idlest = live.into_iter().min_by_key(Lease::users);
        let Some(lease) = idlest else {
            return self.connect(0).await.map(Lease::new);
        };
        if lease.users() > 1 {
            self.widen();
        }
        Ok(lease)
    }

    /// All connections that there are, `lead` first; more are opened for the next time.
    pub(super) fn with_others(self: &Arc<Self>, lead: &Lease) -> Vec<Lease> {
        self.widen();
        let others = self.live().into_iter();
        let mut all = vec![Lease::new(Arc::clone(&lead.0))];
        all.extend(others.filter(|other| !Arc::ptr_eq(&other.0, &lead.0)));
        all
    }

    fn live(&self) -> Vec<Lease> {
        let slots = self.slots.iter().filter_map(|slot| {
            let slot = slot.try_lock().ok()?;
            let connection = slot.connection.as_ref()?;
            (!connection.is_lost()).then(|| Lease::new(Arc::clone(connection)))
        });
        slots.collect()
    }

    /// Opens what is not open yet, without waiting for it.
    fn widen(self: &Arc<Self>) {
        for (number, slot) in self.slots.iter().enumerate() {
            let wanted = slot.try_lock().is_ok_and(|slot| {
                let rests = |(since, _): &(Instant, Fault)| since.elapsed() < REST;
                let live = |connection: &Arc<Connection>| !connection.is_lost();
                !slot.connection.as_ref().is_some_and(live)
                    && !slot.failed.as_ref().is_some_and(rests)
            });
            if wanted {
                let pool = Arc::clone(self);
                // Should it fail, there are the others.
                tokio::spawn(async move { pool.connect(number).await.map(drop) });
            }
        }
    }

    async fn connect(&self, number: usize) -> Result<Arc<Connection>, Fault> {
        let asked = Instant::now();
        let Some(slot) = self.slots.get(number) else {
            return Err(Fault::Lost("there is no connection".to_owned()));
        };
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.connection.as_ref().filter(|c| !c.is_lost()) {
            return Ok(Arc::clone(connection));
        }
        // Somebody else has tried while this waited.
        if let Some((_, fault)) = slot.failed.as_ref().filter(|(since, _)| *since > asked) {
            return Err(fault.clone());
        }
        slot.connection = None;
        let may_ask = !self.proven.load(Ordering::SeqCst) && ssh::can_ask();
        match Connection::open(&self.options, may_ask).await {
            Ok(connection) => {
                self.proven.store(true, Ordering::SeqCst);
                slot.failed = None;
                slot.connection = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(fault) => {
                slot.failed = Some((Instant::now(), fault.clone()));
                Err(fault)
            }
        }
    }

    /// Does something that can be repeated, on a connection that works; `attempt` counts from 0. Gives up after
    /// a few tries, or when it has taken too long, or when somebody asks to stop.
    pub(super) async fn again<T>(
        self: &Arc<Self>,
        mut operation: impl AsyncFnMut(Lease, usize) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut failing_since: Option<Instant> = None;
        let mut pauses = PAUSES.into_iter();
        let mut attempt = 0;
        loop {
            let proven = self.proven.load(Ordering::SeqCst);
            let result = match self.lead().await {
                Ok(lease) => operation(lease, attempt).await,
                Err(fault) if !proven => return Err(fault),
                Err(fault) => Err(fault),
            };
            let Err(Fault::Lost(why)) = result else {
                return result;
            };
            let since = *failing_since.get_or_insert_with(Instant::now);
            let cancelled = self.options.cancel.check().is_err();
            match pauses.next() {
                Some(pause) if !cancelled && since.elapsed() < self.options.patience => {
                    tokio::time::sleep(pause).await;
                }
                _ => return Err(Fault::Lost(why)),
            }
            attempt += 1;
        }
    }
}

/// A connection in use.
pub(super) struct Lease(Arc<Connection>);

impl Lease {
    fn new(connection: Arc<Connection>) -> Self {
        connection.users.fetch_add(1, Ordering::SeqCst);
        Self(connection)
    }

    /// Who uses it, this one included.
    fn users(&self) -> usize {
        self.0.users.load(Ordering::SeqCst)
    }
}

impl Deref for Lease {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::SeqCst);
    }
}
