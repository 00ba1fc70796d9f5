//! The command `compare`.

use crate::app::{
    Attempt, CompareSummary, Extent, Failure, Message, RepositorySettings, open_records,
};
use crate::cli::console::Console;
use crate::ops;

/// The number of extents to show at once. A comparison can find millions.
const BATCH: usize = 1024;

pub(super) fn compare(
    console: &Console,
    settings: &RepositorySettings,
    a: &str,
    b: &str,
) -> Result<(), Failure> {
    let (project, records) = open_records(&console.session, settings, Attempt::Compare)?;
    let (a, b) = (records.select(a)?, records.select(b)?);
    let mut extents = Vec::new();
    let report = ops::compare(
        &project,
        a,
        b,
        &console.session.context(Some(&settings.cache_dir)),
        |extent| {
            extents.push(Extent {
                offset: extent.offset,
                length: extent.len,
            });
            if extents.len() >= BATCH {
                console.output.extents(&extents)?;
                extents.clear();
            }
            Ok::<(), Failure>(())
        },
    )?;
    console.meter.finish();
    console.output.extents(&extents)?;
    console.output.show(&Message::Compare(CompareSummary {
        a: a.id.to_string(),
        b: b.id.to_string(),
        identical: report.identical,
        size_a: a.record.content.size,
        size_b: b.record.content.size,
        extents: report.extents,
        bytes_different: report.bytes,
    }))
}
