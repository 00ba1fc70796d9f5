//! Opens the object store that a location names.

use std::sync::Arc;

use crate::storage::{Backend, LimitBackend, LocalBackend, SftpBackend, SftpOptions, StorageError};

use super::location::{Location, SftpLocation};
use super::session::Session;
use super::settings::RepositorySettings;

/// Opens the store, whose directory must exist.
pub(super) fn open_backend(
    session: &Session,
    settings: &RepositorySettings,
) -> Result<Arc<dyn Backend>, StorageError> {
    match &settings.location {
        Location::Local(path) => Ok(limited(session, settings, LocalBackend::open(path)?)),
        Location::Sftp(sftp) => connect(session, || {
            SftpBackend::open(sftp_options(session, settings, sftp))
        }),
    }
}

/// Opens the store; makes its directory if there is none.
pub(super) fn create_backend(
    session: &Session,
    settings: &RepositorySettings,
) -> Result<Arc<dyn Backend>, StorageError> {
    match &settings.location {
        Location::Local(path) => Ok(limited(session, settings, LocalBackend::create(path)?)),
        Location::Sftp(sftp) => connect(session, || {
            SftpBackend::create(sftp_options(session, settings, sftp))
        }),
    }
}

fn limited(
    session: &Session,
    settings: &RepositorySettings,
    store: LocalBackend,
) -> Arc<dyn Backend> {
    let limits = settings.connection.limits.clone();
    if limits.is_unlimited() {
        return Arc::new(store);
    }
    Arc::new(LimitBackend::new(store, limits, session.cancel.clone()))
}

/// Connects. Meanwhile ssh may ask the user on the terminal.
fn connect(
    session: &Session,
    connect: impl FnOnce() -> Result<SftpBackend, StorageError>,
) -> Result<Arc<dyn Backend>, StorageError> {
    let _loan = session.prompt.lend_terminal();
    Ok(Arc::new(connect()?))
}

fn sftp_options(
    session: &Session,
    settings: &RepositorySettings,
    sftp: &SftpLocation,
) -> SftpOptions {
    let connection = &settings.connection;
    SftpOptions {
        server: sftp.server.clone(),
        path: sftp.path.clone(),
        location: settings.location.to_string(),
        ssh: connection.ssh.clone(),
        connections: connection.count,
        patience: connection.timeout,
        limits: connection.limits.clone(),
        cancel: session.cancel.clone(),
    }
}
