//! Compares the types of JSON lines and their fields in `docs/scripting.md` with those in the
//! program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const MESSAGES: &str = include_str!("../../src/app/message.rs");
const OUTPUT: &str = include_str!("../../src/cli/output.rs");
const FAILURE: &str = include_str!("../../src/app/failure.rs");
const PAGE: &str = include_str!("../../docs/scripting.md");

/// A field of a structure: its name, its type, and whether the fields of this type are in its
/// place.
struct Field {
    name: String,
    of_type: String,
    is_flat: bool,
}

/// The structures that serde writes, by their names.
type Structures = BTreeMap<String, Vec<Field>>;

/// A variant of an enumeration: the name that serde gives to it, its own name, and its type.
struct Variant {
    message_type: String,
    name: String,
    of_type: String,
}

impl Variant {
    /// Returns the first cell of its row in the table, without what follows a comma.
    fn label(&self) -> String {
        if self.message_type != "summary" {
            return self.message_type.clone();
        }
        let command = match &self.name[..] {
            "Merge" => "diff merge".to_owned(),
            "Export" => "diff export".to_owned(),
            "VolumeStatus" => "status".to_owned(),
            name => snake_case(name),
        };
        format!("summary of {command}")
    }
}

/// Returns the variants of an enumeration.
fn variants(source: &str, enumeration: &str) -> Vec<Variant> {
    let begin = source.find(enumeration).unwrap();
    let body = source[begin..].split_once(" {\n").unwrap().1;
    let body = body.split_once("\n}").unwrap().0;
    let (mut found, mut renamed) = (Vec::new(), None);
    for line in body.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[serde(rename = \"") {
            renamed = rest.split('"').next().map(str::to_owned);
        } else if line.starts_with(|first: char| first.is_ascii_uppercase()) {
            let (name, of_type) = line.split_once('(').unwrap();
            found.push(Variant {
                message_type: renamed.take().unwrap_or_else(|| snake_case(name)),
                name: name.to_owned(),
                of_type: of_type.to_owned(),
            });
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

/// Returns all variants of messages and of entries of lists.
fn messages() -> Vec<Variant> {
    let mut found = variants(MESSAGES, "enum Message {");
    found.extend(variants(MESSAGES, "enum ListEntry<'a> {"));
    found
}

/// Adds the structures in a source that serde writes.
fn add_structures(source: &str, found: &mut Structures) {
    for rest in source.split("#[derive(").skip(1) {
        let (derived, rest) = rest.split_once(")]\n").unwrap();
        // A structure without names of fields has no body.
        let Some((head, body)) = rest.split_once(" {\n") else {
            continue;
        };
        let head = head.lines().last().unwrap();
        let Some((_, name)) = head.split_once("struct ") else {
            continue;
        };
        if !derived.contains("Serialize") {
            continue;
        }
        let body = body.split_once("\n}").unwrap().0;
        let (mut fields, mut attributes) = (Vec::new(), String::new());
        for line in body.lines().map(str::trim) {
            if line.starts_with("#[serde(") {
                attributes.push_str(line);
            } else if !line.starts_with("//") {
                let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
                let (name, of_type) = line.split_once(": ").unwrap();
                assert!(!attributes.contains("rename"), "{name} has another name");
                if !attributes.contains("serde(skip)") {
                    fields.push(Field {
                        name: name.to_owned(),
                        of_type: of_type.to_owned(),
                        is_flat: attributes.contains("serde(flatten)"),
                    });
                }
                attributes.clear();
            }
        }
        let name = name.split('<').next().unwrap().to_owned();
        let before = found.insert(name.clone(), fields);
        assert!(before.is_none(), "two structures have the name {name}");
    }
}

/// Returns all structures of the program that can be in JSON lines.
fn structures() -> Structures {
    let mut found = Structures::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/app");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            add_structures(&fs::read_to_string(path).unwrap(), &mut found);
        }
    }
    add_structures(OUTPUT, &mut found);
    found
}

/// Adds the names of all fields of a type to `names`, also of the structures in it.
fn add_fields(of_type: &str, structures: &Structures, names: &mut BTreeSet<String>) {
    let words = of_type.split(|c: char| !c.is_ascii_alphanumeric());
    for field in words.filter_map(|word| structures.get(word)).flatten() {
        if !field.is_flat && field.name != "message_type" {
            names.insert(field.name.clone());
        }
        add_fields(&field.of_type, structures, names);
    }
}

/// Returns the text in the second column of the table, for each text in the first column without
/// what follows a comma and `from`.
fn rows(page: &str) -> BTreeMap<String, String> {
    let (_, table) = page.split_once("| `message_type` | fields |\n").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let (mut rows, mut label) = (BTreeMap::<String, String>::new(), String::new());
    for row in table.lines().skip(1) {
        let (first, second) = row[2..].split_once("| ").unwrap();
        if !first.is_empty() {
            let first = first.trim().replace('`', "");
            let whole = first.split(", from ").next();
            whole.unwrap().clone_into(&mut label);
        }
        let text = rows.entry(label.clone()).or_default();
        text.push_str(second);
    }
    rows
}

/// Returns the words in backticks.
fn code_words(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the fields of these types that are not in their rows of the table. A row can refer to
/// the fields of another one.
fn missing(types: &[(String, String)], structures: &Structures, page: &str) -> Vec<String> {
    let rows = rows(page);
    let mut missing = Vec::new();
    for (label, of_type) in types {
        let text = &rows[label];
        let mut words: BTreeSet<_> = code_words(text).collect();
        for other in text.split("the fields of `").skip(1) {
            words.extend(code_words(&rows[other.split('`').next().unwrap()]));
        }
        let mut fields = BTreeSet::new();
        add_fields(of_type, structures, &mut fields);
        assert!(!fields.is_empty(), "{label}: {of_type} has no fields");
        let fields = fields.iter().filter(|field| !words.contains(&field[..]));
        missing.extend(fields.map(|field| format!("{label}: {field}")));
    }
    missing
}

/// Returns the first column of the table, and the type of the line.
fn types() -> Vec<(String, String)> {
    let mut types: Vec<_> = messages()
        .into_iter()
        .map(|variant| (variant.label(), variant.of_type))
        .collect();
    for (label, of_type) in [
        ("notice", "Notice"),
        ("error", "ExitError"),
        ("exit_error", "ExitError"),
    ] {
        types.push((format!("{label}, on standard error"), of_type.to_owned()));
    }
    types
}

#[test]
fn the_page_on_scripting_lists_exactly_the_types_of_json_lines() {
    let mut written: BTreeSet<_> = messages().into_iter().map(|v| v.message_type).collect();
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

#[test]
fn the_page_on_scripting_lists_all_fields_of_json_lines() {
    let (types, structures) = (types(), structures());
    let missing = missing(&types, &structures, PAGE);
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

#[test]
fn a_field_that_the_page_does_not_list_is_reported() {
    let (types, structures) = (types(), structures());
    for (word, reported) in [
        ("`packs_rescued`", &["prune: packs_rescued"][..]),
        ("`grace_seconds`", &["prune: grace_seconds"]),
        (
            "`extents` (`offset`, ",
            &[
                "summary of backup: offset",
                "error: extents",
                "error: offset",
            ],
        ),
        (
            "`hint`",
            &[
                "error, on standard error: hint",
                "exit_error, on standard error: hint",
            ],
        ),
    ] {
        let mut page = PAGE.to_owned();
        assert!(page.contains(word), "{word}");
        page = page.replace(word, "");
        let mut found = missing(&types, &structures, &page);
        found.sort();
        let mut expected = reported.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}
