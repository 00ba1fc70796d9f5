//! Opens diffs for reading and writing.

use crate::app::{Code, Failure, ReadFrom, WriteTo};
use crate::ops::OpsError;
use crate::volume::{
    InputFile, InputStream, NamedInput, NamedOutput, OutputFile, OutputStream, Stdin, VolumeError,
    VolumeErrorKind,
};

pub(super) fn open_diff(source: &ReadFrom) -> Result<Box<dyn InputStream>, Failure> {
    Ok(match source {
        ReadFrom::Stdin => Box::new(stdin()?),
        ReadFrom::Path(path) => Box::new(InputFile::open(path)?),
    })
}

pub(super) fn stdin() -> Result<NamedInput<Stdin>, Failure> {
    let stdin = Stdin::open().map_err(|error| {
        Failure::new(Code::Failed, "could not read standard input").caused_by(Some(&error))
    })?;
    Ok(NamedInput::new(stdin, "standard input"))
}

/// Opens the target and calls `write` with it. Replaces an existing file only if `force` is set.
pub(super) fn write_diff<T>(
    target: &WriteTo,
    force: bool,
    write: impl FnOnce(&mut dyn OutputStream) -> Result<T, OpsError>,
) -> Result<T, Failure> {
    let written = open_output(target, force)
        .map_err(OpsError::from)
        .and_then(|mut output| write(&mut *output));
    match written {
        Err(OpsError::Volume(error)) if error.kind == VolumeErrorKind::Exists => {
            Err(Failure::from_error(Code::Failed, &error)
                .hint("choose another name, or replace the file with --force"))
        }
        result => Ok(result?),
    }
}

fn open_output(target: &WriteTo, force: bool) -> Result<Box<dyn OutputStream>, VolumeError> {
    Ok(match target {
        WriteTo::Stdout => Box::new(NamedOutput::new(std::io::stdout(), "standard output")),
        WriteTo::Path(path) if force => Box::new(OutputFile::replace(path)?),
        WriteTo::Path(path) => Box::new(OutputFile::create_new(path)?),
    })
}
