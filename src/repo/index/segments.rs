//! Index segments in the store: lists and reads them, and decides which of them count and which
//! were lost.

use std::collections::HashSet;

use super::tables::SegmentRow;
use crate::base::{ObjectHash, SignerId};
use crate::format::IndexSegment;
use crate::repo::error::RepoError;
use crate::repo::object_kind::ObjectKind;
use crate::repo::object_ref::ObjectRef;
use crate::repo::project::Project;
use crate::repo::removals::Removals;

/// The segments in a database. A segment counts if it is in the store, no other segment in the
/// store supersedes it, and the log does not remove it. The log matters because someone may put a
/// segment back after the one that superseded it was deleted.
pub(super) struct EffectiveSegments {
    rows: Vec<SegmentRow>,
    /// The segments in the store.
    listed: HashSet<ObjectHash>,
    /// The segments that a segment in the store supersedes.
    superseded: HashSet<ObjectHash>,
    /// The segments, of the database or the store, that the log removes.
    removed: HashSet<ObjectHash>,
}

impl EffectiveSegments {
    pub(super) fn new(
        rows: Vec<SegmentRow>,
        listed: HashSet<ObjectHash>,
        removals: &Removals,
    ) -> Self {
        let all = rows.iter().map(|row| &row.name).chain(&listed);
        let removed = all.filter(|name| removals.has_segment(name));
        let removed: HashSet<_> = removed.copied().collect();
        let there = rows.iter().filter(|row| listed.contains(&row.name));
        let superseded = there.flat_map(|row| row.superseded.iter().copied());
        Self {
            superseded: superseded.collect(),
            rows,
            listed,
            removed,
        }
    }

    /// Whether this segment counts.
    pub(super) fn counts(&self, name: &ObjectHash) -> bool {
        self.listed.contains(name) && !self.is_replaced(name)
    }

    /// Whether another segment supersedes this one, or the log removes it.
    fn is_replaced(&self, name: &ObjectHash) -> bool {
        self.superseded.contains(name) || self.removed.contains(name)
    }

    /// The segments that count.
    pub(super) fn effective(&self) -> impl Iterator<Item = &SegmentRow> {
        self.rows.iter().filter(|row| self.counts(&row.name))
    }

    /// The segments in the store that were read, whether they count or not.
    pub(super) fn known(&self) -> impl Iterator<Item = ObjectHash> {
        let names = self.rows.iter().map(|row| row.name);
        names.filter(|name| self.listed.contains(name))
    }

    /// The segments in the store that are damaged or foreign, without those that another segment
    /// supersedes or that the log removes.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = ObjectHash> {
        let known: HashSet<_> = self.rows.iter().map(|row| row.name).collect();
        self.listed
            .iter()
            .copied()
            .filter(move |name| !known.contains(name) && !self.is_replaced(name))
    }

    /// The segments in the store that do not count.
    pub(super) fn replaced(&self) -> impl Iterator<Item = ObjectHash> {
        let listed = self.listed.iter().copied();
        listed.filter(|name| self.is_replaced(name))
    }

    /// The segments in the store that another segment in the store supersedes.
    pub(super) fn superseded(&self) -> impl Iterator<Item = ObjectHash> {
        self.superseded.intersection(&self.listed).copied()
    }

    /// Whether the log removes a segment in the store and no other segment supersedes it.
    pub(super) fn any_put_back(&self) -> bool {
        let mut removed = self.removed.intersection(&self.listed);
        removed.any(|name| !self.superseded.contains(name))
    }

    /// Whether a segment that counts in the database is missing from the store without a reason: no
    /// segment supersedes it, and the log does not remove it. Ignores segments that name no packs.
    pub(super) fn is_cut(&self) -> bool {
        let explained = |row: &SegmentRow| {
            row.counted().is_empty()
                || self.listed.contains(&row.name)
                || self.is_replaced(&row.name)
        };
        !self.rows.iter().all(explained)
    }

    /// The segments that the database can forget. They do not count, and either the database does
    /// not know that yet, or the store no longer has them.
    pub(super) fn obsolete(&self) -> Vec<ObjectHash> {
        let is_known = |row: &&SegmentRow| row.retired && self.listed.contains(&row.name);
        self.rows
            .iter()
            .filter(|row| !self.counts(&row.name) && !is_known(row))
            .map(|row| row.name)
            .collect()
    }
}

/// The segments that existed when a process began to rely on the index, or when it listed them
/// last.
pub(crate) struct SegmentsSeen {
    /// The segments that were in the store, whether they counted or not.
    pub(super) listed: HashSet<ObjectHash>,
    /// The segments that were already reported as lost.
    pub(super) lost: HashSet<ObjectHash>,
}

/// Segments that this process relied on and that no longer count, and packs that no segment names
/// any longer.
pub(super) struct Lost {
    /// Whether anything was lost since [`SegmentsSeen`] was made or updated.
    pub(super) any: bool,
    /// The segments that no longer count, and of which the database has packs.
    pub(super) segments: Vec<ObjectHash>,
    /// The numbers of the packs in the database that no segment names any longer. Empty if `any` is
    /// false.
    pub(super) packs: Vec<u32>,
}

impl SegmentsSeen {
    /// Lists the segments that are in the store now.
    pub(crate) fn list(project: &Project) -> Result<Self, RepoError> {
        Ok(Self {
            listed: list_segments(project)?,
            lost: HashSet::new(),
        })
    }

    /// Returns the segments that were lost between the time when `self` was listed and `now`.
    pub(super) fn lost_until(&self, now: &EffectiveSegments) -> Lost {
        let rows = now.rows.iter();
        let then: HashSet<_> = rows
            .filter(|row| self.listed.contains(&row.name))
            .flat_map(|row| &row.superseded)
            .chain(&now.removed)
            .copied()
            .collect();
        // A new segment that supersedes others may also have superseded segments that were stored
        // and deleted in between. Neither list shows these.
        let is_new =
            |row: &SegmentRow| !self.listed.contains(&row.name) && now.listed.contains(&row.name);
        let replaces = |row: &SegmentRow| is_new(row) && !row.superseded.is_empty();
        let mut counted = self.listed.difference(&then);
        let all_count = counted.all(|name| now.counts(name)) && !now.rows.iter().any(replaces);
        let mut lost = Lost {
            any: !all_count,
            segments: Vec::new(),
            packs: Vec::new(),
        };
        let (mut named, mut nameless) = (HashSet::new(), HashSet::new());
        for row in &now.rows {
            let packs = row.counted().iter().copied();
            if now.counts(&row.name) {
                named.extend(packs);
            } else if !row.counted().is_empty() {
                // If the database has packs of a segment, this segment counted when the cache was
                // opened, or when the segment was stored later.
                lost.any |= !self.lost.contains(&row.name);
                lost.segments.push(row.name);
                nameless.extend(packs);
            }
        }
        if lost.any {
            lost.packs.extend(nameless.difference(&named));
        }
        lost
    }
}

/// Lists the segments in the store, whether they count or not.
pub(super) fn list_segments(project: &Project) -> Result<HashSet<ObjectHash>, RepoError> {
    let listed = project.list(ObjectKind::Index)?;
    Ok(listed
        .iter()
        .filter_map(|(object, _)| object.hash())
        .collect())
}

/// Reads a segment. Returns it with its signer.
pub(super) fn read_segment(
    project: &Project,
    hash: ObjectHash,
) -> Result<(SignerId, IndexSegment), RepoError> {
    let segment = project.read_signed(ObjectRef::Index(project.id, hash))?;
    Ok((segment.signer, segment.body))
}
