//! Notes of damaged parts of packs and of damaged segments, in a file of the cache.
//!
//! The file is only a hint. A part or segment that it names is read again before it counts as
//! damaged, since someone may have copied an undamaged file over the damaged one.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::base::{ObjectHash, lock, replace_file};

/// The maximum length of the file, in bytes: some 200,000 runs. More damage is not remembered.
const LEN_MAX: u64 = 16 << 20;

/// The file with the notes, which all processes of this host with the same cache share.
pub(super) struct DamageNotes {
    /// The path of the file. `None` if there is no cache.
    path: Option<PathBuf>,
    /// The notes that this process need not add to the file again.
    noted: Mutex<Noted>,
}

/// A set of notes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Noted {
    /// Damaged runs, by pack and ordinal.
    pub(super) runs: BTreeSet<(ObjectHash, u64)>,
    /// Packs that are damaged outside of their runs, for example in the list of their contents.
    pub(super) outside: BTreeSet<ObjectHash>,
    /// Damaged segments.
    pub(super) segments: BTreeSet<ObjectHash>,
}

impl DamageNotes {
    /// Returns the notes in this file, without reading it. The file need not exist.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            noted: Mutex::default(),
        }
    }

    /// Adds damage to the file, unless this process did so before.
    pub(super) fn add(&self, found: &Noted) {
        let mut noted = lock(&self.noted);
        let new = found.without(&noted);
        let Some(path) = self.path.as_ref().filter(|_| new != Noted::default()) else {
            return;
        };
        // The file is only a hint, so errors do not matter. A line that is cut short is ignored.
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path);
        if let Ok(mut file) = file
            && file.metadata().is_ok_and(|file| file.len() < LEN_MAX)
        {
            let _ = file.write_all(new.to_text().as_bytes());
        }
        noted.runs.extend(new.runs);
        noted.outside.extend(new.outside);
        noted.segments.extend(new.segments);
    }

    /// Reads the file. Ignores malformed lines. If the file cannot be read, there are no notes.
    pub(super) fn read(&self) -> Noted {
        let mut text = Vec::new();
        if let Some(path) = &self.path {
            let file = OpenOptions::new().read(true).open(path);
            let _ = file.map(|file| file.take(LEN_MAX).read_to_end(&mut text));
        }
        Noted::parse(&String::from_utf8_lossy(&text))
    }

    /// Removes these notes from the file. Keeps all others, also those that other processes have
    /// added meanwhile.
    pub(super) fn forget(&self, cured: &Noted) {
        if *cured == Noted::default() {
            return;
        }
        let mut noted = lock(&self.noted);
        let rest = self.read().without(cured);
        if let Some(path) = &self.path {
            let _ = replace_file(path, &[rest.to_text().as_bytes()]);
        }
        *noted = rest;
    }
}

impl Noted {
    /// Returns these notes except those in `others`.
    pub(super) fn without(&self, others: &Self) -> Self {
        Self {
            runs: &self.runs - &others.runs,
            outside: &self.outside - &others.outside,
            segments: &self.segments - &others.segments,
        }
    }

    fn to_text(&self) -> String {
        let runs = self.runs.iter();
        let runs = runs.map(|(pack, ordinal)| format!("pack {pack} {ordinal}\n"));
        let outside = self.outside.iter();
        let outside = outside.map(|pack| format!("outside {pack}\n"));
        let segments = self.segments.iter();
        let segments = segments.map(|name| format!("segment {name}\n"));
        runs.chain(outside).chain(segments).collect()
    }

    fn parse(text: &str) -> Self {
        let mut noted = Self::default();
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["pack", pack, ordinal] => {
                    if let (Ok(pack), Ok(ordinal)) = (pack.parse(), ordinal.parse()) {
                        noted.runs.insert((pack, ordinal));
                    }
                }
                ["outside", pack] => noted.outside.extend(pack.parse::<ObjectHash>().ok()),
                ["segment", name] => noted.segments.extend(name.parse::<ObjectHash>().ok()),
                _ => {}
            }
        }
        noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(number: u8) -> ObjectHash {
        ObjectHash::from_bytes([number; 32])
    }

    #[test]
    fn notes_are_added_once_and_malformed_lines_are_ignored() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("damaged");
        let notes = DamageNotes::new(Some(path.clone()));
        assert_eq!(notes.read(), Noted::default());
        let found = Noted {
            runs: [(pack(1), 3), (pack(2), 0)].into(),
            outside: [pack(4)].into(),
            segments: [pack(3)].into(),
        };
        notes.add(&found);
        let len = std::fs::metadata(&path).unwrap().len();
        notes.add(&found);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
        assert_eq!(notes.read(), found);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("pack x 1\npack\n\nsegment\noutside x\n\u{1}\npack ");
        std::fs::write(&path, text).unwrap();
        assert_eq!(notes.read(), found);
        notes.forget(&found);
        assert_eq!(notes.read(), Noted::default());
        notes.add(&found);
        assert_eq!(notes.read(), found);
    }

    #[test]
    fn notes_that_another_process_adds_stay() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("damaged");
        let [ours, theirs] = [(); 2].map(|()| DamageNotes::new(Some(path.clone())));
        let run = |number| Noted {
            runs: [(pack(number), 3)].into(),
            ..Noted::default()
        };
        ours.add(&run(1));
        let cured = ours.read();
        theirs.add(&run(2));
        ours.forget(&cured);
        assert_eq!(ours.read(), run(2));
    }

    #[test]
    fn without_a_cache_nothing_is_remembered() {
        let notes = DamageNotes::new(None);
        notes.add(&Noted {
            runs: [(pack(1), 3)].into(),
            ..Noted::default()
        });
        assert_eq!(notes.read(), Noted::default());
    }
}
