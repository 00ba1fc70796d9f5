//! Adds parity to the objects of a repository.

use crate::base::{ParityRate, Phase, Progress};
use crate::format::PACK_SIZE_MAX;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{ObjectRef, Project, RepoError, parity_len, read_verified};

use super::missing::parity_state;

/// The result of [`add_parity`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddedParity {
    /// The number of objects that had no parity or too little, and have enough now.
    pub added: u64,
    /// The bytes of the parity that was stored.
    pub bytes: u64,
    /// The number of objects that already had enough parity.
    pub kept: u64,
    /// The number of objects that got no parity, since they are damaged or need a newer version of
    /// this program.
    pub damaged: u64,
}

/// Sets the amount of parity for new objects of a project, and adds parity to all objects that have
/// none or too little. Also adds parity to the objects of the repository that belong to no project.
/// Needs a full key. After an interruption, the next run continues and does not make existing
/// parity again. If `rate` is `None`, new objects have no parity, and the existing parity stays.
pub fn add_parity(
    project: &Project,
    rate: Option<ParityRate>,
    context: &Context<'_>,
) -> Result<AddedParity, OpsError> {
    let project = project.set_parity(rate)?;
    let mut added = AddedParity::default();
    let Some(rate) = rate else {
        return Ok(added);
    };
    let objects = &project.without_copies().objects;
    let mut work = Vec::new();
    for owner in [None, Some(project.id)] {
        let state = parity_state(objects, owner)?;
        work.extend(
            state
                .missing
                .into_iter()
                .map(|(o, size)| (o, size, Vec::new())),
        );
        for (object, size, parity) in state.protected {
            let wanted = parity_len(object.kind(), size, rate).unwrap_or(0);
            if parity.iter().any(|(_, len)| *len >= wanted) {
                added.kept += 1;
            } else {
                work.push((object, size, parity));
            }
        }
    }
    // An object of more than `PACK_SIZE_MAX` bytes is damaged. It is not read, so its size does not
    // count here.
    let len = |size: u64| if size > PACK_SIZE_MAX { 0 } else { size };
    let total = work.iter().map(|(_, size, _)| len(*size)).sum();
    let mut done = 0;
    for (object, size, less) in work {
        context.cancel.check()?;
        if size > PACK_SIZE_MAX {
            added.damaged += 1;
            continue;
        }
        match read_verified(objects, object, size) {
            Ok(bytes) => {
                objects.protect_existing(object, &bytes)?;
                for (parity, _) in less {
                    objects.delete(parity)?;
                }
                added.added += 1;
                added.bytes += parity_len(object.kind(), size, rate).unwrap_or(0);
            }
            // The object was deleted since it was listed.
            Err(error) if error.is_missing() && object != ObjectRef::Repository => {}
            Err(RepoError::Damaged { .. } | RepoError::Unsupported { .. }) => added.damaged += 1,
            Err(error) => return Err(error.into()),
        }
        done += size;
        context.observer.progress(Progress {
            phase: Phase::StoreParity,
            done,
            total: Some(total),
        });
    }
    Ok(added)
}
