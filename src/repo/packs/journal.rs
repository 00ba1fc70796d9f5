//! Packs that are stored, or about to be, and in no segment yet, noted on the client: after a kill the next run
//! finds them without listing the repository. A lost note costs space until a prune, never data.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use crate::base::ObjectHash;

/// The note. One line a pack.
pub struct Journal(Option<File>);

/// A run stores some dozens of packs between two segments; anything much longer is not ours.
const LEN_MAX: u64 = 1 << 20;

impl Journal {
    /// Opens the note in a file and tells which packs are in it. If another process has it, or it cannot be
    /// written, there is none.
    #[must_use]
    pub fn open(path: &Path) -> (Self, Vec<ObjectHash>) {
        let open = || -> io::Result<(File, Vec<ObjectHash>)> {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            file.try_lock()?;
            let mut text = String::new();
            io::Read::by_ref(&mut file)
                .take(LEN_MAX)
                .read_to_string(&mut text)?;
            Ok((
                file,
                text.lines().filter_map(|line| line.parse().ok()).collect(),
            ))
        };
        match open() {
            Ok((file, packs)) => (Self(Some(file)), packs),
            Err(_) => Self::none(),
        }
    }

    /// No note at all.
    #[must_use]
    pub fn none() -> (Self, Vec<ObjectHash>) {
        (Self(None), Vec::new())
    }

    /// Notes a pack. It need not reach the disk: this is for kills, and a crash may lose it.
    pub fn add(&mut self, pack: ObjectHash) {
        if let Some(file) = &mut self.0 {
            let _ = writeln!(file, "{pack}");
        }
    }

    /// Strikes all: a segment names them now.
    pub fn clear(&mut self) {
        if let Some(file) = &mut self.0 {
            let _ = file.set_len(0).and_then(|()| file.rewind());
        }
    }
}
