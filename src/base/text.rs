//! Characters that deceive the reader of a text.

/// Returns whether a character controls a terminal, changes the direction of a text, or is
/// invisible.
pub(crate) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_control_a_terminal_or_cannot_be_seen_are_deceptive() {
        for c in "\x1b\n\u{7f}\u{9b}\u{200b}\u{200d}\u{202e}\u{2066}\u{feff}\u{e0041}".chars() {
            assert!(is_deceptive(c), "{c:?}");
        }
        for c in "a /…“é日\u{308}\u{1f600}".chars() {
            assert!(!is_deceptive(c), "{c:?}");
        }
    }
}
