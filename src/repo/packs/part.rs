//! The part of a pack that a worker fills.

use std::ops::{Deref, DerefMut};

use crate::base::Mapping;

/// Consecutive runs of a pack, in a buffer of a fixed capacity.
pub(super) struct Part {
    memory: Mapping,
    len: usize,
}

impl Part {
    /// Returns an empty part with space for this many bytes. Space that is never used takes no
    /// memory.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self {
            memory: Mapping::new(bytes),
            len: 0,
        }
    }

    /// Returns the maximum length, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Appends bytes. Panics if the space is too short.
    pub(super) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.space()[..bytes.len()].copy_from_slice(bytes);
        self.take_space(bytes.len());
    }

    /// Returns the unused space after the bytes.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.memory[self.len..]
    }

    /// Appends this many bytes, which the caller has written to the [space](Self::space).
    pub(super) fn take_space(&mut self, bytes: usize) {
        self.len = self.memory.len().min(self.len + bytes);
    }

    /// Removes all bytes. The capacity stays.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }
}

impl From<&[u8]> for Part {
    fn from(bytes: &[u8]) -> Self {
        let mut part = Self::with_capacity(bytes.len());
        part.extend_from_slice(bytes);
        part
    }
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Part {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}
