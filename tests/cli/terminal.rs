//! The output on a terminal of 80 columns.

use std::process::Command;

use crate::support::program::World;
use crate::support::{noise, skip};

/// Runs a command, which must succeed, on a terminal. Returns the lines that it writes, one for
/// each redraw, without escape sequences. Skips the test and returns `None` without script(1).
#[track_caller]
fn on_terminal(world: &World, args: &str) -> Option<Vec<String>> {
    let (code, lines) = run_on_terminal(world, args)?;
    assert_eq!(code, Some(0), "{args}: {lines:?}");
    Some(lines)
}

fn run_on_terminal(world: &World, args: &str) -> Option<(Option<i32>, Vec<String>)> {
    let program = env!("CARGO_BIN_EXE_cuttlebone");
    let line = format!("stty cols 80 rows 24; exec {program} {args}");
    let mut script = Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .envs(world.environment.iter().map(|(k, v)| (k, v)))
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .env("CUTTLEBONE_PROGRESS_FPS", "30")
        .current_dir(world.directory.path())
        .stdin(std::process::Stdio::null());
    let Ok(output) = script.output() else {
        skip("there is no script(1) to make a terminal");
        return None;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    Some((output.status.code(), plain(&text)))
}

/// Returns the lines of the output, without escape sequences.
fn plain(text: &str) -> Vec<String> {
    let mut parts = text.split('\u{1b}');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.strip_prefix('[').unwrap_or(part);
        let end = rest.find(|c: char| c.is_ascii_alphabetic());
        // Every sequence except a colour moves the cursor, so a new line begins.
        if end.is_none_or(|end| !rest[end..].starts_with('m')) {
            out.push('\n');
        }
        out.push_str(end.and_then(|end| rest.get(end + 1..)).unwrap_or_default());
    }
    out.split(['\r', '\n'])
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn fits(lines: &[String]) {
    for line in lines {
        assert!(
            line.chars().count() <= 80,
            "{} columns: {line}",
            line.chars().count()
        );
    }
}

#[test]
fn output_on_a_terminal_fits_80_columns() {
    let world = World::new();
    let name = "a-volume-whose-name-says-everything-about-the-machine-and-its-third-disk.img";
    world.write(name, &noise(1, 200 << 20));
    let Some(lines) = on_terminal(&world, &format!("backup {name} -v")) else {
        return;
    };
    fits(&lines[..lines.len().saturating_sub(12)]);
    let bars: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("backup") && line.contains('%'))
        .collect();
    assert!(!bars.is_empty(), "no progress: {lines:?}");
    assert!(
        bars.iter()
            .any(|line| line.contains("/s") && line.contains("left")),
        "{bars:?}"
    );

    for args in [
        "list",
        "check",
        "check --read-data",
        "stats",
        "forget --keep-last 1 --keep-within-hourly 2y5m7d3h --keep-daily 2 --keep-weekly 2 \
         --keep-monthly 2",
        "key list",
        "cache show",
    ] {
        let lines = on_terminal(&world, args).unwrap();
        assert!(!lines.is_empty(), "{args}");
        if args != "cache show" {
            fits(&lines);
        }
    }
    let (code, lines) = run_on_terminal(&world, "restore no-such-backup x").unwrap();
    assert_eq!(code, Some(24));
    fits(&lines);
    let long = world.run(&["restore", "no-such-backup", "x"]).stderr;
    assert!(long.lines().any(|line| line.len() > 80), "{long}");
    let listed = on_terminal(&world, "list").unwrap();
    assert!(
        listed[1].contains('…') && listed[1].contains("disk.img"),
        "{listed:?}"
    );
}

#[test]
fn binary_data_is_not_written_to_a_terminal() {
    let world = World::new();
    world.backup(&[&world.write("disk", b"data")]);
    world.ok(&["diff", "export", "disk", "-o", "diff"]);
    for args in [
        "restore disk -",
        "restore disk - --format rbd-diff",
        "diff export disk",
        "diff merge diff diff -o -",
        "key export",
    ] {
        let Some((code, lines)) = run_on_terminal(&world, args) else {
            return;
        };
        assert_eq!(code, Some(2), "{args}: {lines:?}");
        assert!(lines[0].contains("terminal"), "{args}: {lines:?}");
    }
}
