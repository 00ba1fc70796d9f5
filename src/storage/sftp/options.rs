//! How to reach a server.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::base::Cancel;

/// The number of bytes that one operation may request on one connection before answers arrive. An
/// ssh channel takes 2 MiB at a time. The rest waits in pipes, so that neither end is ever idle.
pub(super) const WINDOW: usize = 4 << 20;
/// The shortest time limit for connecting. A connection takes several processes and about ten round
/// trips.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_secs(20);

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpServer {
    /// The user to log in as; by default the one that ssh chooses. Must not begin with `-`.
    pub user: Option<String>,
    /// A host name or an alias of ssh. Must not begin with `-`.
    pub host: String,
    /// The port; by default the one that ssh chooses.
    pub port: Option<u16>,
}

/// The address of a store, and how to connect to it.
#[derive(Debug, Clone)]
pub struct SftpOptions {
    /// The server.
    pub server: SftpServer,
    /// The directory on the server. A relative path begins at the user's login directory.
    pub path: String,
    /// The store's name in messages.
    pub location: String,
    /// The program that connects, usually `ssh`, and its first arguments. It must accept OpenSSH's
    /// options.
    pub ssh: Vec<OsString>,
    /// The maximum number of connections.
    pub connections: NonZeroUsize,
    /// If requests wait for this time without a byte moving, the connection is ended.
    pub timeout: Duration,
    /// If this is set, a server that does not answer causes an error after a few seconds.
    pub cancel: Cancel,
}

impl SftpOptions {
    /// Returns the time that ssh may take to connect without asking the user.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.timeout.max(CONNECT_TIMEOUT_MIN)
    }
}
