//! Tests how command lines are parsed, and which requests result.

use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::app::{
    BackupRequest, Code, Environment, ExportRequest, Failure, ImageMode, VolumeName, WriteTo,
};
use crate::repo::KdfParams;
use crate::volume::Existing;

use super::action::{Action, RepositoryAction};
use super::command_line::Cli;
use super::invocation::Invocation;

fn parse(line: &str) -> Result<Cli, ErrorKind> {
    let args = std::iter::once("cuttlebone").chain(line.split_whitespace());
    Cli::try_parse_from(args).map_err(|error| error.kind())
}

fn invoke_in(variables: &[(&str, &str)], args: &[&str]) -> Result<Invocation, Failure> {
    let cli = Cli::try_parse_from(std::iter::once(&"cuttlebone").chain(args)).unwrap();
    Invocation::new(cli, &Environment::with(variables))
}

fn invoke(args: &[&str]) -> Result<Invocation, Failure> {
    invoke_in(
        &[("HOME", "/home/u"), ("CUTTLEBONE_REPOSITORY", "/r")],
        args,
    )
}

fn action(args: &[&str]) -> RepositoryAction {
    match invoke(args).unwrap().action {
        Action::Repository(_, action) => action,
        other => panic!("{other:?}"),
    }
}

fn backup(args: &[&str]) -> BackupRequest {
    match action(args) {
        RepositoryAction::Backup(request) => *request,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(args: &[&str]) {
    let failure = invoke(args).unwrap_err();
    assert_eq!(failure.code, Code::Usage, "{args:?}: {failure:?}");
}

#[test]
fn the_definition_of_the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn global_options_are_accepted_before_and_after_the_command() {
    for line in [
        "-r /x list",
        "list -r /x",
        "repo list --repo /x",
        "-r /x repo list",
    ] {
        let cli = parse(line).unwrap();
        assert_eq!(cli.globals.repo, Some("/x".into()), "{line}");
    }
}

#[test]
fn invalid_values_and_conflicting_options_are_refused() {
    for (line, error) in [
        ("init --chunk-size 3K", ErrorKind::ValueValidation),
        ("init --chunk-size 8M", ErrorKind::ValueValidation),
        ("init --kdf-lanes 0", ErrorKind::ValueValidation),
        ("backup x --compression 20", ErrorKind::ValueValidation),
        ("backup x --compression on", ErrorKind::ValueValidation),
        ("backup x --label =v", ErrorKind::ValueValidation),
        ("list --threads 0", ErrorKind::ValueValidation),
        (
            "restore a b --force --in-place",
            ErrorKind::ArgumentConflict,
        ),
        ("list -q -v", ErrorKind::ArgumentConflict),
        (
            "list --password-file a --password-command b",
            ErrorKind::ArgumentConflict,
        ),
        ("backup", ErrorKind::MissingRequiredArgument),
        ("forget --keep-last many", ErrorKind::ValueValidation),
        ("forget --keep-last -2", ErrorKind::ValueValidation),
        ("forget --keep-within 3w", ErrorKind::ValueValidation),
        ("forget x --keep-last 1", ErrorKind::ArgumentConflict),
        ("forget x --volume y", ErrorKind::ArgumentConflict),
        ("forget x --utc", ErrorKind::ArgumentConflict),
        ("forget --force --keep-last 1", ErrorKind::ArgumentConflict),
        ("forget --force", ErrorKind::MissingRequiredArgument),
        ("prune --max-unused 120%", ErrorKind::ValueValidation),
        ("prune --grace soon", ErrorKind::ValueValidation),
        ("prune x", ErrorKind::UnknownArgument),
    ] {
        assert_eq!(parse(line).err(), Some(error), "{line}");
    }
}

#[test]
fn options_override_the_environment() {
    let variables = [
        ("CUTTLEBONE_REPOSITORY", "/env"),
        ("CUTTLEBONE_PROJECT", "p"),
        ("CUTTLEBONE_CACHE_DIR", "/c"),
    ];
    let args = ["-r", "/x", "--project", "q", "--cache-dir", "/d", "list"];
    for (args, expected) in [
        (&args[6..], ["/env", "p", "/c"]),
        (&args, ["/x", "q", "/d"]),
    ] {
        let Action::Repository(settings, _) = invoke_in(&variables, args).unwrap().action else {
            panic!("{args:?}");
        };
        let [location, project, cache] = expected;
        assert_eq!(settings.location.to_string(), location);
        assert_eq!(settings.project, project);
        assert_eq!(settings.cache_dir.to_str(), Some(cache));
    }
}

#[test]
fn repositories_are_directories_here_or_on_a_server() {
    for bad in ["sftp:host", "sftp://", "s3:bucket", "C:x", "u@h:x", ""] {
        refused(&["-r", bad, "list"]);
    }
    for good in ["sftp:host:x", "sftp://h/x", "./a:b", "./u@h:x", "u@h"] {
        assert!(invoke(&["-r", good, "list"]).is_ok());
    }
    assert!(invoke(&["-r", "/a:b", "list"]).is_ok());
}

#[test]
fn completions_and_man_need_no_repository() {
    assert!(invoke_in(&[], &["completions", "zsh"]).is_ok());
    assert!(invoke_in(&[], &["man", "/tmp"]).is_ok());
}

#[test]
fn a_volume_is_named_after_its_source() {
    let volume = |args: &[&str]| backup(args).sources.remove(0).volume;
    let chosen = |name: &str| VolumeName::Chosen(name.to_owned());
    let of_file = VolumeName::OfFile("disk.img".to_owned());
    assert_eq!(volume(&["backup", "/a/disk.img"]), of_file);
    assert_eq!(volume(&["backup", "/a/b", "--volume", "v"]), chosen("v"));
    assert_eq!(volume(&["backup", "-", "--volume", "d"]), chosen("d"));
    for args in [
        &["backup", "-"][..],
        &["backup", ".."],
        &["backup", "a@b"],
        &["backup", ""],
    ] {
        refused(args);
    }
    refused(&["backup", "x", "--volume", "a~1"]);
    refused(&["backup", "x", "--volume", "a\nb"]);
    assert_eq!(volume(&["backup", "rbd:pool/image"]), VolumeName::OfImage);
    let args = ["backup", "rbd:pool/image", "--volume", "v"];
    assert_eq!(volume(&args), chosen("v"));
    assert!(invoke(&["backup", "./rbd:pool"]).is_ok());
}

#[test]
fn options_that_name_a_volume_or_a_snapshot_apply_to_one_source() {
    let two = backup(&["backup", "a", "rbd:p/b", "--full", "--no-retain"]);
    assert_eq!((two.sources.len(), two.images.keep_snapshots), (2, 0));
    assert!(two.images.full);
    for args in [
        &["backup", "rbd:image"][..],
        &["backup", "rbd:p/web-*@snap"],
        &["backup", "rbd:p/web-*", "--volume", "v"],
        &["backup", "a", "b", "--volume", "v"],
        &["backup", "a", "b", "--base", "1234"],
        &[
            "backup",
            "a",
            "b",
            "--extents",
            "x",
            "--from-nothing",
            "--volume",
            "v",
        ],
        &["backup", "rbd:p/a", "--base", "1234"],
        &["backup", "rbd:p/a", "--to-snapshot", "s"],
        &["backup", "rbd:p/a", "--image-id", "1"],
        &["backup", "rbd:p/a", "--source", "x"],
        &["backup", "rbd:p/a", "--rbd-command", ""],
        &["backup", "a", "--full"],
        &["backup", "a", "--no-retain"],
        &["backup", "a", "--keep-snapshots", "2"],
    ] {
        refused(args);
    }
    assert!(parse("backup rbd:p/a --keep-snapshots 0").is_err());
    assert!(parse("backup rbd:p/a --keep-snapshots 2 --no-retain").is_err());
}

#[test]
fn the_same_label_twice_is_refused() {
    refused(&["backup", "x", "--label", "a=1", "--label", "a=2"]);
    let labels = backup(&["backup", "x", "--label", "b=2", "--label", "a=1"]).labels;
    assert_eq!(labels.into_iter().map(|l| l.0).collect::<String>(), "ab");
}

#[test]
fn options_of_restore_decide_about_an_existing_target() {
    let existing = |args: &[&str]| match action(args) {
        RepositoryAction::Restore(restore) => restore.existing,
        other => panic!("{other:?}"),
    };
    assert_eq!(existing(&["restore", "v", "f"]), Existing::Refuse);
    assert_eq!(
        existing(&["restore", "v", "f", "--in-place"]),
        Existing::Update
    );
    assert_eq!(
        existing(&["restore", "v", "f", "--force"]),
        Existing::Replace
    );
    refused(&["restore", "v", "-", "--force"]);
    let image = action(&["restore", "v", "rbd:p/i"]);
    assert!(matches!(image, RepositoryAction::RestoreImage(request) if request.image.image == "i"));
    let image = action(&["restore", "v", "rbd:p/i", "--in-place"]);
    assert!(matches!(
        image,
        RepositoryAction::RestoreImage(request) if matches!(request.mode, ImageMode::InPlace(_))
    ));
    for args in [
        &["restore", "v", "rbd:p/i@s"][..],
        &["restore", "v", "rbd:i"],
        &["restore", "v", "rbd:p/i", "--force"],
        &["restore", "v", "rbd:p/i", "--in-place", "--data-pool", "d"],
        &["restore", "v", "rbd:p/i", "--keep-going"],
        &["restore", "v", "rbd:p/i", "--format", "rbd-diff"],
        &["restore", "v", "rbd:p/i", "--rbd-command", ""],
    ] {
        refused(args);
    }
    refused(&["restore", "", "f"]);
}

#[test]
fn restore_as_a_diff_exports_a_full_diff() {
    let export = |args: &[&str]| -> ExportRequest {
        match action(args) {
            RepositoryAction::ExportDiff(export) => export,
            other => panic!("{other:?}"),
        }
    };
    let full = export(&["restore", "v", "f", "--format", "rbd-diff", "--force"]);
    assert_eq!((full.from, &full.backup[..], full.force), (None, "v", true));
    assert_eq!(full.target, WriteTo::Path("f".into()));
    let named = ["diff", "export", "v", "--from", "w", "--from-snapshot", "a"];
    let export = export(&named);
    assert_eq!(export.target, WriteTo::Stdout);
    assert_eq!(
        (export.from.as_deref(), export.from_snapshot),
        (Some("w"), Some(b"a".to_vec()))
    );
    assert!(invoke(&named).unwrap().action.fills_stdout());
    refused(&["restore", "v", "f", "--format", "rbd-diff", "--in-place"]);
    refused(&["restore", "v", "-", "--format", "rbd-diff", "--force"]);
    refused(&["diff", "export", "v", "--force"]);
    refused(&["diff", "export", "v", "--json"]);
    refused(&["diff", "export", ""]);
    refused(&["diff", "export", "v", "--to-snapshot", ""]);
}

#[test]
fn standard_input_and_output_carry_only_one_stream_each() {
    assert!(
        invoke(&["restore", "v", "-"])
            .unwrap()
            .action
            .fills_stdout()
    );
    assert!(invoke(&["key", "export"]).unwrap().action.fills_stdout());
    assert!(
        !invoke(&["key", "export", "f"])
            .unwrap()
            .action
            .fills_stdout()
    );
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
    let args = ["-r", "/r", "backup", "-", "--volume", "v"];
    assert_eq!(invoke_in(&variables, &args).unwrap_err().code, Code::Usage);
}

#[test]
fn key_derivation_parameters_of_new_keys_stay_within_limits() {
    let kdf = |args: &[&str]| match action(args) {
        RepositoryAction::Init { kdf, .. } => kdf,
        other => panic!("{other:?}"),
    };
    assert_eq!(kdf(&["init"]), KdfParams::new(64 << 10, 3, 4).unwrap());
    assert_eq!(kdf(&["init", "--kdf-memory", "1G"]).memory_kib(), 1 << 20);
    refused(&["init", "--kdf-memory", "5G"]);
    refused(&["init", "--kdf-memory", "500K", "--kdf-lanes", "64"]);
    refused(&["init", "--kdf-memory", "8M", "--kdf-passes", "1"]);
    refused(&["key", "add", "--kdf-memory", "8M", "--kdf-passes", "1"]);
    for line in ["init --kdf-passes 1025", "init --kdf-lanes 65"] {
        assert_eq!(
            parse(line).err(),
            Some(ErrorKind::ValueValidation),
            "{line}"
        );
    }
}

#[test]
fn the_progress_rate_is_a_number_up_to_60() {
    let interval = |fps| {
        invoke_in(
            &[("CUTTLEBONE_PROGRESS_FPS", fps)],
            &["completions", "bash"],
        )
        .map(|invocation| invocation.display.progress_interval)
    };
    assert_eq!(interval("4").unwrap(), Some(Duration::from_millis(250)));
    assert_eq!(interval("0.5").unwrap(), Some(Duration::from_secs(2)));
    for bad in ["0", "-1", "fast", "61", "NaN", "1e-300"] {
        assert!(interval(bad).is_err(), "{bad}");
    }
}
