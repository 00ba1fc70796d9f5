//! The error of a text that is not a list of extents.

/// A text is not a list of extents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtentsError {
    /// It is empty. `rbd diff` without `--format` writes an empty text if nothing changed, but also
    /// if it failed.
    #[error("it is empty")]
    Empty,
    /// Its first byte that is not blank begins neither JSON, nor XML, nor a table.
    #[error("it is neither JSON, nor XML, nor a table (byte {offset})")]
    Unknown {
        /// The position of the first byte that is not blank, from 0.
        offset: usize,
    },
    /// It is not JSON, or not a list of extents in JSON.
    #[error("{what} (line {line}, column {column})")]
    Json {
        /// The fault.
        what: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1; 0 if only the line is known.
        column: usize,
    },
    /// It is not XML, or not a list of extents in XML.
    #[error("{what} (byte {offset})")]
    Xml {
        /// The fault.
        what: String,
        /// The position in bytes, from 0.
        offset: u64,
    },
    /// A row of the table is wrong.
    #[error("{what} (line {line})")]
    Plain {
        /// The fault.
        what: &'static str,
        /// The line, from 1.
        line: usize,
    },
}

/// Returns the first 120 characters of a parser's message, with `?` in place of each control
/// character. The message may repeat text that would control a terminal.
pub(super) fn printable(what: &str) -> String {
    let replaced = |c: char| if c.is_control() { '?' } else { c };
    what.chars().take(120).map(replaced).collect()
}
