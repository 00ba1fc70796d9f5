//! Opens the object store that a location names.

use std::sync::Arc;

use crate::storage::{
    Backend, LimitBackend, LocalBackend, RetryBackend, RetryPolicy, SftpBackend, SftpOptions,
    StorageError,
};

use super::location::{Location, SftpLocation};
use super::session::Session;
use super::settings::RepositorySettings;

/// Opens the store. Fails if its directory does not exist.
pub(super) fn open_backend(
    session: &Session,
    settings: &RepositorySettings,
) -> Result<Arc<dyn Backend>, StorageError> {
    match &settings.location {
        Location::Local(path) => Ok(limited(session, settings, LocalBackend::open(path)?)),
        Location::Sftp(sftp) => connect(session, settings, || {
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
        Location::Sftp(sftp) => connect(session, settings, || {
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

/// Connects to the server. While this function waits, ssh may ask the user on the terminal. An
/// error during the connection is returned at once. Later transient errors are retried.
fn connect(
    session: &Session,
    settings: &RepositorySettings,
    connect: impl FnOnce() -> Result<SftpBackend, StorageError>,
) -> Result<Arc<dyn Backend>, StorageError> {
    let store = {
        let _loan = session.prompt.lend_terminal();
        connect()?
    };
    let connection = &settings.connection;
    let cancel = &session.cancel;
    let limited = LimitBackend::new(store, connection.limits.clone(), cancel.clone());
    let policy = RetryPolicy::with_deadline(connection.timeout);
    Ok(Arc::new(RetryBackend::new(limited, policy, cancel.clone())))
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
        timeout: connection.timeout,
        cancel: session.cancel.clone(),
    }
}
