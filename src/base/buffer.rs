//! Memory that is filled again and again.

use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut};

/// What `O_DIRECT` asks of addresses, offsets and lengths, in bytes: no device or file system in use
/// asks for more.
pub const DIRECT_ALIGN: usize = 4 << 10;

/// A huge page, in bytes, on the processors in use.
const HUGE_PAGE: usize = 2 << 20;

/// A buffer of some MiB that is used again and again: asked for and cleared once, in huge pages where
/// the kernel has them, and at an address that [`DIRECT_ALIGN`] divides.
///
/// Huge pages make a whole restore a tenth faster: decompression jumps back in megabytes, and the kernel
/// has a five-hundredth of the pages to hold for a write with `O_DIRECT`.
#[derive(Debug, Default)]
pub struct Buffer {
    memory: Memory,
    len: usize,
}

#[derive(Debug)]
enum Memory {
    Map(MmapMut),
    /// Where there was no mapping to be had.
    Heap(Vec<u8>),
}

impl Buffer {
    /// One of this length.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let mut buffer = Self::default();
        buffer.resize(len);
        buffer
    }

    /// Makes it this long. What it holds then is of no meaning.
    pub fn resize(&mut self, len: usize) {
        if self.memory.len() < len {
            // First, so that there are never two.
            self.memory = Memory::default();
            self.memory = Memory::new(len.next_multiple_of(HUGE_PAGE));
        }
        self.len = len;
    }
}

impl Memory {
    fn new(len: usize) -> Self {
        match MmapMut::map_anon(len) {
            Ok(map) => {
                // Without them it only takes longer.
                let _ = map.advise(Advice::HugePage);
                Self::Map(map)
            }
            Err(_) => Self::Heap(vec![0; len]),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Heap(heap) => heap,
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Map(map) => map,
            Self::Heap(heap) => heap,
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_at_every_length() {
        let mut buffer = Buffer::default();
        assert!(buffer.is_empty());
        for len in [1, 4096, 5000, 3 << 20, 3, 0, 2 << 20] {
            buffer.resize(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().align_offset(DIRECT_ALIGN), 0, "{len}");
            buffer.fill(1);
        }
    }
}
