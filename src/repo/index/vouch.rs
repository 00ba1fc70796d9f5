//! Stores audits. They state that a full key has read packs of other signers and found them
//! undamaged.

use super::state::Index;
use crate::format::{IndexSegment, PackListing};
use crate::repo::audits::Audits;
use crate::repo::error::RepoError;
use crate::repo::leases::{Lease, Marks, Worker};
use crate::repo::log::Log;
use crate::repo::object_ref::ObjectRef;
use crate::repo::parallel::parallel_map;
use crate::repo::project::Project;
use crate::storage::StorageErrorKind;

/// Maximum number of packs in one segment that [`Index::vouch`] stores.
const SEGMENT_PACKS: usize = 128;
/// Maximum number of packs in the audits of one call. Their names fit into the lease.
const PACKS_MAX: usize = 50_000;

impl Index {
    /// States in audits that these packs were read and found undamaged, and names them in segments
    /// of this client. Then other clients deduplicate against them. Leaves out packs that are
    /// missing or going to be deleted, and all packs if a mark is damaged. Returns the number of
    /// packs that the audits name.
    pub fn vouch(
        &self,
        packs: Vec<PackListing>,
        lease: &Lease,
        worker: Worker<'_>,
    ) -> Result<usize, RepoError> {
        let packs = existing(&self.project, lease, packs)?;
        if packs.is_empty() {
            return Ok(0);
        }
        let names = packs.iter().map(|pack| pack.pack).collect();
        let count = packs.len();
        let mut packs = packs.into_iter().peekable();
        while packs.peek().is_some() {
            let segment = IndexSegment {
                packs: packs.by_ref().take(SEGMENT_PACKS).collect(),
                superseded: Vec::new(),
            };
            self.store_segment(segment)?;
        }
        Audits::put(&self.project, &names, worker)?;
        Ok(count)
    }
}

/// Announces in the lease that segments are going to name these packs. Returns at most
/// [`PACKS_MAX`] of them. Other clients will rely on packs that the segments name. So leaves out
/// packs that do not exist, that a mark names, or that the log removes. Returns none if a mark is
/// damaged.
fn existing(
    project: &Project,
    lease: &Lease,
    mut packs: Vec<PackListing>,
) -> Result<Vec<PackListing>, RepoError> {
    // A later call can store audits of the remaining packs.
    packs.truncate(PACKS_MAX);
    let names: Vec<_> = packs.iter().map(|pack| pack.pack).collect();
    lease.rely_on(&names)?;
    let marks = Marks::load(project)?;
    if marks.any_damaged() {
        return Ok(Vec::new());
    }
    let marked = marks.packs();
    // Leave out packs that the log removes: if they vanished, no command would report them as lost.
    Log::load(project)?;
    let removed = Log::removals(project)?;
    packs.retain(|pack| !marked.contains(&pack.pack) && !removed.has_pack(&pack.pack));
    let exists = parallel_map(&packs, |pack| {
        let object = ObjectRef::of_pack(project.id, pack.contents.kind, pack.pack);
        match project.objects.backend().size(&object.name()) {
            Ok(_) => Ok(true),
            Err(e) if e.kind == StorageErrorKind::NotFound => Ok(false),
            Err(e) => Err(e.into()),
        }
    })?;
    let packs = packs.into_iter().zip(exists).filter(|(_, exists)| *exists);
    Ok(packs.map(|(pack, _)| pack).collect())
}
