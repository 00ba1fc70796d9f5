//! Samples of what was restored, to notice another program that writes to the same target.

use std::sync::Mutex;

use super::task::RestoreTask;
use crate::base::lock;
use crate::ops::error::OpsError;
use crate::repo::ChunkRef;
use crate::volume::ReadTarget;

/// The most chunks that are read again: 16 MiB of 64 KiB each.
const SAMPLES: usize = 256;

/// Chunks chosen at random, each with the same chance, while they pass by.
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
            // Without randomness, the same ones are chosen each time.
            random: getrandom::u64().unwrap_or(1) | 1,
        }))
    }

    /// Takes a chunk that passes by.
    pub(super) fn pass(&self, chunk: &ChunkRef) {
        let mut state = lock(&self.0);
        state.seen += 1;
        if state.chosen.len() < SAMPLES {
            state.chosen.push(*chunk);
            return;
        }
        // Xorshift: enough to choose places.
        state.random ^= state.random << 13;
        state.random ^= state.random >> 7;
        state.random ^= state.random << 17;
        let place = state.random % state.seen;
        if let Some(place) = usize::try_from(place).ok().filter(|at| *at < SAMPLES) {
            state.chosen[place] = *chunk;
        }
    }

    /// Fails if the target does not hold one of the chosen chunks any longer.
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
