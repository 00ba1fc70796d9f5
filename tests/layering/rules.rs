//! The rules for the sources. Each check returns a line for each place that breaks its rule.

use std::fmt::Write;
use std::path::Path;

use super::graph::test_files;
use super::graph::{Sources, circles, file_of, folder_graphs, folder_of, graph, module_of};
use super::imports::{children, paths};
use super::tokens::{lines_of_tests, tokens, tokens_without_tests};

/// Each folder of `src/`, and the folders it may import from, from the lowest layer to the highest.
/// `fuse`, `nbd` and `web` are future front ends, which do not exist yet.
///
/// A front end calls `ops`, and `app` for code that front ends share. It may also name types of
/// `base` and types for opening a repository: `storage` (stores), `volume` (sources and targets),
/// `repo` (the opened repository) and `format` (public values in reports).
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("crypto", &["base"]),
    ("format", &["base"]),
    ("storage", &["base"]),
    ("volume", &["base", "format"]),
    ("chunk", &["base"]),
    (
        "repo",
        &["base", "crypto", "format", "storage", "volume", "chunk"],
    ),
    (
        "ops",
        &[
            "base", "crypto", "format", "storage", "volume", "chunk", "repo",
        ],
    ),
    (
        "app",
        &["base", "format", "storage", "volume", "repo", "ops"],
    ),
    ("cli", &["base", "format", "volume", "repo", "ops", "app"]),
    ("fuse", &["base", "storage", "volume", "repo", "ops", "app"]),
    (
        "nbd",
        &["base", "format", "storage", "volume", "repo", "ops", "app"],
    ),
    ("web", &["base", "storage", "volume", "repo", "ops", "app"]),
];

/// The front end of the program, and the only folder that may name clap.
const COMMAND_LINE: &str = "cli";

/// Modules of a folder that may be public although they are not its `mod.rs`, since only tests name
/// them.
const FOR_TESTS: &[(&str, &str)] = &[("storage", "fault")];

/// The maximum number of lines of a file. A longer file usually does more than one thing.
const LINES_MAX: usize = 600;
/// The maximum width of a line of source or of a page, in characters.
const COLUMNS_MAX: usize = 100;

/// Returns the imports from a higher layer, from another folder of the same layer, or past the
/// `mod.rs` of a folder. Also returns files in no layer, and modules that are public.
pub(super) fn wrong_imports(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    let tests = test_files(sources);
    for (path, text) in sources.iter().filter(|(path, _)| !tests.contains(*path)) {
        let module = module_of(path);
        let tokens = tokens_without_tests(text);
        if path == "main.rs" {
            // The program is another crate, and may name only `cuttlebone::cli`.
            for (line, target) in paths(&tokens, &[]) {
                if target[0] == "cuttlebone" && target.get(1) != Some(&COMMAND_LINE) {
                    let rule = format!("the program may call only cuttlebone::{COMMAND_LINE}");
                    found.push(format!("src/{path}:{line}: {rule}"));
                }
            }
            continue;
        }
        if path != "lib.rs" && LAYERS.iter().all(|(folder, _)| *folder != module[0]) {
            found.push(format!("src/{path}: {} is not a layer", module[0]));
            continue;
        }
        if path != "lib.rs" {
            for (line, child, public) in children(&tokens) {
                if public && !FOR_TESTS.contains(&(module[0], child)) {
                    let folder = module.join("/");
                    found.push(format!(
                        "src/{path}:{line}: mod {child} is public, but only {folder} may export \
                         its items"
                    ));
                }
            }
        }
        for (line, target) in paths(&tokens, &module) {
            let why = not_below(&module, &target).or_else(|| behind(sources, &module, &target));
            if let Some(why) = why {
                found.push(format!("src/{path}:{line}: {} {why}", target.join("::")));
            }
        }
    }
    found
}

/// Returns the reason why `module` may not import from the layer of `target`, if there is one. Both
/// are paths from the crate's root.
fn not_below(module: &[&str], target: &[&str]) -> Option<String> {
    let (own, folder) = (*module.first()?, *target.first()?);
    let may = LAYERS.iter().find(|(name, _)| *name == own)?.1;
    if own == folder || may.contains(&folder) {
        None
    } else if LAYERS.iter().all(|(name, _)| *name != folder) {
        Some("is in no layer".to_owned())
    } else {
        Some(format!("is not below: {own} may import from {may:?}"))
    }
}

/// Returns the reason why `module` may not see the file of `target`, if there is one: the file is
/// in another folder, and is not the `mod.rs` of this folder.
fn behind(sources: &Sources, module: &[&str], target: &[&str]) -> Option<String> {
    let file = file_of(sources, target)?;
    let found = module_of(&file);
    let parent = &found[..found.len() - 1];
    let public = matches!(found[..], [folder, inner] if FOR_TESTS.contains(&(folder, inner)));
    // If a path ends at a module that others cannot see, it means the function that the `mod.rs` of
    // the folder exports with the same name.
    if module.starts_with(parent) || (target.len() == found.len() && !public) {
        return None;
    }
    let folder = (0..parent.len()).find(|n| module.get(*n) != parent.get(*n));
    let folder = parent[..=folder.unwrap_or(0)].join("::");
    Some(format!("reaches past the mod.rs of {folder}"))
}

/// Returns the circles among files and those among the entries of a folder. Each pair has the
/// innermost folder of a circle and a description.
pub(super) fn all_circles(sources: &Sources) -> Vec<(String, String)> {
    let graph = graph(sources);
    let mut found = Vec::new();
    for circle in circles(&graph) {
        let mut text = format!("these files import each other in a circle: {circle:?}");
        for from in &circle {
            for to in graph[from].intersection(&circle) {
                let _ = write!(text, "\n    {from} -> {to}");
            }
        }
        found.push((folder_of(&circle), text));
    }
    for (folder, graph) in folder_graphs(&graph) {
        for circle in circles(&graph) {
            let text = format!("in src/{folder} these import each other in a circle: {circle:?}");
            found.push((folder.clone(), text));
        }
    }
    found
}

/// Returns the places outside of the command line that name clap.
pub(super) fn clap_below_command_line(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources {
        if module_of(path).first() == Some(&COMMAND_LINE) {
            continue;
        }
        for (line, word) in tokens(text) {
            if word == "clap" || word.starts_with("clap_") {
                found.push(format!(
                    "src/{path}:{line}: {word} belongs to {COMMAND_LINE}"
                ));
            }
        }
    }
    found
}

/// The only file that may start other programs.
const CHILDREN: &str = "base/child.rs";

/// Returns the places outside of [`CHILDREN`] that make a command. A program that they start would
/// see the user's passwords in its environment.
pub(super) fn own_commands(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    let tests = test_files(sources);
    for (path, text) in sources {
        if path == CHILDREN || tests.contains(path.as_str()) {
            continue;
        }
        let tokens = tokens_without_tests(text);
        let words: Vec<&str> = tokens.iter().map(|(_, word)| *word).collect();
        for (at, _) in words
            .windows(3)
            .enumerate()
            .filter(|(_, w)| *w == ["Command", "::", "new"])
        {
            // `clap::Command` starts no program.
            if !words[..at].ends_with(&["clap", "::"]) {
                let line = tokens[at].0;
                found.push(format!("src/{path}:{line}: only {CHILDREN} makes commands"));
            }
        }
    }
    found
}

/// Returns the files of more than [`LINES_MAX`] lines. Below `src/`, the tests in a file do not
/// count.
pub(super) fn too_long(files: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        let tests = if path.starts_with("src/") {
            lines_of_tests(text)
        } else {
            0
        };
        let lines = text.lines().count() - tests;
        if lines > LINES_MAX {
            found.push(format!("{path}: {lines} lines, more than {LINES_MAX}"));
        }
    }
    found
}

/// Returns the lines of more than [`COLUMNS_MAX`] characters.
pub(super) fn wide_lines(files: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        for (number, line) in (1..).zip(text.lines()) {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                found.push(format!(
                    "{path}:{number}: {columns} columns, more than {COLUMNS_MAX}"
                ));
            }
        }
    }
    found
}

/// Returns the places that use `#[path]` or `include!`.
pub(super) fn misplaced_files(files: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| is_rust(path)) {
        let tokens = tokens(text);
        for words in tokens.windows(4) {
            let line = words[0].0;
            match [words[0].1, words[1].1, words[2].1, words[3].1] {
                ["#", "[", "path", "="] => found.push(format!("{path}:{line}: #[path]")),
                ["include", "!", ..] => found.push(format!("{path}:{line}: include!")),
                _ => {}
            }
        }
    }
    found
}

/// Returns the tests that print by themselves that they are skipped, and tests that never run.
pub(super) fn own_skips(files: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| is_rust(path)) {
        for (index, line) in text.lines().enumerate() {
            let quoted = line
                .split_once('"')
                .is_some_and(|(_, rest)| rest.contains("skipped"));
            if quoted || line.trim_start().starts_with("#[ignore") {
                found.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    found
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|e| e == "rs")
}
