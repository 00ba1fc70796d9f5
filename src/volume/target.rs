//! The interface of targets of restores.

use super::error::VolumeError;
use super::source::ExtentIter;

/// Takes the bytes of an image. All offsets and lengths are in bytes.
///
/// An operation takes a `&dyn Target` that a front end has opened, for an image of
/// [`size`](Self::size) bytes. Any number of threads may write at the same time, by
/// [`write_at`](Self::write_at) or [`zero_range`](Self::zero_range). They write each byte at most
/// once, in the order that [`order`](Self::order) returns.
///
/// The target is complete when [`finish`](Self::finish) has returned without an error. After any
/// error, or if the target is dropped without `finish`, the target is incomplete. Then a new file
/// does not appear under its name, an existing file may hold a part of the image, and a stream
/// lacks its end. After an error, `finish` fails, too.
pub trait Target: Send + Sync {
    /// Returns the size of the image for which the target was opened.
    fn size(&self) -> u64;

    /// Returns the order in which the target must be written.
    fn order(&self) -> WriteOrder;

    /// Writes `data` at `offset`. Writes of 256 KiB or more are faster than shorter ones. Writes of
    /// 1 MiB or more are faster still if `data` is in a [`Buffer`](crate::base::Buffer).
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), VolumeError>;

    /// Makes `len` bytes from `offset` on zero, and frees their space if possible.
    fn zero_range(&self, offset: u64, len: u64) -> Result<(), VolumeError>;

    /// Makes everything durable, and then visible.
    fn finish(&self) -> Result<(), VolumeError>;

    /// Returns the target as a readable one, if its earlier content stays where nothing is written.
    /// Returns `None` if the target is zero where nothing is written.
    fn as_read_target(&self) -> Option<&dyn ReadTarget> {
        None
    }
}

/// A target whose earlier content can be read, so that a restore writes only the differences.
pub trait ReadTarget: Target {
    /// Fills `buffer` with the content of the target from `offset` on. If this fails, the buffer's
    /// content is undefined.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VolumeError>;

    /// Returns the extents within [`size`](Target::size) that may contain data, in ascending order.
    /// Between them, the target is zero. If holes cannot be found, there is only one extent. The
    /// iterator ends after an error.
    fn data_extents(&self) -> ExtentIter<'_>;
}

/// The order in which a [`Target`] must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOrder {
    /// In any order, by any number of threads at once.
    Any,
    /// By ascending offset: each write begins at or after the end of the previous one.
    Ascending,
}

/// The behaviour if the path of a target exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Fail with [`VolumeErrorKind::Exists`](super::VolumeErrorKind::Exists). A blank device can
    /// still be used.
    Refuse,
    /// Write a new file, which replaces the existing one when it is complete. Update a device in
    /// place.
    Replace,
    /// Keep the existing file or device, and write only where its content differs.
    Update,
}
