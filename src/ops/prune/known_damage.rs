//! Finds packs that are damaged outside of their runs, or that have a wrong size. A prune replaces
//! them.

use std::collections::BTreeMap;

use super::copies::DamagedRuns;
use super::repack::read_together;
use crate::base::ObjectHash;
use crate::format::PackListing;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{Index, ListedPack, Opener, PlacedRun, damaged_among};

/// Adds two kinds of packs to `damage`. In packs that are damaged outside of their runs, reads all
/// runs, since these may have become damaged, too. In packs with a wrong size, all runs that are
/// cut off count as damaged from now on.
pub(super) fn add_damaged_packs(
    index: &Index,
    stored: &BTreeMap<ObjectHash, ListedPack>,
    damage: &mut DamagedRuns,
    context: &Context<'_>,
) -> Result<(), OpsError> {
    for pack in index.damaged_outside_runs()?.into_keys() {
        let known = damage.entry(pack).or_default();
        if let Some(listing) = index.listing(&pack)? {
            let mut damaged = damaged_runs(index, listing, context)?;
            damaged.retain(|ordinal| !known.contains(ordinal));
            index.exclude_damaged_runs(pack, &damaged);
            known.extend(damaged);
        }
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

/// Reads a pack. Returns the ordinals of the damaged runs: they do not open, or they hold a blob
/// whose content does not match its id.
pub(super) fn damaged_runs(
    index: &Index,
    listing: PackListing,
    context: &Context<'_>,
) -> Result<Vec<u64>, OpsError> {
    let mut opener = Opener::default();
    let mut damaged = Vec::new();
    let mut rest: Vec<_> = PlacedRun::all_of(listing).collect();
    while !rest.is_empty() {
        context.cancel.check()?;
        let after = rest.split_off(read_together(rest.iter().map(|run| run.range())));
        damaged.extend(damaged_among(index, &mut opener, &rest)?);
        rest = after;
    }
    Ok(damaged)
}
