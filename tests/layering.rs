//! The house holds: imports point down, and past no folder's face.
//!
//! Reads `src/` as text rather than asking the compiler, which sees one crate and minds none of this.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Each folder of `src/`, and the folders it may import.
///
/// A front end asks `ops` for work. Beyond that it names only what it takes to open a repository:
/// `storage` (where it lies), `volume` (what is read or written) and `repo` (the opened repository).
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
    ("cli", &["base", "storage", "volume", "repo", "ops"]),
];

/// Modules of a folder that may be public although they are not its face: only tests name them.
const FOR_TESTS: &[(&str, &str)] = &[("storage", "fault")];

/// A file with more lines than this, its tests not counted, does two things.
const LINES_MAX: usize = 600;

/// Sources by their path below `src/`.
type Sources = BTreeMap<String, String>;

#[test]
fn imports_point_down() {
    let found = violations(&sources());
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let found = too_long(&sources());
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

fn sources() -> Sources {
    fn walk(root: &Path, directory: &Path, into: &mut Sources) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                into.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Sources::new();
    walk(&root, &root, &mut found);
    assert!(found.contains_key("lib.rs"));
    found
}

fn too_long(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let tests = lines
            .windows(2)
            .position(|w| w[0] == "#[cfg(test)]" && w[1].starts_with("mod "));
        let count = tests.unwrap_or(lines.len());
        if count > LINES_MAX {
            found.push(format!(
                "src/{path}: {count} lines without tests, more than {LINES_MAX}"
            ));
        }
    }
    found
}

fn violations(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    let test_files: Vec<String> = sources
        .iter()
        .flat_map(|(p, t)| test_modules(p, t))
        .collect();
    for (path, text) in sources
        .iter()
        .filter(|(path, _)| !test_files.contains(path))
    {
        let module = module_of(path);
        let tokens = without_tests(&tokens(text));
        let at = |line: usize| format!("src/{path}:{line}");
        match path.as_str() {
            "lib.rs" => {}
            // The program is another crate and sees only public names; it needs one.
            "main.rs" => {
                for (line, target) in paths(&tokens, &[]) {
                    if target[0] == "cuttlebone" && target.get(1) != Some(&"cli") {
                        found.push(format!(
                            "{}: the program may call only cuttlebone::cli",
                            at(line)
                        ));
                    }
                }
                continue;
            }
            _ if LAYERS.iter().all(|(folder, _)| *folder != module[0]) => {
                found.push(format!(
                    "src/{path}: {} is no layer of the house",
                    module[0]
                ));
                continue;
            }
            _ => {}
        }
        if let [folder] = module[..] {
            let public = public_modules(&tokens).into_iter();
            found.extend(public.filter(|t| !FOR_TESTS.contains(&(folder, t.1))).map(
                |(line, name)| {
                    let face = format!("{folder}/mod.rs is the only face");
                    format!("{}: mod {name} is public; {face}", at(line))
                },
            ));
        }
        for (line, target) in paths(&tokens, &module) {
            if let Some(why) = wrong(&module, &target, sources) {
                found.push(format!("{}: {} {why}", at(line), target.join("::")));
            }
        }
    }
    found
}

/// What is wrong with naming `target` in `module`, if anything is. Both are paths from the crate's root.
fn wrong(module: &[&str], target: &[&str], sources: &Sources) -> Option<String> {
    let (&own, &folder) = (module.first().unwrap_or(&"the root"), target.first()?);
    if own == folder {
        return None;
    }
    if LAYERS.iter().all(|(name, _)| *name != folder) {
        return Some("lies in no layer of the house".to_owned());
    }
    if let Some((_, may)) = LAYERS.iter().find(|(name, _)| *name == own)
        && !may.contains(&folder)
    {
        return Some(format!("is not below: {own} may import {may:?}"));
    }
    let inner = *target.get(1)?;
    let is_module = sources.contains_key(&format!("{folder}/{inner}.rs"))
        || sources.contains_key(&format!("{folder}/{inner}/mod.rs"));
    // A path that ends here may mean the function that the face shows under its module's name.
    let public = FOR_TESTS.contains(&(folder, inner));
    (is_module && (target.len() > 2 || public))
        .then(|| format!("reaches behind the face of {folder}"))
}

/// The path of a file's module from the crate's root.
fn module_of(path: &str) -> Vec<&str> {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" {
        Vec::new()
    } else {
        path.split('/').collect()
    }
}

/// The files that a file declares by `#[cfg(test)] mod name;`.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let directory = match module_of(path).join("/") {
        root if root.is_empty() => String::new(),
        module => module + "/",
    };
    let words: Vec<&str> = tokens(text).into_iter().map(|(_, word)| word).collect();
    let declares = |w: &&[&str]| w[..7] == TEST_ATTRIBUTE && w[7] == "mod" && w[9] == ";";
    words
        .windows(10)
        .filter(declares)
        .map(|w| format!("{directory}{}.rs", w[8]))
        .collect()
}

/// `mod`s that are visible outside of this file's folder.
fn public_modules<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut found = Vec::new();
    for (i, (_, word)) in tokens.iter().enumerate() {
        let visible = i > 0 && matches!(tokens[i - 1].1, "pub" | ")");
        if *word == "mod" && visible {
            found.push(tokens[i + 1]);
        }
    }
    found
}

/// Every path that starts at `crate`, `super`, `self` or `cuttlebone`, groups spread out, from the
/// crate's root.
fn paths<'a>(tokens: &[Token<'a>], module: &[&'a str]) -> Vec<(usize, Vec<&'a str>)> {
    let (mut found, mut module, mut inner, mut depth, mut i) =
        (Vec::new(), module.to_vec(), Vec::new(), 0, 0);
    while i < tokens.len() {
        let (line, word) = tokens[i];
        let next = tokens.get(i + 1).map_or("", |t| t.1);
        let starts = i == 0 || tokens[i - 1].1 != "::";
        match word {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if inner.last() == Some(&depth) {
                    inner.pop();
                    module.pop();
                }
            }
            "mod" if tokens.get(i + 2).is_some_and(|t| t.1 == "{") => {
                module.push(next);
                inner.push(depth);
            }
            "crate" | "super" | "self" | "cuttlebone" if starts && next == "::" => {
                let mut spread = Vec::new();
                i = spread_out(tokens, i, &mut Vec::new(), &mut spread);
                found.extend(spread.iter().map(|p| (line, from_root(p, &module))));
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    found.retain(|(_, path)| !path.is_empty());
    found
}

/// Follows one path or one branch of a group; where it ends.
fn spread_out<'a>(
    tokens: &[Token<'a>],
    mut i: usize,
    path: &mut Vec<&'a str>,
    found: &mut Vec<Vec<&'a str>>,
) -> usize {
    let before = path.len();
    let word = |i: usize| tokens.get(i).map_or("", |t| t.1);
    loop {
        if word(i) == "{" {
            i += 1;
            while !matches!(word(i), "}" | "") {
                i = match word(i) {
                    "," => i + 1,
                    "as" => i + 2,
                    _ => spread_out(tokens, i, path, found),
                };
            }
            i += 1;
            break;
        }
        if path.is_empty() || word(i) != "self" {
            path.push(word(i));
        }
        i += 1;
        let follows = |w: &str| {
            w == "{" || w == "*" || w.starts_with(|c: char| c.is_alphabetic() || c == '_')
        };
        if word(i) != "::" || !follows(word(i + 1)) {
            found.push(path.clone());
            break;
        }
        i += 1;
    }
    path.truncate(before);
    i
}

/// A path as written in `module`, from the crate's root.
fn from_root<'a>(path: &[&'a str], module: &[&'a str]) -> Vec<&'a str> {
    let (mut root, mut rest) = match path[0] {
        "crate" => (Vec::new(), &path[1..]),
        "cuttlebone" => (Vec::new(), path),
        "self" => (module.to_vec(), &path[1..]),
        _ => (module.to_vec(), path),
    };
    while let ["super", after @ ..] = rest {
        root.pop();
        rest = after;
    }
    root.extend(rest);
    root
}

/// A word or a mark, and the line it is on.
type Token<'a> = (usize, &'a str);

const TEST_ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

/// Leaves out what follows `#[cfg(test)]`: tests may import what they like.
fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let (mut kept, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        let attribute = tokens[i..].iter().map(|t| t.1).take(7).eq(TEST_ATTRIBUTE);
        if !attribute {
            kept.push(tokens[i]);
            i += 1;
            continue;
        }
        let mut depth = 0;
        i += TEST_ATTRIBUTE.len();
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
    }
    kept
}

/// The words and marks of a source, without comments and what is quoted.
fn tokens(text: &str) -> Vec<Token<'_>> {
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

/// The length of a block comment; they nest.
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

/// The length of the string or character literal that a text starts with. A lifetime is none.
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
        return Some(
            text[start..]
                .find(&end)
                .map_or(text.len(), |n| start + n + end.len()),
        );
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

/// Made-up houses: the checks must fail when they should, and only then.
mod made_up {
    use super::{Sources, too_long, violations};

    fn house(files: &[(&str, &str)]) -> Sources {
        let ground = [
            ("lib.rs", "pub mod base;"),
            ("storage/local.rs", ""),
            ("storage/fault.rs", ""),
        ];
        let all = ground.iter().chain(files);
        all.map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[track_caller]
    fn fails(path: &str, text: &str, expected: &str) {
        let found = violations(&house(&[(path, text)]));
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{text}: {found:?}"
        );
    }

    #[track_caller]
    fn holds(path: &str, text: &str) {
        let found = violations(&house(&[(path, text)]));
        assert!(found.is_empty(), "{text}: {found:?}");
    }

    #[test]
    fn down_is_fine() {
        holds(
            "crypto/kdf.rs",
            "use crate::base::{ByteSize, RepositoryId as Id};",
        );
        holds(
            "repo/mod.rs",
            "use crate::{base, crypto::Key, storage::{self, Backend, ErrorKind::Exists}};",
        );
        holds(
            "ops/backup.rs",
            "fn f(r: &crate::repo::Repository) -> crate::chunk::Grid { todo() }",
        );
        holds(
            "cli/mod.rs",
            "use crate::storage::Local; use crate::ops::backup;",
        );
        holds("volume/rbd.rs", "use crate::format::DiffStream;");
    }

    #[test]
    fn up_and_sideways_fail() {
        fails(
            "base/id.rs",
            "use crate::crypto::Key;",
            "base may import []",
        );
        fails(
            "crypto/mod.rs",
            "use crate::storage::Backend;",
            "is not below",
        );
        fails(
            "storage/mod.rs",
            "\n\nuse crate::repo::Pack;",
            "src/storage/mod.rs:3",
        );
        fails("repo/mod.rs", "use crate::ops::backup;", "is not below");
        fails("ops/init.rs", "use crate::cli::Args;", "is not below");
        fails("cli/mod.rs", "use crate::format::Record;", "is not below");
    }

    #[test]
    fn no_way_of_writing_hides_it() {
        fails(
            "base/id.rs",
            "fn f() { crate::crypto::hash::<u8>(b\"\") }",
            "crypto::hash",
        );
        fails(
            "base/id.rs",
            "use crate::{\n  base::Id, // the id\n  crypto::{Key},\n};",
            "crypto::Key",
        );
        fails(
            "base/id.rs",
            "use crate::{self as root, storage};",
            "storage is not below",
        );
        fails(
            "base/id.rs",
            "pub(crate) use crate::crypto::*;",
            "crypto::*",
        );
        fails(
            "storage/local.rs",
            "use super::super::crypto::Key;",
            "crypto::Key",
        );
        fails("storage/mod.rs", "use super::crypto::Key;", "crypto::Key");
        fails(
            "storage/mod.rs",
            "mod inner { use super::super::crypto::Key; }",
            "crypto::Key",
        );
        fails(
            "base/id.rs",
            "macro_rules! m { () => { $crate::crypto::Key } }",
            "crypto::Key",
        );
        fails(
            "base/id.rs",
            "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::crypto::Key;",
            ":3",
        );
        fails(
            "base/id.rs",
            "const C: char = '\"'; use crate::crypto::Key; // \"",
            "crypto::Key",
        );
        fails(
            "base/id.rs",
            "fn f<'a>(x: &'a u8) { crate::crypto::f('{', x) }",
            "crypto::f",
        );
    }

    #[test]
    fn behind_the_face_fails() {
        fails(
            "repo/mod.rs",
            "use crate::storage::local::Local;",
            "behind the face of storage",
        );
        fails(
            "repo/mod.rs",
            "use crate::storage::{local::{Local}};",
            "behind the face of storage",
        );
        fails(
            "repo/mod.rs",
            "use crate::storage::fault;",
            "behind the face of storage",
        );
        fails("storage/mod.rs", "pub mod local;", "the only face");
        fails("storage/mod.rs", "pub(crate) mod local;", "the only face");
        holds(
            "storage/mod.rs",
            "mod local; pub mod fault; pub use local::Local;",
        );
        holds(
            "storage/retry.rs",
            "use crate::storage::local::Local; use super::local;",
        );
        // The face shows a function under the name of its module.
        holds("repo/mod.rs", "use crate::storage::local;");
    }

    #[test]
    fn what_is_in_no_layer_fails() {
        fails("util.rs", "", "util is no layer");
        fails(
            "helpers/mod.rs",
            "use crate::base::Id;",
            "helpers is no layer",
        );
        fails("repo/mod.rs", "use crate::util::max;", "no layer");
        fails(
            "main.rs",
            "fn main() { cuttlebone::ops::backup() }",
            "only cuttlebone::cli",
        );
        holds("main.rs", "fn main() { cuttlebone::cli::main() }");
    }

    #[test]
    fn comments_strings_and_tests_do_not_count() {
        holds(
            "base/id.rs",
            "//! See `crate::crypto::Key`.\n/* use crate::repo::X; /* and */ crate::ops::Y */",
        );
        holds(
            "base/id.rs",
            r#"const A: &str = "use crate::repo::X; \" crate::ops::Y";"#,
        );
        holds(
            "base/id.rs",
            "const A: &str = r#\"\" use crate::repo::X;\"#;",
        );
        holds(
            "base/id.rs",
            "#[cfg(test)]\nmod tests {\n use crate::storage::fault::Fault; fn f() {} }",
        );
        holds("base/id.rs", "#[cfg(test)] use crate::crypto::{Key};");
        let files = [
            ("base/mod.rs", "#[cfg(test)] mod tests;"),
            ("base/tests.rs", "use crate::ops::X;"),
        ];
        assert!(violations(&house(&files)).is_empty());
    }

    #[test]
    fn long_files_fail() {
        let lines = |n: usize| "fn f() {}\n".repeat(n);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(900));
        assert!(too_long(&house(&[("base/a.rs", &(lines(600) + &tests))])).is_empty());
        assert_eq!(too_long(&house(&[("base/a.rs", &lines(601))])).len(), 1);
        // An import for tests only, near the top, is not where the tests begin.
        let early = format!("#[cfg(test)]\nuse a::b;\n{}", lines(600));
        assert_eq!(too_long(&house(&[("base/a.rs", &early)])).len(), 1);
    }
}
