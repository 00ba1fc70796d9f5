//! Memory that goes back to the system when it is dropped.

use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut};

/// Memory of a fixed length, for buffers of some MiB. It is zero at first.
///
/// An allocator can keep freed memory for the thread that freed it, where other threads cannot use
/// the memory. A dropped `Mapping` goes back to the system.
#[derive(Debug)]
pub(crate) struct Mapping(Memory);

#[derive(Debug)]
enum Memory {
    Map(MmapMut),
    /// Used if the mapping failed, and by `default`.
    Heap(Vec<u8>),
}

impl Mapping {
    /// Returns memory of this length in bytes. The system provides each page when it is first used.
    pub(crate) fn new(len: usize) -> Self {
        let map = MmapMut::map_anon(len);
        Self(map.map_or_else(|_| Memory::Heap(vec![0; len]), Memory::Map))
    }

    /// Asks the system for huge pages. If it provides none, the memory still works, but more
    /// slowly.
    pub(crate) fn prefer_huge_pages(&self) {
        if let Memory::Map(map) = &self.0 {
            let _ = map.advise(Advice::HugePage);
        }
    }
}

impl Default for Mapping {
    fn default() -> Self {
        Self(Memory::Heap(Vec::new()))
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Map(map) => map,
            Memory::Heap(heap) => heap,
        }
    }
}

impl DerefMut for Mapping {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Map(map) => map,
            Memory::Heap(heap) => heap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_of_any_length_is_zero_and_can_be_written() {
        for len in [0, 1, 4096, 5000, 3 << 20] {
            let mut mapping = Mapping::new(len);
            assert_eq!(mapping.len(), len);
            assert!(mapping.iter().all(|byte| *byte == 0), "{len}");
            mapping.fill(1);
            assert!(mapping.iter().all(|byte| *byte == 1), "{len}");
        }
        assert!(Mapping::default().is_empty());
    }
}
