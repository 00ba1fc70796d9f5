//! Tests whether a diff is complete, before anything is stored.

use crate::base::{Phase, Progress};
use crate::format::DiffReader;
use crate::ops::context::Context;
use crate::ops::diff_error::reading;
use crate::ops::error::OpsError;
use crate::volume::InputStream;

/// Fails if a diff is not complete. Reads only the headers and skips the data. So a user learns of
/// damage quickly, and before typing a password.
///
/// Does nothing for a stream that can be read only once.
pub fn examine_diff(source: &dyn InputStream, context: &Context<'_>) -> Result<(), OpsError> {
    let Some(stream) = source.reread() else {
        return Ok(());
    };
    let name = source.name();
    let mut reader = DiffReader::open_seekable(stream).map_err(reading(&name))?;
    while reader.next_diff().map_err(reading(&name))?.is_some() {
        while reader.next_extent().map_err(reading(&name))?.is_some() {
            context.cancel.check()?;
            context.observer.progress(Progress {
                phase: Phase::InspectDiff,
                done: reader.offset(),
                total: source.size(),
            });
        }
    }
    Ok(())
}
