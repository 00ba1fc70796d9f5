//! Why a text is not a list of extents.

/// A text is no list of extents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtentsError {
    /// There is nothing in it. `rbd diff` without `--format` says so that nothing changed, and whoever
    /// failed to run it leaves the same.
    #[error("it is empty")]
    Empty,
    /// It begins as none of the three.
    #[error("it is neither JSON, nor XML, nor a table (byte {offset})")]
    Unknown {
        /// Of its first byte that is not blank.
        offset: usize,
    },
    /// It is no JSON, or not of this shape.
    #[error("{what} (line {line}, column {column})")]
    Json {
        /// What is wrong.
        what: String,
        /// From 1.
        line: usize,
        /// From 1; 0 where only the line is known.
        column: usize,
    },
    /// It is no XML, or not of this shape.
    #[error("{what} (byte {offset})")]
    Xml {
        /// What is wrong.
        what: String,
        /// From 0.
        offset: u64,
    },
    /// A row of the table is wrong.
    #[error("{what} (line {line})")]
    Plain {
        /// What is wrong.
        what: &'static str,
        /// From 1.
        line: usize,
    },
}

/// Returns the message of a parser, at most 120 characters of it, without control characters: it may
/// repeat text that would steer a terminal.
pub(super) fn printable(what: &str) -> String {
    let replaced = |c: char| if c.is_control() { '?' } else { c };
    what.chars().take(120).map(replaced).collect()
}
