//! Reads the copies that a plan relies on. A prune deletes packs whose used blobs are also in other
//! packs. Before that, it must find out whether the copies in these other packs are damaged.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::plan::PrunePlan;
use super::repack::read_together;
use super::state::RepoState;
use super::usage::Usage;
use crate::base::ObjectHash;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{BlobLocation, Index, Opener, PlacedRun, RepoError, damaged_among};

/// The maximum number of runs to collect before they are read.
const BATCH: usize = 4096;
/// The maximum number of runs to remember as undamaged.
const INTACT_MAX: usize = 1 << 16;

/// The ordinals of damaged runs, for each pack.
pub(super) type DamagedRuns = BTreeMap<ObjectHash, Vec<u64>>;

/// Searches for damage in the copies that the plan relies on. The packs that the plan deletes, now
/// or after the grace period, can contain used blobs. If packs that stay contain these blobs, too,
/// reads the runs there: one copy of each chunk, and two of each node. If a run is damaged, reads
/// all of its pack. Returns the damaged runs.
///
/// `damage` has the runs that are known to be damaged. If the packs that stay have too few copies
/// of a blob, reads none of these copies: [`repack`](super::repack::repack) then copies the blob.
pub(super) fn find_damaged(
    index: &Index,
    usage: &Usage,
    plan: &PrunePlan,
    damage: &DamagedRuns,
    state: &RepoState,
    context: &Context<'_>,
) -> Result<DamagedRuns, OpsError> {
    let steps = &plan.steps;
    let mut going: HashSet<ObjectHash> = steps.going().map(|pack| pack.pack).collect();
    going.extend(steps.delete.iter().map(|pack| pack.hash));
    if going.is_empty() {
        return Ok(DamagedRuns::new());
    }
    let rescued: HashSet<_> = steps.rescue.iter().collect();
    // The other marked or unnamed packs: this plan does not delete them, but copies in them do not
    // count.
    let mut aside = state.marks.packs();
    aside.extend(index.unnamed()?);
    aside.retain(|pack| !rescued.contains(pack) && !going.contains(pack));
    let stays = |place: &BlobLocation| {
        let pack = place.pack();
        state.packs.contains_key(&pack) && !going.contains(&pack) && !aside.contains(&pack)
    };
    let mut copies = Copies::new(index, context);
    let duplicates: BTreeSet<_> = usage.duplicates().iter().chain(damage.keys()).collect();
    for pack in duplicates.into_iter().filter(|pack| !aside.contains(*pack)) {
        context.cancel.check()?;
        let Some(listing) = index.listing(pack)? else {
            continue;
        };
        let kind = listing.contents.kind;
        let wanted = kind.copies();
        for blob in listing.contents.blobs() {
            let id = &blob.id;
            let goes = |place: &BlobLocation| going.contains(&place.pack());
            if !usage.is_used(kind, id)
                || !going.contains(pack) && !index.find_anywhere(id)?.iter().any(goes)
            {
                continue;
            }
            let mut places = index.find_all_trusted(id)?;
            let mut packs = HashSet::new();
            places.retain(|place| stays(place) && packs.insert(place.pack()));
            if let Some(places) = places.get(..wanted) {
                places.iter().try_for_each(|place| copies.add(place))?;
            }
        }
    }
    copies.read()?;
    Ok(copies.damaged)
}

/// Reads runs, many at a time.
pub(super) struct Copies<'a> {
    index: &'a Index,
    context: &'a Context<'a>,
    /// The runs to read.
    unread: BTreeSet<(ObjectHash, u64)>,
    /// Some of the runs that were read and are undamaged.
    intact: HashSet<(ObjectHash, u64)>,
    /// The damaged runs that were found.
    pub(super) damaged: DamagedRuns,
}

impl<'a> Copies<'a> {
    pub(super) fn new(index: &'a Index, context: &'a Context<'a>) -> Self {
        Self {
            index,
            context,
            unread: BTreeSet::new(),
            intact: HashSet::new(),
            damaged: DamagedRuns::new(),
        }
    }

    /// Adds the run at this place to those that will be read.
    pub(super) fn add(&mut self, place: &BlobLocation) -> Result<(), OpsError> {
        let run = (place.pack(), place.ordinal());
        if self.damaged.contains_key(&run.0) || self.intact.contains(&run) {
            return Ok(());
        }
        self.unread.insert(run);
        if self.unread.len() < BATCH {
            return Ok(());
        }
        self.read()
    }

    /// Reads the runs that were added.
    pub(super) fn read(&mut self) -> Result<(), OpsError> {
        let unread = std::mem::take(&mut self.unread);
        let mut packs: BTreeMap<ObjectHash, Vec<u64>> = BTreeMap::new();
        for (pack, ordinal) in &unread {
            packs.entry(*pack).or_default().push(*ordinal);
        }
        let mut found = self.damaged_of(&packs, |ordinals, run| {
            ordinals.binary_search(&run.ordinal()).is_ok()
        })?;
        if self.intact.len() + unread.len() > INTACT_MAX {
            self.intact.clear();
        }
        let is_intact = |(pack, _): &(ObjectHash, u64)| !found.contains_key(pack);
        self.intact.extend(unread.into_iter().filter(is_intact));
        // Read the other runs of the damaged packs, too: they may be copied later, and the plan
        // must know of all damage in them.
        for (pack, ordinals) in
            self.damaged_of(&found, |known, run| !known.contains(&run.ordinal()))?
        {
            found.entry(pack).or_default().extend(ordinals);
        }
        self.damaged.append(&mut found);
        Ok(())
    }

    /// Reads those runs of these packs that are wanted. Returns the damaged ones.
    fn damaged_of(
        &self,
        packs: &BTreeMap<ObjectHash, Vec<u64>>,
        is_wanted: impl Fn(&[u64], &PlacedRun) -> bool,
    ) -> Result<DamagedRuns, OpsError> {
        let (index, cancel) = (self.index, self.context.cancel);
        let mut groups = Vec::new();
        for (pack, ordinals) in packs {
            let Some(listing) = index.listing(pack)? else {
                continue;
            };
            let runs = PlacedRun::all_of(listing).filter(|run| is_wanted(ordinals, run));
            let mut rest: Vec<_> = runs.collect();
            while !rest.is_empty() {
                let after = rest.split_off(read_together(rest.iter().map(|run| run.range())));
                groups.push((*pack, std::mem::replace(&mut rest, after)));
            }
        }
        let read = groups
            .par_iter()
            .map_init(Opener::default, |opener, (pack, runs)| {
                cancel.check()?;
                Ok((*pack, damaged_among(index, opener, runs)?))
            });
        let mut damaged = DamagedRuns::new();
        for (pack, ordinals) in read.collect::<Result<Vec<_>, RepoError>>()? {
            if !ordinals.is_empty() {
                damaged.entry(pack).or_default().extend(ordinals);
            }
        }
        Ok(damaged)
    }
}
