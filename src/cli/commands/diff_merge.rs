//! The command `diff merge`.

use std::time::Instant;

use crate::app::{Failure, MergeRequest, MergeSummary, Message};
use crate::cli::console::Console;
use crate::format::ByteString;
use crate::ops;

use super::diff_files::{open_diff, write_diff};

pub(crate) fn merge_diffs(console: &Console, request: &MergeRequest) -> Result<(), Failure> {
    let started = Instant::now();
    let inputs = request
        .sources
        .iter()
        .map(open_diff)
        .collect::<Result<Vec<_>, _>>()?;
    let report = write_diff(&request.target, request.force, |to| {
        ops::merge_diffs(inputs, to, &console.session.context(None))
    })?;
    console.meter.finish();
    console.output.show(&Message::Merge(MergeSummary {
        target: request.target.to_string(),
        from: report.header.from.as_deref().map(ByteString::from),
        to: report.header.to.as_deref().map(ByteString::from),
        size: report.header.size,
        diffs: report.diffs,
        extents: report.extents,
        bytes_data: report.data,
        bytes_zero: report.zeros,
        bytes_written: report.written,
        duration: started.elapsed().as_secs_f64(),
    }))
}
