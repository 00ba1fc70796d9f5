//! Parses the output of `rbd diff` without `--format`: a table for people. The table has no end
//! mark. So a table that is cut short is detected only if it ends within a line.

use std::ops::Range;

use super::error::ExtentsError;
use super::number::{extent, number};

const HEADER: [&[u8]; 3] = [b"Offset", b"Length", b"Type"];

pub(super) fn parse(text: &[u8]) -> Result<Vec<Range<u64>>, ExtentsError> {
    let mut ranges = Vec::new();
    let mut header = false;
    for (line, row) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        let wrong = |what| ExtentsError::Plain { what, line };
        let mut words = row
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let words = [words.next(), words.next(), words.next(), words.next()];
        match words {
            [None, ..] => {}
            _ if !row.ends_with(b"\n") => return Err(wrong("the line is cut short")),
            [Some(a), Some(b), Some(c), None] if !header => {
                if [a, b, c] != HEADER {
                    return Err(wrong("not the header “Offset Length Type”"));
                }
                header = true;
            }
            [Some(offset), Some(length), Some(b"data" | b"zero"), None] => {
                let range = number(offset).and_then(|offset| extent(offset, number(length)?));
                ranges.push(range.map_err(wrong)?);
            }
            _ if !header => return Err(wrong("not the header “Offset Length Type”")),
            _ => return Err(wrong("not an offset, a length, and “data” or “zero”")),
        }
    }
    Ok(ranges)
}
