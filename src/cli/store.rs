//! From a location to a store.

use std::sync::Arc;

use crate::storage::{Backend, LimitBackend, LocalBackend, SftpBackend, SftpOptions, StorageError};

use super::Session;
use super::access::Access;
use super::failure::{Code, Failure};
use super::location::{Location, Sftp};

/// What came of it; the outer failure is none of the store's.
type Opened = Result<Result<Arc<dyn Backend>, StorageError>, Failure>;

/// The store that is there.
pub(super) fn open(session: &Session, access: &Access) -> Opened {
    match &access.location {
        Location::Local(path) => Ok(local(session, access, LocalBackend::open(path))),
        Location::Sftp(sftp) => connect(session, || {
            SftpBackend::open(options(session, access, sftp))
        }),
    }
}

/// The store, whose directory is made if need be.
pub(super) fn create(session: &Session, access: &Access) -> Opened {
    match &access.location {
        Location::Local(path) => Ok(local(session, access, LocalBackend::create(path))),
        Location::Sftp(sftp) => connect(session, || {
            SftpBackend::create(options(session, access, sftp))
        }),
    }
}

fn local(
    session: &Session,
    access: &Access,
    opened: Result<LocalBackend, StorageError>,
) -> Result<Arc<dyn Backend>, StorageError> {
    let limits = access.transport.limits.clone();
    if limits.is_unlimited() {
        return opened.map(|store| Arc::new(store) as Arc<dyn Backend>);
    }
    let cancel = session.cancel.clone();
    opened.map(|store| Arc::new(LimitBackend::new(store, limits, cancel)) as Arc<dyn Backend>)
}

/// While it connects, ssh may ask the user something on the terminal.
fn connect(
    session: &Session,
    connect: impl FnOnce() -> Result<SftpBackend, StorageError>,
) -> Opened {
    let opened = session.signals.while_prompting(|| Ok(connect()));
    match opened {
        Ok(opened) => Ok(opened.map(|store| Arc::new(store) as Arc<dyn Backend>)),
        Err(error) => {
            Err(Failure::new(Code::Failed, "could not use the terminal").caused_by(Some(&error)))
        }
    }
}

fn options(session: &Session, access: &Access, sftp: &Sftp) -> SftpOptions {
    let transport = &access.transport;
    SftpOptions {
        server: sftp.server.clone(),
        path: sftp.path.clone(),
        location: access.location.to_string(),
        ssh: transport.ssh.clone(),
        connections: transport.connections,
        patience: transport.patience,
        limits: transport.limits.clone(),
        cancel: session.cancel.clone(),
    }
}
