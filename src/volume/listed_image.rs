//! An image with a list of its changed extents.

use super::error::VolumeError;
use super::identity::ImageIdentity;
use super::source::{ExtentIter, Gaps, ImageSource, Source, SourceData};
use crate::format::ExtentList;

/// An image of which only listed extents are read: those that changed since an earlier backup, as
/// `rbd diff` lists them. The list comes from the user and may be wrong.
#[derive(Debug)]
pub struct ListedImage<I> {
    image: I,
    extents: ExtentList,
    identity: Option<ImageIdentity>,
}

impl<I: ImageSource> ListedImage<I> {
    /// Joins an image and a list of its changed extents.
    ///
    /// The image's identity is marked as not settled. So a later backup does not trust the times of
    /// the file, and reads the whole file again.
    pub fn new(image: I, extents: ExtentList) -> Self {
        let identity = image.identity().map(|identity| ImageIdentity {
            settled: false,
            ..identity.clone()
        });
        Self {
            image,
            extents,
            identity,
        }
    }
}

impl<I: ImageSource> ImageSource for ListedImage<I> {
    fn name(&self) -> String {
        self.image.name()
    }

    fn size(&self) -> u64 {
        self.image.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VolumeError> {
        self.image.read_at(offset, buffer)
    }

    fn extents(&self) -> ExtentIter<'_> {
        Box::new(self.extents.ranges().iter().cloned().map(Ok))
    }

    fn gaps(&self) -> Gaps {
        Gaps::Unchanged
    }

    fn identity(&self) -> Option<&ImageIdentity> {
        self.identity.as_ref()
    }

    fn changed_since_opened(&self) -> Result<bool, VolumeError> {
        self.image.changed_since_opened()
    }
}

impl<I: ImageSource> Source for ListedImage<I> {
    fn begin(&mut self) -> Result<SourceData<'_>, VolumeError> {
        Ok(SourceData::Image(self))
    }
}
