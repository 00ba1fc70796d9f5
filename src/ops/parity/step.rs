//! The steps of a repair.

use crate::repo::{ObjectRef, Objects};

/// What a repair does with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParityAction {
    /// Restores the object from this parity object.
    Restore {
        /// The parity object.
        parity: ObjectRef,
        /// The number of lost parts of the object.
        lost: u64,
        /// The number of all parts of the object.
        parts: u64,
    },
    /// Replaces a damaged or missing file by the other copy of the object, which is whole.
    Copy,
    /// Stores the object again. The other copy of the repository has it undamaged.
    Fetch,
    /// Makes a damaged parity object again from the object that it protects.
    Rebuild,
    /// Moves a damaged parity object to `quarantine/`. It cannot be made again, and no object needs
    /// it.
    Remove,
    /// Moves a damaged parity object to `quarantine/`. Its object is missing, and cannot be
    /// restored with it.
    RemoveUseless,
    /// Nothing: too much of the object or of its parity is damaged.
    BeyondRepair,
    /// Nothing: the object has no parity.
    NoParity,
    /// Nothing: neither the repository nor its other copy has the object undamaged.
    NoCopy,
    /// Nothing: it is not known which content is genuine. The two files of the object differ from
    /// each other, or from what parity or the other copy of the repository states.
    Undecided,
    /// Nothing: this process may not read a file of the object, so it is not known to be damaged.
    Denied,
}

impl ParityAction {
    /// Returns whether this moves a damaged parity object to `quarantine/`.
    pub(super) const fn removes(&self) -> bool {
        matches!(self, Self::Remove | Self::RemoveUseless)
    }
}

/// A damaged object, and what a repair does with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParityStep {
    /// The object.
    pub object: ObjectRef,
    /// The action.
    pub action: ParityAction,
    /// Whether the object may be what is left of a key that was removed on purpose. The repository
    /// does not record such removals.
    pub may_be_removed: bool,
}

impl ParityStep {
    /// Returns whether the repair makes the object whole, or removes a damaged object that is not
    /// needed.
    #[must_use]
    pub const fn repairs(&self) -> bool {
        self.action.removes()
            || matches!(
                self.action,
                ParityAction::Restore { .. }
                    | ParityAction::Copy
                    | ParityAction::Fetch
                    | ParityAction::Rebuild
            )
    }
}

/// Where a repair takes undamaged objects from, in addition to their second copies.
#[derive(Clone, Copy)]
pub struct RepairSources<'a> {
    /// Whether parity is used.
    pub parity: bool,
    /// Another copy of the repository. `None` if no other copy is used.
    pub replica: Option<&'a Objects>,
}

impl RepairSources<'_> {
    /// Whether objects that are kept once can be repaired.
    pub(super) fn repairs_all(self) -> bool {
        self.parity || self.replica.is_some()
    }
}
