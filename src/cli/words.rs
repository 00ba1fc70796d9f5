//! A command in one string, taken apart as a shell does it, but without expanding anything.

/// The words. None if a quotation has no end.
pub(super) fn split(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        for (command, words) in [
            ("", &[][..]),
            ("  ssh  -p 22 ", &["ssh", "-p", "22"]),
            ("'a b' \"c d\"e f\\ g", &["a b", "c de", "f g"]),
            ("'' \"\"", &["", ""]),
            (r#""\"\\\$\a" '\'"#, &[r#""\$\a"#, "\\"]),
        ] {
            assert_eq!(split(command).unwrap(), words, "{command}");
        }
        for open in ["'a", "\"a", "a\\", "\"a\\\""] {
            assert_eq!(split(open), None, "{open}");
        }
    }
}
