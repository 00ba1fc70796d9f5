//! Prune: finds the used blobs (`usage`), plans a step for each pack (`plan`, `small`), repacks
//! (`repack`), and deletes in two steps. `docs/concurrency.md` explains why no used data can be
//! deleted while other processes run.

mod copies;
mod findings;
mod in_use;
mod items;
mod known_damage;
mod lacking;
mod lease;
mod named;
mod pack_repair;
mod plan;
mod refused;
mod repack;
mod report;
mod small;
mod state;
mod unreadable;
mod usage;
mod voided;

pub use pack_repair::{PackAction, PackRepair, PackStep, RepairedPacks, plan_pack_repair};
pub use plan::{Amount, MaxUnused, PruneOptions, PrunePlan};
pub use report::PruneReport;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use self::in_use::{OnLoss, Walked, find_usage, missing, walk_all};
use self::items::{pack_item, segment_item};
use self::known_damage::add_damaged_packs;
use self::lacking::backups_lacking;
pub(super) use self::lease::{confirm, refuse_second, still_valid};
use self::plan::{Steps, plan};
use self::state::RepoState;
use self::usage::{Known, Usage};
use super::affected::AffectedBackup;
use super::check::Finding;
use super::context::{Context, TOOL, thread_pool, unindexed_packs};
use super::error::OpsError;
use super::history::{notice_unconfirmed, unnamed};
use crate::base::{BlobId, ObjectHash};
use crate::format::{LogItem, LogKind};
use crate::repo::{
    Index, Lease, Leases, ListedPack, Log, Mark, Marks, NewEntry, ObjectRef, Project, RepoError,
    RepoErrorKind, UnreadableSegments, Work, Worker, exclude_damaged, read_whole, unneeded_parity,
};

/// The age at which a prune removes interrupted uploads, and parity of objects that do not exist.
/// Parity of an object that the log removes need not have this age.
const UPLOAD_LIFE: Duration = Duration::from_hours(24);
/// The age that applies instead if the grace period is zero and no other process holds a lease.
const UPLOAD_LIFE_ALONE: Duration = Duration::from_mins(1);

/// A prune that is planned and can be run.
pub struct Prune<'a> {
    project: &'a Project,
    context: &'a Context<'a>,
    options: &'a PruneOptions,
    /// `None` in a dry run.
    lease: Option<Arc<Lease>>,
    index: Arc<Index>,
    state: RepoState,
    usage: Usage,
    plan: PrunePlan,
    /// The problems that were found in trees.
    walked: Walked,
    lacking: Vec<AffectedBackup>,
    /// The log, loaded before the first deletion.
    log: Option<Log>,
}

/// Finds the used blobs and makes a plan. With `dry_run`, takes no lease, and the plan must not be
/// run. Fails with [`OpsError::HistoryCut`] or [`OpsError::NoBackups`] if records or other parts of
/// the history are missing and the user has not accepted their loss. Otherwise the data of lost
/// backups would seem unused.
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
    let mut damage = exclude_damaged(&index)?.runs;
    let mut state = RepoState::read(project, lease.as_deref(), &index)?;
    if !dry_run {
        refuse_second(project, &state.leases)?;
    }
    let mut missing = state.missing(project)?;
    if !missing.is_empty() {
        // An object may seem to be missing if the object that names it was read later than the
        // listing was made. So read everything again.
        state = RepoState::read(project, lease.as_deref(), &index)?;
        missing = state.missing(project)?;
    }
    let host = options.host.as_deref();
    missing.accept(project, &options.accept_loss, &mut state.log, host, dry_run)?;
    state.require_readable(&options.accept_loss)?;
    notice_unconfirmed(&state.records, &state.log, &context.observer);
    let pool = thread_pool(context.threads)?;
    let find = |state: &RepoState| pool.install(|| find_usage(&index, state, context));
    let mut found = find(&state);
    let lacks_chunks = matches!(&found, Ok((usage, ..)) if !usage.lost().is_empty());
    let is_incomplete = match &found {
        Err(OpsError::Repo(error)) => error.kind() == RepoErrorKind::Damaged,
        Ok((usage, _, walked)) => usage.lacks_held() || walked.is_incomplete(),
        Err(_) => false,
    };
    let knows_more = (is_incomplete || lacks_chunks) && index.resync()?;
    if knows_more || lacks_chunks {
        // Read the state again: the index may now name packs that the older list of packs lacks.
        // These packs would seem lost.
        state = RepoState::read(project, lease.as_deref(), &index)?;
        let missing = state.missing(project)?;
        missing.accept(project, &options.accept_loss, &mut state.log, host, dry_run)?;
        state.require_readable(&options.accept_loss)?;
        found = find(&state);
    }
    let (mut usage, known, walked) = found?;
    add_damaged_packs(&index, &state.packs, &mut damage, context)?;
    let lacking = backups_lacking(&index, &state.records, usage.lost(), context)?;
    let mut plan = loop {
        let plan = plan(
            &index, &mut usage, &known, &damage, &state, options, context,
        )?;
        if dry_run {
            break plan;
        }
        let find = || copies::find_damaged(&index, &usage, &plan, &damage, &state, context);
        let found = pool.install(find)?;
        if found.is_empty() {
            break plan;
        }
        // The next plan must not rely on the damaged runs.
        for (pack, runs) in found {
            index.exclude_damaged_runs(pack, &runs);
            damage.entry(pack).or_default().extend(runs);
        }
    };
    plan.notice_damaged(project.id, &*context.observer);
    plan.refused = refused::find(project, &state.records)?.len() as u64;
    let deletes = plan.steps.going().next().is_some() || plan.delete.packs > 0;
    let is_empty = state.records.all().is_empty() && !state.log.removes_records();
    if is_empty && deletes && !options.accept_loss.all {
        let packs = state.packs.len();
        return Err(OpsError::NoBackups { packs });
    }
    Ok(Prune {
        project,
        context,
        options,
        lease,
        index,
        state,
        usage,
        plan,
        walked,
        lacking,
        log: None,
    })
}

fn worker(options: &PruneOptions) -> Worker<'_> {
    Worker {
        host: options.host.as_deref(),
        tool: TOOL,
    }
}

impl Prune<'_> {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &PrunePlan {
        &self.plan
    }

    /// The backups of full keys that need chunks which no pack has. The prune keeps everything else
    /// that these backups need.
    #[must_use]
    pub fn lacking(&self) -> &[AffectedBackup] {
        &self.lacking
    }

    /// Returns the backups that lack data: those in [`lacking`](Self::lacking), and those of write
    /// keys with damage in their trees. Leaves out backups that their writers withdrew or that the
    /// log removes.
    #[must_use]
    pub fn affected(&self) -> Vec<ObjectHash> {
        findings::affected(&self.state.records, &self.walked, &self.lacking)
    }

    /// Returns the damage that does not stop the prune: damaged files of records, backups with
    /// damaged trees, and backups that lack chunks. The log removes these records or accepts their
    /// loss. The backups with damaged trees were made by write keys, withdrawn, or removed.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let records = &self.state.records;
        findings::findings(self.project.id, records, &self.walked, &self.lacking)
    }

    /// Ends without running the plan.
    pub fn close(self) {
        self.index.close();
    }

    /// Runs the plan.
    ///
    /// New packs are stored before anything else changes. Unused packs are marked, and then removed
    /// from the index. A later run deletes them. If the grace period is zero, this run deletes them
    /// after another check.
    pub fn run(mut self) -> Result<PruneReport, OpsError> {
        let mut report = PruneReport::default();
        let mut steps = std::mem::take(&mut self.plan.steps);
        let unindexed = || {
            let (unindexed, _) = unindexed_packs(&self.index);
            match &self.lease {
                Some(lease) => unindexed.with_lease(lease),
                None => unindexed,
            }
        };
        let (index, usage) = (&self.index, &self.usage);
        // Repacking does not copy blobs that the index finds in other packs. So exclude the packs
        // that are going to be deleted, and those that no segment names yet.
        let marks = self.state.marks.packs();
        let mut unnamed = index.unnamed()?;
        unnamed.retain(|pack| !steps.rescue.contains(pack) && !marks.contains(pack));
        index.exclude(unnamed.iter().copied());
        let gone = marks.iter().filter(|pack| !steps.rescue.contains(pack));
        let mut stay: Vec<_> = steps.going().map(|pack| pack.pack).collect();
        index.exclude(gone.chain(&stay).chain(&steps.lost).copied());
        let (merge_small, context) = (self.options.merge_small, self.context);
        let repacked = repack::repack(index, usage, &mut steps, unindexed, merge_small, context)?;
        // A running backup may still add the unnamed packs to the index, and rely on them.
        index.include_again(&unnamed);
        let going: HashSet<_> = steps.going().map(|pack| pack.pack).collect();
        stay.retain(|pack| !going.contains(pack));
        index.include_again(&stay);
        report.damaged = self.plan.damaged + repacked.damaged;
        report.repacked = Amount::of(&steps.repack);
        report.merged = Amount::of(&steps.merge);
        report.bytes_read = repacked.read;
        report.bytes_written = repacked.written;

        let sizes: BTreeMap<_, _> = steps.going().map(|p| (p.pack, p.size)).collect();
        let packs: Vec<_> = sizes.keys().copied().collect();
        self.confirm()?;
        let by = worker(self.options);
        let records: Vec<_> = self.state.records.all().iter().map(|b| b.id).collect();
        named::name(
            &self.index,
            &mut self.state.log,
            &self.walked,
            &records,
            (repacked.packs, &steps.lost[..]),
            by,
        )?;
        let mut own = Marks::put(self.project, &packs, &[], &records, by)?;
        report.marked = Amount {
            packs: sizes.len() as u64,
            bytes: sizes.values().sum(),
        };

        voided::remove(self.project, &self.state.records, &self.walked.obsolete, by)?;
        unreadable::remove(self.project, &self.state.records, by)?;
        let state = &self.state;
        report.refused = refused::remove(self.project, &state.records, &state.log, by)?;
        let segments = self.update_index(&steps, &packs, &mut report)?;
        self.confirm()?;
        own.extend(Marks::put(self.project, &[], &segments, &[], by)?);

        self.delete_due(&steps, &mut report)?;
        if self.options.grace.is_zero() && !own.is_empty() {
            self.delete_at_once(&own, &sizes, &segments, &mut report)?;
        }
        self.tidy(&mut report)?;
        self.index.close();
        Ok(report)
    }

    /// Fails if the plan may be out of date: see [`confirm`].
    fn confirm(&self) -> Result<(), OpsError> {
        confirm(self.lease.as_deref(), self.context)
    }

    /// Fails if the plan may be out of date: see [`still_valid`].
    fn still_valid(&self) -> Result<(), OpsError> {
        still_valid(self.lease.as_deref(), self.context)
    }

    /// Replaces index segments by new segments, which lack the marked packs. The new segments name
    /// the rescued packs: marked packs that are in use again. Returns the replaced segments that no
    /// mark names yet.
    fn update_index(
        &self,
        steps: &Steps,
        marked: &[ObjectHash],
        report: &mut PruneReport,
    ) -> Result<Vec<ObjectHash>, OpsError> {
        let mut without = self.state.marks.packs();
        without.extend(marked);
        without.extend(&steps.lost);
        // Of the packs to rescue, leave out those that this run repacked: the new packs have their
        // used blobs.
        let stays = |pack: &&ObjectHash| !marked.contains(pack);
        for rescued in steps.rescue.iter().filter(stays) {
            without.remove(rescued);
        }
        let mut rescued = Vec::new();
        for pack in steps.rescue.iter().filter(stays) {
            // An earlier run may have added the pack to the index.
            if !self.index.is_named(pack)?
                && let Some(listed) = self.state.packs.get(pack)
            {
                let object = listed.object(self.project.id);
                match read_whole(self.project, object) {
                    Ok(listing) => rescued.push(listing),
                    // The pack is damaged. Readers find its undamaged runs even if no segment names
                    // it.
                    Err(error) if error.kind() == RepoErrorKind::Damaged && !error.is_missing() => {
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        report.rescued = self.plan.rescue.packs;
        let still_valid = || self.still_valid();
        let unreadable = if self.usage.lacks_chunks() {
            UnreadableSegments::Keep
        } else {
            UnreadableSegments::Replace
        };
        let rewritten = self
            .index
            .rewrite_segments(&without, rescued, unreadable, still_valid)?;
        report.bytes_written += rewritten.bytes_stored;
        let waiting = self.state.marks.segments();
        let mut replaced = rewritten.replaced;
        replaced.retain(|name| !waiting.contains(name));
        Ok(replaced)
    }

    /// Deletes packs and segments that earlier runs marked, if their grace period has passed.
    fn delete_due(&mut self, steps: &Steps, report: &mut PruneReport) -> Result<(), OpsError> {
        let due = self.due_marks(steps);
        let packs = steps.delete.iter().map(pack_item);
        let segments = due.iter().flat_map(|mark| &mark.segments).copied();
        let segments = self.still_replaced(segments)?;
        let segments = segments.into_iter().map(segment_item);
        self.announce(packs.chain(segments).collect())?;
        for pack in &steps.delete {
            self.delete_pack(pack, report)?;
        }
        for mark in &due {
            self.delete_segments(&mark.segments)?;
            // The mark must stay if a running backup may have begun before the mark was stored.
            // That backup may rely on a pack that is deleted now, and must find the mark before it
            // commits.
            if !self.state.leases.may_have_missed(mark.since) {
                self.remove_mark(mark.name)?;
            }
        }
        Ok(())
    }

    /// Returns the marks that are old enough, except those that name a pack which has to wait.
    fn due_marks(&self, steps: &Steps) -> Vec<Mark> {
        let done = steps.delete.iter().map(|pack| &pack.hash);
        let done: HashSet<_> = done.chain(&steps.rescue).copied().collect();
        let RepoState {
            leases,
            marks,
            packs,
            ..
        } = &self.state;
        let is_due = |mark: &&Mark| {
            let age = leases.now.duration_since(mark.since).unwrap_or_default();
            let waits = |pack: &ObjectHash| packs.contains_key(pack) && !done.contains(pack);
            age >= self.options.grace && !mark.packs.iter().any(waits)
        };
        marks.all().iter().filter(is_due).cloned().collect()
    }

    /// Adds an entry to the log that names objects which are going to be deleted. The entry is
    /// durable when this returns.
    fn announce(&mut self, items: Vec<LogItem>) -> Result<(), OpsError> {
        if items.is_empty() {
            return Ok(());
        }
        let mut log = match self.log.take() {
            Some(log) => log,
            None => Log::load(self.project)?,
        };
        self.confirm()?;
        // Name the segments that replace those that are going to be deleted.
        let segments = self.index.segments()?.into_iter().map(segment_item);
        let segments = segments.filter(|segment| !items.contains(segment));
        let entry = NewEntry {
            added: unnamed(&log, segments),
            removed: items,
            ..NewEntry::default()
        };
        log.append(self.project, entry, worker(self.options))?;
        self.log = Some(log);
        Ok(())
    }

    /// Deletes an object that the log names.
    fn delete(&self, item: LogItem) -> Result<(), OpsError> {
        self.still_valid()?;
        let log = self.log.as_ref();
        let removed = log.and_then(|log| log.removal(item.kind, item.hash));
        let removed = removed.ok_or(OpsError::Internal("a deletion is not in the log"))?;
        Ok(removed.delete(self.project)?)
    }

    fn delete_pack(&self, pack: &ListedPack, report: &mut PruneReport) -> Result<(), OpsError> {
        self.delete(pack_item(pack))?;
        report.deleted.add(pack.info.size);
        Ok(())
    }

    fn delete_segments(&self, segments: &[ObjectHash]) -> Result<(), OpsError> {
        let log = self.log.as_ref();
        let announced =
            |segment: &ObjectHash| log.is_some_and(|log| log.removed(LogKind::Segment, *segment));
        for segment in self.still_replaced(segments.iter().copied().filter(announced))? {
            self.delete(segment_item(segment))?;
        }
        Ok(())
    }

    /// Returns which of these segments another existing segment supersedes. The others count again,
    /// since the segment that superseded them no longer exists.
    fn still_replaced(
        &self,
        segments: impl Iterator<Item = ObjectHash>,
    ) -> Result<Vec<ObjectHash>, OpsError> {
        let replaced: HashSet<_> = self.index.replaced_segments()?.into_iter().collect();
        Ok(segments
            .filter(|segment| replaced.contains(segment))
            .collect())
    }

    fn remove_mark(&self, mark: ObjectHash) -> Result<(), OpsError> {
        self.still_valid()?;
        Ok(Marks::remove(self.project, mark)?)
    }

    /// Checks again whether packs that this run marked are used, and deletes the unused ones. In
    /// case of doubt, packs stay marked for the next run.
    fn delete_at_once(
        &mut self,
        own: &[ObjectHash],
        sizes: &BTreeMap<ObjectHash, u64>,
        segments: &[ObjectHash],
        report: &mut PruneReport,
    ) -> Result<(), OpsError> {
        let before: HashSet<_> = self.state.marks.names().collect();
        self.index.exclude(sizes.keys().copied());
        let now = RepoState::read(self.project, self.lease.as_deref(), &self.index)?;
        let known = |name: &ObjectHash| before.contains(name) || own.contains(name);
        if !now.missing(self.project)?.is_empty()
            || now.require_readable(&self.options.accept_loss).is_err()
        {
            return Ok(());
        }
        if !now.marks.names().all(|name| known(&name)) {
            return Ok(());
        }
        // If a blob in a pack to delete has come into use since the first check, a pack that stays
        // must have it, too.
        let index = &self.index;
        let goes = |id: &BlobId| -> Result<bool, RepoError> {
            let places = index.find_anywhere(id)?;
            Ok(places.iter().any(|place| sizes.contains_key(&place.pack())))
        };
        let in_use = walk_all(
            index,
            &mut self.usage,
            &now,
            self.context,
            OnLoss::Fail,
            &mut |kind, id, known| match index.find_trusted(id)? {
                None if goes(id)? => Err(RepoError::LostRace),
                None if known == Known::Nowhere => Err(missing(kind, id)),
                _ => Ok(()),
            },
        );
        match in_use {
            Err(OpsError::Repo(error))
                if matches!(
                    error.kind(),
                    RepoErrorKind::Damaged | RepoErrorKind::LostRace
                ) =>
            {
                return Ok(());
            }
            other => drop(other?),
        }
        let mut spared = false;
        let mut going = Vec::new();
        for (pack, size) in sizes {
            let listed = now.packs.get(pack);
            let wanted =
                listed.is_some_and(|pack| now.may_be_wanted(&pack.hash, pack.info.modified));
            let listing = self.index.listing(pack)?;
            let read = listing.is_some_and(|listing| self.usage.is_held(&listing));
            // Another process may have added the pack to the index meanwhile.
            if wanted || read || self.index.is_named(pack)? {
                spared = true;
                continue;
            }
            going.push((listed.cloned(), *size));
        }
        let packs = going
            .iter()
            .filter_map(|(pack, _)| Some(pack_item(pack.as_ref()?)));
        let segments = if spared {
            Vec::new()
        } else {
            self.still_replaced(segments.iter().copied())?
        };
        let items = packs
            .chain(segments.iter().copied().map(segment_item))
            .collect();
        self.announce(items)?;
        for (pack, size) in going {
            if let Some(pack) = &pack {
                self.delete_pack(pack, report)?;
            }
            report.marked.packs -= 1;
            report.marked.bytes -= size;
        }
        if spared {
            return Ok(());
        }
        self.delete_segments(&segments)?;
        if now.leases.may_have_missed(now.leases.now) {
            return Ok(());
        }
        own.iter().try_for_each(|mark| self.remove_mark(*mark))
    }

    /// Removes expired leases, uploads that other processes did not complete, and parity that is
    /// not needed.
    fn tidy(&self, report: &mut PruneReport) -> Result<(), OpsError> {
        let leases = &self.state.leases;
        for expired in leases.others.iter().filter(|lease| lease.expired) {
            self.still_valid()?;
            Lease::remove_expired(self.project, expired)?;
        }
        let now = Leases::load(self.project, self.lease.as_deref());
        let alone = now.is_ok_and(|now| !now.others.iter().any(|lease| !lease.expired));
        let life = if alone && self.options.grace.is_zero() {
            UPLOAD_LIFE_ALONE
        } else {
            UPLOAD_LIFE
        };
        if self.project.settings.parity.is_some() {
            let (counted, now) = (self.index.counted_packs()?, self.state.leases.now);
            for parity in unneeded_parity(self.project, &counted, now, life)? {
                self.still_valid()?;
                self.project.objects.delete(parity)?;
            }
        }
        let directory = ObjectRef::Project(self.project.id).directory();
        let backend = self.project.objects.backend();
        report.uploads = backend
            .remove_leftovers(&directory, life)
            .map_err(RepoError::from)?;
        Ok(())
    }
}
