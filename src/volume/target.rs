//! Where a backup is restored to.

use super::error::VolumeError;
use super::source::ExtentIter;

/// Takes the bytes of an image. All offsets and lengths are in bytes.
///
/// An operation takes a `&dyn Target` that a front end has opened, for an image of
/// [`size`](Self::size) bytes. Any number of threads may write at the same time, each byte at most
/// once, by [`write_at`](Self::write_at) or [`zero_range`](Self::zero_range), in the order that
/// [`order`](Self::order) asks for.
///
/// The target is complete once [`finish`](Self::finish) has returned. After any error, or if it is
/// dropped before, it is not: a new file never appears under its name, an existing one may hold a
/// part of the image, and a stream lacks its end. After an error `finish` fails, too.
pub trait Target: Send + Sync {
    /// Returns the size of the image for which it was opened.
    fn size(&self) -> u64;

    /// Returns the order in which it must be written.
    fn order(&self) -> WriteOrder;

    /// Writes `data`, which stays the caller's, at `offset`. From 256 KiB on it is quickest, and
    /// more so from 1 MiB on if `data` lies in a [`Buffer`](crate::base::Buffer).
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), VolumeError>;

    /// Makes `len` bytes from `offset` on zero, and frees their space where that is possible.
    fn zero_range(&self, offset: u64, len: u64) -> Result<(), VolumeError>;

    /// Makes everything durable, and then visible.
    fn finish(&self) -> Result<(), VolumeError>;

    /// Returns the target as a readable one, if it had content before, which stays where nothing is
    /// written. Returns none if the target is zero where nothing is written.
    fn as_read_target(&self) -> Option<&dyn ReadTarget> {
        None
    }
}

/// A target whose earlier content can be read, so that a restore need only write what differs.
pub trait ReadTarget: Target {
    /// Fills `buffer`, which belongs to the caller, with what the target holds from `offset` on.
    /// If it fails, the buffer's content is undefined.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VolumeError>;

    /// Returns the extents within [`size`](Target::size) that may hold data, in ascending order;
    /// between them the target is zero. Where holes cannot be found, it is all one extent. The
    /// iterator ends after an error.
    fn data_extents(&self) -> ExtentIter<'_>;
}

/// The order in which a [`Target`] must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOrder {
    /// In any order, by any number of threads at once.
    Any,
    /// By ascending offset: each write begins where the one before it ended, or later.
    Ascending,
}

/// The behaviour if the path of a target exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Fail with [`VolumeErrorKind::Exists`](super::VolumeErrorKind::Exists).
    Refuse,
    /// Put a new file in its place, once that is complete.
    Replace,
    /// Keep it, and change what differs.
    Update,
}
