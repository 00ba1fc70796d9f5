use std::time::Duration;

use clap::Parser;

use super::*;
use crate::cli::failure::Code;
use crate::cli::location::Location;

fn request_in(variables: &[(&str, &str)], words: &[&str]) -> Result<Request, Failure> {
    let cli = Cli::try_parse_from(std::iter::once(&"cuttlebone").chain(words)).unwrap();
    Request::new(cli, &Environment::with(variables))
}

fn request(words: &[&str]) -> Result<Request, Failure> {
    request_in(
        &[("HOME", "/home/u"), ("CUTTLEBONE_REPOSITORY", "/r")],
        words,
    )
}

fn operation(words: &[&str]) -> Operation {
    match request(words).unwrap().action {
        Action::Repository(_, operation) => operation,
        other => panic!("{other:?}"),
    }
}

fn access(variables: &[(&str, &str)], words: &[&str]) -> Access {
    match request_in(variables, words).unwrap().action {
        Action::Repository(access, _) => *access,
        other => panic!("{other:?}"),
    }
}

fn refused(words: &[&str]) {
    let failure = request(words).unwrap_err();
    assert_eq!(failure.code, Code::Usage, "{words:?}: {failure:?}");
}

#[test]
fn options_win_over_the_environment() {
    let variables = [
        ("CUTTLEBONE_REPOSITORY", "/env"),
        ("CUTTLEBONE_PROJECT", "p"),
        ("CUTTLEBONE_CACHE_DIR", "/c"),
    ];
    let given = access(&variables, &["list"]);
    assert_eq!(given.location, Location::Local("/env".into()));
    assert_eq!(
        (given.project.as_str(), given.cache_dir.to_str()),
        ("p", Some("/c"))
    );
    let given = access(
        &variables,
        &["-r", "/x", "--project", "q", "--cache-dir", "/d", "list"],
    );
    assert_eq!(given.location, Location::Local("/x".into()));
    assert_eq!(
        (given.project.as_str(), given.cache_dir.to_str()),
        ("q", Some("/d"))
    );
}

#[test]
fn the_location_can_lie_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("location");
    std::fs::write(&file, "/from/file\n").unwrap();
    let variables = [
        ("HOME", "/h"),
        ("CUTTLEBONE_REPOSITORY_FILE", file.to_str().unwrap()),
    ];
    assert_eq!(
        access(&variables, &["list"]).location,
        Location::Local("/from/file".into())
    );
    let both = [
        variables[0],
        variables[1],
        ("CUTTLEBONE_REPOSITORY", "/direct"),
    ];
    assert_eq!(
        access(&both, &["list"]).location,
        Location::Local("/direct".into())
    );
    let missing = [
        ("HOME", "/h"),
        ("CUTTLEBONE_REPOSITORY_FILE", "/nowhere/at/all"),
    ];
    assert_eq!(
        request_in(&missing, &["list"]).unwrap_err().code,
        Code::Failed
    );
}

#[test]
fn the_cache_lies_where_xdg_says() {
    for (variables, directory) in [
        ([("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/cuttlebone"),
        (
            [("HOME", "/h"), ("XDG_CACHE_HOME", "relative")],
            "/h/.cache/cuttlebone",
        ),
        (
            [("HOME", "/h"), ("XDG_CACHE_HOME", "")],
            "/h/.cache/cuttlebone",
        ),
    ] {
        assert_eq!(
            access(&variables, &["-r", "/r", "list"]).cache_dir,
            Path::new(directory)
        );
    }
}

#[test]
fn repositories_are_directories_here_or_on_a_server() {
    for bad in ["sftp:host", "sftp://", "s3:bucket", "C:x", "u@h:x", ""] {
        refused(&["-r", bad, "list"]);
    }
    for good in ["sftp:host:x", "sftp://h/x", "./a:b", "./u@h:x", "u@h"] {
        assert!(request(&["-r", good, "list"]).is_ok());
    }
    assert!(request(&["-r", "/a:b", "list"]).is_ok());
    let none = request_in(&[("HOME", "/h")], &["list"]).unwrap_err();
    assert_eq!(
        (none.code, none.message.as_str()),
        (Code::Usage, "no repository given")
    );
}

#[test]
fn completions_and_man_need_no_repository() {
    assert!(request_in(&[], &["completions", "zsh"]).is_ok());
    assert!(request_in(&[], &["man", "/tmp"]).is_ok());
}

#[test]
fn a_volume_is_named_after_its_source() {
    let volume = |words: &[&str]| match operation(words) {
        Operation::Backup(backup) => backup.volume,
        other => panic!("{other:?}"),
    };
    let chosen = |name: &str| VolumeName::Chosen(name.to_owned());
    let of_file = VolumeName::OfFile("disk.img".to_owned());
    assert_eq!(volume(&["backup", "/a/disk.img"]), of_file);
    assert_eq!(volume(&["backup", "/a/b", "--volume", "v"]), chosen("v"));
    assert_eq!(volume(&["backup", "-", "--volume", "d"]), chosen("d"));
    for words in [
        &["backup", "-"][..],
        &["backup", ".."],
        &["backup", "a@b"],
        &["backup", ""],
    ] {
        refused(words);
    }
    refused(&["backup", "x", "--volume", "a~1"]);
    refused(&["backup", "x", "--volume", "a\nb"]);
    refused(&["backup", "rbd:pool/image"]);
    assert!(request(&["backup", "./rbd:pool"]).is_ok());
}

#[test]
fn labels_are_given_once() {
    refused(&["backup", "x", "--label", "a=1", "--label", "a=2"]);
    match operation(&["backup", "x", "--label", "b=2", "--label", "a=1"]) {
        Operation::Backup(backup) => {
            assert_eq!(
                backup.labels.into_iter().map(|l| l.0).collect::<String>(),
                "ab"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_target_is_treated_as_told() {
    let existing = |words: &[&str]| match operation(words) {
        Operation::Restore(restore) => restore.existing,
        other => panic!("{other:?}"),
    };
    assert_eq!(existing(&["restore", "v", "f"]), Existing::Refuse);
    assert_eq!(
        existing(&["restore", "v", "f", "--in-place"]),
        Existing::Update
    );
    assert_eq!(
        existing(&["restore", "v", "f", "--force"]),
        Existing::Overwrite
    );
    refused(&["restore", "v", "-", "--force"]);
    refused(&["restore", "v", "rbd:p/i"]);
    refused(&["restore", "", "f"]);
}

#[test]
fn a_restore_as_a_diff_is_an_export_from_nothing() {
    let export = |words: &[&str]| match operation(words) {
        Operation::ExportDiff(export) => export,
        other => panic!("{other:?}"),
    };
    let full = export(&["restore", "v", "f", "--format", "rbd-diff", "--force"]);
    assert_eq!((full.from, &full.backup[..], full.force), (None, "v", true));
    assert_eq!(full.target, Target::Path("f".into()));
    let named = ["diff", "export", "v", "--from", "w", "--from-snapshot", "a"];
    let export = export(&named);
    assert_eq!(export.target, Target::Stdout);
    assert_eq!(
        (export.from.as_deref(), export.from_snapshot),
        (Some("w"), Some(b"a".to_vec()))
    );
    assert!(request(&named).unwrap().fills_stdout());
    refused(&["restore", "v", "f", "--format", "rbd-diff", "--in-place"]);
    refused(&["restore", "v", "-", "--format", "rbd-diff", "--force"]);
    refused(&["diff", "export", "v", "--force"]);
    refused(&["diff", "export", "v", "--json"]);
    refused(&["diff", "export", ""]);
    refused(&["diff", "export", "v", "--to-snapshot", ""]);
}

#[test]
fn standard_streams_serve_one_purpose() {
    assert!(request(&["restore", "v", "-"]).unwrap().fills_stdout());
    assert!(request(&["key", "export"]).unwrap().fills_stdout());
    assert!(!request(&["key", "export", "f"]).unwrap().fills_stdout());
    refused(&["restore", "v", "-", "--json"]);
    refused(&["backup", "-", "--volume", "v", "--password-file", "-"]);
    refused(&[
        "key",
        "add",
        "--new-password-file",
        "-",
        "--password-file",
        "-",
    ]);
    let variables = [("HOME", "/h"), ("CUTTLEBONE_PASSWORD_FILE", "-")];
    let words = ["-r", "/r", "backup", "-", "--volume", "v"];
    assert_eq!(
        request_in(&variables, &words).unwrap_err().code,
        Code::Usage
    );
}

#[test]
fn key_derivation_stays_within_the_format() {
    let kdf = |words: &[&str]| match operation(words) {
        Operation::Init { kdf, .. } => kdf,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        kdf(&["init"]),
        Kdf {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 4
        }
    );
    assert_eq!(kdf(&["init", "--kdf-memory", "4G"]).memory_kib, 4 << 20);
    refused(&["init", "--kdf-memory", "5G"]);
    refused(&["init", "--kdf-memory", "500K", "--kdf-lanes", "64"]);
}

#[test]
fn the_update_rate_is_a_number() {
    let interval = |fps| {
        request_in(
            &[("CUTTLEBONE_PROGRESS_FPS", fps)],
            &["completions", "bash"],
        )
        .map(|request| request.settings.progress_interval)
    };
    assert_eq!(interval("4").unwrap(), Some(Duration::from_millis(250)));
    assert_eq!(interval("0.5").unwrap(), Some(Duration::from_secs(2)));
    for bad in ["0", "-1", "fast", "61", "NaN", "1e-300"] {
        assert!(interval(bad).is_err(), "{bad}");
    }
}
