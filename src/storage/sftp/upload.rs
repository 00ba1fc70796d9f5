//! Stores an object under a temporary name, and then renames it. A large object is sent through all
//! connections at once.
//!
//! A put that may replace an object usually takes three round trips. An object that is longer than
//! [`UPLOAD_WINDOW`] takes more. First the temporary file and its directory are opened. Then the
//! bytes, the request to wait for the disk and the request to close are sent without waiting for
//! answers. Last, the file is renamed and the directory made durable.
//!
//! A put that must not replace an object takes more round trips. It first tests whether the name is
//! taken. If the server supports hard links, the put does not rename the file. Instead, it makes a
//! hard link with the new name, and then removes the temporary name.

use std::sync::{Arc, Mutex};

use russh_sftp::protocol::StatusCode;

use super::connection::{Connection, File};
use super::diagnosis::diagnose;
use super::download;
use super::error::SftpError;
use super::options::WINDOW;
use super::pace::Pace;
use super::paths::{self, Paths};
use super::pool::{Pool, PooledConnection};
use super::window::{Window, all};
use crate::base::lock;
use crate::storage::error::StorageErrorKind;
use crate::storage::rate::Limits;
use crate::storage::temporary;

/// The number of bytes that one upload sends on one connection before answers arrive. It is half of
/// [`WINDOW`], since two objects are usually sent at a time, and other requests wait for them.
const UPLOAD_WINDOW: usize = WINDOW / 2;
/// An object of this number of bytes or more is sent through all connections: one window cannot
/// hold it.
const SPREAD_FROM: usize = 2 * UPLOAD_WINDOW;

/// An object to be stored.
pub(super) struct Upload<'a> {
    pub(super) pool: &'a Arc<Pool>,
    pub(super) paths: &'a Paths,
    pub(super) limits: &'a Limits,
    /// Temporary files of uploads whose connection was lost. The next upload removes them.
    pub(super) abandoned: &'a Mutex<Vec<String>>,
    /// The object's path in the store.
    pub(super) name: &'a str,
    /// The object's directory in the store.
    pub(super) directory: &'a str,
    pub(super) parts: &'a [&'a [u8]],
    /// Whether to fail if the name is taken.
    pub(super) new: bool,
}

impl Upload<'_> {
    pub(super) async fn run(&self, first: &PooledConnection) -> Result<(), SftpError> {
        for path in std::mem::take(&mut *lock(self.abandoned)) {
            first.remove_later(path);
        }
        let name = temporary::new_name()
            .map_err(|e| SftpError::known(StorageErrorKind::Io, e.to_string()))?;
        let temporary = self.paths.at(&paths::join(self.directory, &name));
        let result = self.send_and_publish(first, &temporary).await;
        match &result {
            Err(SftpError::Lost(_)) => lock(self.abandoned).push(temporary),
            // Report the first error, not that of the removal.
            Err(_) => drop(first.remove(&temporary).await),
            Ok(()) => {}
        }
        result
    }

    async fn send_and_publish(
        &self,
        first: &PooledConnection,
        temporary: &str,
    ) -> Result<(), SftpError> {
        let target = self.paths.at(self.name);
        let at = self.paths.at(self.directory);
        let wanted: usize = self.parts.iter().map(|part| part.len()).sum();
        let explain = async |error| diagnose(first, &at, error, wanted as u64).await;
        let (file, directories) = match self.open(first, temporary).await {
            Ok(opened) => opened,
            Err(error) => return Err(explain(error).await),
        };
        if let Err(error) = self.send(first, file, temporary, wanted).await {
            return Err(explain(error).await);
        }
        let published = if self.new {
            self.publish_new(first, temporary, &target).await
        } else {
            self.publish(first, temporary, &target, &directories).await
        };
        match published {
            Ok(()) => {}
            Err(error) => return Err(explain(error).await),
        }
        if self.new {
            sync_all(&directories).await?;
        }
        self.paths.remember(self.directory);
        Ok(())
    }

    /// Opens the temporary file, and the directories that must be made durable after the file has
    /// got its name.
    async fn open(
        &self,
        first: &PooledConnection,
        temporary: &str,
    ) -> Result<(File, Vec<File>), SftpError> {
        if self.new && self.exists(first).await? {
            return Err(taken());
        }
        if self.paths.is_known(self.directory) {
            let directories = [self.directory];
            let opened = self.open_in(first, temporary, &[], &directories);
            match opened.await {
                // Someone has removed the directory while it was empty.
                Err(error) if error.is(StatusCode::NoSuchFile) => {}
                opened => return opened,
            }
        }
        // Usually the parent directory exists, since it has other directories with packs.
        let (above, _) = self.directory.rsplit_once('/').unwrap_or_default();
        let directories = [above, self.directory];
        let opened = self.open_in(first, temporary, &directories[1..], &directories);
        match opened.await {
            Err(error) if error.is(StatusCode::NoSuchFile) => {}
            opened => return opened,
        }
        let slashes = self.directory.match_indices('/');
        let mut chain: Vec<_> = slashes.map(|(end, _)| &self.directory[..end]).collect();
        chain.push(self.directory);
        let mut directories = vec![""];
        directories.extend(&chain);
        self.open_in(first, temporary, &chain, &directories).await
    }

    /// Creates directories unless they exist, then opens the temporary file and directories. Sends
    /// all requests at once; the server executes them in this order.
    async fn open_in(
        &self,
        first: &PooledConnection,
        temporary: &str,
        create: &[&str],
        open: &[&str],
    ) -> Result<(File, Vec<File>), SftpError> {
        let paths = |names: &[&str]| names.iter().map(|n| self.paths.at(n)).collect::<Vec<_>>();
        let (create, open) = (paths(create), paths(open));
        let mut creating = Window::new();
        for path in &create {
            creating.begin(first.make_directory(path)).await;
        }
        let mut opening = Window::new();
        opening.begin(first.open_new(temporary)).await;
        if first.extensions.fsync {
            for path in &open {
                opening.begin(first.open_read(path)).await;
            }
        }
        // Most errors are ignored, since creating an existing directory fails, too. Opening the
        // file shows whether the directory exists.
        let mut refused = None;
        while let Some(created) = creating.next().await {
            if let Err(error) = created
                && error.is(StatusCode::PermissionDenied)
            {
                refused = Some(error);
            }
        }
        let file = match (opening.next().await, refused) {
            (Some(Err(error)), Some(refused)) if error.is(StatusCode::NoSuchFile) => {
                Some(Err(refused))
            }
            (file, _) => file,
        };
        let mut directories = Vec::new();
        while let Some(directory) = opening.next().await {
            // A server that cannot open directories cannot make them durable on request either.
            directories.extend(directory);
        }
        let nothing = || Err(SftpError::known(StorageErrorKind::Io, "nothing was opened"));
        Ok((file.unwrap_or_else(nothing)?, directories))
    }

    /// Writes all bytes, and waits until they are on the server's disk, if the server supports
    /// that.
    async fn send(
        &self,
        first: &PooledConnection,
        file: File,
        temporary: &str,
        size: usize,
    ) -> Result<(), SftpError> {
        let blocks = Blocks::new(self.parts);
        if size < SPREAD_FROM {
            return self.send_by(first, file, &blocks, true).await;
        }
        let connections = self.pool.with_others(first);
        let blocks = &blocks;
        let mut file = Some(file);
        let senders = connections.iter().map(|connection| {
            let file = file.take();
            async move {
                if let Some(file) = file {
                    self.send_by(connection, file, blocks, true).await
                } else {
                    match connection.open_write(temporary).await {
                        Ok(file) => self.send_by(connection, file, blocks, false).await,
                        // Another connection has taken all blocks meanwhile, and the file is
                        // read-only now.
                        Err(error)
                            if error.is(StatusCode::PermissionDenied) && blocks.are_taken() =>
                        {
                            Ok(())
                        }
                        Err(error) => Err(error),
                    }
                }
            }
        });
        all(senders).await.into_iter().collect()
    }

    /// Takes blocks and writes them until none is left. If `first` is set, also makes the file
    /// read-only. Each connection sends its own request to wait for the disk, since a server orders
    /// the requests of one connection only.
    async fn send_by(
        &self,
        connection: &Arc<Connection>,
        file: File,
        blocks: &Blocks<'_>,
        first: bool,
    ) -> Result<(), SftpError> {
        let pace = Pace {
            rate: &self.limits.upload,
            options: self.pool.options(),
        };
        let file = &file;
        let most = (UPLOAD_WINDOW / connection.block).max(1);
        let mut window = Window::new();
        while let Some((offset, block)) = blocks.take(connection.block) {
            let pause = pace.pause(block.len());
            let keep = if pace.is_long(pause) { 0 } else { most - 1 };
            while window.len() > keep {
                window.next().await.unwrap_or(Ok(()))?;
            }
            pace.wait(pause).await;
            window.begin(file.write(offset, block)).await;
        }
        let mut last = Window::new();
        if first {
            last.begin(file.protect()).await;
        }
        let protecting = last.len();
        last.begin(file.sync()).await;
        last.begin(file.close()).await;
        while let Some(written) = window.next().await {
            written?;
        }
        for number in 0.. {
            match last.next().await {
                // Some servers refuse to change modes.
                Some(Err(SftpError::Refused(..))) if number < protecting => {}
                Some(done) => done?,
                None => break,
            }
        }
        Ok(())
    }

    /// Renames the file, and makes the new name durable.
    async fn publish(
        &self,
        first: &PooledConnection,
        temporary: &str,
        target: &str,
        directories: &[File],
    ) -> Result<(), SftpError> {
        if !first.extensions.posix_rename {
            self.publish_without_replacing(first, temporary, target)
                .await?;
            return sync_all(directories).await;
        }
        let mut steps = Window::new();
        steps.begin(first.rename_over(temporary, target)).await;
        for directory in directories {
            steps.begin(directory.sync()).await;
        }
        while let Some(done) = steps.next().await {
            done?;
        }
        Ok(())
    }

    /// Renames the file on a server whose rename never replaces another file. If the name is taken,
    /// the existing object stays. Fails if the existing object has another content.
    async fn publish_without_replacing(
        &self,
        first: &PooledConnection,
        temporary: &str,
        target: &str,
    ) -> Result<(), SftpError> {
        match first.rename(temporary, target).await {
            Err(error @ SftpError::Refused(..)) if self.exists(first).await? => {
                self.compare(first).await.map_err(|_| match error {
                    SftpError::Refused(_, text) => SftpError::known(
                        StorageErrorKind::Exists,
                        format!("the server cannot replace a file: {text}"),
                    ),
                    other => other,
                })?;
                first.remove(temporary).await
            }
            renamed => renamed,
        }
    }

    /// Gives the file a name that must not be taken. Neither a hard link nor, by the protocol, a
    /// rename replaces another file.
    async fn publish_new(
        &self,
        first: &PooledConnection,
        temporary: &str,
        target: &str,
    ) -> Result<(), SftpError> {
        if first.extensions.hardlink {
            match first.link(temporary, target).await {
                Ok(()) => return first.remove(temporary).await,
                Err(SftpError::Refused(..)) if self.exists(first).await? => return Err(taken()),
                // The file system may not support links.
                Err(SftpError::Refused(..)) => {}
                Err(error) => return Err(error),
            }
        }
        match first.rename(temporary, target).await {
            Err(SftpError::Refused(..)) if self.exists(first).await? => Err(taken()),
            renamed => renamed,
        }
    }

    async fn exists(&self, first: &PooledConnection) -> Result<bool, SftpError> {
        match first.attributes(&self.paths.at(self.name)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is(StatusCode::NoSuchFile) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Fails unless the existing object of the name has the same content.
    async fn compare(&self, first: &PooledConnection) -> Result<(), SftpError> {
        let wanted = self.parts.concat();
        let path = self.paths.at(self.name);
        let pace = Pace {
            rate: &self.limits.download,
            options: self.pool.options(),
        };
        match download::get(first, &pace, &path, wanted.len() as u64).await {
            Ok(found) if found == wanted => Ok(()),
            Err(error @ SftpError::Lost(_)) => Err(error),
            _ => Err(taken()),
        }
    }
}

fn taken() -> SftpError {
    SftpError::known(StorageErrorKind::Exists, "the name is taken")
}

/// Makes the names in directories durable.
async fn sync_all(directories: &[File]) -> Result<(), SftpError> {
    all(directories.iter().map(File::sync))
        .await
        .into_iter()
        .collect()
}

/// The bytes of an object. Each connection takes the next block when it is ready for one.
struct Blocks<'a>(Mutex<Rest<'a>>);

struct Rest<'a> {
    parts: &'a [&'a [u8]],
    offset: u64,
    /// The number of bytes that were taken from the first part.
    taken: usize,
}

impl<'a> Blocks<'a> {
    fn new(parts: &'a [&'a [u8]]) -> Self {
        Self(Mutex::new(Rest {
            parts,
            offset: 0,
            taken: 0,
        }))
    }

    /// Reports whether no block is left.
    fn are_taken(&self) -> bool {
        let rest = lock(&self.0);
        rest.parts.iter().all(|part| part.is_empty())
    }

    /// Returns the next bytes, at most `len` of them, with their offset. Returns `None` if no bytes
    /// are left.
    fn take(&self, len: usize) -> Option<(u64, Vec<u8>)> {
        let mut rest = lock(&self.0);
        let mut block = Vec::new();
        while block.len() < len
            && let [part, behind @ ..] = rest.parts
        {
            let bytes = &part[rest.taken..];
            let bytes = &bytes[..bytes.len().min(len - block.len())];
            if block.capacity() == 0 && !bytes.is_empty() {
                block.reserve_exact(len);
            }
            block.extend_from_slice(bytes);
            rest.taken += bytes.len();
            if rest.taken == part.len() {
                rest.parts = behind;
                rest.taken = 0;
            }
        }
        let offset = rest.offset;
        rest.offset += block.len() as u64;
        (!block.is_empty()).then_some((offset, block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_bytes_of_the_parts_in_order() {
        let parts: [&[u8]; 6] = [b"", b"one", b"", b"and two", b"", b""];
        for len in 1..12 {
            let blocks = Blocks::new(&parts);
            let mut whole = Vec::new();
            while let Some((offset, block)) = blocks.take(len) {
                assert_eq!(offset, whole.len() as u64);
                whole.extend_from_slice(&block);
                assert!(block.len() == len || whole.len() == 10);
            }
            assert_eq!(whole, b"oneand two");
        }
        assert_eq!(Blocks::new(&[]).take(5), None);
    }
}
