//! Finds the commands in a page.

use std::iter::Peekable;
use std::str::Chars;

/// A fenced block: the words after the fence, the line of the fence, and the text.
#[derive(Debug, PartialEq)]
pub(super) struct Block<'a> {
    pub(super) info: Vec<&'a str>,
    pub(super) line: usize,
    pub(super) text: String,
}

/// Returns the fenced blocks of a page.
pub(super) fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for (index, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(info), None) => {
                open = Some(Block {
                    info: info.split_whitespace().collect(),
                    line: index + 1,
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => {
                block.text += line;
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block does not end");
    found
}

/// Returns the text between backquotes outside of the blocks, with its line.
pub(super) fn inline_code(page: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (index, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            let code = line.split('`').skip(1).step_by(2);
            found.extend(code.map(|code| (index + 1, code)));
        }
    }
    found
}

/// Returns the commands in a shell script, each as a list of words. Variables become `x`. Commands
/// in a substitution are commands of their own.
///
/// Supports only the syntax that examples use: quotes, comments, continued lines, pipes,
/// lists, groups, `$(…)`, redirections, assignments and the words of `if` and loops.
pub(super) fn commands(script: &str) -> Vec<Vec<String>> {
    let mut lexer = Lexer {
        chars: script.chars().peekable(),
        commands: vec![Vec::new()],
        word: None,
        redirected: false,
    };
    while lexer.step() {}
    lexer.end_command();
    let mut commands = lexer.commands;
    for words in &mut commands {
        let leads = |word: &String| {
            let name = word.split('=').next().unwrap_or_default();
            let assigns =
                word.contains('=') && name.chars().all(|c| c == '_' || c.is_alphanumeric());
            assigns || ["if", "then", "else", "elif", "while", "do", "!"].contains(&word.as_str())
        };
        let lead = words.iter().take_while(|word| leads(word)).count();
        words.drain(..lead);
    }
    commands.retain(|words| !words.is_empty());
    commands
}

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    commands: Vec<Vec<String>>,
    /// The word that is being read.
    word: Option<String>,
    /// Whether the next word is the file of a redirection.
    redirected: bool,
}

impl Lexer<'_> {
    /// Reads one element: a character, a quoted part, or a variable. Returns `false` at the end.
    fn step(&mut self) -> bool {
        let Some(c) = self.chars.next() else {
            return false;
        };
        match c {
            '#' if self.word.is_none() => while self.chars.next_if(|c| *c != '\n').is_some() {},
            '\\' => match self.chars.next() {
                Some('\n') | None => self.end_word(),
                Some(c) => self.push(c),
            },
            '\'' => {
                self.word.get_or_insert_default();
                while let Some(c) = self.chars.next_if(|c| *c != '\'') {
                    self.push(c);
                }
                self.chars.next();
            }
            '"' => {
                self.word.get_or_insert_default();
                while let Some(c) = self.chars.next_if(|c| *c != '"') {
                    if c == '$' {
                        self.variable();
                    } else {
                        self.push(c);
                    }
                }
                self.chars.next();
            }
            '$' if self.chars.peek() == Some(&'(') => {}
            '$' => self.variable(),
            '<' | '>' => {
                // A number before `<` or `>` is part of the redirection.
                if self.word.as_ref().is_some_and(|w| w.parse::<u8>().is_ok()) {
                    self.word = None;
                }
                self.end_word();
                while self.chars.next_if(|c| "<>&".contains(*c)).is_some() {}
                self.redirected = true;
            }
            '\n' | ';' | '|' | '&' | '(' | ')' => self.end_command(),
            c if c.is_whitespace() => self.end_word(),
            c => self.push(c),
        }
        true
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    /// Reads the rest of `$NAME` or `${…}`.
    fn variable(&mut self) {
        self.push('x');
        if self.chars.next_if_eq(&'{').is_some() {
            while self.chars.next_if(|c| *c != '}').is_some() {}
            self.chars.next();
        } else {
            while self
                .chars
                .next_if(|c| *c == '_' || c.is_alphanumeric())
                .is_some()
            {}
        }
    }

    fn end_word(&mut self) {
        if let Some(word) = self.word.take()
            && !std::mem::take(&mut self.redirected)
            && let Some(command) = self.commands.last_mut()
        {
            command.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.redirected = false;
        self.commands.push(Vec::new());
    }
}

#[test]
fn commands_are_found_in_a_script() {
    let script = "#!/bin/sh\nset -eu # strict\n\
        old=$(cuttlebone --json list |\n    jq -r 'a | b') new=1\n\
        if rbd diff ${old:+--from-snap \"$old\"} \"$image@$new\" - 2>/dev/null |\n    \
        cuttlebone backup \\\n\
        --diff - >log; then cuttlebone check && A=b cuttlebone 'a b'; fi\n";
    let found: Vec<String> = commands(script)
        .into_iter()
        .map(|words| words.join(" "))
        .collect();
    let expected = [
        "set -eu",
        "cuttlebone --json list",
        "jq -r a | b",
        "rbd diff x x@x -",
        "cuttlebone backup --diff -",
        "cuttlebone check",
        "cuttlebone a b",
        "fi",
    ];
    assert_eq!(found, expected);
}

#[test]
fn blocks_and_inline_code_are_found_in_a_page() {
    let page = "Run `a b`:\n```sh run ceph\na `c`\n```\n`d` or `e`.\n```text\nf\n```\n";
    let found = blocks(page);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].info, ["sh", "run", "ceph"]);
    assert_eq!((found[0].line, &found[0].text[..]), (2, "a `c`\n"));
    assert_eq!(inline_code(page), [(1, "a b"), (5, "d"), (5, "e")]);
}
