//! Tests of the checks themselves, with invented source trees. Each check must fail for a tree that
//! breaks its rule, and pass otherwise.

use super::graph::Sources;
use super::rules;

fn tree(files: &[(&str, &str)]) -> Sources {
    let all = files.iter();
    all.map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect()
}

/// Returns a small valid tree with one file added or replaced.
fn tree_with(path: &str, text: &str) -> Sources {
    let mut sources = tree(&[
        ("lib.rs", "pub mod base; pub mod storage;"),
        ("storage/local.rs", ""),
        ("storage/fault.rs", ""),
        ("repo/packs/mod.rs", "mod writer; pub use writer::store;"),
        ("repo/packs/writer.rs", ""),
    ]);
    sources.insert(path.to_owned(), text.to_owned());
    sources
}

#[track_caller]
fn fails(path: &str, text: &str, expected: &str) {
    let found = rules::wrong_imports(&tree_with(path, text));
    let as_expected = found.len() == 1 && found[0].contains(expected);
    assert!(as_expected, "{text}: {found:?}");
}

#[track_caller]
fn passes(path: &str, text: &str) {
    let found = rules::wrong_imports(&tree_with(path, text));
    assert!(found.is_empty(), "{text}: {found:?}");
}

#[test]
fn an_import_from_a_lower_layer_passes() {
    passes(
        "crypto/kdf.rs",
        "use crate::base::{ByteSize, RepositoryId as Id};",
    );
    passes(
        "repo/mod.rs",
        "use crate::{base, crypto::Key, storage::{self, Backend, ErrorKind::Exists}};",
    );
    passes(
        "ops/backup.rs",
        "fn f(r: &crate::repo::Repository) -> crate::chunk::Grid { todo() }",
    );
    passes(
        "app/open.rs",
        "use crate::storage::Local; use crate::ops::backup;",
    );
    passes(
        "cli/mod.rs",
        "use crate::volume::InputFile; use crate::app::Session;",
    );
    passes("volume/rbd.rs", "use crate::format::DiffStream;");
}

#[test]
fn an_import_from_the_same_or_a_higher_layer_fails() {
    fails(
        "base/id.rs",
        "use crate::crypto::Key;",
        "base may import from []",
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
    fails("ops/init.rs", "use crate::app::Session;", "is not below");
    fails("app/session.rs", "use crate::cli::Args;", "is not below");
    fails("cli/mod.rs", "use crate::crypto::Key;", "is not below");
    fails("nbd/mod.rs", "use crate::cli::Args;", "is not below");
    fails("cli/serve.rs", "use crate::nbd::Server;", "is not below");
}

#[test]
fn an_import_is_found_however_it_is_written() {
    let ways = [
        (
            "base/id.rs",
            "fn f() { crate::crypto::hash::<u8>(b\"\") }",
            "crypto::hash",
        ),
        (
            "base/id.rs",
            "use crate::{\n  base::Id, // the id\n  crypto::{Key},\n};",
            "crypto::Key",
        ),
        (
            "base/id.rs",
            "use crate::{self as root, storage};",
            "storage is not below",
        ),
        (
            "base/id.rs",
            "pub(crate) use crate::crypto::*;",
            "crypto::*",
        ),
        (
            "storage/local.rs",
            "use super::super::crypto::Key;",
            "crypto::Key",
        ),
        ("storage/mod.rs", "use super::crypto::Key;", "crypto::Key"),
        (
            "storage/mod.rs",
            "mod inner { use super::super::crypto::Key; }",
            "crypto::Key",
        ),
        (
            "base/id.rs",
            "macro_rules! m { () => { $crate::crypto::Key } }",
            "crypto::Key",
        ),
        (
            "base/id.rs",
            "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::crypto::Key;",
            ":3",
        ),
        (
            "base/id.rs",
            "const C: char = '\"'; use crate::crypto::Key; // \"",
            "crypto::Key",
        ),
        (
            "base/id.rs",
            "fn f<'a>(x: &'a u8) { crate::crypto::f('{', x) }",
            "crypto::f",
        ),
    ];
    for (path, text, expected) in ways {
        fails(path, text, expected);
    }
}

#[test]
fn an_import_past_the_mod_file_of_a_folder_fails() {
    let local = "past the mod.rs of storage";
    fails("repo/mod.rs", "use crate::storage::local::Local;", local);
    fails(
        "repo/mod.rs",
        "use crate::storage::{local::{Local}};",
        local,
    );
    fails("repo/mod.rs", "use crate::storage::fault;", local);
    let writer = "past the mod.rs of repo::packs";
    fails("repo/prune.rs", "use super::packs::writer::store;", writer);
    fails(
        "repo/prune.rs",
        "use super::packs;\nfn f() { packs::writer::store() }",
        ":2",
    );
    fails(
        "repo/index/mod.rs",
        "use crate::repo::packs::writer::store;",
        writer,
    );
    fails(
        "storage/mod.rs",
        "pub mod local;",
        "only storage may export",
    );
    fails(
        "storage/mod.rs",
        "pub(crate) mod local;",
        "only storage may export",
    );
    fails(
        "repo/mod.rs",
        "pub(crate) mod packs;",
        "only repo may export",
    );
    passes(
        "storage/mod.rs",
        "mod local; pub mod fault; pub use local::Local;",
    );
    passes(
        "storage/retry.rs",
        "use crate::storage::local::Local; use super::local;",
    );
    passes("repo/packs/writer.rs", "use crate::repo::prune::Plan;");
    passes(
        "repo/prune.rs",
        "use super::packs::{self, store};\nfn f() { packs::store() }",
    );
    // The `mod.rs` of the folder exports a function that has the name of the module.
    passes("repo/mod.rs", "use crate::storage::local;");
}

#[test]
fn a_file_in_no_layer_fails() {
    fails("util.rs", "", "util is not a layer");
    fails(
        "helpers/mod.rs",
        "use crate::base::Id;",
        "helpers is not a layer",
    );
    fails("repo/mod.rs", "use crate::util::max;", "no layer");
    fails(
        "main.rs",
        "fn main() { cuttlebone::ops::backup() }",
        "only cuttlebone::cli",
    );
    passes("main.rs", "fn main() { cuttlebone::cli::main() }");
}

#[test]
fn imports_in_comments_strings_and_tests_do_not_count() {
    for text in [
        "//! See `crate::crypto::Key`.\n/* use crate::repo::X; /* and */ crate::ops::Y */",
        r#"const A: &str = "use crate::repo::X; \" crate::ops::Y";"#,
        "const A: &str = r#\"\" use crate::repo::X;\"#;",
        "#[cfg(test)]\nmod tests {\n use crate::storage::fault::Fault; fn f() {} }",
        "#[cfg(test)] use crate::crypto::{Key};",
    ] {
        passes("base/id.rs", text);
    }
    let sources = tree(&[
        ("base/mod.rs", "#[cfg(test)] mod tests;"),
        ("base/tests.rs", "use crate::ops::X;"),
    ]);
    assert!(rules::wrong_imports(&sources).is_empty());
}

/// Returns the folders in which a tree has circles.
fn circles_in(files: &[(&str, &str)]) -> Vec<String> {
    let found = rules::all_circles(&tree(files)).into_iter();
    found.map(|(folder, _)| folder).collect()
}

#[test]
fn a_circle_between_files_is_found() {
    for files in [
        // Two files in the same folder.
        &[
            ("base/a.rs", "use super::b::B;"),
            ("base/b.rs", "use crate::base::a::A;"),
        ][..],
        // A circle through a third file.
        &[
            ("base/a.rs", "use super::b::B;"),
            ("base/b.rs", "fn f() { super::c::f() }"),
            ("base/c.rs", "use super::a; fn f() { a::f() }"),
        ],
        // A `mod.rs` and a file that it re-exports.
        &[
            ("base/mod.rs", "mod a; pub use a::A;"),
            ("base/a.rs", "use super::B;"),
        ],
        &[
            ("base/mod.rs", "mod a; pub use a::A;"),
            ("base/a.rs", "use crate::base::B;"),
        ],
        // A `mod.rs` only declares a file, and this file imports from the `mod.rs`.
        &[("base/mod.rs", "mod a;"), ("base/a.rs", "use super::B;")],
        // `a.rs` and a file in `a/`.
        &[
            ("base/a.rs", "mod b; use b::B;"),
            ("base/a/b.rs", "use super::A;"),
        ],
        &[
            ("base/a.rs", "mod b; fn f() { b::f() }"),
            ("base/a/b.rs", "fn f() { super::g() }"),
        ],
    ] {
        assert_eq!(
            circles_in(files),
            ["base", "base"][..circles_in(files).len()],
            "{files:?}"
        );
        assert!(!circles_in(files).is_empty(), "{files:?}");
    }
}

#[test]
fn a_circle_between_folders_is_found_even_if_no_circle_between_files_exists() {
    let files = [
        ("repo/a/mod.rs", "mod x; mod y; pub use x::X; pub use y::Y;"),
        ("repo/a/x.rs", "use crate::repo::b::y::Y;"),
        ("repo/a/y.rs", ""),
        ("repo/b/x.rs", "use crate::repo::a::y::Y;"),
        ("repo/b/y.rs", ""),
    ];
    assert_eq!(circles_in(&files), ["repo"]);
}

#[test]
fn files_that_import_only_downwards_are_no_circle() {
    let files = [
        ("lib.rs", "pub mod base; pub mod repo;"),
        ("base/mod.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
        ("base/a.rs", "use super::b::B; use crate::base::c::C;"),
        (
            "base/b.rs",
            "use super::c::C;\n#[cfg(test)] mod tests { use super::super::a::A; }",
        ),
        ("base/c.rs", "// use super::a::A;\nfn f() { C::a(C::b()) }"),
        ("repo/mod.rs", "mod d; pub use d::D;"),
        ("repo/d.rs", "mod e; use crate::base::A; use e::E;"),
        ("repo/d/e.rs", "use crate::base::B;"),
    ];
    assert_eq!(circles_in(&files), [""; 0]);
}

#[test]
fn clap_is_found_below_the_command_line() {
    let found = |path, text| rules::clap_below_command_line(&tree(&[(path, text)])).len();
    assert_eq!(found("app/a.rs", "use clap::Parser;"), 1);
    assert_eq!(found("repo/a.rs", "#[derive(clap::Args)]\nstruct A;"), 1);
    assert_eq!(found("ops/a.rs", "fn f(shell: clap_complete::Shell) {}"), 1);
    assert_eq!(found("cli/a.rs", "use clap::Parser;"), 0);
    assert_eq!(
        found("app/a.rs", "// No clap here.\nconst C: &str = \"clap\";"),
        0
    );
}

#[test]
fn commands_that_are_made_outside_of_the_child_module_are_found() {
    let found = |path, text| rules::own_commands(&tree(&[(path, text)])).len();
    assert_eq!(found("app/a.rs", "fn f() { Command::new(\"sh\"); }"), 1);
    assert_eq!(
        found("app/a.rs", "fn f() { std::process::Command::new(p); }"),
        1
    );
    assert_eq!(
        found("cli/a.rs", "fn f() { clap::Command::new(\"a\"); }"),
        0
    );
    assert_eq!(found("base/child.rs", "fn f() { Command::new(p); }"), 0);
    let test = "#[cfg(test)]\nmod tests { fn f() { Command::new(p); } }";
    assert_eq!(found("app/a.rs", test), 0);
}

#[test]
fn wide_lines_are_found() {
    let found = |text: &str| rules::wide_lines(&tree(&[("docs/a.md", text)]));
    // A character counts as one column, however many bytes it has.
    let line = "é".repeat(100);
    assert!(found(&format!("{line}\n{line}\n")).is_empty());
    let wide = found(&format!("{line}\n{line}.\n"));
    assert_eq!(wide, ["docs/a.md:2: 101 columns, more than 100"]);
}

#[test]
fn long_files_are_found() {
    let found = |path, text: &str| rules::too_long(&tree(&[(path, text)])).len();
    let lines = |n: usize| "fn f() {}\n".repeat(n);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(900));
    assert_eq!(found("src/base/a.rs", &(lines(600) + &tests)), 0);
    assert_eq!(found("src/base/a.rs", &(lines(601) + &tests)), 1);
    // Tests in the middle of a file do not hide the items after them.
    assert_eq!(
        found("src/base/a.rs", &(lines(300) + &tests + &lines(301))),
        1
    );
    let early = format!("#[cfg(test)]\nuse a::b;\n{}", lines(601));
    assert_eq!(found("src/base/a.rs", &early), 1);
    // In other directories, the lines of tests count.
    assert_eq!(found("tests/a.rs", &(lines(1) + &tests)), 1);
    assert_eq!(found("tests/a.py", &lines(601)), 1);
}

#[test]
fn misplaced_files_are_found() {
    let found = |text| rules::misplaced_files(&tree(&[("src/base/a.rs", text)])).len();
    assert_eq!(found("#[path = \"b.rs\"]\nmod a;"), 1);
    assert_eq!(found("#[cfg(test)]\n#[path = \"b.rs\"]\nmod a;"), 1);
    assert_eq!(found("include!(\"b.rs\");"), 1);
    assert_eq!(
        found("// #[path = \"b.rs\"]\nconst A: &str = include_str!(\"b.txt\");"),
        0
    );
}

#[test]
fn tests_that_skip_without_the_skip_function_are_found() {
    let found = |text| rules::own_skips(&tree(&[("tests/a.rs", text)])).len();
    assert_eq!(found("eprintln!(\"skipped: no device\");"), 1);
    assert_eq!(found("#[ignore]\nfn f() {}"), 1);
    assert_eq!(found("    #[ignore = \"slow\"]"), 1);
    assert_eq!(found("skip(\"no device\");\nlet skipped = f();"), 0);
}
