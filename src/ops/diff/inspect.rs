//! Inspection of a diff stream: its contents, and whether it is complete.

use std::io::Read;

use crate::base::{CHUNK_SIZE_DEFAULT, LEAF_SIZE, Phase, Progress, is_zero};
use crate::format::{
    DiffError, DiffHeader, DiffReader, DiffVersion, Extent, ExtentKind, ImageDescription,
};
use crate::ops::cancellable_reader::CancellableReader;
use crate::ops::context::Context;
use crate::ops::diff_error::reading;
use crate::ops::error::OpsError;
use crate::volume::InputStream;

/// The size in bytes of the blocks that are tested for zeros. Blocks begin at multiples of this
/// size in the image.
const BLOCK: usize = 4 << 10;
/// The number of bytes of data that are read at once. It is a multiple of the block size.
const PIECE: usize = 256 << 10;

/// A part of a stream. An inspection reports the parts in the order of the stream.
#[derive(Debug)]
pub enum DiffPart<'a> {
    /// The description of the image in a v2 stream, and the number of diffs that follow.
    Image(&'a ImageDescription, u64),
    /// A diff, or its beginning if the stream is damaged.
    Diff(&'a DiffSummary),
}

/// The properties of a whole stream.
#[derive(Debug)]
pub struct DiffReport {
    /// Its version; `None` if the stream ends before it states one.
    pub version: Option<DiffVersion>,
    /// The number of bytes that were read, up to the end of the stream or to the damage.
    pub bytes: u64,
    /// Number of complete diffs.
    pub whole: u64,
    /// The damage and its offset in the stream; `None` if the stream is complete.
    pub damage: Option<DiffError>,
}

/// One diff of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffSummary {
    /// Its header.
    pub header: DiffHeader,
    /// Number of extents with data.
    pub data_extents: u64,
    /// Number of extents of zeros.
    pub zero_extents: u64,
    /// Bytes of data.
    pub data: u64,
    /// Bytes of data in blocks of 4 KiB of the image that contain only zeros. If an extent has only
    /// a part of a block, only this part is tested and counted.
    pub zeros_in_data: u64,
    /// Bytes that extents of zeros cover.
    pub zeros: u64,
    /// The number of leaves of 4 MiB that its extents touch.
    pub leaves: u64,
    /// The number of chunks of 64 KiB that its extents touch.
    pub chunks: u64,
    /// The offset of the first byte of the image that an extent covers; `None` if there are no
    /// extents.
    pub first: Option<u64>,
    /// The offset after the last byte that an extent covers; 0 if there are no extents.
    pub end: u64,
    /// Whether it was read to its end.
    pub whole: bool,
}

/// Reads a stream to its end, or to its damage, and calls `each` with each part of it. An error of
/// `each` ends the inspection.
///
/// Damage is part of the report, not an error. A stream that is not a diff is an error.
pub fn inspect_diff<E: From<OpsError>>(
    source: &mut dyn InputStream,
    context: &Context<'_>,
    mut each: impl FnMut(&DiffPart<'_>) -> Result<(), E>,
) -> Result<DiffReport, E> {
    let (name, total) = (source.name(), source.size());
    let mut report = DiffReport {
        version: None,
        bytes: 0,
        whole: 0,
        damage: None,
    };
    let mut inspector = Inspector {
        context,
        total,
        buffer: Vec::new(),
    };
    match inspector.stream(source, &mut report, &mut each) {
        Ok(()) => Ok(report),
        Err(Stop::Other(error)) => Err(error),
        Err(Stop::Diff(error)) => match reading(&name)(error) {
            OpsError::DamagedDiff { source, .. } => {
                report.bytes = source.offset;
                report.damage = Some(source);
                Ok(report)
            }
            error => Err(error.into()),
        },
    }
}

/// The reason to stop reading.
enum Stop<E> {
    /// The stream cannot be read, or is damaged.
    Diff(DiffError),
    /// The operation was cancelled, or the caller has failed.
    Other(E),
}

impl<E> From<DiffError> for Stop<E> {
    fn from(error: DiffError) -> Self {
        Self::Diff(error)
    }
}

struct Inspector<'a> {
    context: &'a Context<'a>,
    total: Option<u64>,
    buffer: Vec<u8>,
}

impl Inspector<'_> {
    fn stream<E: From<OpsError>>(
        &mut self,
        source: &mut dyn InputStream,
        report: &mut DiffReport,
        each: &mut impl FnMut(&DiffPart<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let mut reader = DiffReader::open(CancellableReader::new(source, self.context.cancel))?;
        report.version = Some(reader.version());
        if let Some(image) = reader.image() {
            each(&DiffPart::Image(image, reader.diffs())).map_err(Stop::Other)?;
        }
        loop {
            let header = reader.next_diff();
            report.bytes = reader.offset();
            let Some(header) = header? else { return Ok(()) };
            let mut summary = DiffSummary::new(header);
            let read = self.extents(&mut reader, &mut summary);
            report.bytes = reader.offset();
            summary.whole = read.is_ok();
            report.whole += u64::from(summary.whole);
            if !matches!(read, Err(Stop::Other(_))) {
                each(&DiffPart::Diff(&summary)).map_err(Stop::Other)?;
            }
            read?;
        }
    }

    fn extents<R: Read, E: From<OpsError>>(
        &mut self,
        reader: &mut DiffReader<R>,
        summary: &mut DiffSummary,
    ) -> Result<(), Stop<E>> {
        while let Some(extent) = reader.next_extent()? {
            self.step(reader)?;
            summary.touch(&extent);
            match extent.kind {
                ExtentKind::Zero => {
                    summary.zero_extents += 1;
                    summary.zeros += extent.length;
                }
                ExtentKind::Data => {
                    summary.data_extents += 1;
                    self.data(reader, &extent, summary)?;
                }
            }
        }
        Ok(())
    }

    /// Reads the data of an extent, and counts the bytes of blocks that contain only zeros.
    fn data<R: Read, E: From<OpsError>>(
        &mut self,
        reader: &mut DiffReader<R>,
        extent: &Extent,
        summary: &mut DiffSummary,
    ) -> Result<(), Stop<E>> {
        let mut at = extent.offset;
        while at < extent.end() {
            self.step(reader)?;
            // Read up to the next block of the image first, and whole blocks after that.
            let longest = match at % BLOCK as u64 {
                0 => PIECE as u64,
                into => BLOCK as u64 - into,
            };
            let length = longest.min(extent.end() - at);
            self.buffer
                .resize(usize::try_from(length).unwrap_or(PIECE), 0);
            reader.read_data(&mut self.buffer)?;
            let blocks = self.buffer.chunks(BLOCK);
            let zeros = blocks.filter(|block| is_zero(block)).map(<[u8]>::len);
            summary.zeros_in_data += zeros.sum::<usize>() as u64;
            summary.data += length;
            at += length;
        }
        Ok(())
    }

    fn step<R: Read, E: From<OpsError>>(&self, reader: &DiffReader<R>) -> Result<(), Stop<E>> {
        self.context.observer.progress(Progress {
            phase: Phase::InspectDiff,
            done: reader.offset(),
            total: self.total,
        });
        let checked = self.context.cancel.check().map_err(OpsError::from);
        checked.map_err(|error| Stop::Other(error.into()))
    }
}

impl DiffSummary {
    fn new(header: DiffHeader) -> Self {
        Self {
            header,
            data_extents: 0,
            zero_extents: 0,
            data: 0,
            zeros_in_data: 0,
            zeros: 0,
            leaves: 0,
            chunks: 0,
            first: None,
            end: 0,
            whole: false,
        }
    }

    /// Adds an extent to the counts. Extents come in ascending order.
    fn touch(&mut self, extent: &Extent) {
        let new = |unit: u64| {
            let last = (extent.end() - 1) / unit;
            // If the previous extent touched a unit, do not count this unit again.
            let counted = self.end.div_ceil(unit);
            last + 1 - counted.max(extent.offset / unit).min(last + 1)
        };
        let (leaves, chunks) = (new(LEAF_SIZE), new(CHUNK_SIZE_DEFAULT.bytes().into()));
        self.leaves += leaves;
        self.chunks += chunks;
        self.first.get_or_insert(extent.offset);
        self.end = extent.end();
    }
}
