//! Plans a repair of the index.

use std::collections::HashSet;
use std::sync::Arc;

use super::needed::{Needs, find_needs};
use crate::base::ObjectHash;
use crate::format::LogKind;
use crate::ops::context::{Context, TOOL};
use crate::ops::error::OpsError;
use crate::ops::prune::refuse_second;
use crate::repo::{
    Index, Lease, Leases, ListedPack, Log, Marks, ObjectKind, ObjectRef, Project, Records,
    RepoError, Work, Worker, exclude_damaged, read_listing,
};

/// What a repair of the index does with one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexAction {
    /// Supersedes a damaged segment by new ones.
    Replace,
    /// Adds an entry to the log that removes a missing segment: other segments name its packs.
    Remove,
    /// Names a pack in a new segment, since no segment names it.
    Name,
    /// Nothing: this process may not read the segment, so it is not known to be damaged.
    Denied,
    /// Nothing: backups lack data, or may lack data because a record cannot be read. Perhaps only
    /// this damaged or missing segment names the pack with the data. That pack is missing, or its
    /// own list of its content cannot be read.
    MayBeNeeded,
    /// Nothing: no segment names the pack, and its own list of its content cannot be read.
    NoListing,
}

/// An object that the index lacks or cannot use, and what a repair does with it.
#[derive(Debug, Clone)]
pub struct IndexStep {
    /// The segment or the pack.
    pub object: ObjectRef,
    /// The action.
    pub action: IndexAction,
    /// The damage of the object, if it is known.
    pub problem: Option<Arc<RepoError>>,
}

impl IndexStep {
    /// Returns whether the repair solves the problem with this object.
    #[must_use]
    pub const fn repairs(&self) -> bool {
        matches!(
            self.action,
            IndexAction::Replace | IndexAction::Remove | IndexAction::Name
        )
    }
}

/// A planned repair of the index.
pub struct IndexRepair<'a> {
    pub(super) project: Project,
    pub(super) context: &'a Context<'a>,
    pub(super) by: Worker<'a>,
    /// `None` in a dry run.
    pub(super) lease: Option<Lease>,
    pub(super) index: Arc<Index>,
    pub(super) steps: Vec<IndexStep>,
    /// The packs that new segments will name.
    pub(super) packs: Vec<ListedPack>,
    /// Whether a backup needs data that no readable pack has.
    pub(super) lacks_data: bool,
    /// The size of all segments in the store, in bytes.
    pub(super) segment_bytes: u64,
}

/// Reads all segments, and the listings of the packs that no segment names. Plans how to make the
/// index complete. With `dry_run`, takes no lease, and the plan must not be run. Without it, fails
/// if a prune runs: no two processes may replace segments at the same time. Needs a full key.
pub fn plan_index_repair<'a>(
    project: &Project,
    host: Option<&'a str>,
    dry_run: bool,
    context: &'a Context<'a>,
) -> Result<IndexRepair<'a>, OpsError> {
    // Use no cached copies, since the segments in the store may be damaged.
    let project = project.without_copies();
    let by = Worker { host, tool: TOOL };
    let lease = if dry_run {
        None
    } else {
        Some(Lease::take(&project, Work::Prune, by)?)
    };
    // The index leaves out the segments that the log removes, so read the log first. Read the marks
    // before packs are listed: a pack that a prune deletes has a mark.
    let log = Log::load(&project)?;
    let marked = Marks::load(&project)?.packs();
    if lease.is_some() {
        refuse_second(&project, &Leases::load(&project, lease.as_ref())?)?;
    }
    // Backups may run, so read the records before the index. Then the index knows all their data.
    let records = Records::load(&project)?;
    let index = context.index(&project)?;
    let damaged = damaged_segments(&index)?;
    index.scan_unindexed()?;
    let mut found = Found::list(&index, &marked, context)?;
    let directory = ObjectKind::Index.directory(project.id);
    let listed = project.objects.list(&directory)?;
    let segment_bytes = listed.iter().map(|(.., info)| info.size).sum();
    let stored: HashSet<_> = listed.iter().filter_map(|(o, ..)| o.hash()).collect();
    let mut missing = log.added(LogKind::Segment);
    missing.retain(|segment| !stored.contains(segment));

    let lacks_segments = !missing.is_empty() || damaged.iter().any(is_damaged);
    let all = lacks_segments || !found.unlisted.is_empty();
    let needs = if all || !found.packs.is_empty() {
        let unnamed = found.packs.iter().map(|pack| pack.hash).collect();
        let mut needs = find_needs(&index, &records, &unnamed, all, context)?;
        if needs.unnamed && !all {
            // A segment that named one of these packs is missing, and the log does not name this
            // segment. The segment may have named missing packs, too.
            needs = find_needs(&index, &records, &unnamed, true, context)?;
        }
        needs
    } else {
        Needs::default()
    };
    if !needs.nowhere && !needs.unknown {
        // These packs have nothing that a backup needs.
        found.unlisted.clear();
    }
    if !lacks_segments && !needs.unnamed && found.unlisted.is_empty() {
        // An interrupted backup left these packs, or a running one has not named them yet.
        found.packs.clear();
    }
    let may_be_needed = needs.nowhere || needs.unknown || !found.unlisted.is_empty();
    let steps = steps(&project, damaged, &missing, &found, may_be_needed);
    Ok(IndexRepair {
        project,
        context,
        by,
        lease,
        index,
        steps,
        packs: found.packs,
        lacks_data: needs.nowhere,
        segment_bytes,
    })
}

/// Returns the errors of the damaged and foreign segments. The packs that only they name count as
/// packs that no segment names.
fn damaged_segments(index: &Index) -> Result<Vec<RepoError>, OpsError> {
    if index.verify_segments()?.is_empty() {
        return Ok(Vec::new());
    }
    // The cache may still have the content of damaged segments. This call rebuilds the cache
    // without them.
    exclude_damaged(index)?;
    let cached: HashSet<_> = index.segments()?.into_iter().collect();
    // The memory or the connection may have been bad, so read the segments again. Leave out
    // segments that the cache has: their packs count as named, so no new segment would name them.
    let mut damaged = index.verify_segments()?;
    damaged.retain(|error| {
        error
            .object_hash()
            .is_some_and(|hash| !cached.contains(&hash))
    });
    Ok(damaged)
}

fn is_damaged(error: &RepoError) -> bool {
    matches!(error, RepoError::Damaged { .. })
}

/// Packs in the store that no segment names, except those that are going to be deleted and those
/// that the log removes.
struct Found {
    /// The packs whose content is known.
    packs: Vec<ListedPack>,
    /// The packs whose content is not known, and why.
    unlisted: Vec<(ObjectRef, Arc<RepoError>)>,
}

impl Found {
    fn list(
        index: &Index,
        marked: &HashSet<ObjectHash>,
        context: &Context<'_>,
    ) -> Result<Self, OpsError> {
        let project = index.project();
        let removed = Log::removals(project)?;
        // A pack that only superseded segments name counts as unnamed, too.
        let unnamed = index.unnamed()?.into_iter().chain(index.retired()?);
        let unnamed: HashSet<_> = unnamed.collect();
        let mut found = Self {
            packs: Vec::new(),
            unlisted: Vec::new(),
        };
        for pack in index.list_packs()? {
            context.cancel.check()?;
            if marked.contains(&pack.hash) || removed.has_pack(&pack.hash) {
                continue;
            }
            if unnamed.contains(&pack.hash) {
                found.packs.push(pack);
            } else if !index.has_pack(&pack.hash)? {
                let object = pack.object(project.id);
                match read_listing(project, object, Some(pack.info.size)) {
                    // A running backup has just stored this pack, and will name it soon. Foreign
                    // packs do not count.
                    Ok(_) | Err(RepoError::Foreign { .. }) => {}
                    Err(error) if error.is_missing() => {}
                    Err(error @ (RepoError::Damaged { .. } | RepoError::Unsupported { .. })) => {
                        found.unlisted.push((object, Arc::new(error)));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(found)
    }
}

/// Returns the step for each damaged or missing segment, and for each pack that no segment names.
/// `may_be_needed` says whether a lost segment may be the only one that names a pack which backups
/// need. This is also possible if a record cannot be read.
fn steps(
    project: &Project,
    damaged: Vec<RepoError>,
    missing: &[ObjectHash],
    found: &Found,
    may_be_needed: bool,
) -> Vec<IndexStep> {
    let step = |object, action, problem| IndexStep {
        object,
        action,
        problem,
    };
    let mut steps = Vec::new();
    for problem in damaged {
        // Foreign segments are ignored.
        let RepoError::Damaged { object, .. } = problem else {
            continue;
        };
        let action = if problem.is_denied() {
            IndexAction::Denied
        } else if may_be_needed {
            IndexAction::MayBeNeeded
        } else {
            IndexAction::Replace
        };
        steps.push(step(object, action, Some(Arc::new(problem))));
    }
    for segment in missing {
        let action = if may_be_needed {
            IndexAction::MayBeNeeded
        } else {
            IndexAction::Remove
        };
        steps.push(step(ObjectRef::Index(project.id, *segment), action, None));
    }
    for (object, problem) in &found.unlisted {
        steps.push(step(
            *object,
            IndexAction::NoListing,
            Some(Arc::clone(problem)),
        ));
    }
    let packs = found.packs.iter();
    steps.extend(packs.map(|pack| step(pack.object(project.id), IndexAction::Name, None)));
    steps
}
