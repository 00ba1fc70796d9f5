//! Manual pages.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::run;

fn pages(directory: &Path) -> Vec<(String, String)> {
    let made = Command::new(env!("CARGO_BIN_EXE_cuttlebone"))
        .arg("man")
        .arg(directory)
        .status()
        .unwrap();
    assert!(made.success());
    let page = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    fs::read_dir(directory).unwrap().map(page).collect()
}

#[test]
fn a_synopsis_names_the_values_of_options() {
    let directory = tempfile::tempdir().unwrap();
    let pages = pages(directory.path());
    let synopsis = |page: &str| {
        let wanted = format!("cuttlebone{page}.1");
        let (_, text) = pages.iter().find(|(name, _)| *name == wanted).unwrap();
        let text = text.split(".SH SYNOPSIS\n").nth(1).unwrap();
        let text = text.split("\n.SH").next().unwrap();
        text.replace("\\-", "-")
            .replace("\\fB", "")
            .replace("\\fR", "")
            .replace('\n', " ")
    };
    let restore = synopsis("-restore");
    for expected in [
        "cuttlebone restore",
        "[--map FILE]",
        "[--in-place]",
        "[--format FORMAT]",
        "[GLOBAL OPTIONS] BACKUP [TARGET]",
    ] {
        assert!(restore.contains(expected), "{expected}: {restore}");
    }
    assert!(
        synopsis("-backup").contains("[--label KEY=VALUE]..."),
        "{}",
        synopsis("-backup")
    );
    assert!(
        synopsis("-key").contains("cuttlebone key [GLOBAL OPTIONS] COMMAND"),
        "{}",
        synopsis("-key")
    );
    assert!(
        synopsis("").contains("cuttlebone [GLOBAL OPTIONS] COMMAND"),
        "{}",
        synopsis("")
    );
}

#[test]
fn pages_have_sections_with_plain_names_and_their_examples_line_by_line() {
    let directory = tempfile::tempdir().unwrap();
    for (name, page) in pages(directory.path()) {
        assert!(!page.contains("EXTRA"), "{name}");
        for heading in page.lines().filter_map(|line| line.strip_prefix(".SH ")) {
            assert!(heading.len() < 30, "{name}: {heading}");
        }
    }
    let path = directory.path().join("cuttlebone-backup.1");
    let page = fs::read_to_string(&path).unwrap();
    let examples = page.split(".SH \"EXAMPLES\"\n.nf\n").nth(1).unwrap();
    assert!(
        examples.starts_with("  cuttlebone backup disk.img\n"),
        "{examples}"
    );
    // The program `man` is not installed everywhere.
    if let Some(shown) = run("man", &["-l", "-P", "cat", path.to_str().unwrap()]) {
        assert!(shown.contains("cuttlebone backup disk.img\n"), "{shown}");
    }
}
