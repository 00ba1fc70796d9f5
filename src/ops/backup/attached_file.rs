//! Files that the user attaches to a backup.

use std::sync::Arc;

use crate::base::{ByteSize, is_deceptive};
use crate::format::ImageMetadata;
use crate::ops::attachments::{SIZE_MAX, is_safe_name};
use crate::ops::error::OpsError;

/// A file that becomes an attachment of a backup, such as the configuration of a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedFile {
    /// The name of the attachment.
    pub name: String,
    /// The content of the file.
    pub bytes: Arc<[u8]>,
}

impl AttachedFile {
    /// Fails if a name is not safe (see [`is_safe_name`]), can look like another name, is used
    /// twice, or is reserved. Also fails if the files have more than 16 MiB together.
    pub fn check(files: &[Self]) -> Result<(), OpsError> {
        for (number, file) in files.iter().enumerate() {
            let twice = files[..number]
                .iter()
                .any(|before| before.name == file.name);
            let why = if twice {
                "two attachments have this name"
            } else if file.name == ImageMetadata::ATTACHMENT {
                "this name is reserved for the metadata of an image"
            } else if !is_safe_name(&file.name) {
                "this is not a safe name for a file"
            } else if file.name.contains(is_deceptive) {
                "it has characters that cannot be seen, or that change the direction of text"
            } else {
                continue;
            };
            let name = file.name.clone();
            return Err(OpsError::AttachmentName { name, why });
        }
        let size = files.iter().map(|file| file.bytes.len() as u64).sum();
        if size > SIZE_MAX {
            let (size, limit) = (ByteSize(size), ByteSize(SIZE_MAX));
            return Err(OpsError::AttachmentsTooLarge { size, limit });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, len: usize) -> AttachedFile {
        AttachedFile {
            name: name.to_owned(),
            bytes: vec![1; len].into(),
        }
    }

    #[test]
    fn names_must_be_safe_and_unique_and_the_total_size_is_limited() {
        let half = 8 << 20;
        assert!(AttachedFile::check(&[file("vm.xml", half), file("a b-ä", half)]).is_ok());
        for files in [
            vec![file("a", half), file("b", half + 1)],
            vec![file("a", 1), file("a", 1)],
            vec![file("rbd-metadata", 1)],
            vec![file("", 1)],
            vec![file("..", 1)],
            vec![file("a/b", 1)],
            vec![file("a\nb", 1)],
            vec![file("a\u{202e}b", 1)],
            vec![file("a\u{200b}b", 1)],
        ] {
            assert!(AttachedFile::check(&files).is_err(), "{:?}", files[0].name);
        }
    }
}
