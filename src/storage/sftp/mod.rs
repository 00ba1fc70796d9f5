//! A store in a directory on a server, over SFTP, through the user's own `ssh`.
//!
//! Speaks version 3 of the protocol (draft-ietf-secsh-filexfer-02) and, where the server offers
//! them, OpenSSH's extensions: renames that replace, hard links, waiting for the disk. Objects are
//! laid out as in a local directory.
//!
//! No request waits for ever. A watch on each connection ends its ssh once requests have waited for
//! [`SftpOptions::timeout`] without a byte moving in either direction, so a slow link is not taken
//! for a dead one. Operations under way then fail as
//! [unavailable](super::StorageErrorKind::Unavailable), and the next one opens a new connection.
//! Repeating them is the task of [`RetryBackend`](super::RetryBackend).
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
