//! What a backup is restored to.

use super::error::VolumeError;

/// Takes an image's bytes and is whole once it is finished.
///
/// Each byte is given at most once, by [`write_at`](Self::write_at) or
/// [`zero_range`](Self::zero_range), and by any thread, unless a target says that it needs order.
/// What a target held before and nobody gives stays as it is; a new one is zero there. After any
/// error the target is not whole, and `finish` refuses.
pub trait Target: Send + Sync {
    /// How many bytes the image has.
    fn size(&self) -> u64;

    /// Writes `data` at `offset`. A quarter of a MiB and more at once is quickest.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), VolumeError>;

    /// Makes `len` bytes from `offset` on zero, giving their space back where that is possible.
    fn zero_range(&self, offset: u64, len: u64) -> Result<(), VolumeError>;

    /// Makes everything durable, and then visible. Without it a new image never appears.
    fn finish(&self) -> Result<(), VolumeError>;
}
