//! Object stores: opaque bytes under names, in a directory or on a server.
//!
//! A backend knows nothing of packs or keys. [`Backend`] documents its promises. Decorators
//! add to any backend: [`RetryBackend`] repeats what failed for a passing reason, and
//! [`LimitBackend`] keeps transfers to a rate. With the feature `testing` there are also a store in
//! memory and one that fails on purpose.

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
