//! Formats values for people. [`ByteSize`](crate::base::ByteSize) formats sizes.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::base::is_deceptive;

/// The number of digits of an id that texts show.
const SHORT_ID: usize = 8;

/// Returns a time in a time zone, to the second.
pub(crate) fn time(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// Returns a duration in at most two units. From one hour on, leaves out the second unit if it is
/// zero.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..172_800 => match (seconds / 3600, seconds / 60 % 60) {
            (hours, 0) => format!("{hours} h"),
            (hours, minutes) => format!("{hours} h {minutes:02} min"),
        },
        _ => match (seconds / 86400, seconds / 3600 % 24) {
            (days, 0) => format!("{days} d"),
            (days, hours) => format!("{days} d {hours} h"),
        },
    }
}

/// Returns the first digits of an id.
pub(crate) fn short_id(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

/// Quotes a name for a shell if needed.
pub(crate) fn shell_word(name: &str) -> String {
    let needs_no_quotes = |c: char| c.is_alphanumeric() || "_-.,:+@%/".contains(c);
    if !name.is_empty() && name.chars().all(needs_no_quotes) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    }
}

/// Returns a number and a noun, such as "1 pack" or "2 packs".
pub(crate) fn count(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// Returns the number of columns that a text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Returns a text in one line. Escapes each character that could control a terminal or deceive the
/// reader, because names, labels and messages come from the writers of backups and from servers.
pub(crate) fn printable(text: &str) -> String {
    escaped(text, is_deceptive)
}

/// Escapes the same characters as [`printable`], except line breaks.
pub(crate) fn printable_lines(text: &str) -> String {
    escaped(text, |c| c != '\n' && is_deceptive(c))
}

/// Escapes each character for which `is_escaped` returns true, for example as `\x1b` or `\u{202e}`.
fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        // Writing into a string does not fail.
        let _ = match u32::from(c) {
            _ if !is_escaped(c) => safe.write_char(c),
            code @ ..=0xff => write!(safe, "\\x{code:02x}"),
            code => write!(safe, "\\u{{{code:x}}}"),
        };
    }
    safe
}

/// Shortens a text that is wider than this many columns, and puts an ellipsis in its middle, since
/// both ends of a name help to recognize the name.
pub(crate) fn shortened(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let available = columns.saturating_sub(1);
    let head = take(text.chars(), available.div_ceil(2));
    let tail: String = take(text.chars().rev(), available / 2)
        .chars()
        .rev()
        .collect();
    head + "…" + &tail
}

/// Shortens a text that is wider than this many columns, and puts an ellipsis at its end. Cuts
/// after the last word that fits; if not even the first one fits, cuts within it.
pub(crate) fn cut_short(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let head = take(text.chars(), columns.saturating_sub(1));
    let ends_word = text[head.len()..].starts_with(' ');
    let word = head.rfind(' ').filter(|_| !ends_word);
    let kept = word.map_or(&head[..], |end| &head[..end]);
    kept.trim_end_matches([' ', ',']).to_owned() + "…"
}

/// Breaks lines at spaces so that they fit into this many columns. The rest of a line is indented
/// by two columns more than its beginning. A word that is longer than a line is not broken.
pub(crate) fn wrapped(text: &str, columns: usize) -> String {
    let mut result = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let words = line.trim_start_matches(' ');
        let indent = line.len() - words.len();
        let rest = " ".repeat(indent + 2);
        result.push_str(&line[..indent]);
        let (mut used, mut is_first) = (indent, true);
        for word in words.split_inclusive(' ') {
            let shown = width(word.trim_end_matches([' ', '\n']));
            if !is_first && used + shown > columns && rest.len() + shown <= columns {
                result.truncate(result.trim_end_matches(' ').len());
                result.push('\n');
                result.push_str(&rest);
                used = rest.len();
            }
            result.push_str(word);
            used += width(word.trim_end_matches('\n'));
            is_first = false;
        }
    }
    result
}

fn take(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (millis, text) in [
            (0, "0.0 s"),
            (4_249, "4.2 s"),
            (59_999, "59 s"),
            (185_000, "3 min 05 s"),
            (7_380_000, "2 h 03 min"),
            (7_200_000, "2 h"),
            (86_400_000, "24 h"),
            (90_000_000, "25 h"),
            (604_800_000, "7 d"),
            (608_400_000, "7 d 1 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn times_are_shown_in_the_given_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(time(Timestamp::UNIX_EPOCH, &zone), "1970-01-01 02:00:00");
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shortened("abcdefghij", 10), "abcdefghij");
        assert_eq!(shortened("abcdefghij", 6), "abc…ij");
        assert_eq!(shortened("日本語の名前", 6), "日…前");
        for columns in 0..12 {
            assert!(width(&shortened("日本abc語の名前", columns)) <= columns.max(1));
        }
    }

    #[test]
    fn labels_are_cut_at_the_end_of_a_word() {
        for (columns, expected) in [(12, "a=1, b=word2"), (11, "a=1…"), (20, "a=1, b=word2")] {
            assert_eq!(cut_short("a=1, b=word2", columns), expected);
        }
        let text = "env=prod, tier=database";
        for (columns, expected) in [
            (22, "env=prod…"),
            (17, "env=prod…"),
            (10, "env=prod…"),
            (9, "env=prod…"),
            (8, "env=pro…"),
            (1, "…"),
        ] {
            assert_eq!(cut_short(text, columns), expected, "{columns}");
        }
        assert_eq!(cut_short("日本語 名前", 8), "日本語…");
    }

    #[test]
    fn long_lines_are_broken_at_spaces_and_words_stay_whole() {
        let text = "error: one two three\n  next: four five six\nshort\n";
        assert_eq!(
            wrapped(text, 14),
            "error: one two\n  three\n  next: four\n    five six\nshort\n"
        );
        assert_eq!(wrapped(text, 80), text);
        assert_eq!(wrapped("", 80), "");
        assert_eq!(
            wrapped("/a/very/long/path is missing", 10),
            "/a/very/long/path\n  is\n  missing"
        );
        for columns in 0..40 {
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(words(&wrapped(text, columns)), words(text));
        }
    }

    #[test]
    fn characters_that_control_a_terminal_or_cannot_be_seen_are_escaped() {
        for (text, shown) in [
            ("a\x1b[2Jb\n", "a\\x1b[2Jb\\x0a"),
            ("\r\u{7f}\u{9b}", "\\x0d\\x7f\\x9b"),
            ("web\u{202e}1gmi", "web\\u{202e}1gmi"),
            ("\u{2066}a\u{2069}", "\\u{2066}a\\u{2069}"),
            ("we\u{200b}b\u{feff}", "we\\u{200b}b\\u{feff}"),
            ("a\u{e0041}", "a\\u{e0041}"),
            ("u\u{308}, 日本 “é”", "u\u{308}, 日本 “é”"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(
            printable_lines("a\x07\nb\u{2028}\n"),
            "a\\x07\nb\\u{2028}\n"
        );
    }

    #[test]
    fn ids_are_shortened_and_nouns_get_a_plural() {
        assert_eq!(short_id("0123456789"), "01234567");
        assert_eq!(short_id("012"), "012");
        assert_eq!(
            (count(1, "pack"), count(0, "pack")),
            ("1 pack".into(), "0 packs".into())
        );
    }
}
