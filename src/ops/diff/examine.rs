//! Reads through a diff before anything is stored.

use super::error::reading;
use super::source::DiffSource;
use crate::base::{Phase, Progress};
use crate::format::DiffReader;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::volume::InputStream;

/// Reads through a diff that lies in a regular file, without its data: whether it is whole is known then
/// before anything is asked for or stored. Of what can be read only once nothing is said.
pub fn examine_diff(source: &DiffSource<'_>, context: &Context<'_>) -> Result<(), OpsError> {
    let DiffSource::File(file) = source else {
        return Ok(());
    };
    let Some(stream) = file.reread() else {
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
                total: file.size(),
            });
        }
    }
    Ok(())
}
