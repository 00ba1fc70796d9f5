//! Recognizes images that are encrypted by their users.

use std::io::{self, Read};

use crate::format::{DiffReader, ExtentKind, ImageMetadata};
use crate::volume::InputStream;

/// The number of bytes to keep of a stream. This is enough for a header with the names of two
/// snapshots, and for the first data.
const KEPT: usize = 16 << 10;
/// The first bytes of a LUKS header of version 1 or 2.
const MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
/// The key in the metadata of an image that `ceph-csi` encrypts.
const CSI: &str = "rbd.csi.ceph.com/encrypted";

/// A stream that keeps its first bytes.
pub(super) struct Beginning<'a> {
    stream: &'a mut dyn InputStream,
    kept: Vec<u8>,
}

impl<'a> Beginning<'a> {
    pub(super) fn of(stream: &'a mut dyn InputStream) -> Self {
        let kept = Vec::new();
        Self { stream, kept }
    }

    /// Returns whether the first extent of the diff begins at offset 0 with a LUKS header. Returns
    /// false if the first bytes of the stream do not show that.
    pub(super) fn is_luks(&self) -> bool {
        starts_with_luks(&self.kept).unwrap_or_default()
    }
}

fn starts_with_luks(stream: &[u8]) -> Option<bool> {
    let mut reader = DiffReader::open(stream).ok()?;
    reader.next_diff().ok()??;
    let extent = reader.next_extent().ok()??;
    let mut found = [0; MAGIC.len()];
    let has_header = (extent.offset, extent.kind) == (0, ExtentKind::Data);
    if !has_header || extent.length < found.len() as u64 {
        return None;
    }
    reader.read_data(&mut found).ok()?;
    Some(found == MAGIC)
}

/// Returns whether the metadata of an image says that the image is encrypted.
pub(super) fn says_encrypted(metadata: Option<&ImageMetadata>) -> bool {
    let mut pairs = metadata.iter().flat_map(|metadata| &metadata.0);
    pairs.any(|(key, value)| key.to_string() == CSI && value.to_string() != "false")
}

impl Read for Beginning<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(into)?;
        let missing = KEPT - self.kept.len();
        self.kept.extend_from_slice(&into[..read.min(missing)]);
        Ok(read)
    }
}

impl InputStream for Beginning<'_> {
    fn name(&self) -> String {
        self.stream.name()
    }

    fn kind(&self) -> &'static str {
        self.stream.kind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{DiffHeader, DiffWriter};

    fn diff(offset: u64, data: &[u8]) -> Vec<u8> {
        let header = DiffHeader {
            from: None,
            to: Some(b"cuttlebone-x".to_vec()),
            size: 1 << 20,
            protected: None,
        };
        let mut stream = Vec::new();
        let mut writer = DiffWriter::new(&mut stream, &header).unwrap();
        writer.extent(offset, data.len() as u64).unwrap();
        writer.data(data).unwrap();
        writer.finish().unwrap();
        stream
    }

    #[test]
    fn a_luks_header_at_the_beginning_of_an_image_is_recognized() {
        assert_eq!(
            starts_with_luks(&diff(0, b"LUKS\xba\xbe\0\x02")),
            Some(true)
        );
        assert_eq!(starts_with_luks(&diff(0, b"EFI PART")), Some(false));
        for other in [diff(512, b"LUKS\xba\xbe\0\x02"), diff(0, b"LUK"), vec![]] {
            assert_eq!(starts_with_luks(&other), None);
        }
    }
}
