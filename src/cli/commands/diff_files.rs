//! Opens diffs for reading and writing.

use std::io::IsTerminal;

use crate::app::{Code, Failure, ReadFrom, WriteTo};
use crate::ops::{DiffOutput, DiffSource, OpsError};
use crate::volume::{InputFile, Stdin, VolumeErrorKind};

pub(super) fn open_diff(source: &ReadFrom) -> Result<DiffSource<'static>, Failure> {
    Ok(match source {
        ReadFrom::Stdin => DiffSource::Stream(Box::new(stdin()?), "standard input"),
        ReadFrom::Path(path) => DiffSource::File(InputFile::open(path)?),
    })
}

pub(super) fn stdin() -> Result<Stdin, Failure> {
    Stdin::open().map_err(|error| {
        Failure::new(Code::Failed, "could not read standard input").caused_by(Some(&error))
    })
}

/// Calls `write` with the opened target.
pub(super) fn write_diff<T>(
    target: &WriteTo,
    force: bool,
    write: impl FnOnce(DiffOutput<'_>) -> Result<T, OpsError>,
) -> Result<T, Failure> {
    let mut stdout = std::io::stdout();
    let output = match target {
        WriteTo::Stdout => DiffOutput::Stream(&mut stdout, "standard output"),
        WriteTo::Path(path) if force => DiffOutput::Replace(path),
        WriteTo::Path(path) => DiffOutput::New(path),
    };
    match write(output) {
        Err(OpsError::Volume(error)) if error.kind == VolumeErrorKind::Exists => {
            Err(Failure::from_error(Code::Failed, &error)
                .hint("choose another name, or replace the file with --force"))
        }
        result => Ok(result?),
    }
}

/// Fails if the target is a terminal: a diff is binary data.
pub(super) fn refuse_terminal(target: &WriteTo) -> Result<(), Failure> {
    if *target == WriteTo::Stdout && std::io::stdout().is_terminal() {
        return Err(Failure::usage("cannot write a diff to a terminal")
            .hint("name a file, or pipe the diff into “rbd import-diff”"));
    }
    Ok(())
}
