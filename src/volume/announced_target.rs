//! Calls a function before the first write to a target.

use std::sync::OnceLock;

use super::error::VolumeError;
use super::source::ExtentIter;
use super::target::{ReadTarget, Target, WriteOrder};

/// A target that calls a function before its first write.
pub struct AnnouncedTarget<F> {
    inner: Box<dyn Target>,
    before_writing: F,
    announced: OnceLock<()>,
}

impl<F: Fn() + Send + Sync> AnnouncedTarget<F> {
    /// Returns a target that writes to `inner`, and calls `before_writing` once before the first
    /// write. No write begins until that call has returned.
    pub fn new(inner: Box<dyn Target>, before_writing: F) -> Self {
        Self {
            inner,
            before_writing,
            announced: OnceLock::new(),
        }
    }

    fn announce(&self) {
        self.announced.get_or_init(&self.before_writing);
    }
}

impl<F: Fn() + Send + Sync> Target for AnnouncedTarget<F> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn order(&self) -> WriteOrder {
        self.inner.order()
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), VolumeError> {
        self.announce();
        self.inner.write_at(offset, data)
    }

    fn zero_range(&self, offset: u64, len: u64) -> Result<(), VolumeError> {
        self.announce();
        self.inner.zero_range(offset, len)
    }

    fn finish(&self) -> Result<(), VolumeError> {
        self.inner.finish()
    }

    fn as_read_target(&self) -> Option<&dyn ReadTarget> {
        self.inner.as_read_target().is_some().then_some(self)
    }
}

impl<F: Fn() + Send + Sync> ReadTarget for AnnouncedTarget<F> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VolumeError> {
        if let Some(inner) = self.inner.as_read_target() {
            inner.read_at(offset, buffer)
        } else {
            buffer.fill(0);
            Ok(())
        }
    }

    fn data_extents(&self) -> ExtentIter<'_> {
        match self.inner.as_read_target() {
            Some(inner) => inner.data_extents(),
            None => Box::new(std::iter::empty()),
        }
    }
}
