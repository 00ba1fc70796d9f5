use proptest::prelude::*;

use super::*;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("tests/rbd/fixtures/{name}")).unwrap()
}

fn list(ranges: &[(u64, u64)]) -> ExtentList {
    ranges.iter().map(|(at, len)| *at..at + len).collect()
}

#[test]
fn lists_that_ceph_wrote_are_read_in_all_three_forms() {
    let changed = list(&[
        (0, 512),
        (130_560, 512),
        (1_310_720, 1100),
        (2_662_400, 4096),
        (2_686_976, 36_864),
        (5_242_880, 16_384),
    ]);
    for form in ["json", "xml", "txt"] {
        let text = fixture(&format!("std-diff-s1-s2.{form}"));
        assert_eq!(ExtentList::parse(&text), Ok(changed.clone()), "{form}");
    }
    assert_eq!(
        ExtentList::parse(&fixture("bench-diff-pretty.xml")),
        Ok(list(&[
            (0, 16_384),
            (4_194_304, 3_866_624),
            (33_554_432, 2_949_120),
            (37_748_736, 2_097_152)
        ]))
    );
    assert_eq!(
        ExtentList::parse(&fixture("big-diff-a-b-whole.json")),
        Ok(list(&[(4 << 20, 8 << 20), (16 << 20, 4 << 20)]))
    );
    for name in [
        "big-diff-a-b.json",
        "std-diff-full-s1.json",
        "std-diff-s1-s2-whole.json",
    ] {
        let found = ExtentList::parse(&fixture(name)).unwrap();
        assert!(!found.ranges().is_empty(), "{name}");
    }
}

#[test]
fn an_empty_list_is_accepted() {
    for text in [
        "[]",
        " [ ]\n",
        "<extents></extents>",
        "<extents/>",
        "Offset Length Type\n",
    ] {
        let parsed = ExtentList::parse(text.as_bytes());
        assert_eq!(parsed, Ok(ExtentList::default()), "{text}");
    }
}

#[test]
fn exists_may_be_a_json_boolean() {
    let text = br#"[{"exists":false,"length":2,"offset":18446744073709551613}]"#;
    assert_eq!(ExtentList::parse(text), Ok(list(&[(u64::MAX - 2, 2)])));
}

#[test]
fn a_malformed_list_is_refused_with_the_position_of_the_fault() {
    for (text, expected) in [
        ("", "it is empty"),
        (" \n\t", "it is empty"),
        (
            "rbd: error",
            "it is neither JSON, nor XML, nor a table (byte 0)",
        ),
        ("\n {}", "it is neither JSON, nor XML, nor a table (byte 2)"),
        ("[", "EOF while parsing a list (line 1, column 1)"),
        ("[]x", "trailing characters (line 1, column 3)"),
        ("[\n[0,1,true]]", "expected an object (line 2, column 0)"),
        (
            r#"[{"offset":-1,"length":1,"exists":"true"}]"#,
            "invalid value: integer `-1`, expected u64 (line 1, column 13)",
        ),
        (
            r#"[{"offset":1,"length":18446744073709551615,"exists":"true"}]"#,
            "an extent ends beyond 2^64 bytes (line 1, column 60)",
        ),
        (
            r#"[{"offset":1,"length":1}]"#,
            "missing field `exists` (line 1, column 24)",
        ),
        (
            r#"[{"offset":1,"length":1,"exists":"yes"}]"#,
            "expected true or false",
        ),
        (
            r#"[{"offset":1,"offset":1,"length":1,"exists":true}]"#,
            "duplicate field",
        ),
        (r#"[{"offset":1,"\u001b[2J":1}]"#, "unknown field `?[2J`"),
        ("<extents>", "the list is cut short (byte 9)"),
        (
            "<extents></extents><extents/>",
            "not an element of a list (byte 19)",
        ),
        ("<extents><extent></extents>", "(byte 17)"),
        (
            "<extents><extent><offset>1</offset></extent></extents>",
            "an extent lacks its offset",
        ),
        (
            "<extents><extent><offset>-1</offset></extent></extents>",
            "not a number of bytes from 0 to 2^64 - 1 (byte 25)",
        ),
        (
            "<extents><extent><offset>1</offset><offset>1</offset>",
            "an extent has a member twice",
        ),
        ("<extents a='b'/>", "not an element of a list (byte 0)"),
        ("<images/>", "not an element of a list (byte 0)"),
        (
            "<!DOCTYPE a [<!ENTITY b 'c'>]><extents/>",
            "not a list of extents (byte 0)",
        ),
        ("<extents>x</extents>", "not a list of extents (byte 9)"),
        (
            "Offset  Size  Type\n",
            "not the header “Offset Length Type” (line 1)",
        ),
        (
            "Offset Length Type\n0 1 data\n0 1 dat\n",
            "not an offset, a length, and “data” or “zero” (line 3)",
        ),
        ("Offset Length Type\n0 1 data x\n", "(line 2)"),
        (
            "Offset Length Type\n0 1 data",
            "the line is cut short (line 2)",
        ),
        (
            "Offset Length Type\n+1 1 data\n",
            "not a number of bytes from 0 to 2^64 - 1 (line 2)",
        ),
        (
            "Offset Length Type\n18446744073709551615 1 zero\n",
            "an extent ends beyond 2^64 bytes (line 2)",
        ),
    ] {
        let error = ExtentList::parse(text.as_bytes())
            .expect_err(text)
            .to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_list_that_is_cut_short_is_refused() {
    for (form, all) in [("json", true), ("xml", true), ("txt", false)] {
        let text = fixture(&format!("std-diff-s1-s2.{form}"));
        let text = text.trim_ascii_end();
        for end in 0..text.len() {
            let parsed = ExtentList::parse(&text[..end]);
            // A table that ends after a whole line looks like a shorter one.
            assert!(
                parsed.is_err() || (!all && text[end - 1] == b'\n'),
                "{form} {end}"
            );
        }
    }
}

proptest! {
    #[test]
    fn a_list_covers_the_same_bytes_as_a_set_of_bytes(
        ranges in prop::collection::vec((0u64..200, 0u64..30), 0..20),
        step in prop::sample::select(vec![1u64, 3, 16]),
    ) {
        let found = list(&ranges);
        let mut set = vec![false; 256];
        for (at, len) in ranges {
            for byte in at..at + len {
                set[usize::try_from(byte).unwrap()] = true;
            }
        }
        for pair in found.ranges().windows(2) {
            prop_assert!(pair[0].end < pair[1].start);
        }
        let widened = found.widened(step);
        for (byte, set) in (0..).zip(&set) {
            prop_assert_eq!(found.ranges().iter().any(|range| range.contains(&byte)), *set);
        }
        for byte in 0..240u64 {
            let first = byte / step * step;
            let any = (first..first + step).any(|b| set[usize::try_from(b).unwrap()]);
            prop_assert_eq!(widened.ranges().iter().any(|range| range.contains(&byte)), any);
        }
    }
}
