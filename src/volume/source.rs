//! The interface of sources of backups.

use std::ops::Range;

use super::error::VolumeError;
use super::identity::ImageIdentity;
use super::input::InputStream;

/// A volume, or the changes of a volume, as the source of a backup.
///
/// An operation takes a `&mut dyn Source` that a front end has made. The front end opens the file,
/// device or pipe, so that it can report a wrong path before it asks for a password.
pub trait Source: Send {
    /// Begins to read. An operation calls this once. If it is called again, a source whose bytes
    /// can be read only once, such as a pipe, returns the remaining bytes.
    ///
    /// An error means that nothing was read.
    fn begin(&mut self) -> Result<SourceData<'_>, VolumeError>;
}

/// The way in which a [`Source`] delivers its bytes.
pub enum SourceData<'a> {
    /// An image that can be read at any offset, by many threads.
    Image(&'a dyn ImageSource),
    /// RBD diffs. The stream itself names the snapshots and the changed extents.
    Diff(&'a mut dyn InputStream),
    /// Bytes of unknown structure, to be stored up to the end of the stream.
    Stream(&'a mut dyn InputStream),
}

/// An image that can be read at any offset. All offsets and lengths are in bytes.
///
/// Any number of threads may read at the same time. Nothing is ever written to a source.
pub trait ImageSource: Send + Sync {
    /// Returns the name that messages use for the image.
    fn name(&self) -> String;

    /// Returns the size that the image had when it was opened.
    fn size(&self) -> u64;

    /// Fills `buffer`, which belongs to the caller, with the bytes from `offset` on.
    ///
    /// Either the whole buffer is filled, or this method fails and the buffer's content is
    /// undefined. Fails if the range is not within [`size`](Self::size), or if the image has shrunk
    /// since it was opened. Long reads are fastest, for example one call for each leaf (4 MiB).
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VolumeError>;

    /// Returns the extents to read, in ascending order. They are not empty and do not overlap.
    /// [`gaps`](Self::gaps) states the content between them. The iterator finds them one by one, so
    /// that a large sparse image takes only the time for its data. The iterator ends after an
    /// error.
    ///
    /// Extents that a user listed may reach beyond the end of the image: the caller checks that.
    fn extents(&self) -> ExtentIter<'_>;

    /// Returns the content of the image outside of [`extents`](Self::extents).
    fn gaps(&self) -> Gaps;

    /// Returns the identity of the image's content on this host, if it has one.
    fn identity(&self) -> Option<&ImageIdentity>;

    /// Returns whether the image was certainly written to, or resized, since it was opened. In this
    /// case, the bytes that were read are not the content at a single point in time. False does not
    /// prove the opposite: for a device, only the size is known.
    fn changed_since_opened(&self) -> Result<bool, VolumeError>;
}

/// Extents of an image, in ascending order, in bytes.
pub type ExtentIter<'a> = Box<dyn Iterator<Item = Result<Range<u64>, VolumeError>> + Send + 'a>;

/// The content of an image between the extents that its source names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gaps {
    /// Zeros: the extents cover all data.
    Zeros,
    /// The same as in the backup that the new one is compared with: the extents cover all changes.
    Unchanged,
}
