//! Copies the content of a stream. The keys of a project decide where its streams are cut into
//! chunks. So the whole stream is read and cut again.

use std::io::{self, Read};

use super::base::CopyBase;
use crate::format::ContentKind;
use crate::ops::backup::options::BackupOptions;
use crate::ops::backup::stream::store_stream;
use crate::ops::backup::task::{BackupTask, Stored};
use crate::ops::error::OpsError;
use crate::repo::{Backup, BlobReader, ImageReader, RepoError};
use crate::volume::InputStream;

/// Copies the content of a stream. If the base has the same content, uses the base's copy in the
/// target, and reads nothing.
pub(super) fn copy_stream(
    task: &BackupTask<'_>,
    from: &BlobReader,
    backup: &Backup,
    base: Option<&CopyBase<'_>>,
    options: &BackupOptions,
) -> Result<Stored, OpsError> {
    if let Some(base) = base.filter(|base| base.source.root == backup.root) {
        return Ok(Stored {
            kind: ContentKind::Stream,
            size: backup.record.content.size,
            top: base.copy.top,
        });
    }
    let mut stream = SourceStream {
        reader: ImageReader::new(from, backup),
        name: format!("backup {}", backup.id),
        at: 0,
        failure: None,
    };
    let stored = store_stream(task, &mut stream, options);
    match stream.failure {
        // Report this error: the one in `stored` has only the text of this error.
        Some(failure) => Err(OpsError::unread(backup, "its content", failure)),
        None => stored,
    }
}

/// Reads the stream of a backup in the source project.
struct SourceStream {
    reader: ImageReader,
    name: String,
    /// The number of bytes that were read so far.
    at: u64,
    /// The error, if reading failed.
    failure: Option<RepoError>,
}

impl Read for SourceStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.reader.read_at(self.at, buffer) {
            Ok(read) => {
                self.at += read as u64;
                Ok(read)
            }
            Err(error) => {
                let text = error.to_string();
                self.failure = Some(error);
                Err(io::Error::other(text))
            }
        }
    }
}

impl InputStream for SourceStream {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn size(&self) -> Option<u64> {
        Some(self.reader.size())
    }
}
