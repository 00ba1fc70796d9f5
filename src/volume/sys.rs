//! What sources and targets alike ask of the system.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, SeekFrom};

use super::error::{ErrorKind, Operation, Unsuitable, VolumeError};

/// What holds an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// A regular file.
    File,
    /// A block device.
    Device,
}

/// The kind of image that can be there, or why none can.
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

/// Opens a file or block device, and nothing else. On a device `exclusive` asks that nobody else
/// has claimed it.
pub(super) fn open_image(
    path: &Path,
    access: OFlags,
    exclusive: bool,
) -> Result<(File, Metadata, ImageKind), VolumeError> {
    let failed = VolumeError::on(Operation::Open, path);
    let refuse =
        |what| VolumeError::new(ErrorKind::Unsuitable(what), Operation::Open, path.display());
    // Asked before it is opened, for opening alone makes a tape rewind and a pipe wait …
    let before = image_kind(&path.metadata().map_err(&failed)?).map_err(refuse)?;
    let mut flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if exclusive && before == ImageKind::Device {
        flags |= OFlags::EXCL;
    }
    let file = File::from(
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(io::Error::from(e)))?,
    );
    // … and again of what was opened, for the name may have changed hands in between.
    let metadata = file.metadata().map_err(&failed)?;
    let kind = image_kind(&metadata).map_err(refuse)?;
    if kind != before {
        return Err(refuse(Unsuitable::Other));
    }
    Ok((file, metadata, kind))
}

/// The size of an opened image: metadata does not tell a device's.
pub(super) fn image_size(file: &File, kind: ImageKind) -> io::Result<u64> {
    match kind {
        ImageKind::File => Ok(file.metadata()?.len()),
        // Nobody reads or writes at the position that this moves.
        ImageKind::Device => Ok(rustix::fs::seek(file, SeekFrom::End(0))?),
    }
}

/// Why a read stopped short of its end, and after how many bytes.
pub(super) enum ReadFailure {
    /// The file ends there.
    Ended(usize),
    /// The system said this.
    Failed(usize, io::Error),
}

/// Fills `buffer` from `offset` on.
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

/// Reads `path` at `offset` within an image that was `size` bytes long when it was opened. The
/// error names the first byte that could not be had.
pub(super) fn read_image(
    file: &File,
    path: &Path,
    size: u64,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), VolumeError> {
    let failed = |kind, at| VolumeError::new(kind, Operation::Read, path.display()).at(at);
    if !fits(size, offset, buffer.len() as u64) {
        return Err(failed(ErrorKind::OutOfRange, offset));
    }
    read_exact_at(file, offset, buffer).map_err(|failure| match failure {
        ReadFailure::Ended(done) => {
            let end = offset + done as u64;
            failed(ErrorKind::Shrunk { size: end }, end)
        }
        ReadFailure::Failed(done, error) => {
            VolumeError::io(Operation::Read, path.display(), error).at(offset + done as u64)
        }
    })
}

/// Whether `len` bytes from `offset` on lie within `size`.
pub(super) fn fits(size: u64, offset: u64, len: u64) -> bool {
    offset.checked_add(len).is_some_and(|end| end <= size)
}
