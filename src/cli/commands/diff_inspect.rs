//! The command `diff inspect`.

use crate::app::{DiffEntry, DiffImage, DiffStream, Failure, Message, Metadata, ReadFrom};
use crate::cli::console::Console;
use crate::format::{ByteString, DiffVersion, ImageDescription};
use crate::ops::{self, DiffPart, DiffSummary, OpsError};

use super::diff_files::open_diff;

/// The number of diffs to show at once. A stream can contain many.
const BATCH: usize = 256;

pub(crate) fn inspect_diff(console: &Console, source: &ReadFrom) -> Result<(), Failure> {
    let mut input = open_diff(source)?;
    let mut batches = Batches {
        console,
        many: false,
        image: None,
        held: Vec::new(),
    };
    let context = console.session.context(None);
    let report = ops::inspect_diff(&mut *input, &context, |part| batches.add(part));
    console.meter.finish();
    let report = report?;
    batches.show()?;
    let source = source.to_string();
    console.output.show(&Message::DiffStream(DiffStream {
        source: source.clone(),
        version: report.version.map(|version| match version {
            DiffVersion::V1 => 1,
            DiffVersion::V2 => 2,
        }),
        diffs: report.whole,
        bytes: report.bytes,
        whole: report.damage.is_none(),
        damage: report.damage.as_ref().map(ToString::to_string),
    }))?;
    match report.damage {
        None => Ok(()),
        Some(error) => Err(OpsError::DamagedDiff {
            name: source,
            source: error,
        }
        .into()),
    }
}

/// Collects the parts of a stream, and shows them in batches.
struct Batches<'a> {
    console: &'a Console,
    /// Whether the stream is a v2 stream, which can contain many diffs.
    many: bool,
    image: Option<DiffImage>,
    held: Vec<DiffEntry>,
}

impl Batches<'_> {
    fn add(&mut self, part: &DiffPart<'_>) -> Result<(), Failure> {
        match part {
            DiffPart::Image(image, diffs) => {
                self.many = true;
                self.image = Some(diff_image(image, *diffs));
                Ok(())
            }
            DiffPart::Diff(diff) => {
                self.held.push(entry(diff));
                if self.held.len() < BATCH {
                    return Ok(());
                }
                self.show()
            }
        }
    }

    fn show(&mut self) -> Result<(), Failure> {
        let output = &self.console.output;
        if let Some(image) = self.image.take() {
            output.show(&Message::DiffImage(image))?;
        }
        let held = std::mem::take(&mut self.held);
        match &held[..] {
            [] => Ok(()),
            [diff] if !self.many => output.diff(diff),
            diffs => output.diffs(diffs),
        }
    }
}

fn diff_image(image: &ImageDescription, diffs: u64) -> DiffImage {
    let metadata = image.metadata.iter().map(|(key, value)| Metadata {
        key: ByteString::from(&key[..]),
        value: ByteString::from(&value[..]),
    });
    DiffImage {
        order: image.order,
        features: image.features,
        feature_names: image.feature_names(),
        stripe_unit: image.stripe_unit,
        stripe_count: image.stripe_count,
        metadata: metadata.collect(),
        diffs,
    }
}

fn entry(diff: &DiffSummary) -> DiffEntry {
    let header = &diff.header;
    DiffEntry {
        from: header.from.as_deref().map(ByteString::from),
        to: header.to.as_deref().map(ByteString::from),
        size: header.size,
        protected: header.protected,
        extents: diff.data_extents + diff.zero_extents,
        extents_data: diff.data_extents,
        extents_zero: diff.zero_extents,
        bytes_data: diff.data,
        bytes_zero_in_data: diff.zeros_in_data,
        bytes_zero: diff.zeros,
        leaves: diff.leaves,
        chunks: diff.chunks,
        first: diff.first,
        last: diff.first.and(diff.end.checked_sub(1)),
        whole: diff.whole,
    }
}
