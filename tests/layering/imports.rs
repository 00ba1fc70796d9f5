//! Finds the modules that a source file names.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::Token;

/// The number of a line, and a path from the root of the crate that the line names.
pub(super) type Named<'a> = (usize, Vec<&'a str>);

/// Returns the modules in separate files that a source declares. For each: the line, the name, and
/// whether other modules may see it.
pub(super) fn children<'a>(tokens: &[Token<'a>]) -> Vec<(usize, &'a str, bool)> {
    let word = |i: usize| tokens.get(i).map_or("", |token| token.1);
    let mut found = Vec::new();
    for (i, (line, token)) in tokens.iter().enumerate() {
        if *token == "mod" && word(i + 2) == ";" {
            let public = i > 0 && matches!(word(i - 1), "pub" | ")");
            found.push((*line, word(i + 1), public));
        }
    }
    found
}

/// Returns every path that `module` names, with groups in braces expanded. A path starts at
/// `crate`, `super`, `self` or `cuttlebone`, at a module that `module` declares, or at a name that
/// it imports.
pub(super) fn paths<'a>(tokens: &[Token<'a>], module: &[&'a str]) -> Vec<Named<'a>> {
    let mut found = anchored(tokens, module);
    // The last segment of an import, or the name after `as`, may be a module itself.
    let mut names = imported_names(tokens, module);
    for (_, child, _) in children(tokens) {
        names.insert(child, [module, &[child]].concat());
    }
    for (i, (line, word)) in tokens.iter().enumerate() {
        let starts = i == 0 || !matches!(tokens[i - 1].1, "::" | "." | "mod" | "as");
        let next = tokens.get(i + 1).map_or("", |token| token.1);
        let is_module = word.starts_with(|c: char| c.is_lowercase());
        if starts
            && is_module
            && next == "::"
            && let Some(target) = names.get(word)
        {
            let mut spread = Vec::new();
            spread_out(tokens, i, &mut Vec::new(), &mut spread);
            spread.retain(|path| path.len() > 1);
            let full = |path: &Vec<&'a str>| [target, &path[1..]].concat();
            found.extend(spread.iter().map(|path| (*line, full(path))));
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|named| seen.insert(named.clone()));
    found
}

/// Returns the paths that start at `crate`, `super`, `self` or `cuttlebone`.
fn anchored<'a>(tokens: &[Token<'a>], module: &[&'a str]) -> Vec<Named<'a>> {
    let (mut found, mut module, mut inner) = (Vec::new(), module.to_vec(), Vec::new());
    let (mut depth, mut i) = (0, 0);
    while i < tokens.len() {
        let (line, word) = tokens[i];
        let next = tokens.get(i + 1).map_or("", |token| token.1);
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
            "mod" if tokens.get(i + 2).is_some_and(|token| token.1 == "{") => {
                module.push(next);
                inner.push(depth);
            }
            "crate" | "super" | "self" | "cuttlebone" if starts && next == "::" => {
                let mut spread = Vec::new();
                i = spread_out(tokens, i, &mut Vec::new(), &mut spread);
                let paths = spread.iter().map(|path| (line, from_root(path, &module)));
                found.extend(paths);
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    found.retain(|(_, path)| !path.is_empty());
    found
}

/// Returns the names that a source imports with `use`, with their full paths.
fn imported_names<'a>(tokens: &[Token<'a>], module: &[&'a str]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut names = BTreeMap::new();
    let mut i = 0;
    while i < tokens.len() {
        if tokens[i].1 != "use" {
            i += 1;
            continue;
        }
        let length = tokens[i..].iter().position(|token| token.1 == ";");
        let end = i + length.unwrap_or(tokens.len() - i);
        let import = &tokens[i + 1..end];
        for (_, path) in anchored(import, module) {
            let last = path[path.len() - 1];
            let renamed = import
                .windows(3)
                .find(|w| w[0].1 == last && w[1].1 == "as")
                .map(|w| w[2].1);
            names.insert(renamed.unwrap_or(last), path);
        }
        i = end;
    }
    names
}

/// Expands one path or one branch of a group. Returns the position of its end.
fn spread_out<'a>(
    tokens: &[Token<'a>],
    mut i: usize,
    path: &mut Vec<&'a str>,
    found: &mut Vec<Vec<&'a str>>,
) -> usize {
    let before = path.len();
    let word = |i: usize| tokens.get(i).map_or("", |token| token.1);
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

/// Converts a path as it is written in `module` to a path from the root of the crate.
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
