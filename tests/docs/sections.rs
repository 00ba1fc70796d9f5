//! Checks that comments name the sections of `docs/format.md` by their current numbers and titles.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Returns the titles of the sections of `docs/format.md` by their numbers.
fn titles() -> BTreeMap<u32, String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md");
    let page = fs::read_to_string(page).unwrap();
    let numbered = page.lines().filter_map(|line| {
        let (number, title) = line.strip_prefix("## ")?.split_once(". ")?;
        Some((number.parse().ok()?, title.to_owned()))
    });
    numbered.collect()
}

/// Returns the comments of a file. Consecutive lines are one text, with the number of the first
/// line.
fn comments(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in (1..).zip(text.lines()) {
        let comment = line.trim_start().strip_prefix("//");
        match (comment, found.last_mut()) {
            (Some(comment), last) => {
                let words = comment.trim_start_matches(['!', '/']).trim();
                match last {
                    Some((_, text)) if goes_on => {
                        text.push(' ');
                        text.push_str(words);
                    }
                    _ => found.push((number, words.to_owned())),
                }
                goes_on = true;
            }
            (None, _) => goes_on = false,
        }
    }
    found
}

/// Finds the first wrong reference in a text, and describes the error. Returns `None` if there is
/// none. References look like "section 9 (Index segment)". Ignores references to other documents.
fn wrong_reference(text: &str, titles: &BTreeMap<u32, String>) -> Option<String> {
    let mut rest = text;
    while let Some(at) = rest.to_lowercase().find("section ") {
        let before = rest[..at].trim_end();
        let of_rfc =
            before.ends_with(',') && before[..before.len() - 1].ends_with(char::is_numeric);
        let after = &rest[at + "section ".len()..];
        rest = after;
        let digits = after.chars().take_while(char::is_ascii_digit).count();
        let Ok(number) = after[..digits].parse::<u32>() else {
            continue;
        };
        let after = &after[digits..];
        if after.starts_with(" of the draft") || of_rfc && before.contains("RFC ") {
            continue;
        }
        let Some(title) = titles.get(&number) else {
            return Some(format!("there is no section {number}"));
        };
        if !after.starts_with(&format!(" ({title})")) {
            return Some(format!(
                "write “section {number} ({title})”, or the right number"
            ));
        }
    }
    // References to several sections at once have no titles.
    let mut lists = text.split("sections ").skip(1);
    lists.find_map(|list| {
        let is_list = |word: &&str| {
            let word = word.trim_end_matches([',', '.', ':']);
            matches!(word, "and" | "to") || word.parse::<u32>().is_ok()
        };
        let words = list.split(' ').take_while(is_list);
        let mut numbers = words.filter_map(|word| {
            let word = word.trim_end_matches([',', '.', ':']);
            word.parse::<u32>().ok()
        });
        let unknown = numbers.find(|number| !titles.contains_key(number))?;
        Some(format!("there is no section {unknown}"))
    })
}

/// Calls `each` with every Rust file below a directory.
fn each_file(directory: &Path, each: &mut dyn FnMut(&Path, &str)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_file(&path, each);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_comment_names_a_section_of_the_format_by_its_number_and_title() {
    let titles = titles();
    assert!(titles.len() > 20, "{titles:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for directory in ["src", "fuzz/src"] {
        each_file(&root.join(directory), &mut |path, text| {
            for (line, comment) in comments(text) {
                count += usize::from(comment.to_lowercase().contains("section "));
                let problem = wrong_reference(&comment, &titles);
                wrong.extend(problem.map(|why| format!("{}:{line}: {why}", path.display())));
            }
        });
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(count > 30, "only {count} references were found");
}

#[test]
fn a_reference_with_another_number_or_title_is_wrong() {
    let titles = BTreeMap::from([(2, "Cryptography".to_owned()), (12, "Log".to_owned())]);
    let wrong = |text: &str| wrong_reference(text, &titles).is_some();
    for text in [
        "The log: section 12 (Log) of the page.",
        "Section 2 (Cryptography): keys.",
        "A frame (RFC 8878, section 3.1.1) has blocks.",
        "Requests (section 3 of the draft).",
        "Statements: sections 2 and 12 of the page.",
        "This section has no number.",
    ] {
        assert!(!wrong(text), "{text}");
    }
    for text in [
        "The log: section 13 (Log) of the page.",
        "The log: section 12 of the page.",
        "The log: section 2 (Log) of the page.",
        "First section 12 (Log), then section 2.",
        "Statements: sections 2 to 13 of the page.",
    ] {
        assert!(wrong(text), "{text}");
    }
    let text = "//! The log: section\n//! 12 (Log).\n\nfn a() {} // section 3\n    // section 12\n";
    let found = comments(text);
    assert_eq!(found[0], (1, "The log: section 12 (Log).".to_owned()));
    assert_eq!(found.len(), 2);
}
