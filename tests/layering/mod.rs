//! Checks that modules import only from lower layers, only through the `mod.rs` of another folder,
//! and never in a circle. Also checks that files and lines stay short, and that clap, child
//! processes and skipped tests are used only in certain places.
//!
//! The checks read the sources as text. The compiler sees only one crate, so it would accept
//! sources that break these rules.

mod graph;
mod imports;
mod made_up;
mod rules;
mod tokens;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use graph::Sources;

/// Folders whose files may import each other in circles. There are none, and none may be added.
const KNOWN_CIRCLES: &[&str] = &[];

/// Files that may be too long, or may use `#[path]` or `include!`. There are none, and none may be
/// added.
const KNOWN_FILES: &[&str] = &[];

/// Folders with sources, from the root of the package.
const FOLDERS: &[&str] = &["src", "tests", "benches", "fuzz", "examples"];

/// The only file that may print that a test is skipped.
const SKIP: &str = "tests/support/skip.rs";

#[test]
fn modules_import_only_from_lower_layers_and_through_mod_files() {
    none(&rules::wrong_imports(&library()));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles = rules::all_circles(&library());
    only_known(&circles, KNOWN_CIRCLES);
}

#[test]
fn only_the_command_line_names_clap() {
    none(&rules::clap_below_command_line(&library()));
}

#[test]
fn only_one_function_makes_child_processes() {
    none(&rules::own_commands(&library()));
}

#[test]
fn no_file_is_longer_than_600_lines_or_uses_the_path_attribute_or_include() {
    let files = all_files();
    let mut found = rules::too_long(&files);
    found.extend(rules::misplaced_files(&files));
    let path = |line: &String| line.split(':').next().unwrap_or_default().to_owned();
    let found: Vec<_> = found.into_iter().map(|line| (path(&line), line)).collect();
    only_known(&found, KNOWN_FILES);
}

#[test]
fn tests_are_skipped_only_by_the_functions_in_the_skip_module() {
    let mut files = all_files();
    assert!(files.remove(SKIP).is_some());
    files.retain(|path, _| !path.starts_with("tests/layering/"));
    none(&rules::own_skips(&files));
}

#[test]
fn no_line_has_more_than_100_columns() {
    let mut files = all_files();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for directory in ["docs", "fuzz", "tests"] {
        walk(root, &root.join(directory), &["md"], &mut files);
    }
    for page in [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ] {
        files.insert(
            page.to_owned(),
            fs::read_to_string(root.join(page)).unwrap(),
        );
    }
    assert!(files.contains_key("docs/format.md"));
    none(&rules::wide_lines(&files));
}

#[track_caller]
fn none(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Asserts that all found items are in the list `known`, and that all items in this list are still
/// found. Each pair has the name of an item and a description.
#[track_caller]
fn only_known(found: &[(String, String)], known: &[&str]) {
    let new: Vec<String> = found
        .iter()
        .filter(|(name, _)| !known.contains(&name.as_str()))
        .map(|(_, text)| text.clone())
        .collect();
    none(&new);
    let names: BTreeSet<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let gone: Vec<_> = known
        .iter()
        .filter(|name| !names.contains(**name))
        .collect();
    assert!(gone.is_empty(), "solved, delete from the list: {gone:?}");
}

/// Returns the sources of the library by their path below `src/`.
fn library() -> Sources {
    let files = all_files().into_iter();
    let below =
        files.filter_map(|(path, text)| Some((path.strip_prefix("src/")?.to_owned(), text)));
    let library: Sources = below.collect();
    assert!(library.contains_key("lib.rs"));
    library
}

/// Returns all sources in Rust, Python and shell by their path in the package.
fn all_files() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Sources::new();
    for folder in FOLDERS {
        walk(root, &root.join(folder), &["rs", "py", "sh"], &mut found);
    }
    assert!(found.contains_key("tests/main.rs") && found.contains_key("fuzz/src/lib.rs"));
    found
}

/// Adds the files below a directory whose names have one of these extensions.
fn walk(root: &Path, directory: &Path, extensions: &[&str], found: &mut Sources) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        let extension = path.extension().and_then(OsStr::to_str);
        let is_source = extension.is_some_and(|extension| extensions.contains(&extension));
        if path.is_dir() && name != "fuzz/target" {
            walk(root, &path, extensions, found);
        } else if is_source {
            found.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
        }
    }
}
