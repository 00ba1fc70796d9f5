//! Describes the content of a backup in its record.

use super::task::Stored;
use crate::format::{Content, ContentKind, root_description};
use crate::repo::Project;

/// Returns the description of a stored content for its record. Its root is a MAC of the other
/// fields.
pub(super) fn content(project: &Project, stored: &Stored) -> Content {
    let chunk_size = match stored.kind {
        ContentKind::Image => project.chunk_size.bytes(),
        ContentKind::Stream => 0,
    };
    let described = root_description(stored.kind, stored.size, chunk_size, stored.top.as_ref());
    Content {
        kind: stored.kind,
        size: stored.size,
        chunk_size,
        top: stored.top,
        root: project.keys.root(&described),
    }
}
