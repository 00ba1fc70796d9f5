//! Object stores, which keep bytes under names, in a directory or on a server.
//!
//! A backend does not depend on packs or keys. [`Backend`] documents its promises. Two decorators
//! work with any backend: [`RetryBackend`] repeats operations after transient errors, and
//! [`LimitBackend`] limits the transfer rate. The feature `testing` adds a store in memory and a
//! store that fails on purpose.

mod backend;
mod error;
#[cfg(any(test, feature = "testing"))]
mod fault;
mod limit;
mod local;
#[cfg(any(test, feature = "testing"))]
mod memory;
mod name;
mod rate;
mod retry;
mod runtime;
mod sftp;
mod temporary;

pub use backend::{Backend, ObjectInfo};
pub use error::{StorageError, StorageErrorClass, StorageErrorKind, StorageOperation};
#[cfg(any(test, feature = "testing"))]
pub use fault::{Call, Calls, Fault, FaultBackend, Moment, Plan};
pub use limit::LimitBackend;
pub use local::LocalBackend;
#[cfg(any(test, feature = "testing"))]
pub use memory::MemoryBackend;
pub use name::{InvalidName, Name};
pub use rate::{Limits, Rate};
pub use retry::{RetryBackend, RetryPolicy};
pub use sftp::{SftpBackend, SftpOptions, SftpServer};
