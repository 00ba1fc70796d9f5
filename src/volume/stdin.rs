//! Standard input as source.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A read waits so long for bytes, and then says that there are none yet.
const PATIENCE: Duration = Duration::from_millis(200);

/// A byte stream that does not keep its reader waiting: if nothing comes for 0.2 s, a read fails with
/// [`ErrorKind::WouldBlock`] and may be tried again. So whoever reads from an idle pipe, terminal or socket can
/// look whether to go on at all.
pub struct Stdin(File);

impl Stdin {
    /// This process's standard input. Nobody else may read from it: bytes that are buffered elsewhere are
    /// not seen here.
    pub fn open() -> io::Result<Self> {
        Ok(Self::new(io::stdin().as_fd().try_clone_to_owned()?))
    }

    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl Read for Stdin {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_patiently(&self.0, into)
    }
}

/// Reads if something comes before long, else fails with [`ErrorKind::WouldBlock`].
pub(super) fn read_patiently(mut file: &File, into: &mut [u8]) -> io::Result<usize> {
    let patience = Timespec::try_from(PATIENCE).ok();
    let mut asked = [PollFd::new(file, PollFlags::IN)];
    match poll(&mut asked, patience.as_ref()) {
        Ok(0) | Err(rustix::io::Errno::INTR) => Err(ErrorKind::WouldBlock.into()),
        // What is wrong with it, or that it has ended, the read tells best.
        _ => file.read(into),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_pipe_is_waited_for_but_not_for_ever() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut source = Stdin::new(reader.into());
        let mut into = [0; 8];
        let kind = |result: io::Result<usize>| result.unwrap_err().kind();
        assert_eq!(kind(source.read(&mut into)), ErrorKind::WouldBlock);
        writer.write_all(b"abc").unwrap();
        assert_eq!(source.read(&mut into).unwrap(), 3);
        assert_eq!(kind(source.read(&mut into)), ErrorKind::WouldBlock);
        drop(writer);
        assert_eq!(source.read(&mut into).unwrap(), 0, "it has ended");
    }
}
