//! The content of the store, as sets. In a set, bit `n` stands for the pack, blob, mark, record or
//! segment with the number `n`. A new object gets an unused number, and renumbering changes the
//! sets of the actors, too. So an actor never mistakes a new object for one that it saw before.

use std::fmt;

/// A set of packs, blobs, marks or records.
pub(super) type Set = u8;
/// A set of segments.
pub(super) type Segments = u16;

/// Maximum number of actors in a scenario.
pub(super) const ACTORS: usize = 4;

/// Returns the members of a set.
pub(super) fn members(set: impl Into<u16>) -> impl Iterator<Item = usize> {
    let mut left = set.into();
    std::iter::from_fn(move || {
        let n = (left != 0).then(|| left.trailing_zeros())?;
        left &= left - 1;
        Some(n as usize)
    })
}

/// Returns the set with only this member.
pub(super) const fn one(n: usize) -> Set {
    1 << n
}

/// Renumbers a set. The existing objects, `there`, get the smallest numbers. Others leave the set.
pub(super) fn compact(set: u16, there: u16) -> u16 {
    let number = |n: usize| (there & ((1 << n) - 1)).count_ones();
    members(set & there).fold(0, |all, n| all | 1 << number(n))
}

/// Like [`compact`], for marks.
pub(super) fn compact_marks(set: Set, there: Set) -> Set {
    let [marks, _] = compact(set.into(), there.into()).to_le_bytes();
    marks
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Segment {
    pub(super) packs: Set,
    /// The superseded segments that still exist.
    pub(super) superseded: Segments,
    /// Whether the segment replaced others, which may no longer exist.
    pub(super) is_rewrite: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    pub(super) packs: Set,
    /// Superseded segments that still exist.
    pub(super) segments: Segments,
    /// The records that the prune saw before it stored this mark.
    pub(super) records: Set,
    /// The backups that held a lease when this mark was stored. They may not have seen it.
    pub(super) missed_by: Set,
    /// Whether the grace period is over.
    pub(super) old: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    pub(super) there: bool,
    /// Whether other processes see the lease as expired.
    pub(super) expired: bool,
    pub(super) prune: bool,
    /// Which of its two possible names the lease has.
    pub(super) name: bool,
    pub(super) relies_on: Set,
    /// Tops of the trees that the holder intends to commit, as blobs.
    pub(super) intends: Set,
    /// Tops of the trees that the holder reads, as blobs.
    pub(super) reads: Set,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Store {
    /// The blobs in each pack, even if the pack was deleted.
    pub(super) contents: [Set; 8],
    pub(super) packs: Set,
    pub(super) segment: [Segment; 16],
    pub(super) segments: Segments,
    pub(super) segments_made: u8,
    pub(super) mark: [Mark; 8],
    pub(super) marks: Set,
    pub(super) marks_made: u8,
    pub(super) records: Set,
    pub(super) removed: Set,
    pub(super) leases: [Lease; ACTORS],
}

impl Store {
    pub(super) fn put_pack(&mut self, pack: usize, blobs: Set) {
        self.contents[pack] = blobs;
        self.packs |= one(pack);
    }

    pub(super) fn put_segment(&mut self, packs: Set, superseded: Segments) -> Segments {
        let n = usize::from(self.segments_made);
        let is_rewrite = superseded != 0;
        self.segment[n] = Segment {
            packs,
            superseded,
            is_rewrite,
        };
        self.segments |= 1 << n;
        self.segments_made += 1;
        1 << n
    }

    pub(super) fn delete_segment(&mut self, n: usize) {
        self.segments &= !(1 << n);
        self.segment[n] = Segment::default();
        for segment in &mut self.segment {
            segment.superseded &= !(1 << n);
        }
        for mark in &mut self.mark {
            mark.segments &= !(1 << n);
        }
    }

    pub(super) fn put_mark(&mut self, mark: Mark) -> Set {
        let n = usize::from(self.marks_made);
        self.mark[n] = mark;
        self.marks |= one(n);
        self.marks_made += 1;
        one(n)
    }

    pub(super) fn delete_mark(&mut self, n: usize) {
        self.marks &= !one(n);
        self.mark[n] = Mark::default();
    }

    /// Returns the same store, in which marks and segments have the smallest numbers.
    pub(super) fn renumbered(&self) -> Self {
        if self.segments + 1 == 1 << self.segments_made
            && u16::from(self.marks) + 1 == 1 << self.marks_made
        {
            return *self;
        }
        let mut new = Self {
            segment: Default::default(),
            segments: 0,
            segments_made: 0,
            ..*self
        };
        (new.mark, new.marks, new.marks_made) = (Default::default(), 0, 0);
        for n in members(self.segments) {
            let Segment {
                packs,
                superseded,
                is_rewrite,
            } = self.segment[n];
            let number = new.put_segment(packs, compact(superseded, self.segments));
            new.segment[number.trailing_zeros() as usize].is_rewrite = is_rewrite;
        }
        for n in members(self.marks) {
            new.put_mark(Mark {
                segments: compact(self.mark[n].segments, self.segments),
                ..self.mark[n]
            });
        }
        new
    }

    /// Returns the segments that no other one supersedes.
    pub(super) fn effective(&self) -> Segments {
        let superseded = members(self.segments).map(|n| self.segment[n].superseded);
        self.segments & !superseded.fold(0, |all, s| all | s)
    }

    /// Returns the segments that replaced other segments.
    pub(super) fn superseding(&self) -> Segments {
        let all = members(self.segments).filter(|n| self.segment[*n].is_rewrite);
        all.fold(0, |all, n| all | 1 << n)
    }

    /// Returns the packs that an effective segment names.
    pub(super) fn named(&self) -> Set {
        let named = members(self.effective()).map(|n| self.segment[n].packs);
        named.fold(0, |all, packs| all | packs)
    }

    /// Returns the packs that at least one of these marks names.
    pub(super) fn marked(&self, marks: Set) -> Set {
        let marked = members(marks).map(|n| self.mark[n].packs);
        marked.fold(0, |all, packs| all | packs)
    }

    /// Returns the segments that at least one of these marks names.
    pub(super) fn marked_segments(&self, marks: Set) -> Segments {
        let marked = members(marks).map(|n| self.mark[n].segments);
        marked.fold(0, |all, segments| all | segments)
    }

    /// Returns the actors whose backup holds an unexpired lease.
    pub(super) fn backups(&self) -> Set {
        let leases = self.leases.iter().enumerate();
        let backups = leases.filter(|(_, l)| l.there && !l.expired && !l.prune && l.reads == 0);
        backups.fold(0, |all, (n, _)| all | one(n))
    }

    /// Returns the blobs in these packs.
    pub(super) fn blobs(&self, packs: Set) -> Set {
        let blobs = members(packs).map(|n| self.contents[n]);
        blobs.fold(0, |all, blobs| all | blobs)
    }
}

/// Displays a set, for example as `{0,2}`.
pub(super) struct Show(pub u16);

impl fmt::Display for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = members(self.0).map(|n| n.to_string()).collect();
        write!(f, "{{{}}}", all.join(","))
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |set: Set| Show(set.into());
        write!(f, "packs {}", show(self.packs))?;
        for n in members(self.segments) {
            let Segment {
                packs, superseded, ..
            } = self.segment[n];
            write!(f, " S{n}{}", show(packs))?;
            if superseded != 0 {
                write!(f, "-{}", Show(superseded))?;
            }
        }
        for n in members(self.marks) {
            let Mark {
                packs,
                segments,
                records,
                missed_by: _,
                old,
            } = self.mark[n];
            write!(f, " M{n}{}", show(packs))?;
            if packs != 0 {
                write!(f, " saw records {}", show(records))?;
            }
            if segments != 0 {
                write!(f, " segments {}", Show(segments))?;
            }
            if old {
                write!(f, " old")?;
            }
        }
        write!(f, " records {}", show(self.records))?;
        for (n, lease) in self.leases.iter().enumerate().filter(|(_, l)| l.there) {
            write!(f, " L{n}")?;
            if lease.relies_on != 0 {
                write!(f, " relies on {}", show(lease.relies_on))?;
            }
            if lease.intends != 0 {
                write!(f, " intends {}", show(lease.intends))?;
            }
            if lease.reads != 0 {
                write!(f, " reads {}", show(lease.reads))?;
            }
            if lease.expired {
                write!(f, " expired")?;
            }
        }
        Ok(())
    }
}
