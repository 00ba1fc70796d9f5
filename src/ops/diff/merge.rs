//! Merges many diffs into one, without Ceph. Applying the result has the same effect as applying
//! all diffs, one after another.
//!
//! All diffs are read at the same time, from the first byte of the image to the last. The merge
//! always knows the next extent of each diff. It copies an extent up to the place where the next
//! extent of a newer diff begins.

use std::io::{Read, Write};

use crate::base::{Phase, Progress, to_usize};
use crate::format::{
    DiffBase, DiffError, DiffErrorKind, DiffHeader, DiffReader, DiffVersion, DiffWriter, Extent,
    ExtentKind,
};
use crate::ops::cancellable_reader::CancellableReader;
use crate::ops::context::Context;
use crate::ops::diff_error::reading;
use crate::ops::error::OpsError;
use crate::volume::{InputStream, OutputStream, VolumeError};

/// The number of bytes of data that are copied at once.
const PIECE: usize = 256 << 10;

/// The result of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeReport {
    /// The header of the merged diff.
    pub header: DiffHeader,
    /// Number of diffs that were merged.
    pub diffs: u64,
    /// Number of extents of the merged diff.
    pub extents: u64,
    /// Bytes of data in the merged diff.
    pub data: u64,
    /// Bytes that the extents of zeros of the merged diff cover.
    pub zeros: u64,
    /// The length of the merged stream in bytes.
    pub written: u64,
}

/// Merges diffs, oldest first, and finishes the output. Each diff must start from the snapshot to
/// which the previous one leads. A stream in version 2 of the format contributes all of its diffs,
/// one after another. Every input is read to its end, so that damage in any input is found. After
/// damage or another failure, the output is not finished.
///
/// If a diff makes the image smaller and a later one makes it larger again, the bytes in between
/// become zeros. The result has extents for these zeros, since the image to which it is applied may
/// still have data there.
pub fn merge_diffs(
    sources: Vec<Box<dyn InputStream + '_>>,
    output: &mut dyn OutputStream,
    context: &Context<'_>,
) -> Result<MergeReport, OpsError> {
    let name = output.name();
    let mut stack = Stack::open(sources, context)?;
    let header = stack.header()?;
    let mut sink = Sink::new(&mut *output, &name, &header)?;
    stack.flatten(&header, &mut sink)?;
    let diffs = stack.layers.len() as u64;
    stack.finish()?;
    let written = sink.finish()?;
    output.finish()?;
    Ok(MergeReport {
        header,
        diffs,
        ..written
    })
}

/// Diffs, oldest first.
struct Stack<'a> {
    layers: Vec<Layer<'a>>,
    context: &'a Context<'a>,
}

/// A diff, and the position up to which it was read.
struct Layer<'a> {
    name: String,
    reader: DiffReader<Box<dyn Read + 'a>>,
    header: DiffHeader,
    /// The smallest size of the image in this diff and all later ones. Extents of this diff have no
    /// effect after this size.
    limit: u64,
    /// The next extent, without the part that was copied or skipped already.
    current: Option<Extent>,
    /// Whether it was read to its end.
    ended: bool,
}

impl<'a> Stack<'a> {
    fn open(
        sources: Vec<Box<dyn InputStream + 'a>>,
        context: &'a Context<'a>,
    ) -> Result<Self, OpsError> {
        let mut layers = Vec::new();
        for source in sources {
            open(source, context, &mut layers)?;
        }
        for (before, after) in layers.iter().zip(layers.iter().skip(1)) {
            check_order(before, after)?;
        }
        let mut limit = u64::MAX;
        for layer in layers.iter_mut().rev() {
            limit = limit.min(layer.header.size);
            layer.limit = limit;
            layer.advance()?;
        }
        Ok(Self { layers, context })
    }

    /// Returns the header of the merged diff.
    fn header(&self) -> Result<DiffHeader, OpsError> {
        match (self.layers.first(), self.layers.last()) {
            (Some(first), Some(last)) => Ok(DiffHeader {
                from: first.header.from.clone(),
                protected: None,
                ..last.header.clone()
            }),
            _ => Err(OpsError::Internal("there are no diffs to merge")),
        }
    }

    /// Writes the extents of the merged diff.
    fn flatten<W: Write>(
        &mut self,
        header: &DiffHeader,
        sink: &mut Sink<'_, W>,
    ) -> Result<(), OpsError> {
        // After at least one of the diffs, the image ended at `cut`. So beyond `cut`, the content
        // is zero where no diff has an extent. A full diff need not state these zeros.
        let cut = match (&header.from, self.layers.first()) {
            (Some(_), Some(oldest)) => oldest.limit,
            _ => header.size,
        };
        let mut position = 0;
        while position < header.size {
            self.context.cancel.check()?;
            self.context.observer.progress(Progress {
                phase: Phase::MergeDiffs,
                done: position,
                total: Some(header.size),
            });
            for layer in &mut self.layers {
                layer.pass(position)?;
            }
            let covers = |layer: &Layer<'_>| layer.current.is_some_and(|e| e.offset <= position);
            let newest = self.layers.iter().rposition(covers);
            // No newer diff covers this place, so the extents of newer diffs begin later.
            let newer = self
                .layers
                .iter()
                .skip(newest.map_or(0, |newest| newest + 1));
            let begin = newer
                .filter_map(|layer| layer.current)
                .map(|e| e.offset)
                .min();
            let end = begin.unwrap_or(header.size);
            let newest = newest.and_then(|newest| self.layers.get_mut(newest));
            position = if let Some(layer) = newest {
                layer.copy(end, sink, self.context)?
            } else {
                sink.zero(position.max(cut), end)?;
                end
            };
        }
        Ok(())
    }

    /// Reads all diffs to their ends. Fails if one of them is not complete.
    fn finish(self) -> Result<(), OpsError> {
        for mut layer in self.layers {
            while !layer.ended {
                self.context.cancel.check()?;
                layer.advance()?;
            }
            // A v2 stream was read to its end when it was opened.
            if layer.reader.version() == DiffVersion::V1 {
                let end = layer.reader.next_diff();
                end.map_err(reading(&layer.name))?;
            }
        }
        Ok(())
    }
}

/// Adds the diffs of a stream to `layers`. Fails if a v2 stream is not a regular file, since all of
/// its diffs are read at the same time.
fn open<'a>(
    source: Box<dyn InputStream + 'a>,
    context: &Context<'a>,
    layers: &mut Vec<Layer<'a>>,
) -> Result<(), OpsError> {
    let name = source.name();
    let file = source.reread();
    let input: Box<dyn Read + 'a> = Box::new(CancellableReader::new(source, context.cancel));
    let mut reader = DiffReader::open(input).map_err(reading(&name))?;
    if reader.version() == DiffVersion::V1 {
        layers.push(Layer::new(name, reader)?);
        return Ok(());
    }
    let reopen = |offset| file.as_ref().map(|file| file.at(offset));
    while let Some(place) = reader.place() {
        let Some(input) = reopen(place.offset()) else {
            return Err(OpsError::NotSeekable { name });
        };
        let input: Box<dyn Read + 'a> = Box::new(input);
        layers.push(Layer::new(name.clone(), DiffReader::resume(input, place))?);
        reader.next_diff().map_err(reading(&name))?;
        while reader.next_extent().map_err(reading(&name))?.is_some() {
            context.cancel.check()?;
        }
    }
    reader.next_diff().map_err(reading(&name))?;
    Ok(())
}

/// Fails unless a diff starts from the snapshot to which the previous one leads. No diff can start
/// from the head of an image, since the head has no name.
fn check_order(before: &Layer<'_>, after: &Layer<'_>) -> Result<(), OpsError> {
    let (ends, begins) = (&before.header.to, &after.header.from);
    if ends.is_some() && ends == begins {
        return Ok(());
    }
    Err(OpsError::NotFollowing {
        first: before.name.clone(),
        ends: match ends {
            Some(_) => DiffBase(ends.as_deref()).to_string(),
            None => "the image's head".to_owned(),
        },
        second: after.name.clone(),
        begins: DiffBase(begins.as_deref()).to_string(),
    })
}

impl<'a> Layer<'a> {
    fn new(name: String, mut reader: DiffReader<Box<dyn Read + 'a>>) -> Result<Self, OpsError> {
        let Some(header) = reader.next_diff().map_err(reading(&name))? else {
            return Err(OpsError::Internal("a stream without diffs was opened"));
        };
        Ok(Self {
            limit: header.size,
            name,
            reader,
            header,
            current: None,
            ended: false,
        })
    }

    /// Reads the next extent, without the part after `limit`.
    fn advance(&mut self) -> Result<(), OpsError> {
        let extent = self.reader.next_extent().map_err(reading(&self.name))?;
        self.ended = extent.is_none();
        self.current = extent.filter(|e| e.offset < self.limit).map(|e| Extent {
            length: e.length.min(self.limit - e.offset),
            ..e
        });
        Ok(())
    }

    /// Skips all parts of extents before `position`, and extents that were copied completely.
    fn pass(&mut self, position: u64) -> Result<(), OpsError> {
        while let Some(extent) = &mut self.current
            && (extent.offset < position || extent.length == 0)
        {
            let passed = extent.length.min(position - extent.offset);
            if passed < extent.length {
                if extent.kind == ExtentKind::Data {
                    let skipped = self.reader.skip_data(passed);
                    skipped.map_err(reading(&self.name))?;
                }
                extent.offset += passed;
                extent.length -= passed;
            } else {
                self.advance()?;
            }
        }
        Ok(())
    }

    /// Writes the current extent, at most up to `end`, and returns the position that it reached.
    fn copy<W: Write>(
        &mut self,
        end: u64,
        sink: &mut Sink<'_, W>,
        context: &Context<'_>,
    ) -> Result<u64, OpsError> {
        let Some(extent) = &mut self.current else {
            return Ok(end);
        };
        let (start, end) = (extent.offset, end.min(extent.end()));
        if extent.kind == ExtentKind::Zero {
            sink.zero(start, end)?;
            return Ok(end);
        }
        sink.extent(start, end)?;
        while extent.offset < end {
            context.cancel.check()?;
            let left = to_usize(end - extent.offset);
            let piece = sink.buffer(left.min(PIECE));
            let read = self.reader.read_data(piece);
            read.map_err(reading(&self.name))?;
            extent.offset += piece.len() as u64;
            extent.length -= piece.len() as u64;
            sink.data()?;
        }
        Ok(end)
    }
}

/// The stream of the merged diff.
struct Sink<'a, W> {
    writer: DiffWriter<W>,
    name: &'a str,
    /// The start and the end of a range of zeros that is not written yet, since more zeros may
    /// follow it.
    zeros: Option<(u64, u64)>,
    buffer: Vec<u8>,
    report: MergeReport,
}

impl<'a, W: Write> Sink<'a, W> {
    fn new(output: W, name: &'a str, header: &DiffHeader) -> Result<Self, OpsError> {
        Ok(Self {
            writer: DiffWriter::new(output, header).map_err(writing(name))?,
            name,
            zeros: None,
            buffer: Vec::new(),
            report: MergeReport {
                header: header.clone(),
                diffs: 0,
                extents: 0,
                data: 0,
                zeros: 0,
                written: 0,
            },
        })
    }

    /// Adds zeros from `start` to `end`, if `end` is greater.
    fn zero(&mut self, start: u64, end: u64) -> Result<(), OpsError> {
        if start >= end {
            return Ok(());
        }
        match &mut self.zeros {
            Some((_, before)) if *before == start => *before = end,
            _ => {
                self.put_zeros()?;
                self.zeros = Some((start, end));
            }
        }
        Ok(())
    }

    fn put_zeros(&mut self) -> Result<(), OpsError> {
        if let Some((start, end)) = self.zeros.take() {
            let written = self.writer.zero(start, end - start);
            written.map_err(writing(self.name))?;
            self.report.extents += 1;
            self.report.zeros += end - start;
        }
        Ok(())
    }

    /// Begins an extent with data.
    fn extent(&mut self, start: u64, end: u64) -> Result<(), OpsError> {
        self.put_zeros()?;
        let written = self.writer.extent(start, end - start);
        written.map_err(writing(self.name))?;
        self.report.extents += 1;
        self.report.data += end - start;
        Ok(())
    }

    /// Returns a buffer of `length` bytes. The next call of [`data`](Self::data) writes it.
    fn buffer(&mut self, length: usize) -> &mut [u8] {
        self.buffer.resize(length, 0);
        &mut self.buffer
    }

    fn data(&mut self) -> Result<(), OpsError> {
        let written = self.writer.data(&self.buffer);
        written.map_err(writing(self.name))
    }

    fn finish(mut self) -> Result<MergeReport, OpsError> {
        self.put_zeros()?;
        self.report.written = self.writer.offset() + 1;
        self.writer.finish().map_err(writing(self.name))?;
        Ok(self.report)
    }
}

/// Returns a function that turns an error of the writer of the stream `name` into an error of the
/// operation.
fn writing(name: &str) -> impl Fn(DiffError) -> OpsError + '_ {
    move |error| match (error.kind, error.source) {
        (DiffErrorKind::Write, Some(source)) => VolumeError::writing(name, source).into(),
        _ => OpsError::Internal("the merged diff breaks the rules of diffs"),
    }
}
