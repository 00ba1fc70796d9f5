//! Lists of extents: untrusted text.

use std::fmt::Write as _;

use cuttlebone::format::ExtentList;

/// Decodes a list as JSON, XML or a table.
pub fn extents(data: &[u8]) {
    let list = match ExtentList::parse(data) {
        Ok(list) => list,
        Err(error) => {
            let message = error.to_string();
            assert!(!message.chars().any(char::is_control), "{message:?}");
            return;
        }
    };
    let ranges = list.ranges();
    assert!(ranges.iter().all(|range| !range.is_empty()));
    assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
    assert_eq!(list.end(), ranges.last().map_or(0, |last| last.end));
    let widened = list.widened(65_536);
    for range in ranges {
        let holds =
            |wide: &std::ops::Range<u64>| wide.start <= range.start && range.end <= wide.end;
        assert!(widened.ranges().iter().any(holds));
    }
    // Encode the list again in each form. It must decode to the same list.
    let (mut json, mut xml) = (String::new(), String::new());
    let mut plain = "Offset Length Type\n".to_owned();
    for range in ranges {
        let (offset, length) = (range.start, range.end - range.start);
        let comma = if json.is_empty() { "" } else { "," };
        let _ = write!(
            json,
            r#"{comma}{{"offset":{offset},"length":{length},"exists":"true"}}"#
        );
        let _ = write!(
            xml,
            "<extent><offset>{offset}</offset><length>{length}</length>\
             <exists>true</exists></extent>"
        );
        let _ = writeln!(plain, "{offset} {length} data");
    }
    for again in [
        format!("[{json}]"),
        format!("<extents>{xml}</extents>"),
        plain,
    ] {
        assert_eq!(ExtentList::parse(again.as_bytes()).as_ref(), Ok(&list));
    }
}
