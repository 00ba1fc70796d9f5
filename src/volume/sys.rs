//! System calls that sources and targets share.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, SeekFrom};

use super::error::{Unsuitable, VolumeError, VolumeErrorKind, VolumeOperation};

/// The kind of file that holds an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// A regular file.
    File,
    /// A block device.
    Device,
}

/// Returns the kind of image that a file can hold, or the reason why it cannot hold an image.
pub(super) fn image_kind(metadata: &Metadata) -> Result<ImageKind, Unsuitable> {
    let kind = metadata.file_type();
    if kind.is_file() {
        Ok(ImageKind::File)
    } else if kind.is_block_device() {
        Ok(ImageKind::Device)
    } else if kind.is_dir() {
        Err(Unsuitable::Directory)
    } else if kind.is_fifo() {
        Err(Unsuitable::Fifo)
    } else if kind.is_socket() {
        Err(Unsuitable::Socket)
    } else if kind.is_char_device() {
        Err(Unsuitable::CharDevice)
    } else {
        Err(Unsuitable::Other)
    }
}

/// Opens a regular file or a block device, and refuses all other kinds of files. With `exclusive`,
/// also refuses a device that is mounted, or that something else has opened exclusively.
pub(super) fn open_image(
    path: &Path,
    access: OFlags,
    exclusive: bool,
) -> Result<(File, Metadata, ImageKind), VolumeError> {
    let failed = VolumeError::on(VolumeOperation::Open, path);
    let refuse = |what| {
        VolumeError::new(
            VolumeErrorKind::Unsuitable(what),
            VolumeOperation::Open,
            path.display(),
        )
    };
    // Check the kind before opening, since opening other files has effects: for example, a tape may
    // be rewound.
    let before = image_kind(&path.metadata().map_err(&failed)?).map_err(refuse)?;
    let mut flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if exclusive && before == ImageKind::Device {
        flags |= OFlags::EXCL;
    }
    let file = File::from(
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(io::Error::from(e)))?,
    );
    // Check the kind again, since the name may belong to another file by now.
    let metadata = file.metadata().map_err(&failed)?;
    let kind = image_kind(&metadata).map_err(refuse)?;
    if kind != before {
        return Err(refuse(Unsuitable::Other));
    }
    Ok((file, metadata, kind))
}

/// Returns the size of an opened image in bytes. Metadata does not contain the size of a device.
pub(super) fn image_size(file: &File, kind: ImageKind) -> io::Result<u64> {
    match kind {
        ImageKind::File => Ok(file.metadata()?.len()),
        // The seek moves the file position, which no read or write uses.
        ImageKind::Device => Ok(rustix::fs::seek(file, SeekFrom::End(0))?),
    }
}

/// The reason why a read stopped early, and the number of bytes that were read until then.
pub(super) enum ReadFailure {
    /// The file ends.
    Ended(usize),
    /// The system reported an error.
    Failed(usize, io::Error),
}

/// Fills `buffer` with the bytes from `offset` on.
pub(super) fn read_exact_at(
    file: &File,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), ReadFailure> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => return Err(ReadFailure::Ended(done)),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadFailure::Failed(done, error)),
        }
    }
    Ok(())
}

/// Fills `buffer` from an image that had `size` bytes when it was opened. An error names the first
/// byte that could not be read.
pub(super) fn read_image(
    file: &File,
    path: &Path,
    size: u64,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), VolumeError> {
    let failed = |kind, at| VolumeError::new(kind, VolumeOperation::Read, path.display()).at(at);
    if !fits(size, offset, buffer.len() as u64) {
        return Err(failed(VolumeErrorKind::OutOfRange, offset));
    }
    read_exact_at(file, offset, buffer).map_err(|failure| match failure {
        ReadFailure::Ended(done) => {
            let end = offset + done as u64;
            failed(VolumeErrorKind::Shrunk { size: end }, end)
        }
        ReadFailure::Failed(done, error) => {
            VolumeError::io(VolumeOperation::Read, path.display(), error).at(offset + done as u64)
        }
    })
}

/// Returns whether `len` bytes from `offset` on are within `size`.
pub(super) fn fits(size: u64, offset: u64, len: u64) -> bool {
    offset.checked_add(len).is_some_and(|end| end <= size)
}
