//! Opening and closing an index.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::damage_notes::DamageNotes;
use super::db::{Db, OpenedDb};
use super::panics::catch;
use super::segments::SegmentsSeen;
use super::state::{Current, Index, memory_db, open_db, unusable};
use crate::base::{Notice, Observer, RebuildReason, recover, remove_unless_private};
use crate::repo::error::RepoError;
use crate::repo::project::Project;

/// Maximum number of processes on one host that can have an index file of a project open at the
/// same time.
const FILES_MAX: usize = 64;

/// The content of an index in memory that is no longer used. Another index of the same project can
/// start with it, and then reads only newer segments.
pub struct IndexContent(Db);

impl Index {
    /// Opens the project's cache below `cache`, creates or rebuilds it as needed, and brings it up
    /// to date.
    pub fn open(
        project: &Project,
        cache: &Path,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, RepoError> {
        let (current, damage) = open_file(project, cache, &*observer)?;
        let index = Self::new(project, current, damage, observer);
        index.sync()?;
        index.load_audits()?;
        Ok(Arc::new(index))
    }

    /// Opens the cache like [`open`](Self::open), but does not list the segments of the store again
    /// unless it must. So the cache gets the state of the time when `seen` was listed, or a later
    /// state.
    pub(crate) fn open_as_of(
        project: &Project,
        cache: &Path,
        observer: Arc<dyn Observer>,
        seen: &SegmentsSeen,
    ) -> Result<Arc<Self>, RepoError> {
        let (current, damage) = open_file(project, cache, &*observer)?;
        let index = Self::new(project, current, damage, observer);
        index.sync_as_of(seen)?;
        index.load_audits()?;
        Ok(Arc::new(index))
    }

    /// Takes the content of an index in memory. Afterwards, the index must not be used. Returns
    /// `None` if the index is in a file, or if there is an error.
    pub fn take_content(&self) -> Option<IndexContent> {
        let empty = memory_db(&self.project).ok()?;
        let mut current = self.current_mut();
        let is_usable = current.db.path().is_none() && !current.is_incomplete;
        is_usable.then(|| IndexContent(std::mem::replace(&mut current.db, empty)))
    }

    /// Creates an index in memory with this content, and brings it up to date like
    /// [`open_as_of`](Self::open_as_of).
    pub(crate) fn continue_as_of(
        project: &Project,
        content: IndexContent,
        observer: Arc<dyn Observer>,
        seen: &SegmentsSeen,
    ) -> Result<Arc<Self>, RepoError> {
        let current = Current {
            db: content.0,
            rebuilds: 0,
            is_incomplete: false,
        };
        let index = Self::new(project, current, DamageNotes::new(None), observer);
        index.sync_as_of(seen)?;
        index.load_audits()?;
        Ok(Arc::new(index))
    }

    /// Creates an index in memory and fills it from the store.
    pub fn in_memory(
        project: &Project,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, RepoError> {
        let current = Current {
            db: memory_db(project)?,
            rebuilds: 0,
            is_incomplete: false,
        };
        let index = Self::new(project, current, DamageNotes::new(None), observer);
        index.sync()?;
        index.load_audits()?;
        Ok(Arc::new(index))
    }
}

impl Drop for Index {
    /// Closes the index file so that the next process need not verify it, if
    /// [`close`](Self::close) was called. Otherwise, the database is only dropped.
    fn drop(&mut self) {
        let current = recover(self.current.get_mut());
        if !*self.closes.get_mut() || current.db.path().is_none() {
            return;
        }
        if let Ok(empty) = memory_db(&self.project) {
            let db = std::mem::replace(&mut current.db, empty);
            let _ = catch(|| {
                db.close();
                Ok(())
            });
        }
    }
}

/// Opens the first index file that no other process has open, or a database in memory if no file
/// can be used. A file that cannot be opened is deleted and created again. Also returns the notes
/// of damaged packs and segments that are kept in this cache.
fn open_file(
    project: &Project,
    cache: &Path,
    observer: &dyn Observer,
) -> Result<(Current, DamageNotes), RepoError> {
    let directory = project.cache_dir(cache);
    let mut rebuilds = 0;
    let mut notify = |why: RebuildReason| {
        observer.notice(Notice::IndexRebuilt(why));
        rebuilds = 1;
    };
    let mut found = None;
    let mut notes = None;
    if let Err(error) = directory.create() {
        notify(RebuildReason::Directory {
            path: directory.path().to_owned(),
            problem: error.to_string(),
        });
    } else {
        let path = directory.damaged();
        notes = remove_unless_private(&path).is_ok().then_some(path);
        for number in 0..FILES_MAX {
            let path = directory.path().join(format!("index-{number}.redb"));
            // Remove a file that another user may have prepared. Two more files belong to the index
            // file: its stamp (see `Db::close`) and the list of packs that are not indexed yet.
            for extension in ["redb", "stamp", "pending"] {
                let _ = remove_unless_private(&path.with_extension(extension));
            }
            let opened = open_db(project, &path).or_else(|error| {
                notify(unusable(&error));
                let _ = fs::remove_file(&path);
                open_db(project, &path)
            });
            match opened {
                Ok(OpenedDb::Busy) => {}
                Ok(OpenedDb::Ready(db)) => {
                    found = Some(*db);
                    break;
                }
                Err(_) => break,
            }
        }
    }
    let db = found.map_or_else(|| memory_db(project), Ok)?;
    let current = Current {
        db,
        rebuilds,
        is_incomplete: false,
    };
    Ok((current, DamageNotes::new(notes)))
}
