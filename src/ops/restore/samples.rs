//! Takes samples of the restored data, to notice another program that writes to the same target.

use std::sync::Mutex;

use super::task::RestoreTask;
use crate::base::lock;
use crate::ops::error::OpsError;
use crate::repo::ChunkRef;
use crate::volume::ReadTarget;

/// The maximum number of chunks that are read again. With chunks of 64 KiB, these are 16 MiB.
const SAMPLES: usize = 256;

/// Chunks chosen at random from a sequence of unknown length, each with the same chance.
pub(super) struct Samples(Mutex<State>);

struct State {
    chosen: Vec<ChunkRef>,
    seen: u64,
    random: u64,
}

impl Samples {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            chosen: Vec::new(),
            seen: 0,
            // If the system has no random numbers, the same chunks are chosen each time.
            random: getrandom::u64().unwrap_or(1) | 1,
        }))
    }

    /// Takes the next chunk of the sequence, and may choose it.
    pub(super) fn pass(&self, chunk: &ChunkRef) {
        let mut state = lock(&self.0);
        state.seen += 1;
        if state.chosen.len() < SAMPLES {
            state.chosen.push(*chunk);
            return;
        }
        // Xorshift is good enough to choose samples.
        state.random ^= state.random << 13;
        state.random ^= state.random >> 7;
        state.random ^= state.random << 17;
        let place = state.random % state.seen;
        if let Some(place) = usize::try_from(place).ok().filter(|at| *at < SAMPLES) {
            state.chosen[place] = *chunk;
        }
    }

    /// Fails if the target no longer holds one of the chosen chunks. Skips chunks that could not be
    /// read from the repository.
    pub(super) fn check(
        &self,
        task: &RestoreTask<'_>,
        target: &dyn ReadTarget,
    ) -> Result<(), OpsError> {
        let mut chosen = std::mem::take(&mut lock(&self.0).chosen);
        chosen.sort_unstable_by_key(|chunk| chunk.offset);
        let keys = task.project.chunk_keys()?;
        for chunk in chosen {
            task.context.cancel.check()?;
            if task.holes.meet(&chunk.range()) {
                continue;
            }
            let mut bytes = vec![0; chunk.plain_len as usize];
            target.read_at(chunk.offset, &mut bytes[..chunk.len as usize])?;
            if keys.id(&bytes) != chunk.id {
                return Err(OpsError::TargetChanged {
                    offset: chunk.offset,
                });
            }
        }
        Ok(())
    }
}
