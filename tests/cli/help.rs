//! Help, usage errors, completions and manual pages.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Output, Stdio};

/// Runs the program without the developer's environment variables.
fn cuttlebone(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cuttlebone"))
        .args(args)
        .env_clear()
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[track_caller]
fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(args: &[&str], code: i32) -> String {
    let output = cuttlebone(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Returns the commands that this help text lists, without `help`.
fn commands_in(help: &str) -> Vec<String> {
    let listed = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    listed
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn visit(path: &mut Vec<String>, seen: &mut Vec<String>) {
    for flag in ["-h", "--help"] {
        let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
        args.push(flag);
        let help = stdout(&cuttlebone(&args));
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{args:?}: {line}");
        }
        assert!(help.contains("Usage: cuttlebone"), "{args:?}");
        if flag == "--help" {
            seen.push(path.join(" "));
            for command in commands_in(&help) {
                path.push(command);
                visit(path, seen);
                path.pop();
            }
        }
    }
}

#[test]
fn help_of_every_command_fits_80_columns() {
    let mut seen = Vec::new();
    visit(&mut Vec::new(), &mut seen);
    for command in [
        "",
        "init",
        "backup",
        "diff merge",
        "forget",
        "head",
        "prune",
        "key add",
        "cache rebuild",
        "parity set",
        "repair packs",
        "repair parity",
        "repo key passwd",
        "man",
    ] {
        assert!(
            seen.iter().any(|path| path == command),
            "{command} not in {seen:?}"
        );
    }
    assert!(!seen.iter().any(|path| path == "project"));
}

#[test]
fn help_lists_exit_codes_and_never_prints_a_secret() {
    let help = stdout(&cuttlebone(&["--help"]));
    for expected in ["130  interrupted", "CUTTLEBONE_PASSWORD_FD", "VOLUME~N"] {
        assert!(help.contains(expected), "{help}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_cuttlebone"))
        .args(["backup", "--help"])
        .env("CUTTLEBONE_PASSWORD", "hunter2")
        .env("CUTTLEBONE_PASSWORD_COMMAND", "echo hunter2")
        .output()
        .unwrap();
    assert!(!stdout(&output).contains("hunter2"));
}

#[test]
fn help_of_the_command_help_is_the_help_of_the_program() {
    let all = stdout(&cuttlebone(&["help"]));
    for args in [&["help", "--help"][..], &["help", "-h"]] {
        assert_eq!(stdout(&cuttlebone(args)), all, "{args:?}");
    }
    let of_diff = stdout(&cuttlebone(&["diff", "help"]));
    assert_eq!(stdout(&cuttlebone(&["diff", "help", "--help"])), of_diff);
    // After a command that has no subcommands, the word `help` is an argument.
    let named = stdout(&cuttlebone(&["list", "help", "--help"]));
    assert!(named.contains("list [OPTIONS]"), "{named}");
}

#[test]
fn help_that_cannot_be_written_is_a_failure() {
    for args in [&["--help"][..], &["--version"], &["backup", "--help"]] {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_cuttlebone"))
            .args(args)
            .stdout(full)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.contains("could not write to standard output"),
            "{error}"
        );
    }
}

#[test]
fn a_wrong_number_of_threads_or_connections_is_refused() {
    for (option, most) in [("--threads", "16"), ("--connections", "8")] {
        for number in ["0", "99", "x", "-1"] {
            let given = format!("{option}={number}");
            let error = refused(&["-r", "/nowhere", "list", &given], 2);
            let expected = format!("give a whole number from 1 to {most}");
            assert!(error.contains(&expected), "{given}: {error}");
        }
        refused(&["-r", "/nowhere", "list", option, most], 10);
    }
}

#[test]
fn the_help_of_restore_states_when_a_device_is_overwritten() {
    let help = stdout(&cuttlebone(&["restore", "--help"]));
    let words: Vec<_> = help.split_whitespace().collect();
    let text = words.join(" ");
    assert!(!text.contains("device is overwritten"), "{help}");
    assert!(
        text.contains(
            "a block device that is not blank, is changed only with --in-place or --force"
        ),
        "{help}"
    );
}

#[test]
fn the_readme_and_the_help_have_the_same_exit_codes() {
    let help = stdout(&cuttlebone(&["--help"]));
    let readme = include_str!("../../README.md");
    let scripting = include_str!("../../docs/scripting.md");
    let codes = |text: &str, before: &str, between: &str| -> Vec<(u8, String)> {
        let line = |line: &str| {
            let (code, meaning) = line.trim().strip_prefix(before)?.split_once(between)?;
            let meaning = meaning.split([';', ':', '|', ',']).next()?.trim();
            Some((code.trim().parse().ok()?, meaning.to_owned()))
        };
        text.lines().filter_map(line).collect()
    };
    let of_help = codes(help.split("Exit codes:").nth(1).unwrap(), "", "  ");
    assert_eq!(of_help.len(), 14, "{of_help:?}");
    let numbers = |codes: &[(u8, String)]| codes.iter().map(|(code, _)| *code).collect::<Vec<_>>();
    for page in [readme, scripting] {
        let page = page.split("| exit code | meaning").nth(1).unwrap();
        let of_page = codes(page.split("\n\n").next().unwrap(), "| ", " | ");
        assert_eq!(numbers(&of_page), numbers(&of_help));
        let meaning = |codes: &[(u8, String)]| codes.iter().find(|(code, _)| *code == 23).cloned();
        assert_eq!(meaning(&of_page), meaning(&of_help));
    }
}

#[test]
fn the_version_is_one_line() {
    let version = concat!("cuttlebone ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(stdout(&cuttlebone(&["--version"])), version);
}

#[test]
fn a_typo_gets_a_suggestion() {
    assert!(refused(&["bakup", "x"], 2).contains("'backup'"));
    assert!(refused(&["list", "--jsno"], 2).contains("--json"));
}

#[test]
fn wrong_usage_exits_with_2_and_gives_a_hint() {
    assert!(refused(&[], 2).contains("Usage: cuttlebone"));
    assert!(refused(&["key"], 2).contains("passwd"));
    assert!(refused(&["list"], 2).contains("  next: set it with --repo or CUTTLEBONE_REPOSITORY"));
    let scheme = refused(&["-r", "s3:bucket/x", "list"], 2);
    assert!(
        scheme.contains("s3:") && scheme.contains("give a directory"),
        "{scheme}"
    );
    refused(&["-r", "/x", "backup", "-"], 2);
}

#[test]
fn usage_errors_are_json_with_the_json_option() {
    for args in [
        &["list", "--json"][..],
        &["bakup", "--json"],
        &["list", "--json", "--nope"],
    ] {
        let line = refused(args, 2);
        let error: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(error["message_type"], "exit_error", "{line}");
        assert_eq!(error["code"], 2, "{line}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{line}");
    }
}

#[test]
fn completions_of_each_shell_contain_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&cuttlebone(&["completions", shell]));
        assert!(
            script.contains("restore") && script.contains("in-place"),
            "{shell}"
        );
    }
    refused(&["completions", "tcsh"], 2);
}

#[test]
fn writing_to_a_closed_pipe_does_not_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cuttlebone"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("new/man1");
    stdout(&cuttlebone(&["man", target.to_str().unwrap()]));
    let mut pages: Vec<String> = std::fs::read_dir(&target)
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    let expected = [
        "",
        "-audit",
        "-audit-list",
        "-audit-public-key",
        "-audit-verify-report",
        "-backup",
        "-cache",
        "-cache-clear",
        "-cache-rebuild",
        "-cache-show",
        "-check",
        "-compare",
        "-completions",
        "-diff",
        "-diff-export",
        "-diff-inspect",
        "-diff-merge",
        "-copy",
        "-drill",
        "-forget",
        "-head",
        "-init",
        "-key",
        "-key-add",
        "-key-export",
        "-key-list",
        "-key-passwd",
        "-key-remove",
        "-key-revoke",
        "-key-test",
        "-label",
        "-list",
        "-man",
        "-parity",
        "-parity-set",
        "-prune",
        "-repair",
        "-repair-parity",
        "-replicate",
        "-repair-copies",
        "-repair-index",
        "-repair-packs",
        "-repo",
        "-restore",
        "-show",
        "-snapshots",
        "-stats",
        "-status",
    ];
    let mut expected: Vec<String> = expected
        .iter()
        .map(|name| format!("cuttlebone{name}.1"))
        .collect();
    expected.sort();
    assert_eq!(pages, expected);
    let page = std::fs::read_to_string(target.join("cuttlebone-key-add.1")).unwrap();
    assert!(page.contains("cuttlebone key add"), "{page}");

    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let failure = refused(&["man", file.to_str().unwrap()], 1);
    assert!(
        failure.starts_with("error: could not write manual pages to"),
        "{failure}"
    );
}
