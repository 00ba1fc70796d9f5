//! Reasons why a selector matches no backup, or why it is not certain which backup it selects. A
//! selector is the text with which a user names a backup.

use jiff::Timestamp;

use crate::base::ObjectHash;

/// Maximum number of similar names to offer.
const SIMILAR_MAX: usize = 3;

/// The reason why a selector matches no backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant explains it")]
pub enum NoBackupReason {
    #[error("no volume has this name, and no id of a backup begins with it")]
    Unknown {
        /// Names of volumes that differ little from the given name, the nearest first.
        similar: Vec<String>,
    },
    #[error("volume “{volume}” has no backup so far back: ~{oldest} is its oldest")]
    TooFarBack { volume: String, oldest: usize },
    #[error("volume “{volume}” has backups, but none of a snapshot “{snapshot}”")]
    NoSnapshot { volume: String, snapshot: String },
}

/// A backup record that is missing or cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "backup record {id} {}, and may be the record of the backup that is meant",
    if *.missing { "is missing" } else { "cannot be read" }
)]
pub struct LostRecord {
    /// The id of the record.
    pub id: ObjectHash,
    /// Whether the record is missing. If not, it exists but cannot be read.
    pub missing: bool,
}

/// The newest readable backup among those that a selector may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestReadable {
    /// Its id.
    pub id: ObjectHash,
    /// The time of its content.
    pub time: Timestamp,
}

/// Returns the names that differ from `wanted` in one character, or in at most a third of its
/// characters. The nearest come first. Returns at most [`SIMILAR_MAX`].
pub(super) fn similar<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let limit = (wanted.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = names
        .map(|name| (distance(wanted, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    near.sort_unstable();
    let near = near.into_iter().take(SIMILAR_MAX);
    near.map(|(_, name)| name.to_owned()).collect()
}

/// Returns how many characters must be added, removed or replaced to get from one text to the
/// other. Upper and lower case count as equal.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, from) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_few_differences_are_similar_and_the_nearest_is_first() {
        let names = ["web1-root", "web2-root", "db", "WEB1-ROOT2"];
        let similar = |wanted| similar(wanted, names.into_iter());
        assert_eq!(
            similar("web1-rot"),
            ["web1-root", "WEB1-ROOT2", "web2-root"]
        );
        assert_eq!(similar("dB1"), ["db"]);
        assert!(similar("mail").is_empty());
        for (a, b, edits) in [("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)] {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits));
        }
    }
}
