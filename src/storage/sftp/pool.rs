//! The connections to one server: opened on demand, shared evenly, and replaced when lost.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::connection::Connection;
use super::error::SftpError;
use super::options::SftpOptions;
use super::ssh::{self, Processes};

/// The time between a failed attempt to open a further connection and the next attempt. The server
/// may limit the number of connections.
const REST: Duration = Duration::from_mins(1);

/// All connections of a store.
pub(super) struct Pool {
    options: SftpOptions,
    entries: Vec<Mutex<Entry>>,
    /// Whether a connection was ever made. If so, ssh may no longer ask for a password.
    proven: AtomicBool,
    processes: Processes,
}

#[derive(Default)]
struct Entry {
    connection: Option<Arc<Connection>>,
    failed: Option<(Instant, SftpError)>,
}

impl Pool {
    pub(super) fn new(options: SftpOptions) -> Arc<Self> {
        let entries = (0..options.connections.get()).map(|_| Mutex::default());
        Arc::new(Self {
            entries: entries.collect(),
            options,
            proven: AtomicBool::new(false),
            processes: Processes::default(),
        })
    }

    pub(super) fn options(&self) -> &SftpOptions {
        &self.options
    }

    /// Ends all connections for good.
    pub(super) fn close(&self) {
        self.processes.close();
    }

    /// Returns the connection with the fewest users, or opens one if there is none. If an operation
    /// already uses that connection, begins to open more for later operations.
    pub(super) async fn first(self: &Arc<Self>) -> Result<PooledConnection, SftpError> {
        let live = self.live();
        let idlest = live.into_iter().min_by_key(PooledConnection::users);
        let Some(connection) = idlest else {
            return self.connect(0).await.map(PooledConnection::new);
        };
        if connection.users() > 1 {
            self.open_more();
        }
        Ok(connection)
    }

    /// Returns all open connections, `first` at the front. Begins to open the missing ones for
    /// later operations.
    pub(super) fn with_others(self: &Arc<Self>, first: &PooledConnection) -> Vec<PooledConnection> {
        self.open_more();
        let others = self.live().into_iter();
        let mut all = vec![PooledConnection::new(Arc::clone(&first.0))];
        all.extend(others.filter(|other| !Arc::ptr_eq(&other.0, &first.0)));
        all
    }

    fn live(&self) -> Vec<PooledConnection> {
        let live = self.entries.iter().filter_map(|entry| {
            let entry = entry.try_lock().ok()?;
            let connection = entry.connection.as_ref()?;
            (!connection.is_lost()).then(|| PooledConnection::new(Arc::clone(connection)))
        });
        live.collect()
    }

    /// Begins to open the missing connections, without waiting for them.
    fn open_more(self: &Arc<Self>) {
        for (number, entry) in self.entries.iter().enumerate() {
            let wanted = entry.try_lock().is_ok_and(|entry| {
                let rests = |(since, _): &(Instant, SftpError)| since.elapsed() < REST;
                let live = |connection: &Arc<Connection>| !connection.is_lost();
                !entry.connection.as_ref().is_some_and(live)
                    && !entry.failed.as_ref().is_some_and(rests)
            });
            if wanted {
                let pool = Arc::clone(self);
                // If this fails, the other connections do the work.
                tokio::spawn(async move { pool.connect(number).await.map(drop) });
            }
        }
    }

    async fn connect(&self, number: usize) -> Result<Arc<Connection>, SftpError> {
        let asked = Instant::now();
        let Some(entry) = self.entries.get(number) else {
            return Err(SftpError::Lost("there is no connection".to_owned()));
        };
        let mut entry = entry.lock().await;
        if let Some(connection) = entry.connection.as_ref().filter(|c| !c.is_lost()) {
            return Ok(Arc::clone(connection));
        }
        // While this call waited for the lock, another call has tried to connect, and failed.
        if let Some((_, error)) = entry.failed.as_ref().filter(|(since, _)| *since > asked) {
            return Err(error.clone());
        }
        entry.connection = None;
        let may_ask = !self.proven.load(Ordering::SeqCst) && ssh::can_ask();
        match Connection::open(&self.options, &self.processes, may_ask).await {
            Ok(connection) => {
                self.proven.store(true, Ordering::SeqCst);
                entry.failed = None;
                entry.connection = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                entry.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

/// A connection in use by one operation.
pub(super) struct PooledConnection(Arc<Connection>);

impl PooledConnection {
    fn new(connection: Arc<Connection>) -> Self {
        connection.users.fetch_add(1, Ordering::SeqCst);
        Self(connection)
    }

    /// Returns the number of operations that use the connection, this one included.
    fn users(&self) -> usize {
        self.0.users.load(Ordering::SeqCst)
    }
}

impl Deref for PooledConnection {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::SeqCst);
    }
}
