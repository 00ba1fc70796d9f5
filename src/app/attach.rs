//! Reads the files that are attached to a backup.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::failure::{Code, Failure};
use crate::ops::AttachedFile;

/// The maximum number of bytes to read of one file: one more than the limit for all attachments of
/// a backup together. So [`AttachedFile::check`] refuses a file that is too large.
const READ_MAX: u64 = (16 << 20) + 1;

/// Reads the files at these paths. The last part of each path becomes the name of the attachment.
/// Fails if a path does not name a regular file, or if [`AttachedFile::check`] refuses the files.
pub(crate) fn read_attached(paths: &[impl AsRef<Path>]) -> Result<Vec<AttachedFile>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let failed = |error| {
            let message = format!("could not read {} to attach it", path.display());
            Failure::new(Code::Failed, message).caused_by(Some(&error))
        };
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| {
            Failure::usage(format!("“{}” does not name a file", path.display()))
                .hint("attach files whose names are valid UTF-8")
        })?;
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(
                Failure::usage(format!("{} is not a regular file", path.display()))
                    .hint("attach regular files only"),
            );
        }
        file.take(READ_MAX)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        files.push(AttachedFile {
            name: name.to_owned(),
            bytes: bytes.into(),
        });
        // Fail as soon as the files are too large.
        AttachedFile::check(&files)?;
    }
    Ok(files)
}
