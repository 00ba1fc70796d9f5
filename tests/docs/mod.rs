//! Checks that the program accepts every command in the documentation. `README.md` in this
//! directory describes the conventions.

mod blocks;
mod readme;
mod sections;
mod types;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::program::{finish, with_default_signals};

/// The exit code for wrong usage.
const USAGE: i32 = 2;

#[test]
fn every_command_in_the_documentation_is_accepted_by_the_program() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let mut found = Vec::new();
        for block in blocks::blocks(&text) {
            let units = block
                .text
                .lines()
                .filter_map(|line| line.strip_prefix("ExecStart="));
            match block.info.first() {
                Some(&"sh") => found.push((block.line, block.text.clone())),
                Some(&"text") => found.extend(units.map(|unit| (block.line, unit.to_owned()))),
                _ => wrong.push(format!(
                    "{}:{}: neither sh nor text",
                    page.display(),
                    block.line
                )),
            }
        }
        let inline = blocks::inline_code(&text).into_iter();
        let inline = inline.filter(|(_, code)| {
            let args = code.strip_prefix("cuttlebone ");
            let is_word = |c: char| c == '-' || c.is_lowercase();
            args.is_some_and(|args| args.starts_with(is_word)) && !code.contains('…')
        });
        found.extend(inline.map(|(line, code)| (line, code.to_owned())));
        for (line, script) in found {
            for args in blocks::commands(&script) {
                let program = Path::new(&args[0]);
                if !program.ends_with("cuttlebone") || args.len() == 1 {
                    continue;
                }
                count += 1;
                if let Some(error) = usage_error(&args[1..]) {
                    wrong.push(format!("{}:{line}: {args:?}: {error}", page.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(count > 50, "only {count} commands were found");
}

#[test]
fn a_command_that_the_program_does_not_know_is_reported() {
    let error =
        |args: &[&str]| usage_error(&args.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
    assert!(error(&["backup", "--no-such-option"]).is_some());
    assert!(error(&["restore", "web1"]).is_some());
    assert!(error(&["restore", "web1", "/srv/web1.img"]).is_none());
}

/// Runs a command in an empty directory, in which it finds no other programs. Returns its standard
/// error if it reports wrong usage, and `None` otherwise.
fn usage_error(args: &[String]) -> Option<String> {
    let scratch = TempDir::new().unwrap();
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let below = |word: &String| {
        let rest = word.strip_prefix("~/").or(word.strip_prefix('/'));
        rest.map_or_else(|| word.clone(), at)
    };
    let mut command = with_default_signals();
    let child = command
        .arg(env!("CARGO_BIN_EXE_cuttlebone"))
        .args(args.iter().map(below))
        .env_clear()
        .env("HOME", scratch.path())
        .env("PATH", at("nothing"))
        .env("CUTTLEBONE_REPOSITORY", at("repository"))
        .env("CUTTLEBONE_PASSWORD", "password")
        .current_dir(scratch.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let ran = finish(child, &[]);
    (ran.code == Some(USAGE)).then_some(ran.stderr)
}

/// Returns the paths of the pages to check. The changelog is not one of them, since it also names
/// commands that no longer exist.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["", "docs", "docs/decisions", "fuzz", "tests/docs"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let is_page = path.extension().is_some_and(|e| e == "md");
            if is_page && !path.ends_with("CHANGELOG.md") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 10);
    found
}
