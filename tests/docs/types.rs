//! Compares the types of JSON lines in `docs/scripting.md` with those in the program.

use std::collections::BTreeSet;

const MESSAGES: &str = include_str!("../../src/app/message.rs");
const OUTPUT: &str = include_str!("../../src/cli/output.rs");
const FAILURE: &str = include_str!("../../src/app/failure.rs");
const PAGE: &str = include_str!("../../docs/scripting.md");

/// Returns the names that serde gives to the variants of an enumeration.
fn variants(source: &str, enumeration: &str) -> BTreeSet<String> {
    let begin = source.find(enumeration).unwrap();
    let body = source[begin..].split_once(" {\n").unwrap().1;
    let body = body.split_once("\n}").unwrap().0;
    let (mut found, mut renamed) = (BTreeSet::new(), None);
    for line in body.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[serde(rename = \"") {
            renamed = rest.split('"').next().map(str::to_owned);
        } else if line.starts_with(|first: char| first.is_ascii_uppercase()) {
            let name = line.split(|c: char| !c.is_ascii_alphanumeric()).next();
            found.insert(renamed.take().unwrap_or_else(|| snake_case(name.unwrap())));
        }
    }
    found
}

fn snake_case(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[test]
fn the_page_on_scripting_lists_exactly_the_types_of_json_lines() {
    let mut written = variants(MESSAGES, "enum Message {");
    written.extend(variants(MESSAGES, "enum ListEntry<'a> {"));
    for (source, before) in [(OUTPUT, "message_type: \""), (FAILURE, "json_line(\"")] {
        let on_stderr = source.split(before).skip(1);
        written.extend(on_stderr.map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
    assert!(written.contains("exit_error") && written.contains("notice"));
    assert!(written.len() > 20, "{written:?}");
    let (_, table) = PAGE.split_once("| `message_type` | fields |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let rows = table.lines().filter_map(|row| row.strip_prefix("| `"));
    let listed = rows.map(|row| row.split('`').next().unwrap().to_owned());
    assert_eq!(listed.collect::<BTreeSet<_>>(), written);
}
