//! Marks of restores that change an image in a Ceph cluster in place. While a restore runs, and
//! after it was interrupted, the mark says that the image holds parts of its old content and parts
//! of the backup. The mark is in the metadata of the image, so that every host sees it.

use serde::{Deserialize, Serialize};

use crate::base::Cancel;
use crate::format::{ByteString, ImageMetadata};
use crate::volume::{LiveImage, RbdError};

/// The key in the metadata of the image.
const KEY: &str = "cuttlebone.restore";

/// The content of a mark. A field that is missing in the mark is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ImageMark {
    /// The id of the backup that is restored.
    pub(super) backup_id: String,
    /// The volume of the backup.
    pub(super) volume: String,
    /// When the restore began to write, in RFC 3339.
    pub(super) time: String,
    /// The names of the snapshots that keep the content of the image from before this restore, and
    /// from before earlier restores that were interrupted. Oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) safety_snapshots: Vec<String>,
}

impl ImageMark {
    /// Removes the mark from this list of metadata, and returns it; `None` if there is no mark. If
    /// a mark cannot be decoded, returns a mark with empty fields.
    pub(super) fn take_from(metadata: &mut ImageMetadata) -> Option<Self> {
        let key = key();
        let place = metadata.0.iter().position(|(found, _)| *found == key)?;
        let (_, value) = metadata.0.remove(place);
        let bytes = value.bytes().unwrap_or_default();
        Some(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Stores the mark in the metadata of an image. Replaces an older mark.
    pub(super) fn write(&self, image: &LiveImage<'_>, cancel: &Cancel) -> Result<(), RbdError> {
        let text = serde_json::to_string(self).unwrap_or_default();
        image.set_metadata(&key(), &ByteString::from(text.as_bytes()), cancel)
    }

    /// Removes the mark from the metadata of an image.
    pub(super) fn remove(image: &LiveImage<'_>, cancel: &Cancel) -> Result<(), RbdError> {
        image.remove_metadata(&key(), cancel)
    }
}

fn key() -> ByteString {
    ByteString::from(KEY.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_taken_out_of_the_metadata_and_other_values_stay() {
        let mark = ImageMark {
            backup_id: "ab".to_owned(),
            volume: "v".to_owned(),
            time: "2027-01-15T08:00:00Z".to_owned(),
            safety_snapshots: vec!["before".to_owned()],
        };
        let text = serde_json::to_vec(&mark).unwrap();
        let other = (b"owner".to_vec(), b"me".to_vec());
        let with = |value: &[u8]| -> ImageMetadata {
            [(KEY.as_bytes().to_vec(), value.to_vec()), other.clone()]
                .iter()
                .collect()
        };
        let rest: ImageMetadata = [other.clone()].iter().collect();
        let unknown = ImageMark::default();
        for (value, expected) in [(&text[..], &mark), (b"{}", &unknown), (b"later", &unknown)] {
            let mut metadata = with(value);
            assert_eq!(ImageMark::take_from(&mut metadata).as_ref(), Some(expected));
            assert_eq!(metadata, rest);
        }
        let mut metadata = rest.clone();
        assert_eq!(ImageMark::take_from(&mut metadata), None);
        assert_eq!(metadata, rest);
    }
}
