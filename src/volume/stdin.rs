//! Standard input, and reads that do not wait forever.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The time that a read waits for bytes before it fails with [`ErrorKind::WouldBlock`].
const WAIT: Duration = Duration::from_millis(200);

/// Standard input, or another pipe, terminal or socket. If no bytes arrive for 0.2 s, a read fails
/// with [`ErrorKind::WouldBlock`], and the caller may try again. In between, the caller can test
/// whether it was cancelled.
#[derive(Debug)]
pub struct Stdin(File);

impl Stdin {
    /// Opens this process's standard input. Nothing else may read from it, since this value never
    /// returns bytes that others have read.
    pub fn open() -> io::Result<Self> {
        Ok(Self::new(io::stdin().as_fd().try_clone_to_owned()?))
    }

    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl AsFd for Stdin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Read for Stdin {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_or_would_block(&self.0, into)
    }
}

/// Reads, or fails with [`ErrorKind::WouldBlock`] if no bytes arrive in time.
pub(super) fn read_or_would_block(mut file: &File, into: &mut [u8]) -> io::Result<usize> {
    let wait = Timespec::try_from(WAIT).ok();
    let mut asked = [PollFd::new(file, PollFlags::IN)];
    match poll(&mut asked, wait.as_ref()) {
        Ok(0) | Err(rustix::io::Errno::INTR) => Err(ErrorKind::WouldBlock.into()),
        // There are bytes, the end of the stream, or an error, which the read returns.
        _ => file.read(into),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_read_of_an_idle_pipe_fails_with_would_block_and_can_be_repeated() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut source = Stdin::new(reader.into());
        let mut into = [0; 8];
        let kind = |result: io::Result<usize>| result.unwrap_err().kind();
        assert_eq!(kind(source.read(&mut into)), ErrorKind::WouldBlock);
        writer.write_all(b"abc").unwrap();
        assert_eq!(source.read(&mut into).unwrap(), 3);
        assert_eq!(kind(source.read(&mut into)), ErrorKind::WouldBlock);
        drop(writer);
        assert_eq!(source.read(&mut into).unwrap(), 0, "the end of the stream");
    }
}
