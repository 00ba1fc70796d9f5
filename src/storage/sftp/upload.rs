//! Putting an object: under a temporary name, by all connections at once if it is large, then under its own.
//!
//! In round trips: the temporary file and its directory are opened; the bytes, the request to wait for the disk
//! and the closing follow each other without waiting for answers; then it is renamed and the directory made
//! durable. Three, however large the object is, and one more for bytes that do not fit the window.

use std::sync::{Arc, Mutex};

use russh_sftp::protocol::StatusCode;

use crate::base::lock;

use super::super::{ErrorKind, temporary};
use super::connection::{Attributes, Connection, File, diagnose};
use super::fault::Fault;
use super::pool::{Lease, Pool};
use super::window::{Window, all};
use super::{Paths, WINDOW, pace};

/// Bytes under way on one connection. Two objects are on their way at a time, and what is asked meanwhile waits behind them.
const UPLOAD_WINDOW: usize = WINDOW / 2;
/// From this size on, an object is worth all connections: the first would not take all of it at once.
const SPREAD_FROM: usize = 2 * UPLOAD_WINDOW;

/// An object on its way to the server.
pub(super) struct Upload<'a> {
    pub(super) pool: &'a Arc<Pool>,
    pub(super) paths: &'a Paths,
    /// Where it is to be, and its directory: both relative to the store.
    pub(super) name: &'a str,
    pub(super) directory: &'a str,
    pub(super) parts: &'a [&'a [u8]],
    /// Whether the name must not be taken yet.
    pub(super) new: bool,
}

impl Upload<'_> {
    pub(super) async fn run(&self) -> Result<(), Fault> {
        // The temporary file of an attempt whose connection was lost.
        let mut left: Option<String> = None;
        let result = self.pool.again(async |lead, attempt| {
            if let Some(left) = left.take() {
                lead.remove_later(left);
            }
            if self.new && attempt > 0 && self.is_there(&lead).await? {
                // The answer to the last attempt was lost: was it that one?
                return self.compare(&lead).await;
            }
            let name =
                temporary::new_name().map_err(|e| Fault::known(ErrorKind::Io, e.to_string()))?;
            let temporary = self.paths.at(&super::below(self.directory, &name));
            let result = self.attempt(&lead, &temporary).await;
            match &result {
                Err(Fault::Lost(_)) => left = Some(temporary),
                // What was in the way is told, not that this failed as well.
                Err(_) => drop(lead.remove(&temporary).await),
                Ok(()) => {}
            }
            result
        });
        result.await
    }

    async fn attempt(&self, lead: &Lease, temporary: &str) -> Result<(), Fault> {
        let target = self.paths.at(self.name);
        let at = self.paths.at(self.directory);
        let wanted: usize = self.parts.iter().map(|part| part.len()).sum();
        let explain = async |fault| diagnose(lead, &at, fault, wanted as u64).await;
        let (file, places) = match self.open(lead, temporary).await {
            Ok(opened) => opened,
            Err(fault) => return Err(explain(fault).await),
        };
        if let Err(fault) = self.send(lead, file, temporary, wanted).await {
            return Err(explain(fault).await);
        }
        let published = if self.new {
            self.publish_new(lead, temporary, &target).await
        } else {
            self.publish(lead, temporary, &target, &places).await
        };
        match published {
            Ok(()) => {}
            Err(fault) => return Err(explain(fault).await),
        }
        if self.new {
            sync_all(&places).await?;
        }
        self.paths.remember(self.directory);
        Ok(())
    }

    /// The temporary file, and the directories that are to be made durable when it has its name.
    async fn open(&self, lead: &Lease, temporary: &str) -> Result<(File, Vec<File>), Fault> {
        if self.new && self.is_there(lead).await? {
            return Err(taken());
        }
        if self.paths.is_known(self.directory) {
            let places = [self.directory];
            let opened = self.open_in(lead, temporary, &[], &places);
            match opened.await {
                // Somebody tidied away an empty directory.
                Err(fault) if fault.is(StatusCode::NoSuchFile) => {}
                opened => return opened,
            }
        }
        // Where there are packs there are those of others: the directory above is there most often.
        let (above, _) = self.directory.rsplit_once('/').unwrap_or_default();
        let places = [above, self.directory];
        let opened = self.open_in(lead, temporary, &places[1..], &places);
        match opened.await {
            Err(fault) if fault.is(StatusCode::NoSuchFile) => {}
            opened => return opened,
        }
        let slashes = self.directory.match_indices('/');
        let mut chain: Vec<_> = slashes.map(|(end, _)| &self.directory[..end]).collect();
        chain.push(self.directory);
        let mut places = vec![""];
        places.extend(&chain);
        self.open_in(lead, temporary, &chain, &places).await
    }

    /// Makes directories, unless they are there, and opens the temporary file and directories: all asked for at
    /// once, and done in this order.
    async fn open_in(
        &self,
        lead: &Lease,
        temporary: &str,
        make: &[&str],
        open: &[&str],
    ) -> Result<(File, Vec<File>), Fault> {
        let paths = |names: &[&str]| names.iter().map(|n| self.paths.at(n)).collect::<Vec<_>>();
        let (make, open) = (paths(make), paths(open));
        let mut making = Window::new();
        for path in &make {
            making.begin(lead.make_directory(path)).await;
        }
        let mut opening = Window::new();
        opening.begin(lead.open_new(temporary)).await;
        if lead.extensions.fsync {
            for path in &open {
                opening.begin(lead.open_read(path)).await;
            }
        }
        // What is there already is refused as well, as a failure: whether it is shows in what follows.
        let mut refused = None;
        while let Some(made) = making.next().await {
            if let Err(fault) = made
                && fault.is(StatusCode::PermissionDenied)
            {
                refused = Some(fault);
            }
        }
        let file = match (opening.next().await, refused) {
            (Some(Err(fault)), Some(refused)) if fault.is(StatusCode::NoSuchFile) => {
                Some(Err(refused))
            }
            (file, _) => file,
        };
        let mut places = Vec::new();
        while let Some(place) = opening.next().await {
            // A server that opens no directories cannot be told to wait for them either.
            places.extend(place);
        }
        let nothing = || Err(Fault::known(ErrorKind::Io, "nothing was opened"));
        Ok((file.unwrap_or_else(nothing)?, places))
    }

    /// Writes all the bytes, and waits until they are on the server's disk.
    async fn send(
        &self,
        lead: &Lease,
        file: File,
        temporary: &str,
        size: usize,
    ) -> Result<(), Fault> {
        let blocks = Blocks::new(self.parts);
        if size < SPREAD_FROM {
            return self.send_by(lead, file, &blocks, true).await;
        }
        let connections = self.pool.with_others(lead);
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
                        // It was late: all of the file is on its way, and nobody may write to it any more.
                        Err(fault)
                            if fault.is(StatusCode::PermissionDenied) && blocks.are_taken() =>
                        {
                            Ok(())
                        }
                        Err(fault) => Err(fault),
                    }
                }
            }
        });
        all(senders).await.into_iter().collect()
    }

    /// Takes blocks and writes them as long as there are some. Each connection waits for the disk itself: it
    /// knows of its own writes that they came before.
    async fn send_by(
        &self,
        connection: &Arc<Connection>,
        file: File,
        blocks: &Blocks<'_>,
        first: bool,
    ) -> Result<(), Fault> {
        let options = self.pool.options();
        let file = &file;
        let most = (UPLOAD_WINDOW / connection.block).max(1);
        let mut window = Window::new();
        while let Some((offset, block)) = blocks.take(connection.block) {
            let pause = options.limits.upload.pause(block.len() as u64);
            let keep = if options.is_long(pause) { 0 } else { most - 1 };
            while window.len() > keep {
                window.next().await.unwrap_or(Ok(()))?;
            }
            pace(pause, &options.cancel).await;
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
                // Not every server lets modes be set.
                Some(Err(Fault::Refused(..))) if number < protecting => {}
                Some(done) => done?,
                None => break,
            }
        }
        Ok(())
    }

    /// Gives the file its name, and makes that durable.
    async fn publish(
        &self,
        lead: &Lease,
        temporary: &str,
        target: &str,
        places: &[File],
    ) -> Result<(), Fault> {
        if !lead.extensions.posix_rename {
            self.publish_without_replacing(lead, temporary, target)
                .await?;
            return sync_all(places).await;
        }
        let mut steps = Window::new();
        steps.begin(lead.rename_over(temporary, target)).await;
        for place in places {
            steps.begin(place.sync()).await;
        }
        while let Some(done) = steps.next().await {
            done?;
        }
        Ok(())
    }

    /// For a server whose rename never replaces. An object is replaced by its like only, so that it can stay.
    async fn publish_without_replacing(
        &self,
        lead: &Lease,
        temporary: &str,
        target: &str,
    ) -> Result<(), Fault> {
        match lead.rename(temporary, target).await {
            Err(fault @ Fault::Refused(..)) if self.is_there(lead).await? => {
                self.compare(lead).await.map_err(|_| match fault {
                    Fault::Refused(_, words) => Fault::known(
                        ErrorKind::Exists,
                        format!("the server cannot replace a file: {words}"),
                    ),
                    other => other,
                })?;
                lead.remove(temporary).await
            }
            renamed => renamed,
        }
    }

    /// A link is never made over another file. Without links: by the protocol, a rename neither.
    async fn publish_new(&self, lead: &Lease, temporary: &str, target: &str) -> Result<(), Fault> {
        if lead.extensions.hardlink {
            match lead.link(temporary, target).await {
                Ok(()) => return lead.remove(temporary).await,
                Err(Fault::Refused(..)) if self.is_there(lead).await? => return Err(taken()),
                // The file system may know no links.
                Err(Fault::Refused(..)) => {}
                Err(fault) => return Err(fault),
            }
        }
        match lead.rename(temporary, target).await {
            Err(Fault::Refused(..)) if self.is_there(lead).await? => Err(taken()),
            renamed => renamed,
        }
    }

    async fn is_there(&self, lead: &Lease) -> Result<bool, Fault> {
        match lead.look(&self.paths.at(self.name)).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.is(StatusCode::NoSuchFile) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Whether the object that is there is this one.
    async fn compare(&self, lead: &Lease) -> Result<(), Fault> {
        let wanted = self.parts.concat();
        let path = self.paths.at(self.name);
        let options = self.pool.options();
        match super::download::get(lead, options, &path, wanted.len() as u64).await {
            Ok(found) if found == wanted => Ok(()),
            Err(fault @ Fault::Lost(_)) => Err(fault),
            _ => Err(taken()),
        }
    }
}

fn taken() -> Fault {
    Fault::known(ErrorKind::Exists, "the name is taken")
}

/// Makes the names in directories durable.
pub(super) async fn sync_all(places: &[File]) -> Result<(), Fault> {
    all(places.iter().map(File::sync))
        .await
        .into_iter()
        .collect()
}

/// The bytes of an object, dealt out in blocks to whoever has room for one.
struct Blocks<'a>(Mutex<Rest<'a>>);

struct Rest<'a> {
    parts: &'a [&'a [u8]],
    offset: u64,
    /// Of the first part.
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

    /// Whether nothing is left.
    fn are_taken(&self) -> bool {
        let rest = lock(&self.0);
        rest.parts.iter().all(|part| part.is_empty())
    }

    /// The next bytes, at most `len` of them, and where they belong.
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

/// Whether something is a file that an upload has left, long enough ago.
pub(super) fn is_leftover(name: &str, attributes: &Attributes, now: u64, age: u64) -> bool {
    temporary::is_name(name.as_bytes())
        && attributes.is_file()
        && now.saturating_sub(attributes.modified) >= age
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_bytes_in_order() {
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
