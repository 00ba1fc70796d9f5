//! The commands below `diff`. All but `export` need neither a repository nor a password.

use std::io::IsTerminal;
use std::time::Instant;

use super::Session;
use super::failure::{Code, Failure};
use super::message::{DiffEntry, DiffImage, DiffStream, MergeSummary, Message, Metadata};
use super::request::{Diff, Source, Target};
use crate::base::Cancelled;
use crate::ops::{
    self, ByteString, Context, DiffOutput, DiffSight, DiffSource, DiffSummary, DiffVersion,
    ImageDescription, OpsError,
};
use crate::volume::{ErrorKind, InputFile, Stdin};

pub(super) const STDIN: &str = "standard input";
const STDOUT: &str = "standard output";

/// Diffs that are shown at once; a stream can have many.
const DIFFS_AT_ONCE: usize = 256;

pub(super) fn perform(session: &Session, diff: Diff) -> Result<(), Failure> {
    match diff {
        Diff::Inspect { source } => inspect(session, &source),
        Diff::Merge {
            sources,
            target,
            force,
        } => merge(session, &sources, &target, force),
    }
}

pub(super) fn context(session: &Session) -> Context<'_> {
    Context {
        observer: session.meter.clone(),
        cancel: &session.cancel,
        threads: session.settings.threads.get(),
        cache: None,
    }
}

pub(super) fn open(source: &Source) -> Result<DiffSource<'static>, Failure> {
    Ok(match source {
        Source::Stdin => DiffSource::Stream(Box::new(stdin()?), STDIN),
        Source::Path(path) => DiffSource::File(InputFile::open(path)?),
    })
}

pub(super) fn stdin() -> Result<Stdin, Failure> {
    Stdin::open().map_err(|error| {
        Failure::new(Code::Failed, "could not read standard input").caused_by(Some(&error))
    })
}

pub(super) fn name(bytes: &[u8]) -> ByteString {
    ByteString::from(bytes)
}

fn inspect(session: &Session, source: &Source) -> Result<(), Failure> {
    let input = open(source)?;
    let mut sights = Sights {
        session,
        many: false,
        image: None,
        held: Vec::new(),
        failure: None,
    };
    let result = ops::inspect_diff(input, &context(session), &mut |sight| sights.take(sight));
    session.meter.finish();
    if let Some(failure) = sights.failure {
        return Err(failure);
    }
    let report = result?;
    sights.show()?;
    let source = match source {
        Source::Stdin => STDIN.to_owned(),
        Source::Path(path) => path.display().to_string(),
    };
    session.output.show(&Message::DiffStream(DiffStream {
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

/// What was found and is not shown yet.
struct Sights<'a> {
    session: &'a Session,
    /// The stream is one that can have many diffs.
    many: bool,
    image: Option<DiffImage>,
    held: Vec<DiffEntry>,
    failure: Option<Failure>,
}

impl Sights<'_> {
    fn take(&mut self, sight: &DiffSight<'_>) -> Result<(), Cancelled> {
        let shown = match sight {
            DiffSight::Image(image, diffs) => {
                self.many = true;
                self.image = Some(diff_image(image, *diffs));
                return Ok(());
            }
            DiffSight::Diff(diff) => {
                self.held.push(entry(diff));
                if self.held.len() < DIFFS_AT_ONCE {
                    return Ok(());
                }
                self.show()
            }
        };
        shown.map_err(|failure| {
            self.failure = Some(failure);
            Cancelled
        })
    }

    fn show(&mut self) -> Result<(), Failure> {
        let output = &self.session.output;
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
        key: name(key),
        value: name(value),
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
        from: header.from.as_deref().map(name),
        to: header.to.as_deref().map(name),
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

fn merge(
    session: &Session,
    sources: &[Source],
    target: &Target,
    force: bool,
) -> Result<(), Failure> {
    no_terminal(target)?;
    let started = Instant::now();
    let inputs = sources.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let (report, target) = into(target, force, |to| {
        ops::merge_diffs(inputs, to, &context(session))
    })?;
    session.meter.finish();
    session.output.show(&Message::Merge(MergeSummary {
        target,
        from: report.header.from.as_deref().map(name),
        to: report.header.to.as_deref().map(name),
        size: report.header.size,
        diffs: report.diffs,
        extents: report.extents,
        bytes_data: report.data,
        bytes_zero: report.zeros,
        bytes_written: report.written,
        duration: started.elapsed().as_secs_f64(),
    }))
}

/// Lets `write` write a diff; with its result, what messages call the target.
pub(super) fn into<T>(
    target: &Target,
    force: bool,
    write: impl FnOnce(DiffOutput<'_>) -> Result<T, OpsError>,
) -> Result<(T, String), Failure> {
    let mut stdout = std::io::stdout();
    let (to, target) = match target {
        Target::Stdout => (DiffOutput::Stream(&mut stdout, STDOUT), STDOUT.to_owned()),
        Target::Path(path) => {
            let to = if force {
                DiffOutput::Replace(path)
            } else {
                DiffOutput::New(path)
            };
            (to, path.display().to_string())
        }
    };
    match write(to) {
        Ok(written) => Ok((written, target)),
        Err(OpsError::Volume(error)) if error.kind == ErrorKind::Exists => {
            Err(Failure::from_error(Code::Failed, &error)
                .hint("choose another name, or --force to replace it"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses to show a diff to a person.
pub(super) fn no_terminal(target: &Target) -> Result<(), Failure> {
    if *target == Target::Stdout && std::io::stdout().is_terminal() {
        return Err(Failure::usage("a diff cannot be shown on a terminal")
            .hint("name a file to write it to, or pipe it into “rbd import-diff”"));
    }
    Ok(())
}
