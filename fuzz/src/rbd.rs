//! RBD diff streams: untrusted bytes without authentication.

use std::io::Cursor;

use cuttlebone::format::{
    DiffError, DiffErrorKind, DiffHeader, DiffReader, DiffVersion, DiffWriter, Extent, ExtentKind,
};

/// A diff with its extents and their data.
pub(crate) type Diff = (DiffHeader, Vec<(Extent, Vec<u8>)>);

/// Decodes a stream, v1 or v2.
pub fn rbd_diff(data: &[u8]) {
    let skimmed = skim(data);
    let diffs = match read(data) {
        Ok(diffs) => diffs,
        Err(error) => {
            assert!(error.offset <= data.len() as u64, "{error}");
            let skimmed = skimmed.expect_err("reading fails, so skipping must fail");
            assert_eq!((skimmed.kind, skimmed.offset), (error.kind, error.offset));
            return;
        }
    };
    assert_eq!(
        skimmed.expect("reading succeeds, so skipping must succeed"),
        data.len() as u64
    );
    for (header, extents) in diffs {
        // The diff is written in version 1, which cannot express whether a snapshot is protected.
        let header = DiffHeader {
            protected: None,
            ..header
        };
        let written = write(&header, &extents).expect("a diff that was read can be written");
        assert_eq!(
            read(&written).expect("it can be read again"),
            [(header, extents)]
        );
    }
}

/// Skips all data and returns the length of the stream. Also resumes at the offset of every diff.
fn skim(data: &[u8]) -> Result<u64, DiffError> {
    let mut reader = DiffReader::open_seekable(Cursor::new(data))?;
    assert_eq!(
        reader.image().is_some(),
        reader.version() == DiffVersion::V2
    );
    loop {
        let place = reader.place();
        let Some(header) = reader.next_diff()? else {
            return Ok(reader.offset());
        };
        let place = place.expect("each diff has a place");
        let at = usize::try_from(place.offset()).expect("the place is in the input");
        let again = DiffReader::resume(&data[at..], place).next_diff();
        assert_eq!(again.expect("the header was read before"), Some(header));
        while reader.next_extent()?.is_some() {}
    }
}

pub(crate) fn read(data: &[u8]) -> Result<Vec<Diff>, DiffError> {
    let mut reader = DiffReader::open(data)?;
    let mut diffs = Vec::new();
    while let Some(header) = reader.next_diff()? {
        let mut extents = Vec::new();
        while let Some(extent) = reader.next_extent()? {
            assert!(extent.length > 0 && extent.end() <= header.size);
            let mut bytes = Vec::new();
            if extent.kind == ExtentKind::Data {
                let length = usize::try_from(extent.length).unwrap_or(usize::MAX);
                // The length is untrusted: allocate no more than the input can contain.
                bytes = vec![0; length.min(data.len() + 1)];
                reader.read_data(&mut bytes)?;
            }
            extents.push((extent, bytes));
        }
        diffs.push((header, extents));
    }
    Ok(diffs)
}

fn write(header: &DiffHeader, extents: &[(Extent, Vec<u8>)]) -> Result<Vec<u8>, DiffError> {
    let mut writer = DiffWriter::new(Vec::new(), header)?;
    for (extent, data) in extents {
        match extent.kind {
            ExtentKind::Zero => writer.zero(extent.offset, extent.length)?,
            ExtentKind::Data => {
                writer.extent(extent.offset, extent.length)?;
                writer.data(data)?;
            }
        }
    }
    let refused = writer
        .extent(header.size, 1)
        .expect_err("this extent is too long");
    assert!(matches!(
        refused.kind,
        DiffErrorKind::PastEnd { .. } | DiffErrorKind::Overflow
    ));
    writer.finish()
}
