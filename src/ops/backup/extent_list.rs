//! Reads the list of extents for a backup.

use std::io::Read;

use crate::base::Cancel;
use crate::format::ExtentList;
use crate::ops::cancellable_reader::CancellableReader;
use crate::ops::error::OpsError;
use crate::volume::InputStream;

/// Reads a list of extents, of [`ExtentList::TEXT_MAX`] bytes at most.
///
/// Fails if the source cannot be read, is too long, or is not a list of extents.
pub fn read_extents(source: &mut dyn InputStream, cancel: &Cancel) -> Result<ExtentList, OpsError> {
    let (name, limit) = (source.name(), ExtentList::TEXT_MAX);
    let too_long = |size: u64| size > limit as u64;
    let mut text = Vec::new();
    let whole = if source.size().is_some_and(too_long) {
        Ok(())
    } else {
        let reader = CancellableReader::new(source, cancel);
        let read = reader.take(limit as u64 + 1).read_to_end(&mut text);
        if read.is_ok() && !too_long(text.len() as u64) {
            return ExtentList::parse(&text).map_err(|source| OpsError::NotAList { name, source });
        }
        read.map(drop)
    };
    // Report a cancelled read as cancelled, and not as a failure.
    cancel.check()?;
    match whole {
        Ok(()) => Err(OpsError::LongList { name, limit }),
        Err(source) => Err(OpsError::ReadList { name, source }),
    }
}
