//! Detects other programs that write to a file or device.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// The length of a buffer for a few events, in bytes.
const EVENTS: usize = 1 << 10;

/// Detects other programs that close a file or device that they had open for writing. A program
/// that keeps it open until after the end of the watch is not detected.
#[derive(Debug)]
pub(super) struct Witness(Option<OwnedFd>);

impl Witness {
    /// Begins to watch a file, which this process must keep open until the last call of
    /// [`has_seen_a_writer`](Self::has_seen_a_writer). If files cannot be watched, nothing is
    /// detected.
    pub(super) fn new(file: &File) -> Self {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let watch = || {
            let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            inotify::add_watch(&watch, path, WatchFlags::CLOSE_WRITE)?;
            Ok::<_, rustix::io::Errno>(watch)
        };
        Self(watch().ok())
    }

    /// Returns whether another program that had the file open for writing has closed it since the
    /// watch began or since the last call.
    pub(super) fn has_seen_a_writer(&self) -> bool {
        self.0.as_ref().is_some_and(|watch| {
            let mut buffer = [MaybeUninit::uninit(); EVENTS];
            let mut events = inotify::Reader::new(watch, &mut buffer);
            // `next` fails if there is no event.
            let seen = events.next().is_ok();
            while events.next().is_ok() {}
            seen
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_writer_is_noticed_when_it_closes_the_file_and_a_reader_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        std::fs::write(&path, "content").unwrap();
        let ours = File::options().read(true).write(true).open(&path).unwrap();
        let witness = Witness::new(&ours);
        std::fs::read(&path).unwrap();
        std::io::Write::write_all(&mut &ours, b"more").unwrap();
        assert!(!witness.has_seen_a_writer());
        let other = File::options().append(true).open(&path).unwrap();
        drop(other);
        assert!(witness.has_seen_a_writer());
        assert!(!witness.has_seen_a_writer());
    }
}
