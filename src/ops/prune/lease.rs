//! The lease of a prune or of a repair. Only one process at a time may replace segments and delete
//! packs.

use jiff::Timestamp;

use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{Lease, Leases, ObjectRef, Project, Work};

/// Fails if another prune runs. Before it fails, deletes expired leases. A prune usually does this
/// at its end, which this prune does not reach.
pub(crate) fn refuse_second(project: &Project, leases: &Leases) -> Result<(), OpsError> {
    let mut others = leases.others.iter();
    let Some(other) = others.find(|lease| lease.is_held_for(Work::Prune)) else {
        return Ok(());
    };
    for expired in leases.others.iter().filter(|lease| lease.expired) {
        Lease::remove_expired(project, expired)?;
    }
    Err(OpsError::PruneRuns {
        host: other.host.clone(),
        lease: Box::new(ObjectRef::Lease(project.id, other.id)),
        since: Timestamp::try_from(other.since).unwrap_or_default(),
    })
}

/// Like [`still_valid`], but first stores the lease again, to test it by the store's clock. The
/// clocks of a virtual machine do not show that the machine was paused. Must be called before
/// anything is stored that other processes rely on, and before data is deleted.
pub(crate) fn confirm(lease: Option<&Lease>, context: &Context<'_>) -> Result<(), OpsError> {
    if let Some(lease) = lease {
        lease.confirm()?;
    }
    still_valid(lease, context)
}

/// Fails if the lease may have expired. Then another prune may have changed the repository, so the
/// plan may be out of date. Also fails if the work is cancelled. A dry run has no lease.
pub(crate) fn still_valid(lease: Option<&Lease>, context: &Context<'_>) -> Result<(), OpsError> {
    context.cancel.check()?;
    match lease {
        Some(lease) if lease.may_have_expired() => Err(OpsError::PausedTooLong),
        _ => Ok(()),
    }
}
