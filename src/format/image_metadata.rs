//! Ceph's metadata of an image, which a backup stores as an attachment: section 11 (Backup record)
//! of `docs/format.md`.

use super::byte_string::ByteString;
use super::error::FormatError;
use super::json::to_json;

/// Keys and values, in Ceph's order. They need not be UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageMetadata(pub Vec<(ByteString, ByteString)>);

impl ImageMetadata {
    /// The name of the attachment that holds the metadata.
    pub const ATTACHMENT: &str = "rbd-metadata";

    /// Returns the content of the attachment: a JSON array of pairs.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(&self.0)
    }

    /// Decodes the content of the attachment.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let entries: Vec<(ByteString, ByteString)> =
            serde_json::from_slice(bytes).map_err(|e| FormatError::BadJson(e.to_string()))?;
        if (entries.iter()).all(|(key, value)| key.is_valid() && value.is_valid()) {
            Ok(Self(entries))
        } else {
            Err(FormatError::BadValue("metadata"))
        }
    }
}

impl<'a> FromIterator<&'a (Vec<u8>, Vec<u8>)> for ImageMetadata {
    fn from_iter<T: IntoIterator<Item = &'a (Vec<u8>, Vec<u8>)>>(entries: T) -> Self {
        let text = |bytes: &[u8]| ByteString::from(bytes);
        let entries = entries.into_iter();
        Self(
            entries
                .map(|(key, value)| (text(key), text(value)))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_decoded_as_it_was_encoded_even_if_it_is_not_utf_8() {
        let entries = [
            (b"key".to_vec(), b"value".to_vec()),
            (b"key".to_vec(), b"\xff".to_vec()),
            (Vec::new(), "✓".into()),
        ];
        let metadata: ImageMetadata = entries.iter().collect();
        let encoded = metadata.encode();
        let text = r#"[["key","value"],["key",{"hex":"ff"}],["","✓"]]"#;
        assert_eq!(encoded, text.as_bytes());
        let decoded = ImageMetadata::decode(&encoded).unwrap();
        assert_eq!(decoded, metadata);
        assert_eq!(decoded.0[1].1.bytes().unwrap(), b"\xff");
    }

    #[test]
    fn metadata_that_is_no_array_of_pairs_of_texts_is_refused() {
        for text in [
            "",
            "{}",
            "null",
            r#"["key","value"]"#,
            r#"[["key"]]"#,
            r#"[["key","value","more"]]"#,
            r#"[["key",1]]"#,
            r#"[["key",{"hex":"f"}]]"#,
            r#"[["key",{"hex":"FF"}]]"#,
            r#"[["key","value"]] "x""#,
        ] {
            assert!(ImageMetadata::decode(text.as_bytes()).is_err(), "{text}");
        }
    }
}
