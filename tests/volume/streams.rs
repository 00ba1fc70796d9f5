//! Streams with a name, which are read or written from the beginning.

use std::fs;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use cuttlebone::volume::{
    InputFile, InputStream, NamedInput, NamedOutput, OutputFile, OutputStream, VolumeErrorKind,
};
use tempfile::TempDir;

use super::{kind, names, noise};

#[test]
fn a_second_reader_of_a_file_does_not_move_the_first() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("diff");
    fs::write(&path, "0123456789").expect("a file");
    let mut file = InputFile::open(&path).expect("a stream");
    assert_eq!((file.size(), file.path()), (Some(10), Some(&*path)));
    let mut first = [0; 4];
    file.read_exact(&mut first).expect("bytes");
    let mut whole = String::new();
    let mut again = file.reread().expect("a regular file");
    again.at(8).read_to_string(&mut whole).expect("its end");
    again.read_to_string(&mut whole).expect("all of it");
    file.read_to_string(&mut whole).expect("the rest");
    assert_eq!((&first, &*whole), (b"0123", "890123456789456789"));
}

#[test]
fn a_pipe_has_no_size_and_is_read_only_once() {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    writer.write_all(b"bytes").expect("a write");
    drop(writer);
    let mut input = NamedInput::new(reader, "standard input");
    assert_eq!(input.name(), "standard input");
    assert!(input.size().is_none() && input.path().is_none() && input.reread().is_none());
    let mut read = String::new();
    input.read_to_string(&mut read).expect("bytes");
    assert_eq!(read, "bytes");
}

#[test]
fn a_file_appears_only_when_it_is_finished() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("diff");
    let mut file = OutputFile::create_new(&path).expect("a file");
    file.write_all(b"abandoned").expect("a write");
    drop(file);
    assert!(names(directory.path()).is_empty());

    let mut file = OutputFile::create_new(&path).expect("a file");
    assert_eq!(file.name(), path.display().to_string());
    file.write_all(b"complete").expect("a write");
    assert!(!path.exists());
    file.finish().expect("finished");
    assert_eq!(fs::read(&path).expect("a file"), b"complete");
    assert_eq!(kind(OutputFile::create_new(&path)), VolumeErrorKind::Exists);
}

/// A pipe whose reader has closed it.
#[derive(Debug)]
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stream_with_a_failed_write_is_never_finished() {
    let mut output = NamedOutput::new(Closed, "standard output");
    output.write_all(b"buffered").expect("room in the buffer");
    assert_eq!(kind(output.finish()), VolumeErrorKind::Closed);
    assert_eq!(kind(output.finish()), VolumeErrorKind::Incomplete);
    assert!(output.write_all(b"more").is_err());
}

#[test]
fn long_and_short_writes_reach_a_stream_in_order() {
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    let mut output = NamedOutput::new(&mut stream, "memory");
    for len in [1, 100_000, 200_000, 262_143, 262_144, 600_000, 7] {
        let bytes = noise(len, usize::try_from(len).expect("small"));
        output.write_all(&bytes).expect("a write");
        expected.extend(bytes);
    }
    output.finish().expect("finished");
    drop(output);
    assert!(stream == expected);
}

/// A writer that counts its writes, which all fail.
#[derive(Debug)]
struct Failing<'a>(&'a AtomicUsize);

impl Write for Failing<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(io::ErrorKind::Other.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_abandoned_stream_writes_nothing_when_it_is_dropped() {
    let writes = AtomicUsize::new(0);
    let mut output = NamedOutput::new(Failing(&writes), "a stream");
    output.write_all(b"buffered").expect("room in the buffer");
    output
        .write_all(&vec![1; 300_000])
        .expect_err("a failed write");
    drop(output);
    assert_eq!(writes.load(Ordering::Relaxed), 1);

    let mut stream = Vec::new();
    let mut output = NamedOutput::new(&mut stream, "a stream");
    output.write_all(b"buffered").expect("room in the buffer");
    drop(output);
    assert!(stream.is_empty());
}
