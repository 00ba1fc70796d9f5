//! Splits Rust sources into words and symbols, without comments and quoted text.

/// The number of a line, and a word or a symbol in this line.
pub(super) type Token<'a> = (usize, &'a str);

const TEST_ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

/// Returns the tokens of a source. Leaves out the items for tests (`#[cfg(test)]`), since these may
/// import from anywhere.
pub(super) fn tokens_without_tests(text: &str) -> Vec<Token<'_>> {
    let all = tokens(text);
    let mut kept = Vec::new();
    let mut i = 0;
    while i < all.len() {
        if is_test_attribute(&all[i..]) {
            i = end_of_item(&all, i);
        } else {
            kept.push(all[i]);
            i += 1;
        }
    }
    kept
}

/// Returns how many lines of a source belong to items for tests. The lines with `#[cfg(test)]`
/// count, too.
pub(super) fn lines_of_tests(text: &str) -> usize {
    let all = tokens(text);
    let mut lines = 0;
    let mut i = 0;
    while i < all.len() {
        if is_test_attribute(&all[i..]) {
            let end = end_of_item(&all, i);
            lines += all[end - 1].0 - all[i].0 + 1;
            i = end;
        } else {
            i += 1;
        }
    }
    lines
}

/// Returns the modules that a source declares by `#[cfg(test)] mod name;`.
pub(super) fn test_modules(text: &str) -> Vec<&str> {
    let words: Vec<&str> = tokens(text).into_iter().map(|(_, word)| word).collect();
    let declares = |w: &&[&str]| w[..7] == TEST_ATTRIBUTE && w[7] == "mod" && w[9] == ";";
    words.windows(10).filter(declares).map(|w| w[8]).collect()
}

fn is_test_attribute(tokens: &[Token<'_>]) -> bool {
    let words = tokens.iter().map(|token| token.1);
    words.take(TEST_ATTRIBUTE.len()).eq(TEST_ATTRIBUTE)
}

/// Returns the index after the last token of the item whose attribute begins at `start`.
fn end_of_item(tokens: &[Token<'_>], start: usize) -> usize {
    let mut depth = 0;
    let mut i = start + TEST_ATTRIBUTE.len();
    while i < tokens.len() {
        match tokens[i].1 {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        i += 1;
        if depth == 0 && matches!(tokens[i - 1].1, "}" | ";") {
            break;
        }
    }
    i
}

/// Returns the words and symbols of a source, without comments and quoted text.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut found, mut rest, mut line) = (Vec::new(), text, 1);
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let (length, keep) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if rest.starts_with("/*") {
            (block_comment(rest), false)
        } else if let Some(length) = quoted(rest) {
            (length, false)
        } else if rest.starts_with("::") {
            (2, true)
        } else if is_word(first) {
            (rest.find(|c| !is_word(c)).unwrap_or(rest.len()), true)
        } else {
            (first.len_utf8(), !first.is_whitespace())
        };
        let (token, after) = rest.split_at(length);
        if keep {
            found.push((line, token));
        }
        line += token.matches('\n').count();
        rest = after;
    }
    found
}

/// Returns the length in bytes of the block comment at the beginning of a text. Block comments may
/// contain others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < text.len() {
        let step = match text.as_bytes().get(i..i + 2) {
            Some(b"/*") => (1, 2),
            Some(b"*/") => (-1, 2),
            _ => (0, 1),
        };
        depth += step.0;
        i += step.1;
        if depth == 0 {
            break;
        }
    }
    i
}

/// Returns the length in bytes of the string or character literal at the beginning of a text.
/// Returns `None` if the text begins with something else, for example with a lifetime.
fn quoted(text: &str) -> Option<usize> {
    let body = text.trim_start_matches(['b', 'c', 'r']);
    let prefix = text.len() - body.len();
    if prefix > 2 {
        return None;
    }
    if text[..prefix].contains('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        body[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let start = prefix + hashes + 1;
        let found = text[start..].find(&end);
        return Some(found.map_or(text.len(), |n| start + n + end.len()));
    }
    let mark = body.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut chars = body.char_indices().skip(1).peekable();
    if mark == '\'' {
        let mut ahead = body.chars().skip(1);
        if ahead.next() != Some('\\') && ahead.next() != Some('\'') {
            return None;
        }
    }
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            _ if c == mark => return Some(prefix + i + 1),
            _ => {}
        }
    }
    Some(text.len())
}
