//! Byte streams as sources of backups.

use super::error::VolumeError;
use super::input::InputStream;
use super::source::{Source, SourceData};

/// A stream of RBD diffs, as `rbd export-diff` and `rbd export --export-format 2` write them.
pub struct DiffSource<'a>(Box<dyn InputStream + 'a>);

impl<'a> DiffSource<'a> {
    /// Reads diffs from `stream`, from its first byte on.
    pub fn new(stream: impl InputStream + 'a) -> Self {
        Self(Box::new(stream))
    }
}

impl Source for DiffSource<'_> {
    fn begin(&mut self) -> Result<SourceData<'_>, VolumeError> {
        Ok(SourceData::Diff(&mut *self.0))
    }
}

/// A stream of bytes of any kind.
pub struct StreamSource<'a>(Box<dyn InputStream + 'a>);

impl<'a> StreamSource<'a> {
    /// Reads `stream` to its end.
    pub fn new(stream: impl InputStream + 'a) -> Self {
        Self(Box::new(stream))
    }
}

impl Source for StreamSource<'_> {
    fn begin(&mut self) -> Result<SourceData<'_>, VolumeError> {
        Ok(SourceData::Stream(&mut *self.0))
    }
}
