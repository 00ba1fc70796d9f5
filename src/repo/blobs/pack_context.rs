//! The associated data with which the runs of a pack are sealed: section 8 (Pack) of
//! `docs/format.md`.

use crate::format::{BlobKind, Magic};
use crate::repo::project::Project;

/// Returns the associated data that all runs of a project have in common: project id and pack
/// header.
pub(crate) fn pack_context(project: &Project) -> [u8; 32] {
    let mut context = [0; 32];
    context[..16].copy_from_slice(project.id.as_bytes());
    context[16..].copy_from_slice(&Magic::Pack.header());
    context
}

/// Returns the associated data of a run: project id, pack header and kind. `context` is the result
/// of [`pack_context`].
pub(crate) fn run_context(context: &[u8; 32], kind: BlobKind) -> [u8; 33] {
    let mut out = [0; 33];
    out[..32].copy_from_slice(context);
    out[32] = kind.byte();
    out
}
