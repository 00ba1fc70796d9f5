//! Known damage of packs and segments. A blob in a damaged run does not count as present, so the
//! next backup of the same data stores it again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::damage_notes::Noted;
use super::db::Db;
use super::segments::read_segment;
use super::state::Index;
use crate::base::{BlobId, ObjectHash, read_lock, write_lock};
use crate::format::BlobKind;
use crate::repo::error::RepoError;
use crate::repo::location::{BlobLocation, PlacedRun};
use crate::repo::object_ref::ObjectRef;
use crate::repo::pack_listing::read_whole;

/// The damage that was noted earlier and still exists.
#[derive(Debug, Default, Clone)]
pub struct KnownDamage {
    /// The ordinals of damaged runs, for each pack.
    pub runs: BTreeMap<ObjectHash, Vec<u64>>,
    /// The packs in `runs` that are still needed. This client relies on them, and a blob in their
    /// damaged runs is in too few other packs. A chunk must be in at least one other pack, and a
    /// node in at least two.
    pub needed: Vec<ObjectHash>,
}

/// Returns whether a run opens and all of its blobs match their ids. Fails if the run cannot be
/// fetched.
pub(crate) type TestRun<'a> = dyn FnMut(&Arc<PlacedRun>) -> Result<bool, RepoError> + 'a;

impl Index {
    /// Remembers that a run does not open, or that a blob in it does not match its id.
    pub(crate) fn note_damaged(&self, place: &BlobLocation) {
        self.note_damaged_runs(place.pack(), [place.ordinal()]);
    }

    /// Remembers that these runs of a pack are damaged.
    pub fn note_damaged_runs(&self, pack: ObjectHash, runs: impl IntoIterator<Item = u64>) {
        self.damage.add(&Noted {
            runs: runs.into_iter().map(|ordinal| (pack, ordinal)).collect(),
            ..Noted::default()
        });
    }

    /// Remembers that these runs of a pack are damaged. From now on, look-ups find no blob in them,
    /// except [`find_anywhere`](Self::find_anywhere).
    pub(crate) fn exclude_damaged_runs(&self, pack: ObjectHash, runs: &[u64]) {
        self.note_damaged_runs(pack, runs.iter().copied());
        write_lock(&self.usable).add_damaged(runs.iter().map(|ordinal| (pack, *ordinal)));
    }

    /// Remembers that a pack is damaged outside of its runs.
    pub fn note_damaged_outside_runs(&self, pack: ObjectHash) {
        self.damage.add(&Noted {
            outside: [pack].into(),
            ..Noted::default()
        });
    }

    /// Reads again all bytes of the packs that were noted as damaged outside of their runs. Returns
    /// those that are still damaged, with the error of each. Forgets the notes about the others,
    /// but keeps those about packs that this process may not read.
    pub fn damaged_outside_runs(&self) -> Result<BTreeMap<ObjectHash, RepoError>, RepoError> {
        let noted = self.damage.read();
        let (mut still, mut cured) = (BTreeMap::new(), Noted::default());
        for pack in &noted.outside {
            let Some(listing) = self.listing(pack)? else {
                cured.outside.insert(*pack);
                continue;
            };
            let object = ObjectRef::of_pack(self.project.id, listing.contents.kind, *pack);
            match read_whole(&self.project, object) {
                Ok(_) => {
                    cured.outside.insert(*pack);
                }
                Err(error) if error.is_missing() => {
                    cured.outside.insert(*pack);
                }
                Err(error) if error.is_denied() => {}
                Err(
                    error @ (RepoError::Damaged { .. }
                    | RepoError::Foreign { .. }
                    | RepoError::Unsupported { .. }),
                ) => {
                    still.insert(*pack, error);
                }
                Err(error) => return Err(error),
            }
        }
        self.damage.forget(&cured);
        Ok(still)
    }

    /// Remembers that a segment is damaged.
    pub(super) fn note_damaged_segment(&self, name: ObjectHash) {
        self.damage.add(&Noted {
            segments: [name].into(),
            ..Noted::default()
        });
    }

    /// Reads again all runs and segments that were noted as damaged. From now on, look-ups find no
    /// blob in the runs that are still damaged, except [`find_anywhere`](Self::find_anywhere).
    /// Forgets the notes about the others. If the cache contains a segment that is still damaged,
    /// rebuilds the cache without it.
    pub(crate) fn exclude_damaged_by(
        &self,
        test: &mut TestRun<'_>,
    ) -> Result<KnownDamage, RepoError> {
        let still = self.find_noted(test)?;
        if !still.segments.is_empty() {
            let cached = self.query(Db::segments)?;
            if cached.iter().any(|row| still.segments.contains(&row.name)) {
                self.rebuild()?;
            }
        }
        let mut found = KnownDamage {
            runs: by_pack(&still),
            needed: Vec::new(),
        };
        write_lock(&self.usable).set_damaged(still.runs.into_iter().collect());
        for (pack, runs) in &found.runs {
            if self.lacks(pack, runs)? {
                found.needed.push(*pack);
            }
        }
        Ok(found)
    }

    /// Reads again all runs and segments that were noted as damaged. Returns the ordinals of the
    /// runs that are still damaged, for each pack. Forgets the notes about runs and segments that
    /// are not damaged now.
    pub(crate) fn still_damaged_by(
        &self,
        test: &mut TestRun<'_>,
    ) -> Result<BTreeMap<ObjectHash, Vec<u64>>, RepoError> {
        Ok(by_pack(&self.find_noted(test)?))
    }

    /// Returns the noted damage that still exists, and forgets all other notes. Returns notes of
    /// damage outside of runs without a test, since such damage does not affect readers.
    fn find_noted(&self, test: &mut TestRun<'_>) -> Result<Noted, RepoError> {
        let noted = self.damage.read();
        if noted == Noted::default() {
            return Ok(noted);
        }
        let mut still = Noted {
            outside: noted.outside.clone(),
            ..Noted::default()
        };
        for name in &noted.segments {
            match read_segment(&self.project, *name) {
                Err(error @ RepoError::Damaged { .. }) if !error.is_missing() => {
                    still.segments.insert(*name);
                }
                Err(error) if !error.is_missing() => return Err(error),
                _ => {}
            }
        }
        for (pack, ordinals) in by_pack(&noted) {
            let runs = self.damaged_among(&pack, &ordinals, test)?;
            still.runs.extend(runs.iter().map(|run| (pack, *run)));
        }
        self.damage.forget(&noted.without(&still));
        Ok(still)
    }

    /// Returns which of these runs of a pack are damaged. Returns an empty list if the index does
    /// not know the pack, or if the pack is missing. If the store cannot deliver a run, all later
    /// runs count as damaged. They are not read, since each attempt may take a long time.
    fn damaged_among(
        &self,
        pack: &ObjectHash,
        ordinals: &[u64],
        test: &mut TestRun<'_>,
    ) -> Result<Vec<u64>, RepoError> {
        let Some(listing) = self.listing(pack)? else {
            return Ok(Vec::new());
        };
        let (mut damaged, mut unreadable) = (Vec::new(), false);
        for run in PlacedRun::all_of(listing).filter(|run| ordinals.contains(&run.ordinal)) {
            let is_whole = !unreadable
                && match test(&run) {
                    Ok(is_whole) => is_whole,
                    // `lost_packs` reports missing packs.
                    Err(error) if error.is_missing() => return Ok(Vec::new()),
                    Err(RepoError::Damaged { .. }) => {
                        unreadable = true;
                        false
                    }
                    Err(error) => return Err(error),
                };
            if !is_whole {
                damaged.push(run.ordinal);
            }
        }
        Ok(damaged)
    }

    /// Returns whether too few other packs hold a blob of these runs. If the index does not know
    /// the pack, returns `false`. If this client does not rely on the pack, also returns `false`:
    /// the holder of a write key may have stored wrong data.
    fn lacks(&self, pack: &ObjectHash, runs: &[u64]) -> Result<bool, RepoError> {
        let Some(listing) = self.listing(pack)? else {
            return Ok(false);
        };
        if !self.may_rely_on(&listing)? {
            return Ok(false);
        }
        let wanted = listing.contents.kind.copies();
        for run in PlacedRun::all_of(listing).filter(|run| runs.contains(&run.ordinal)) {
            for blob in run.locations() {
                let places = self.find_all_trusted(&blob.blob().id)?;
                let packs: HashSet<_> = places.iter().map(BlobLocation::pack).collect();
                if packs.len() < wanted {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Returns whether these damaged runs of a pack have a used blob of which this client trusts no
    /// other copy. The caller must have excluded all damaged runs.
    pub(crate) fn holds_damaged_only(
        &self,
        pack: &ObjectHash,
        runs: &[u64],
        is_used: impl Fn(BlobKind, &BlobId) -> bool,
    ) -> Result<bool, RepoError> {
        let Some(listing) = self.listing(pack)? else {
            return Ok(false);
        };
        for run in PlacedRun::all_of(listing).filter(|run| runs.contains(&run.ordinal)) {
            for blob in run.locations() {
                let id = blob.blob().id;
                if is_used(blob.kind(), &id) && self.find_trusted(&id)?.is_none() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Returns whether this place is known to be damaged.
    pub(super) fn is_damaged(&self, place: &BlobLocation) -> bool {
        read_lock(&self.usable).is_damaged(place)
    }
}

/// Returns the ordinals of the runs, for each pack.
fn by_pack(noted: &Noted) -> BTreeMap<ObjectHash, Vec<u64>> {
    let mut packs: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for (pack, ordinal) in &noted.runs {
        packs.entry(*pack).or_default().push(*ordinal);
    }
    packs
}
