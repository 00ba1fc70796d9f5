//! Where volumes are read from and written to: raw files, block devices, streams; and the files that
//! describe changes of them.
//!
//! A source is read by many threads at once and never written. A target is written by many
//! threads, each byte at most once, and is whole only once it is finished.

mod diff;
mod error;
mod file;
mod input;
mod output;
mod pending;
mod source;
mod stdin;
mod stream;
mod sys;
mod target;

pub use diff::{DiffTarget, DiffTotals};
pub use error::{ErrorKind, Operation, Unsuitable, VolumeError};
pub use file::FileTarget;
pub use input::{InputFile, InputRange};
pub use output::OutputFile;
pub use source::{DataExtents, ImageIdentity, ImageSource};
pub use stdin::StreamSource;
pub use stream::StreamTarget;
pub use sys::ImageKind;
pub use target::Target;
