//! A file on the client that lists packs that no segment names yet. These packs are stored, or
//! about to be stored.
//!
//! If a process is killed, the next one finds its packs in this file, without listing the store. If
//! the file is lost, no data is lost, but the packs take space until the next prune.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::error::RepoError;
use super::super::leases::{self, Lease, Marks};
use super::super::object_ref::ObjectRef;
use super::super::parallel::parallel_map;
use super::super::project::Project;
use crate::base::ObjectHash;
use crate::storage;

/// The list of packs that no segment names yet. The file has one line for each pack.
pub struct UnindexedPacks {
    file: Option<File>,
    noted: Vec<ObjectHash>,
    lease: Option<Arc<Lease>>,
}

/// Maximum number of bytes read from the file. A process stores some dozens of packs between two
/// segments.
const LEN_MAX: u64 = 1 << 20;

impl UnindexedPacks {
    /// Opens the file and returns the packs in it. If another process has it open, or it cannot be
    /// written, returns no packs, and keeps the list in memory only.
    #[must_use]
    pub fn open(path: &Path) -> (Self, Vec<ObjectHash>) {
        let open = || -> io::Result<(File, Vec<ObjectHash>)> {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            file.try_lock()?;
            let mut text = String::new();
            io::Read::by_ref(&mut file)
                .take(LEN_MAX)
                .read_to_string(&mut text)?;
            Ok((
                file,
                text.lines().filter_map(|line| line.parse().ok()).collect(),
            ))
        };
        match open() {
            Ok((file, packs)) => {
                let (mut unindexed, _) = Self::none();
                unindexed.file = Some(file);
                (unindexed, packs)
            }
            Err(_) => Self::none(),
        }
    }

    /// Returns an empty list without a file, and no packs.
    #[must_use]
    pub fn none() -> (Self, Vec<ObjectHash>) {
        let unindexed = Self {
            file: None,
            noted: Vec::new(),
            lease: None,
        };
        (unindexed, Vec::new())
    }

    /// Returns the same list, for a process that holds this lease.
    #[must_use]
    pub fn with_lease(mut self, lease: &Arc<Lease>) -> Self {
        self.lease = Some(Arc::clone(lease));
        self
    }

    /// Must be called before a segment names these packs. `since` is when this process began to
    /// store the first of them, counted from the start of the machine.
    ///
    /// If this process was suspended for minutes, a prune may have ignored its lease and deleted
    /// its packs as unused. In this case, announces the packs in the lease again. Then fails if one
    /// of them no longer exists or is going to be deleted, since a segment must not name packs that
    /// do not exist.
    pub(super) fn check_nameable(
        &self,
        project: &Project,
        packs: &[ObjectRef],
        since: Duration,
    ) -> Result<(), RepoError> {
        let lapsed = match &self.lease {
            Some(lease) => {
                lease.confirm()?;
                lease.may_have_expired()
            }
            None => false,
        };
        if !lapsed && !leases::is_late(since) {
            return Ok(());
        }
        if self.announce(project, packs)?.is_empty() {
            Ok(())
        } else {
            Err(RepoError::LostRace)
        }
    }

    /// Announces in the lease, if there is one, that this process relies on these packs. Returns
    /// those that no longer exist or are going to be deleted. Fails if a mark is damaged. Without a
    /// lease, does not look for marks.
    pub(super) fn announce(
        &self,
        project: &Project,
        packs: &[ObjectRef],
    ) -> Result<HashSet<ObjectHash>, RepoError> {
        let mut marked = HashSet::new();
        if let Some(lease) = &self.lease {
            let hashes: Vec<_> = packs.iter().filter_map(ObjectRef::hash).collect();
            lease.rely_on(&hashes)?;
            let marks = Marks::load(project)?;
            if marks.any_damaged() {
                return Err(RepoError::LostRace);
            }
            marked = marks.packs();
        }
        let usable = parallel_map(packs, |pack| {
            match project.objects.backend().size(&pack.name()) {
                Ok(_) => Ok(pack.hash().is_some_and(|hash| !marked.contains(&hash))),
                Err(e) if e.kind == storage::StorageErrorKind::NotFound => Ok(false),
                Err(e) => Err(e.into()),
            }
        })?;
        let unusable = packs.iter().zip(usable).filter(|(_, usable)| !usable);
        Ok(unusable.filter_map(|(pack, _)| pack.hash()).collect())
    }

    /// Adds a pack. Does not sync the file: if only the process is killed, the line stays. A crash
    /// of the machine may lose it.
    pub fn add(&mut self, pack: ObjectHash) {
        self.noted.push(pack);
        if let Some(file) = &mut self.file {
            let _ = writeln!(file, "{pack}");
        }
    }

    /// Removes the packs that a segment names now, and those of earlier processes.
    pub(super) fn remove(&mut self, named: &[ObjectHash]) {
        let noted = std::mem::take(&mut self.noted);
        if let Some(file) = &mut self.file {
            let _ = file.set_len(0).and_then(|()| file.rewind());
        }
        for pack in noted {
            if !named.contains(&pack) {
                self.add(pack);
            }
        }
    }
}
