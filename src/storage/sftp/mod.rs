//! A store in a directory on a server, over SFTP, through the user's own `ssh`.
//!
//! Uses version 3 of the protocol (draft-ietf-secsh-filexfer-02). Also uses the extensions of
//! OpenSSH that the server offers: renames that replace a file, hard links, `fsync`, the free
//! space, and the maximum size of requests. Objects are laid out as in a local directory.
//!
//! No request waits for ever. If requests have waited for [`SftpOptions::timeout`] without a byte
//! moving in either direction, the store kills the ssh process of the connection. Running
//! operations then fail as [unavailable](super::StorageErrorKind::Unavailable), and the next
//! operation opens a new connection. [`RetryBackend`](super::RetryBackend) repeats the failed
//! operations. A slow link causes no timeout as long as bytes move.
//!
//! `docs/decisions/0011-sftp.md` gives the reasons for this design.

mod backend;
mod connection;
mod diagnosis;
mod download;
mod error;
mod listing;
mod options;
mod pace;
mod paths;
mod pool;
mod ssh;
mod ssh_failure;
mod upload;
mod window;

pub use backend::SftpBackend;
pub use options::{SftpOptions, SftpServer};
