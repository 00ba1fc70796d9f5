//! Reads a diff stream from its beginning, in a limited amount of memory.

use std::io::{Read, Seek};

use super::error::{CutIn, DiffError, DiffErrorKind, DiffField};
use super::image::{BANNER_IMAGE, ImageDescription, once};
use super::input::Input;
use super::record::{
    BANNER_V1, BANNER_V2, Bounds, DiffHeader, DiffVersion, Extent, ExtentKind, NAME_MAX, check_name,
};

/// Reads a stream: each [diff](Self::next_diff), each of its [extents](Self::next_extent), and as
/// much of the [data](Self::read_data) of each extent as the caller wants. After any error, even an
/// I/O error, nothing more can be read.
///
/// ```
/// use cuttlebone::format::{DiffReader, ExtentKind};
///
/// let stream = b"rbd diff v1\ns\x00\x10\0\0\0\0\0\0z\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0e";
/// let mut reader = DiffReader::open(&stream[..])?;
/// while let Some(header) = reader.next_diff()? {
///     assert_eq!(header.size, 4096);
///     while let Some(extent) = reader.next_extent()? {
///         assert_eq!((extent.offset, extent.length, extent.kind), (0, 16, ExtentKind::Zero));
///     }
/// }
/// # Ok::<(), cuttlebone::format::DiffError>(())
/// ```
#[derive(Debug)]
pub struct DiffReader<R> {
    input: Input<R>,
    version: DiffVersion,
    image: Option<ImageDescription>,
    diffs: u64,
    /// The number of diffs that were read to their end.
    whole: u64,
    /// The snapshot to which the last of these diffs leads. `None` before the first diff, and if
    /// the diff leads to the head of the image.
    snapshot: Option<Vec<u8>>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// At the beginning of a diff, or after the last diff.
    Between,
    Inside(Inside),
    /// The whole stream was read.
    Done,
    Failed,
}

/// The state from the end of a diff's header to the end of the diff.
#[derive(Debug)]
struct Inside {
    bounds: Bounds,
    /// The offset and the tag of the record after the header. `None` after the record was read.
    ahead: Option<(u64, u8)>,
    /// The number of bytes of the current extent's data that were not read yet.
    left: u64,
    to: Option<Vec<u8>>,
}

/// The beginning of a diff in a stream, at which another reader can resume.
#[derive(Debug, Clone)]
pub struct DiffPlace {
    version: DiffVersion,
    offset: u64,
    diffs: u64,
    whole: u64,
    snapshot: Option<Vec<u8>>,
}

impl DiffPlace {
    /// Returns the offset of this place from the beginning of the stream, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl<R: Read> DiffReader<R> {
    /// Reads the banner and, for v2, the image's header. The input need not be buffered.
    pub fn open(input: R) -> Result<Self, DiffError> {
        Self::begin(Input::new(input, 0))
    }

    /// Like [`open`](Self::open), for an input that can seek and is at its beginning. The reader
    /// seeks over long data that the caller skips.
    pub fn open_seekable(input: R) -> Result<Self, DiffError>
    where
        R: Seek,
    {
        Self::begin(Input::seekable(input))
    }

    fn begin(mut input: Input<R>) -> Result<Self, DiffError> {
        let (version, image, diffs) = match banner(&mut input)? {
            DiffVersion::V1 => (DiffVersion::V1, None, 1),
            DiffVersion::V2 => {
                let (image, diffs) = ImageDescription::read(&mut input)?;
                (DiffVersion::V2, Some(image), diffs)
            }
        };
        Ok(Self {
            input,
            version,
            image,
            diffs,
            whole: 0,
            snapshot: None,
            state: State::Between,
        })
    }

    /// Resumes at a place that another reader of the same stream returned. The next byte of `input`
    /// must be the one at [`DiffPlace::offset`].
    pub fn resume(input: R, place: DiffPlace) -> Self {
        Self {
            input: Input::new(input, place.offset),
            version: place.version,
            image: None,
            diffs: place.diffs,
            whole: place.whole,
            snapshot: place.snapshot,
            state: State::Between,
        }
    }

    /// Returns the beginning of the next diff. Returns `None` inside a diff, after the last diff,
    /// and after an error.
    pub fn place(&self) -> Option<DiffPlace> {
        let between = matches!(self.state, State::Between) && self.whole < self.diffs;
        between.then(|| DiffPlace {
            version: self.version,
            offset: self.offset(),
            diffs: self.diffs,
            whole: self.whole,
            snapshot: self.snapshot.clone(),
        })
    }

    /// Returns the version of the stream.
    pub fn version(&self) -> DiffVersion {
        self.version
    }

    /// Returns the properties of the image. Returns `None` for a v1 stream, which has none, and
    /// after [`resume`](Self::resume).
    pub fn image(&self) -> Option<&ImageDescription> {
        self.image.as_ref()
    }

    /// Returns the number of diffs: 1, or the number that a v2 stream states.
    pub fn diffs(&self) -> u64 {
        self.diffs
    }

    /// Returns the offset of the next byte to read, from the beginning of the stream.
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// Reads the header of the next diff. The previous diff must have been read to its end. Returns
    /// `None` after the last diff. Fails if any bytes follow the last diff.
    pub fn next_diff(&mut self) -> Result<Option<DiffHeader>, DiffError> {
        self.guarded(|reader| match reader.state {
            State::Done => Ok(None),
            State::Between if reader.whole < reader.diffs => reader.header().map(Some),
            State::Between => {
                reader.input.end()?;
                reader.state = State::Done;
                Ok(None)
            }
            State::Inside(_) => Err(reader.misuse("the previous diff was not read to its end")),
            State::Failed => Err(reader.misuse("an earlier read failed")),
        })
    }

    /// Reads the next extent of the diff. Returns `None` at the end of the diff. Skips the unread
    /// data of the previous extent.
    pub fn next_extent(&mut self) -> Result<Option<Extent>, DiffError> {
        self.guarded(|reader| {
            let input = &mut reader.input;
            let State::Inside(inside) = &mut reader.state else {
                return Err(reader.misuse("no diff is being read"));
            };
            input.skip(inside.left, CutIn::Data)?;
            inside.left = 0;
            let (at, tag) = match inside.ahead.take() {
                Some(ahead) => ahead,
                None => input.tag(CutIn::Records)?,
            };
            let kind = match Tag::of(tag, reader.version) {
                Some(Tag::Extent(kind)) => kind,
                Some(Tag::End) => {
                    reader.whole += 1;
                    reader.snapshot = inside.to.take();
                    reader.state = State::Between;
                    return Ok(None);
                }
                Some(Tag::Field(field)) => return Err(DiffErrorKind::LateMetadata(field).at(at)),
                None => return Err(DiffErrorKind::UnknownTag(tag).at(at)),
            };
            let stated = stated(input, reader.version, CutIn::ExtentHeader)?;
            let offset = input.u64(CutIn::ExtentHeader)?;
            let length = input.u64(CutIn::ExtentHeader)?;
            let data = match kind {
                ExtentKind::Data => length,
                ExtentKind::Zero => 0,
            };
            if let Some(stated) = stated
                && data.checked_add(16) != Some(stated)
            {
                let length = stated;
                return Err(DiffErrorKind::WrongLength { tag, length }.at(at));
            }
            let admitted = inside.bounds.admit(offset, length);
            admitted.map_err(|kind| kind.at(at))?;
            inside.left = data;
            Ok(Some(Extent {
                offset,
                length,
                kind,
            }))
        })
    }

    /// Fills `buffer` with the next bytes of the current extent's data. Fails with
    /// [`DiffErrorKind::Misuse`] if fewer bytes are left.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<(), DiffError> {
        self.guarded(|reader| {
            reader.take(buffer.len() as u64)?;
            reader.input.exact(buffer, CutIn::Data)
        })
    }

    /// Skips the next `length` bytes of the current extent's data.
    pub fn skip_data(&mut self, length: u64) -> Result<(), DiffError> {
        self.guarded(|reader| {
            reader.take(length)?;
            reader.input.skip(length, CutIn::Data)
        })
    }

    /// Subtracts `length` from the number of remaining bytes of the current extent's data.
    fn take(&mut self, length: u64) -> Result<(), DiffError> {
        let State::Inside(inside) = &mut self.state else {
            return Err(self.misuse("no diff is being read"));
        };
        match inside.left.checked_sub(length) {
            Some(left) => inside.left = left,
            None => return Err(self.misuse("the extent has less data than was asked for")),
        }
        Ok(())
    }

    /// Runs `step`. If it fails, the position in the stream is unknown, so all later reads fail.
    fn guarded<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, DiffError>,
    ) -> Result<T, DiffError> {
        step(self).inspect_err(|_| self.state = State::Failed)
    }

    fn misuse(&self, what: &'static str) -> DiffError {
        DiffErrorKind::Misuse(what).at(self.offset())
    }

    /// Reads the header of the next diff, up to and including the tag of its first extent or of its
    /// end record.
    fn header(&mut self) -> Result<DiffHeader, DiffError> {
        let start = self.offset();
        if self.version == DiffVersion::V2 {
            self.diff_banner()?;
        }
        let input = &mut self.input;
        let (mut from, mut to, mut size, mut protected) = (None, None, None, None);
        let ahead = loop {
            let (at, tag) = input.tag(CutIn::Records)?;
            let field = match Tag::of(tag, self.version) {
                Some(Tag::Field(field)) => field,
                Some(Tag::Extent(_) | Tag::End) => break (at, tag),
                None => return Err(DiffErrorKind::UnknownTag(tag).at(at)),
            };
            match field {
                DiffField::From => {
                    let name = name(input, self.version, (at, tag))?;
                    once(&mut from, (at, name), field, at)?;
                }
                DiffField::To => {
                    let name = name(input, self.version, (at, tag))?;
                    once(&mut to, (at, name), field, at)?;
                }
                DiffField::Protected => {
                    // The record has one byte of data. Old versions of Ceph state a length of 8
                    // (https://tracker.ceph.com/issues/53243), later ones 1. So ignore the length.
                    input.u64(CutIn::Protection)?;
                    let value = match input.u8(CutIn::Protection)? {
                        0 => false,
                        1 => true,
                        value => return Err(DiffErrorKind::BadValue(field, value.into()).at(at)),
                    };
                    once(&mut protected, value, field, at)?;
                }
                _ => {
                    match stated(input, self.version, CutIn::Size)? {
                        None | Some(8) => {}
                        Some(length) => {
                            return Err(DiffErrorKind::WrongLength { tag, length }.at(at));
                        }
                    }
                    once(&mut size, input.u64(CutIn::Size)?, field, at)?;
                }
            }
        };
        let size = size.ok_or_else(|| DiffErrorKind::SizeMissing.at(ahead.0))?;
        if self.version == DiffVersion::V2 {
            self.check_chain(start, from.as_ref(), to.as_ref())?;
        }
        let (from, to) = (from.map(|(_, name)| name), to.map(|(_, name)| name));
        self.state = State::Inside(Inside {
            bounds: Bounds::new(size),
            ahead: Some(ahead),
            left: 0,
            to: to.clone(),
        });
        Ok(DiffHeader {
            from,
            to,
            size,
            protected,
        })
    }

    fn diff_banner(&mut self) -> Result<(), DiffError> {
        let at = self.offset();
        let mut banner = *BANNER_V2;
        match self.input.fill(&mut banner)? {
            0 => {
                let (whole, stated) = (self.whole, self.diffs);
                Err(DiffErrorKind::Cut(CutIn::Diffs { whole, stated }).at(at))
            }
            filled if filled < banner.len() => {
                Err(DiffErrorKind::Cut(CutIn::Banner).at(self.offset()))
            }
            _ if banner == *BANNER_V2 => Ok(()),
            _ => Err(DiffErrorKind::WrongBanner.at(at)),
        }
    }

    /// Checks the order of the diffs of a v2 stream. The first diff must start from the empty
    /// image, and each other diff from the snapshot to which the previous one leads. The last diff
    /// must lead to the head of the image, which has no name. All others must lead to snapshots.
    ///
    /// `from` and `to` are the names of the snapshots of the diff at `start`, with the offsets of
    /// their records.
    fn check_chain(
        &self,
        start: u64,
        from: Option<&(u64, Vec<u8>)>,
        to: Option<&(u64, Vec<u8>)>,
    ) -> Result<(), DiffError> {
        let found = from.map(|(_, name)| name);
        if found != self.snapshot.as_ref() {
            let (expected, found) = (self.snapshot.clone(), found.cloned());
            let at = from.map_or(start, |(at, _)| *at);
            return Err(DiffErrorKind::BrokenChain { expected, found }.at(at));
        }
        match (to, self.whole + 1 == self.diffs) {
            (None, false) => Err(DiffErrorKind::SnapshotMissing.at(start)),
            (Some((at, _)), true) => Err(DiffErrorKind::HeadNamed.at(*at)),
            _ => Ok(()),
        }
    }
}

/// The kind of a record.
enum Tag {
    Field(DiffField),
    Extent(ExtentKind),
    End,
}

impl Tag {
    fn of(tag: u8, version: DiffVersion) -> Option<Self> {
        Some(match (tag, version) {
            (b'f', _) => Self::Field(DiffField::From),
            (b't', _) => Self::Field(DiffField::To),
            (b's', _) => Self::Field(DiffField::Size),
            (b'p', DiffVersion::V2) => Self::Field(DiffField::Protected),
            (b'w', _) => Self::Extent(ExtentKind::Data),
            (b'z', _) => Self::Extent(ExtentKind::Zero),
            (b'e', _) => Self::End,
            _ => return None,
        })
    }
}

/// Returns whether these first bytes of a file or stream are the beginning of an RBD diff of any
/// version. Does not test the rest.
#[must_use]
pub fn begins_as_diff(first: &[u8]) -> bool {
    let banners: [&[u8]; 3] = [BANNER_V1, BANNER_V2, BANNER_IMAGE];
    banners.iter().any(|banner| first.starts_with(banner))
}

/// Reads the banner at the beginning of the stream.
fn banner<R: Read>(input: &mut Input<R>) -> Result<DiffVersion, DiffError> {
    let mut bytes = [0; BANNER_V1.len()];
    let filled = input.fill(&mut bytes)?;
    let read = bytes.get(..filled).unwrap_or_default();
    let begins = |banner: &[u8]| banner.starts_with(read);
    if read.is_empty() {
        Err(DiffErrorKind::Empty.at(0))
    } else if read == BANNER_V1 {
        Ok(DiffVersion::V1)
    } else if !begins(BANNER_V1) && !begins(BANNER_IMAGE) {
        Err(DiffErrorKind::NotADiff.at(0))
    } else if filled < bytes.len() {
        Err(DiffErrorKind::Cut(CutIn::Banner).at(input.offset()))
    } else if [input.u8(CutIn::Banner)?] == BANNER_IMAGE[BANNER_V1.len()..] {
        Ok(DiffVersion::V2)
    } else {
        Err(DiffErrorKind::NotADiff.at(0))
    }
}

/// Reads the length that a record of a v2 stream states. Returns `None` for v1, which has no such
/// lengths.
fn stated<R: Read>(
    input: &mut Input<R>,
    version: DiffVersion,
    part: CutIn,
) -> Result<Option<u64>, DiffError> {
    match version {
        DiffVersion::V1 => Ok(None),
        DiffVersion::V2 => input.u64(part).map(Some),
    }
}

/// Reads the name of a snapshot. `at` and `tag` are the offset and the tag of its record.
fn name<R: Read>(
    input: &mut Input<R>,
    version: DiffVersion,
    (at, tag): (u64, u8),
) -> Result<Vec<u8>, DiffError> {
    let stated = stated(input, version, CutIn::Name)?;
    if let Some(length @ ..4) = stated {
        return Err(DiffErrorKind::WrongLength { tag, length }.at(at));
    }
    let length = input.u32(CutIn::Name)?;
    if let Some(stated) = stated
        && stated - 4 != u64::from(length)
    {
        let length = length.into();
        return Err(DiffErrorKind::InnerLength { tag, length }.at(at));
    }
    if length > NAME_MAX {
        return Err(DiffErrorKind::NameTooLong(length.into()).at(at));
    }
    let mut name = vec![0; length as usize];
    input.exact(&mut name, CutIn::Name)?;
    check_name(&name).map_err(|kind| kind.at(at))?;
    Ok(name)
}
