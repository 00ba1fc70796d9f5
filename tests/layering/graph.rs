//! The imports between files, and the circles among them.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::{children, paths};
use super::tokens::{test_modules, tokens_without_tests};

/// Sources by their path below `src/`.
pub(super) type Sources = BTreeMap<String, String>;

/// For each file, the files that it imports from or declares as modules.
pub(super) type Graph = BTreeMap<String, BTreeSet<String>>;

/// Returns the path of a file's module from the crate's root.
pub(super) fn module_of(path: &str) -> Vec<&str> {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" {
        Vec::new()
    } else {
        path.split('/').collect()
    }
}

/// Returns the file of the innermost module on a path. Returns `None` for the root of the crate.
pub(super) fn file_of(sources: &Sources, path: &[&str]) -> Option<String> {
    (1..=path.len()).rev().find_map(|length| {
        let module = path[..length].join("/");
        let files = [format!("{module}.rs"), format!("{module}/mod.rs")];
        files.into_iter().find(|file| sources.contains_key(file))
    })
}

/// Returns the files that others declare by `#[cfg(test)] mod name;`.
pub(super) fn test_files(sources: &Sources) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, text) in sources {
        for name in test_modules(text) {
            let module = [&module_of(path)[..], &[name]].concat();
            found.extend(file_of(sources, &module));
        }
    }
    found
}

/// Reads the imports of all files except tests and `main.rs`.
pub(super) fn graph(sources: &Sources) -> Graph {
    let tests = test_files(sources);
    let mut graph = Graph::new();
    for (path, text) in sources {
        if tests.contains(path) || path == "main.rs" {
            continue;
        }
        let module = module_of(path);
        let tokens = tokens_without_tests(text);
        let declared = children(&tokens).into_iter();
        let declared = declared.map(|(_, child, _)| [&module[..], &[child]].concat());
        let named = paths(&tokens, &module)
            .into_iter()
            .map(|(_, target)| target);
        let files = declared
            .chain(named)
            .filter_map(|target| file_of(sources, &target));
        let files = files.filter(|file| file != path).collect();
        graph.insert(path.clone(), files);
    }
    graph
}

/// Returns the circles of a graph. A circle is a set of files that all import each other, directly
/// or through others.
pub(super) fn circles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = graph
        .keys()
        .map(|file| (file, reached_from(graph, file)))
        .collect();
    let mut found = BTreeSet::new();
    for (file, others) in &reached {
        let back = |other: &&&String| reached.get(**other).is_some_and(|r| r.contains(file));
        let circle: BTreeSet<String> = others.iter().filter(back).map(|o| (*o).clone()).collect();
        if !circle.is_empty() {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

/// Returns all files that a file imports, directly or through others. The file itself is among them
/// only if it is in a circle.
fn reached_from<'a>(graph: &'a Graph, file: &String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut todo: Vec<&String> = graph.get(file).into_iter().flatten().collect();
    while let Some(next) = todo.pop() {
        if reached.insert(next) {
            todo.extend(graph.get(next).into_iter().flatten());
        }
    }
    reached
}

/// Returns for each folder the graph of its direct entries. The entry `NAME` is `NAME.rs` with all
/// files below `NAME/`. The entry `mod` is the `mod.rs` of the folder.
pub(super) fn folder_graphs(graph: &Graph) -> BTreeMap<String, Graph> {
    let mut graphs: BTreeMap<String, Graph> = BTreeMap::new();
    for (from, targets) in graph {
        for to in targets {
            let (a, b) = (from.trim_end_matches(".rs"), to.trim_end_matches(".rs"));
            let (a, b): (Vec<_>, Vec<_>) = (a.split('/').collect(), b.split('/').collect());
            let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            // `NAME.rs` and the files below `NAME/` are one entry.
            if let (Some(a), Some(to)) = (a.get(common), b.get(common)) {
                let folder = graphs.entry(b[..common].join("/")).or_default();
                folder.entry((*to).to_owned()).or_default();
                folder
                    .entry((*a).to_owned())
                    .or_default()
                    .insert((*to).to_owned());
            }
        }
    }
    graphs
}

/// Returns the path of the innermost folder that holds all files of a circle.
pub(super) fn folder_of(circle: &BTreeSet<String>) -> String {
    let mut files = circle
        .iter()
        .map(|file| file.split('/').collect::<Vec<_>>());
    let mut common = files.next().unwrap_or_default();
    common.pop();
    for file in files {
        let same = common.iter().zip(&file).take_while(|(a, b)| a == b).count();
        common.truncate(same);
    }
    common.join("/")
}
