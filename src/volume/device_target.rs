//! An image written to a block device.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::contents::Contents;
use super::data_extents::DataExtents;
use super::error::{Unsuitable, VolumeError, VolumeErrorKind, VolumeOperation};
use super::image_writer::ImageWriter;
use super::source::ExtentIter;
use super::sys::{ImageKind, image_size, read_image};
use super::target::{ReadTarget, Target, WriteOrder};
use super::users::open_for_update;
use super::witness::Witness;

/// A block device as a target. Parts that are not written keep their content, and bytes after the
/// end of the image never change.
#[derive(Debug)]
pub struct DeviceTarget {
    writer: ImageWriter,
    witness: Witness,
}

impl DeviceTarget {
    /// Opens the block device at `path` for an image of `size` bytes, even if the device is not
    /// blank. Fails with [`VolumeErrorKind::TooSmall`] if the device has less than `size` bytes,
    /// and with [`VolumeErrorKind::Busy`] if it is mounted or otherwise in use. Fails with
    /// [`VolumeErrorKind::ReadOnly`] if the device is read-only, and with
    /// [`VolumeErrorKind::Unsuitable`] if `path` is not a block device.
    pub fn open(path: impl AsRef<Path>, size: u64) -> Result<Self, VolumeError> {
        let path = path.as_ref();
        let refuse = |kind| VolumeError::new(kind, VolumeOperation::Open, path.display());
        let (file, metadata) = open_for_update(path)?;
        if !metadata.file_type().is_block_device() {
            return Err(refuse(VolumeErrorKind::Unsuitable(Unsuitable::File)));
        }
        let held = image_size(&file, ImageKind::Device)
            .map_err(VolumeError::on(VolumeOperation::Open, path))?;
        if held < size {
            return Err(refuse(VolumeErrorKind::TooSmall {
                size: held,
                needed: size,
            }));
        }
        Ok(Self {
            witness: Witness::new(&file),
            writer: ImageWriter::new(file, path.to_owned(), size),
        })
    }

    /// Like [`open`](Self::open), but fails with [`VolumeErrorKind::NotBlank`] if the device is not
    /// blank: if it has a known signature, data in its first or last MiB, or if one of the places
    /// that are examined cannot be read.
    pub fn open_blank(path: impl AsRef<Path>, size: u64) -> Result<Self, VolumeError> {
        let target = Self::open(path, size)?;
        let (file, path) = (target.writer.file(), target.writer.path());
        let held = image_size(file, ImageKind::Device)
            .map_err(VolumeError::on(VolumeOperation::Open, path))?;
        let contents = Contents::of(file, held);
        if contents.is_blank() {
            return Ok(target);
        }
        let kind = VolumeErrorKind::NotBlank(contents);
        Err(VolumeError::new(
            kind,
            VolumeOperation::Open,
            path.display(),
        ))
    }
}

impl ReadTarget for DeviceTarget {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VolumeError> {
        let writer = &self.writer;
        read_image(writer.file(), writer.path(), writer.size(), offset, buffer)
    }

    fn data_extents(&self) -> ExtentIter<'_> {
        let writer = &self.writer;
        Box::new(DataExtents::new(
            writer.file(),
            writer.path(),
            ImageKind::Device,
            writer.size(),
        ))
    }
}

impl Target for DeviceTarget {
    fn size(&self) -> u64 {
        self.writer.size()
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Any
    }

    fn as_read_target(&self) -> Option<&dyn ReadTarget> {
        Some(self)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), VolumeError> {
        let len = data.len() as u64;
        self.writer
            .check_range(VolumeOperation::Write, offset, len)?;
        self.writer.write_at(offset, data)
    }

    fn zero_range(&self, offset: u64, len: u64) -> Result<(), VolumeError> {
        self.writer
            .check_range(VolumeOperation::Zero, offset, len)?;
        self.writer.zero_range(offset, len)
    }

    fn finish(&self) -> Result<(), VolumeError> {
        self.writer.sync()?;
        self.writer.check_alone(&self.witness)
    }
}
