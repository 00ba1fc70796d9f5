//! Reads many tree nodes at once: locates them, and reads their packs with few requests.

use std::sync::Arc;

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::reader::{BlobReader, Opener};
use crate::base::{BlobId, to_usize};
use crate::format::{BlobKind, Node};
use crate::repo::error::RepoError;
use crate::repo::location::BlobLocation;

/// Nodes of a pack with at most this many bytes between them are read with one request.
const GAP: u64 = 64 << 10;

/// Reads many nodes in the threads of the current rayon pool. Returns them in the order of `ids`.
pub(crate) fn fetch_nodes(blobs: &BlobReader, ids: &[BlobId]) -> Result<Vec<Arc<Node>>, RepoError> {
    let locate = |id: &BlobId| blobs.locate(BlobKind::Node, id);
    let mut places = ids
        .par_iter()
        .zip(0..ids.len())
        .map(|(id, number)| Ok((locate(id)?, number)))
        .collect::<Result<Vec<_>, RepoError>>()?;
    places.sort_by_key(|(place, _)| (place.pack(), place.ordinal()));
    let together: Vec<&[(BlobLocation, usize)]> = places
        .chunk_by(|(a, _), (b, _)| {
            a.pack() == b.pack() && b.run_range().start <= a.run_range().end + GAP
        })
        .collect();
    let read = |group: &&[(BlobLocation, usize)]| -> Result<Vec<(usize, Arc<Node>)>, RepoError> {
        let [(first, _), .., (last, _)] = group else {
            return group
                .iter()
                .map(|(_, n)| Ok((*n, blobs.node(&ids[*n])?)))
                .collect();
        };
        let start = first.run_range().start;
        let mut stored = vec![0; to_usize(last.run_range().end - start)];
        let whole = match blobs.fetch(first, start, &mut stored) {
            Ok(()) => true,
            Err(RepoError::Damaged { .. }) => false,
            Err(error) => return Err(error),
        };
        let mut opener = Opener::default();
        let mut nodes = Vec::with_capacity(group.len());
        for (place, number) in *group {
            let range = place.run_range();
            let at = to_usize(range.start - start);
            // Copy the run: it is opened in place, and another wanted node may be in the same run.
            let mut run = stored[at..at + to_usize(range.end - range.start)].to_vec();
            let node = if whole {
                blobs.open_node(&mut opener, place, &mut run)
            } else {
                blobs.node(&ids[*number])
            };
            nodes.push((
                *number,
                match node {
                    Err(RepoError::Damaged { .. }) => blobs.node(&ids[*number])?,
                    other => other?,
                },
            ));
        }
        Ok(nodes)
    };
    let groups = together
        .par_iter()
        .map(read)
        .collect::<Result<Vec<_>, _>>()?;
    let mut nodes: Vec<_> = groups.into_iter().flatten().collect();
    nodes.sort_unstable_by_key(|(number, _)| *number);
    Ok(nodes.into_iter().map(|(_, node)| node).collect())
}
