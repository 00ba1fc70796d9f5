//! The map of a restore. It lists which parts of the target have the content of the backup, and
//! which parts could not be restored.

use std::fmt::Write as _;
use std::ops::Range;

/// Returns the map in the format of GNU ddrescue's map files, so that its tools can read it: `+`
/// for a part that was restored, `-` for one that could not be. `size` is the size of the backup in
/// bytes. `holes` are the parts that could not be restored, in bytes, ascending.
pub(crate) fn rescue_map(size: u64, holes: &[Range<u64>]) -> String {
    let mut text = "# Mapfile. Created by cuttlebone\n\
                    # current_pos  current_status  current_pass\n\
                    0x00000000     +               1\n\
                    #      pos        size  status\n"
        .to_owned();
    let mut line = |range: Range<u64>, status: char| {
        if !range.is_empty() {
            let len = range.end - range.start;
            // Writing into a string does not fail.
            let _ = writeln!(text, "{:#010x}  {len:#010x}  {status}", range.start);
        }
    };
    let mut at = 0;
    for hole in holes {
        line(at..hole.start, '+');
        line(hole.clone(), '-');
        at = hole.end;
    }
    line(at..size, '+');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_covers_the_whole_image() {
        let lines = |size, holes: &[Range<u64>]| {
            let map = rescue_map(size, holes);
            let lines = map.lines().filter(|line| !line.starts_with('#'));
            lines.skip(1).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(
            lines(0x3000, &[0..0x1000, 0x2000..0x2800]),
            "0x00000000  0x00001000  -\n\
             0x00001000  0x00001000  +\n\
             0x00002000  0x00000800  -\n\
             0x00002800  0x00000800  +"
        );
        assert_eq!(lines(10, &[]), "0x00000000  0x0000000a  +");
        assert_eq!(lines(0, &[]), "");
    }
}
