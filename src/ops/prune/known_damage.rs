//! Packs that a prune replaces although all of their runs can be read.

use std::collections::BTreeMap;

use super::copies::DamagedRuns;
use crate::base::ObjectHash;
use crate::ops::error::OpsError;
use crate::repo::{Index, ListedPack, PlacedRun};

/// Adds packs that are damaged outside of their runs, and packs that do not have their size. Of the
/// latter, all runs that are cut off count as damaged from now on.
pub(super) fn add_damaged_packs(
    index: &Index,
    stored: &BTreeMap<ObjectHash, ListedPack>,
    damage: &mut DamagedRuns,
) -> Result<(), OpsError> {
    for pack in index.damaged_outside_runs()?.into_keys() {
        damage.entry(pack).or_default();
    }
    for (pack, expected) in index.expected_sizes()? {
        let found = stored.get(&pack).map(|listed| listed.info.size);
        let Some(found) = found.filter(|found| *found != expected) else {
            continue;
        };
        let Some(listing) = index.listing(&pack)? else {
            continue;
        };
        let known = damage.entry(pack).or_default();
        let runs = PlacedRun::all_of(listing);
        let cut_off = runs.filter(|run| run.range().end > found);
        let mut cut_off: Vec<_> = cut_off.map(|run| run.ordinal()).collect();
        cut_off.retain(|ordinal| !known.contains(ordinal));
        index.exclude_damaged_runs(pack, &cut_off);
        known.extend(cut_off);
    }
    Ok(())
}
