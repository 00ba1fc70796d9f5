//! Prune: what is used (`usage`), what that means for the packs that there are (`plan`), packing again (`repack`), and
//! deleting in two steps. `docs/concurrency.md` says why nothing that is used can be deleted, whoever runs beside.

mod ids;
mod plan;
mod repack;
mod state;
mod usage;

pub use plan::{Amount, MaxUnused, PruneOptions, PrunePlan};

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use self::plan::{Steps, plan};
use self::state::RepoState;
use self::usage::{Known, Usage};
use super::context::{Context, TOOL, thread_pool, unindexed_packs};
use super::error::OpsError;
use crate::base::{BlobId, ObjectHash};
use crate::format::BlobKind;
use crate::repo::{
    BlobReader, Index, Lease, Leases, Marks, ObjectRef, Project, Records, RepoError, RepoErrorKind,
    Tombstones, Work, Worker, read_listing,
};

/// Uploads that were cut short are removed after this time.
const UPLOAD_LIFE: Duration = Duration::from_hours(24);
/// The same of a run that is to spare nobody, if no other one is seen to be at work.
const UPLOAD_LIFE_ALONE: Duration = Duration::from_mins(1);

/// What a prune did.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneReport {
    /// Packs that were deleted.
    pub deleted: Amount,
    /// Packs that were marked, and are still there.
    pub marked: Amount,
    /// Packs of which what is used was packed again.
    pub repacked: Amount,
    /// Bytes of packs that were read for that.
    pub bytes_read: u64,
    /// Bytes of packs and index segments that were stored.
    pub bytes_written: u64,
    /// Packs that had been marked and are in use again.
    pub rescued: u64,
    /// Uploads that were cut short, removed.
    pub uploads: u64,
}

/// A prune that is planned, and may be done.
pub struct Prune<'a> {
    project: &'a Project,
    context: &'a Context<'a>,
    options: &'a PruneOptions,
    /// None in a dry run.
    lease: Option<Arc<Lease>>,
    index: Arc<Index>,
    sight: RepoState,
    usage: Usage,
    plan: PrunePlan,
}

/// Finds out what is used and makes a plan. With `dry_run` nothing is told to others, and the plan is only to be shown.
pub fn plan_prune<'a>(
    project: &'a Project,
    options: &'a PruneOptions,
    dry_run: bool,
    context: &'a Context<'a>,
) -> Result<Prune<'a>, OpsError> {
    let lease = if dry_run {
        None
    } else {
        Some(Arc::new(Lease::take(
            project,
            Work::Prune,
            worker(options),
        )?))
    };
    let index = context.index(project)?;
    let mut sight = look(project, lease.as_deref(), &index)?;
    if let Some(other) = sight
        .leases
        .others
        .iter()
        .find(|l| l.is_held_for(Work::Prune))
        && !dry_run
    {
        return Err(OpsError::PruneRuns {
            host: other.host.clone(),
            age: other.age.as_secs(),
        });
    }
    let pool = thread_pool(context.threads)?;
    let find = |sight: &RepoState| pool.install(|| find_usage(&index, sight, context));
    let mut found = find(&sight);
    let is_incomplete = match &found {
        Err(OpsError::Repo(error)) => error.kind() == RepoErrorKind::Damaged,
        Ok((usage, _)) => usage.lacks_held(),
        Err(_) => false,
    };
    if is_incomplete && index.resync()? {
        // What the index knows now may have come since: beside the packs seen before, it would seem lost.
        sight = look(project, lease.as_deref(), &index)?;
        found = find(&sight);
    }
    let (mut usage, known) = found?;
    let plan = plan(&index, &mut usage, &known, &sight, options, context)?;
    Ok(Prune {
        project,
        context,
        options,
        lease,
        index,
        sight,
        usage,
        plan,
    })
}

fn worker(options: &PruneOptions) -> Worker<'_> {
    Worker {
        host: options.host.as_deref(),
        tool: TOOL,
    }
}

/// Looks at everything that counts, and brings the index up to date.
fn look(project: &Project, lease: Option<&Lease>, index: &Index) -> Result<RepoState, OpsError> {
    let marks = Marks::load(project)?;
    let leases = Leases::load(project, lease)?;
    let records = Records::load(project)?;
    // What cannot be read uses nobody knows what.
    if !records.damaged().is_empty() {
        return Err(OpsError::Unreadable {
            records: records.damaged().iter().map(with_causes).collect(),
        });
    }
    index.sync()?;
    let packs = index.list_packs()?.into_iter().collect();
    Ok(RepoState {
        marks,
        leases,
        records,
        packs,
    })
}

/// Returns the message of an error and those of its causes, in one line.
fn with_causes(error: &RepoError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Everything that records and running backups use, and the packs that the index knows.
fn find_usage(
    index: &Arc<Index>,
    sight: &RepoState,
    context: &Context<'_>,
) -> Result<(Usage, Vec<ObjectHash>), OpsError> {
    let there = |pack: &ObjectHash| sight.packs.contains_key(pack);
    let (mut usage, known) = Usage::new(index, there, context)?;
    walk_all(
        index,
        &mut usage,
        sight,
        context,
        &mut |kind, id, known| match known {
            Known::Stored => Ok(()),
            Known::Nowhere => Err(missing(kind, id)),
        },
    )?;
    Ok((usage, known))
}

fn missing(kind: BlobKind, id: &BlobId) -> RepoError {
    let kind = match kind {
        BlobKind::Chunk => "chunk",
        BlobKind::Node => "tree node",
    };
    RepoError::Missing { kind, id: *id }
}

/// Walks the trees of all records, of all backups that are about to be committed, and of those that are being read.
fn walk_all(
    index: &Arc<Index>,
    usage: &mut Usage,
    sight: &RepoState,
    context: &Context<'_>,
    new: &mut dyn FnMut(BlobKind, &BlobId, Known) -> Result<(), RepoError>,
) -> Result<(), OpsError> {
    let blobs = BlobReader::new(index).stopped_by(context.cancel);
    let backups = sight.records.all();
    for (done, backup) in (1..).zip(backups) {
        if let Some(top) = backup.top {
            let class = usage.class(backup.volume);
            usage.walk(&blobs, top, class, context, new)?;
        }
        usage::tell(context, done, backups.len());
    }
    let others = sight.leases.others.iter();
    let writers = others.filter(|lease| lease.alive && !lease.is_held_for(Work::Read));
    for top in writers.flat_map(|lease| &lease.tops) {
        usage.walk(&blobs, *top, usage::ANY_CLASS, context, new)?;
    }
    // Last: it passes over damage, and what it has noted is not looked at again.
    for top in sight.leases.trees_read() {
        usage.hold(&blobs, top, context)?;
    }
    Ok(())
}

impl Prune<'_> {
    /// What will be done.
    #[must_use]
    pub fn plan(&self) -> &PrunePlan {
        &self.plan
    }

    /// Ends without doing it.
    pub fn close(self) {
        self.index.close();
    }

    /// Does it.
    ///
    /// What is new is there before anything else is touched; what is to go is marked, then loses its name, and is
    /// deleted by a later run, or after another look if there is no grace.
    pub fn run(mut self) -> Result<PruneReport, OpsError> {
        let mut report = PruneReport::default();
        let steps = std::mem::take(&mut self.plan.steps);
        let (journal, _) = unindexed_packs(&self.index);
        let journal = match &self.lease {
            Some(lease) => journal.with_lease(lease),
            None => journal,
        };
        let (index, usage) = (&self.index, &mut self.usage);
        // A blob may lie in a pack that is packed again and in another one that goes, too, or that nothing names yet.
        let marks = self.sight.marks.packs();
        let mut unnamed = index.unnamed()?;
        unnamed.retain(|pack| !steps.rescue.contains(pack) && !marks.contains(pack));
        index.exclude(unnamed.iter().copied());
        let gone = marks.iter().filter(|pack| !steps.rescue.contains(pack));
        let going = steps.mark.iter().chain(&steps.repack).map(|p| &p.pack);
        index.exclude(gone.chain(going).chain(&steps.lost).copied());
        let repacked = repack::repack(index, usage, &steps.repack, journal, self.context)?;
        // A backup may come to name them, and rely on them.
        index.include_again(&unnamed);
        report.repacked = self.plan.repack;
        report.bytes_read = repacked.read;
        report.bytes_written = repacked.written;

        let marked = steps.mark.iter().chain(&steps.repack);
        let sizes: BTreeMap<_, _> = marked.map(|pack| (pack.pack, pack.size)).collect();
        let packs: Vec<_> = sizes.keys().copied().collect();
        self.stand()?;
        let records: Vec<_> = self.sight.records.all().iter().map(|b| b.id).collect();
        let by = worker(self.options);
        let mut own = Marks::put(self.project, &packs, &[], &records, by)?;
        report.marked = Amount {
            packs: sizes.len() as u64,
            bytes: sizes.values().sum(),
        };

        let segments = self.unname(&steps, &packs, &mut report)?;
        self.stand()?;
        own.extend(Marks::put(self.project, &[], &segments, &[], by)?);

        self.delete_due(&steps, &mut report)?;
        if self.options.grace.is_zero() && !own.is_empty() {
            self.delete_at_once(&own, &sizes, &segments, &mut report)?;
        }
        self.tidy(&mut report)?;
        self.index.close();
        Ok(report)
    }

    /// Whether this run still may do what it planned: had its lease passed for dead, another one might have done
    /// it, and things be otherwise by now.
    fn stand(&self) -> Result<(), OpsError> {
        self.context.cancel.check()?;
        if self.lease.as_ref().is_some_and(|lease| lease.may_be_dead()) {
            return Err(OpsError::PausedTooLong);
        }
        Ok(())
    }

    /// Makes segments that do not name what is marked any more, and that name what is in use again. Those that
    /// they stand for and no mark names yet.
    fn unname(
        &self,
        steps: &Steps,
        marked: &[ObjectHash],
        report: &mut PruneReport,
    ) -> Result<Vec<ObjectHash>, OpsError> {
        let mut without = self.sight.marks.packs();
        without.extend(marked);
        without.extend(&steps.lost);
        // What was packed again needs no name any more.
        let stays = |pack: &&ObjectHash| !marked.contains(pack);
        for rescued in steps.rescue.iter().filter(stays) {
            without.remove(rescued);
        }
        let mut rescued = Vec::new();
        for pack in steps.rescue.iter().filter(stays) {
            // An earlier run may have named it.
            if !self.index.is_named(pack)? {
                rescued.push(read_listing(self.project, *pack, None)?);
            }
        }
        report.rescued = self.plan.rescue.packs;
        let stand = || self.stand();
        let rewritten = self.index.rewrite_segments(&without, rescued, stand)?;
        report.bytes_written += rewritten.bytes_stored;
        let waiting = self.sight.marks.segments();
        let mut replaced = rewritten.replaced;
        replaced.retain(|name| !waiting.contains(name));
        Ok(replaced)
    }

    /// Deletes what earlier runs marked, as far as its time has come.
    fn delete_due(&self, steps: &Steps, report: &mut PruneReport) -> Result<(), OpsError> {
        for (pack, size) in &steps.delete {
            self.delete_pack(*pack, *size, report)?;
        }
        let done = steps.delete.iter().map(|(pack, _)| pack);
        let done: HashSet<_> = done.chain(&steps.rescue).copied().collect();
        let RepoState {
            leases,
            marks,
            packs,
            ..
        } = &self.sight;
        for mark in marks.all() {
            let age = leases.now.duration_since(mark.since).unwrap_or_default();
            // One that names a pack which has to wait stays for its sake.
            let waits = |pack: &ObjectHash| packs.contains_key(pack) && !done.contains(pack);
            if age >= self.options.grace && !mark.packs.iter().any(waits) {
                self.delete_segments(&mark.segments)?;
                let is_free = |pack: &ObjectHash| steps.rescue.contains(pack);
                let all_gone = !mark.packs.iter().any(is_free);
                if !all_gone || !leases.may_have_missed(mark.since) {
                    self.remove_mark(mark.name)?;
                }
            }
        }
        Ok(())
    }

    fn delete_pack(
        &self,
        pack: ObjectHash,
        size: u64,
        report: &mut PruneReport,
    ) -> Result<(), OpsError> {
        self.stand()?;
        let object = ObjectRef::Pack(self.project.id, pack);
        self.project.objects.delete(object)?;
        report.deleted.add(size);
        Ok(())
    }

    fn delete_segments(&self, segments: &[ObjectHash]) -> Result<(), OpsError> {
        let replaced: HashSet<_> = self.index.replaced_segments()?.into_iter().collect();
        for segment in segments {
            // If what stood for it is gone, it counts again.
            if replaced.contains(segment) {
                self.stand()?;
                let object = ObjectRef::Index(self.project.id, *segment);
                self.project.objects.delete(object)?;
            }
        }
        Ok(())
    }

    fn remove_mark(&self, mark: ObjectHash) -> Result<(), OpsError> {
        self.stand()?;
        Ok(Marks::remove(self.project, mark)?)
    }

    /// Looks again who uses what this run has marked, and deletes the rest. What is in doubt stays marked, for
    /// the next run to look at.
    fn delete_at_once(
        &mut self,
        own: &[ObjectHash],
        sizes: &BTreeMap<ObjectHash, u64>,
        segments: &[ObjectHash],
        report: &mut PruneReport,
    ) -> Result<(), OpsError> {
        let before: HashSet<_> = self.sight.marks.names().collect();
        self.index.exclude(sizes.keys().copied());
        let now = look(self.project, self.lease.as_deref(), &self.index)?;
        let known = |name: &ObjectHash| before.contains(name) || own.contains(name);
        if !now.marks.names().all(|name| known(&name)) {
            return Ok(());
        }
        // What came into use since the first look has to lie in packs that stay.
        let index = &self.index;
        let in_use = walk_all(
            index,
            &mut self.usage,
            &now,
            self.context,
            &mut |kind, id, _| match index.find(id)? {
                Some(_) => Ok(()),
                None => Err(missing(kind, id)),
            },
        );
        match in_use {
            Err(OpsError::Repo(error)) if error.kind() == RepoErrorKind::Damaged => return Ok(()),
            other => other?,
        }
        let mut spared = false;
        for (pack, size) in sizes {
            let modified = now.packs.get(pack).map(|listed| listed.modified);
            let wanted = modified.is_some_and(|modified| now.may_be_wanted(pack, modified));
            let listing = self.index.listing(pack)?;
            let read = listing.is_some_and(|listing| self.usage.is_held(&listing));
            // Or another process has given it a name meanwhile.
            if wanted || read || self.index.is_named(pack)? {
                spared = true;
                continue;
            }
            self.delete_pack(*pack, *size, report)?;
            report.marked.packs -= 1;
            report.marked.bytes -= size;
        }
        if spared {
            return Ok(());
        }
        self.delete_segments(segments)?;
        if now.leases.may_have_missed(now.leases.now) {
            return Ok(());
        }
        own.iter().try_for_each(|mark| self.remove_mark(*mark))
    }

    /// Removes what dead processes left behind, and tombstones that nobody will ask for.
    fn tidy(&self, report: &mut PruneReport) -> Result<(), OpsError> {
        let RepoState {
            leases, records, ..
        } = &self.sight;
        for dead in leases.others.iter().filter(|lease| !lease.alive) {
            self.stand()?;
            Lease::remove_dead(self.project, dead)?;
        }
        let others = leases.others.iter();
        let oldest = others.filter(|lease| lease.alive && !lease.is_held_for(Work::Read));
        let oldest = oldest.map(|lease| lease.begun).min();
        let old_enough = leases.now - self.options.grace;
        let before = oldest.map_or(old_enough, |begun| begun.min(old_enough));
        self.stand()?;
        Tombstones::expire(self.project, &records.known(), before)?;
        let now = Leases::load(self.project, self.lease.as_deref());
        let alone = now.is_ok_and(|now| !now.others.iter().any(|lease| lease.alive));
        let life = if alone && self.options.grace.is_zero() {
            UPLOAD_LIFE_ALONE
        } else {
            UPLOAD_LIFE
        };
        let directory = ObjectRef::Project(self.project.id).directory();
        let backend = self.project.objects.backend();
        report.uploads = backend
            .remove_leftovers(&directory, life)
            .map_err(RepoError::from)?;
        Ok(())
    }
}
